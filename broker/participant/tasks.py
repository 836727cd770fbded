"""The tasks of one publisher or subscriber; what fails in one of them comes out as itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["Tasks"]

_T = TypeVar("_T")


class Tasks:
    """An ``asyncio.TaskGroup`` whose single error is raised as it is, not in a group of one.

    So that ``except BrokerError`` around a publisher means what it says. Several errors at once stay
    a group: none may hide another.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    def create_task(self, work: Coroutine[Any, Any, _T], *, name: str) -> asyncio.Task[_T]:
        """Run this; the first error of any task cancels all others and the block."""
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
            only: BaseException = group
            while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
                only = only.exceptions[0]
            if only is group:
                raise
            raise only from only.__cause__
