"""An outage of the log, as those who follow it live through it: they wait until the log is back.

Rules
-----
* Only :class:`~broker.errors.LogUnreachable` is waited for. Any other error says that waiting is of no
  use (access is refused, a topic is missing, the log was cut), and ends the reader at once.
* Pauses grow, have jitter and are bounded. They never end by themselves: whoever wants to stop cancels.
* One log line says that the log is away, one that it is back, however many readers wait beside each
  other; a line every ten minutes says that it is still away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.errors import LogUnreachable
from broker.log.pause import pause_s
from broker.logger import get_logger

__all__ = ["Outage", "outlasting"]

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_SAY_AGAIN_S = 600.0

_log = get_logger("broker.log")


class Outage:
    """The outages of one log, for all who wait together; ``facts`` stand in each of its log lines."""

    def __init__(self, **facts: object) -> None:
        self._facts = facts
        self._waiting = 0
        self._began_at: float | None = None
        self._said_at = 0.0
        self._closed = asyncio.Event()

    async def outlast(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call, and make it again for as long as it raises LogUnreachable; give its result.

        Every other error goes through. Cancelled, it ends at once, in a pause or in the call.
        """
        try:
            return await call()
        except LogUnreachable as error:
            self._say_away(error)
        self._waiting += 1
        try:
            result = await self._again(call)
            # The last who waits says it: for the others the log, or a partition of it, is still away.
            if self._waiting == 1:
                self._say_back()
            return result
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._began_at = None

    def close(self) -> None:
        """End all pauses, since the log is being closed: whoever waits makes its call, and hears of it."""
        self._closed.set()

    async def _again(self, call: Callable[[], Awaitable[_T]]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            await self._pause(attempt)
            try:
                return await call()
            except LogUnreachable as error:
                self._say_away(error)

    async def _pause(self, attempt: int) -> None:
        try:
            async with asyncio.timeout(pause_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)):
                await self._closed.wait()
        except TimeoutError:
            pass

    def _say_away(self, error: LogUnreachable) -> None:
        now = asyncio.get_running_loop().time()
        if self._began_at is None:
            self._began_at = now
        elif now - self._said_at < _SAY_AGAIN_S:
            return
        self._said_at = now
        _log.warning(
            "log is away, waiting for it",
            away_s=round(now - self._began_at, 1),
            error=error.message,
            **self._facts,
        )

    def _say_back(self) -> None:
        now = asyncio.get_running_loop().time()
        away_s = 0.0 if self._began_at is None else now - self._began_at
        # A warning, though the news is good: whoever saw the line that it takes back must see it too.
        _log.warning("log is back", away_s=round(away_s, 1), **self._facts)


async def outlasting(outage: Outage | None, call: Callable[[], Awaitable[_T]]) -> _T:
    """Make a call for somebody who follows, and outlast the ``outage``; for others (None) make it once."""
    return await (call() if outage is None else outage.outlast(call))
