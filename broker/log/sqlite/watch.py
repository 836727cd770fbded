"""The watch over a log file, which wakes followers when the file changes.

One task polls for all followers of the file, and only while one of them waits. It asks for ``PRAGMA
data_version`` every 5 ms after something was appended, then more and more slowly, down to every 100 ms. An
append of this process wakes the followers of its partition at once. inotify was left out on purpose: it fires
before the commit is visible.

A follower is woken by any change of the file, and not only where its partition has grown: somebody may have
replaced messages that it has read by as many others.
"""

from __future__ import annotations

import asyncio

from broker.errors import UsageError
from broker.log.sqlite.file import LogFile
from broker.log.sqlite.rows import Place

__all__ = ["Watch"]

_SHORTEST_S = 0.005
_LONGEST_S = 0.1
_SLOWER = 1.5


class Watch:
    """The followers that wait, and the task that polls for them; :meth:`aclose` ends both."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        # Each follower puts its future in and takes it out again; the task and appended() only complete it.
        self._waiting: dict[asyncio.Future[None], tuple[Place, int]] = {}
        self._look_now = asyncio.Event()
        # Runs while somebody waits. changed() starts it, and it ends by itself.
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def changed(self, place: Place, since: int) -> None:
        """Return when the file is not as it was at this version; raise the error if it cannot be read.

        The follower of a partition takes the version before it reads, so that nothing is missed in between.
        """
        if self._closed:
            raise UsageError(f"the log {self._file.path} is closed")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = (place, since)
        self._look_now.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name=f"watch {self._file.path}")
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def appended(self, place: Place) -> None:
        """Wake the followers of a partition."""
        for waiter, (waits_at, _) in self._waiting.items():
            if waits_at == place and not waiter.done():
                waiter.set_result(None)

    async def aclose(self) -> None:
        """Stop polling; followers that still wait get a UsageError."""
        self._closed = True
        self._fail(UsageError(f"the log {self._file.path} was closed while it was followed"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        try:
            await self._look_while_needed()
        except Exception as error:  # noqa: BLE001 - any error is raised by the followers that wait
            self._fail(error)

    async def _look_while_needed(self) -> None:
        seen = None
        pause_s = _SHORTEST_S
        while self._waiting:
            version = self._file.version()
            self._look_now.clear()
            for waiter, (_, since) in self._waiting.items():
                if since != version and not waiter.done():
                    waiter.set_result(None)
            pause_s = _SHORTEST_S if version != seen else min(pause_s * _SLOWER, _LONGEST_S)
            seen = version
            try:
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
