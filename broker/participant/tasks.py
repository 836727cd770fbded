"""The tasks of one publisher or subscriber: an error of a single task is raised as it is, not in a group."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["Tasks"]

_T = TypeVar("_T")


class Tasks:
    """An ``asyncio.TaskGroup`` that raises a single error as it is, not in a group of one.

    An ``except BrokerError`` around a publisher therefore catches what its tasks raise. Several errors stay a
    group, because raising one of them would hide the others.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    def create_task(self, work: Coroutine[Any, Any, _T], *, name: str) -> asyncio.Task[_T]:
        """Run a coroutine as a task; the first error of any task cancels all others and the block."""
        return self._group.create_task(work, name=name)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            # A task may itself have used a group, so groups of one are taken apart all the way down.
            only: BaseException = group
            while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
                only = only.exceptions[0]
            if only is group:
                raise
            # ``from`` keeps the cause that the error had, and keeps the group out of the traceback.
            raise only from only.__cause__
