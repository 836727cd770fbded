"""Outages of the log, as its followers live through them: they wait until the log is back.

Rules
-----
* Followers wait out :class:`~broker.errors.LogUnreachable` and nothing else. Any other error means that
  waiting is of no use (access is refused, a topic is missing, the log was cut), and ends the reader at once.
* Pauses grow, have jitter, and have a longest length. Their number has no limit: a caller that wants to stop
  cancels the call.
* However many readers wait at the same time, one log line says that the log is away and one that it is back.
  While it stays away, a line comes every ten minutes.

An :class:`Outage` belongs to one log and one event loop, and only its own methods write its fields. They do
so without a lock, since none of them awaits between reading a field and writing it.
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
    """The outages of one log, shared by all of its followers; ``facts`` stand in each of its log lines."""

    def __init__(self, **facts: object) -> None:
        self._facts = facts
        # The number of calls in outlast() that have failed at least once and not yet succeeded.
        self._waiting = 0
        # When the outage of now began, on the loop's clock; None while nobody waits.
        self._began_at: float | None = None
        self._said_at = 0.0  # when "log is away" was written last
        self._closed = asyncio.Event()

    async def outlast(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call, repeat it for as long as it raises LogUnreachable, and return its result.

        Every other error goes through to the caller. A cancellation ends it at once, in a pause as in the
        call.
        """
        try:
            return await call()
        except LogUnreachable as error:
            self._say_away(error)
        self._waiting += 1
        try:
            result = await self._again(call)
            # Only the last waiting call writes the line: for any other the log, or the broker that leads its
            # partition, is still away.
            if self._waiting == 1:
                self._say_back()
            return result
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._began_at = None

    def close(self) -> None:
        """End all pauses, since the log is being closed: each waiting call is made, and raises that it is."""
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
        # A warning, though the news is good: a host that shows only warnings has shown that the log is away,
        # and must show that this is over.
        _log.warning("log is back", away_s=round(away_s, 1), **self._facts)


async def outlasting(outage: Outage | None, call: Callable[[], Awaitable[_T]]) -> _T:
    """Make a call and, for a follower, outlast ``outage``; None is given for other readers: one attempt."""
    return await (call() if outage is None else outage.outlast(call))
