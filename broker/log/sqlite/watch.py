"""The watch over a log file, which wakes followers when their partition grows.

One task polls for all followers of the file, and only while one of them waits. It asks for ``PRAGMA
data_version`` every 5 ms after something was appended, then more and more slowly, down to every 100 ms. An
append of this process wakes its followers at once. inotify was left out on purpose: it fires before the
commit is visible.
"""

from __future__ import annotations

import asyncio

from broker.errors import LogUnavailable, UsageError
from broker.log.sqlite.calls import when_free
from broker.log.sqlite.file import LogFile
from broker.log.sqlite.rows import Place

__all__ = ["Watch"]

_SHORTEST_S = 0.005
_LONGEST_S = 0.1
_SLOWER = 1.5


class Watch:
    """The followers that wait, and the task that polls for them; :meth:`aclose` ends both."""

    def __init__(self, file: LogFile, busy_timeout_s: float) -> None:
        self._file = file
        self._busy_timeout_s = busy_timeout_s
        # Each follower puts its future in and takes it out again; the task and appended() only complete it.
        self._waiting: dict[asyncio.Future[None], tuple[Place, int, bool]] = {}
        self._look_now = asyncio.Event()
        # Runs while somebody waits. grown() starts it, and it ends by itself.
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def grown(self, place: Place, start: int, *, has_reached: bool) -> None:
        """Return when the partition's end is beyond ``start``; raise the error if its end cannot be read.

        Raises LogUnavailable too when it ends before ``start``, which ``has_reached`` says it had reached.
        """
        if self._closed:
            raise UsageError(f"the log {self._file.path} is closed")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = (place, start, has_reached)
        self._look_now.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name=f"watch {self._file.path}")
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def appended(self, place: Place, end: int) -> None:
        """Wake the followers of a partition that now ends at ``end``."""
        for waiter, (waits_at, start, _) in self._waiting.items():
            if waits_at == place and start < end and not waiter.done():
                waiter.set_result(None)

    def _ended(self, place: Place, end: int) -> None:
        """Tell the followers of a partition that it ends before the offset that it had reached."""
        for waiter, (waits_at, start, has_reached) in self._waiting.items():
            if waits_at == place and end < start and has_reached and not waiter.done():
                waiter.set_exception(_cut(place, start))

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
            # The version is taken before the ends. An append between the two changes the next version, so it
            # may wake a follower twice, and is never missed.
            asked = self._look_now.is_set()
            version = self._file.version()
            self._look_now.clear()
            if asked or version != seen:
                await self._wake()
            pause_s = _SHORTEST_S if version != seen else min(pause_s * _SLOWER, _LONGEST_S)
            seen = version
            try:
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def _wake(self) -> None:
        places = list({place for place, *_ in self._waiting.values()})
        ends = await when_free(lambda: self._file.ends(places), self._busy_timeout_s)
        for place, end in zip(places, ends, strict=True):
            self.appended(place, end)
            self._ended(place, end)

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)


def _cut(place: Place, position: int) -> LogUnavailable:
    return LogUnavailable(
        f"partition {place.number} of {place.topic} ends before offset {position}, up to where it was read:"
        " messages are lost, or it was tampered with",
        hint="do not go on before the operator of the log has explained it; keep your state file",
    )
