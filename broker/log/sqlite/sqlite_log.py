"""A log in one SQLite file, for one host: no server, and nothing to install.

Any SQLite tool can show the table ``message(topic, partition, offset, key, value, appended_at)``; ``topic``
is the name with the prefix (``ftf.returns``), and ``appended_at`` is in milliseconds since 1970, so that
``datetime(appended_at / 1000, 'unixepoch')`` shows the date. Several processes of one user may use the file
at the same time. It must lie on a disk of their machine: SQLite's write-ahead log does not work over network
file systems. Beside ``log.db`` lie ``log.db-wal`` and ``log.db-shm``, which belong to it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from broker.errors import UsageError
from broker.log.append_times import AppendTimes
from broker.log.copyable import TopicShape, unfinished
from broker.log.outage import Outage, outlasting
from broker.log.protocol import (
    MAX_OFFSET,
    Message,
    Partition,
    StoredMessage,
    check_batch,
    check_partitions,
    check_prefix,
    check_start,
    check_topic,
)
from broker.log.sqlite.calls import in_thread, when_free
from broker.log.sqlite.file import LogFile
from broker.log.sqlite.rows import Place, Topic
from broker.log.sqlite.watch import Watch

__all__ = ["SqliteLog"]

_T = TypeVar("_T")

_BUSY_TIMEOUT_S = 10.0


class SqliteLog:
    """An open embedded log: ``async with await SqliteLog.open(path) as log``.

    It belongs to the event loop that opened it.
    """

    def __init__(self, file: LogFile, prefix: str, busy_timeout_s: float) -> None:
        self._file = file
        self._prefix = prefix
        self._busy_timeout_s = busy_timeout_s
        self._watch = Watch(file)
        self._outage = Outage(log=f"sqlite:{file.path}")
        self._times = AppendTimes(f"sqlite:{file.path}")
        # Appends take turns here, on the event loop. In worker threads a few appends that wait for each other
        # would take all threads of the executor.
        self._appending = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        prefix: str = "ftf",
        busy_timeout_s: float = _BUSY_TIMEOUT_S,
        may_be_unfinished: bool = False,
    ) -> Self:
        """Open the log at this path, or create it with mode 0600; its directory must exist.

        While another process holds the file, calls wait for ``busy_timeout_s`` before they raise a
        LogUnreachable. A copy that is not finished is refused unless it ``may_be_unfinished``.
        """
        check_prefix(prefix)
        where = os.path.abspath(os.fspath(path))
        _check_path(where)
        file = await in_thread(partial(LogFile.open, where, busy_timeout_s=busy_timeout_s))
        log = cls(file, prefix, busy_timeout_s)
        try:
            if not may_be_unfinished and await log.is_unfinished():
                raise unfinished(f"sqlite:{where}")
        except BaseException:
            await log.aclose()
            raise
        return log

    @property
    def prefix(self) -> str:
        """The beginning of the names of this log's topics."""
        return self._prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Add messages, all or none, and return the offset of the first: see :class:`Log`."""
        place = self._place(partition)
        check_batch(messages)
        first = await self._write(partial(self._file.append, place, messages))
        self._watch.appended(place)
        return first

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """Yield the messages from ``start`` on, in the order of their offsets: see :class:`Log`."""
        place = self._place(partition)
        check_start(start)
        chunks = self._following(place, start) if follow else self._reading(place, start)
        async with aclosing(chunks):
            async for chunk in chunks:
                for message in chunk:
                    yield message if message.appended_at >= 0 else self._times.counted(message, *place)
                # Reads run on the loop, so that nothing else in this method lets other tasks run.
                await asyncio.sleep(0)

    async def _reading(self, place: Place, start: int) -> AsyncGenerator[list[StoredMessage], None]:
        """Yield what the partition holds now, chunk by chunk."""
        [end] = await self._when_free(partial(self._file.ends, [place]))
        while start < end and (chunk := await self._when_free(partial(self._file.read, place, start, end))):
            yield chunk
            start = chunk[-1].offset + 1

    async def _following(self, place: Place, start: int) -> AsyncGenerator[list[StoredMessage], None]:
        """Yield what the partition holds and what comes, chunk by chunk, for ever.

        Raises LogForked when the last message is not the same any more.
        """
        outage = self._outage
        before = partial(self._file.before, place, start)
        last = await outlasting(outage, partial(self._when_free, before))
        while start <= MAX_OFFSET:
            read = partial(self._file.read_on, place, start, last)
            version, chunk = await outlasting(outage, partial(self._when_free, read))
            if chunk:
                yield chunk
                last = chunk[-1]
                start = last.offset + 1
            else:
                await outlasting(outage, partial(self._watch.changed, place, version))

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset behind each partition's last message, all as of one moment."""
        asked = list(partitions)
        places = [self._place(partition) for partition in asked]
        ends = await self._when_free(partial(self._file.ends, places))
        return dict(zip(asked, ends, strict=True))

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has: see :class:`Log`."""
        check_topic(topic)
        shape = (await self.topics()).get(topic)
        return shape.partitions if shape else 0

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic, or grow it to at least so many partitions: see :class:`Log`."""
        place = self._place(Partition(topic, 0))
        check_partitions(partitions)
        await self._write(partial(self._file.ensure, place.topic, Topic(partitions, compacted)))

    # Copies

    @property
    def keeps_gaps(self) -> bool:
        """A row has whatever offset it is given."""
        return True

    async def topics(self) -> Mapping[str, TopicShape]:
        """Return every topic of the log: see :class:`CopyableLog`."""
        prefix = f"{self._prefix}."
        found = await self._when_free(partial(self._file.topics, prefix))
        return {name.removeprefix(prefix): TopicShape(*topic) for name, topic in found.items()}

    async def begins(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset of each partition's first message: see :class:`CopyableLog`."""
        asked = list(partitions)
        places = [self._place(partition) for partition in asked]
        begins = await self._when_free(partial(self._file.begins, places))
        return dict(zip(asked, begins, strict=True))

    async def is_unfinished(self) -> bool:
        """Tell whether this log is a copy that is not finished: see :class:`CopyableLog`."""
        return await self._when_free(partial(self._file.is_copy, self._prefix))

    async def begin_copy(self, topics: Mapping[str, TopicShape]) -> None:
        """Mark the log as an unfinished copy, and create topics: see :class:`CopyableLog`."""
        wanted = {self._place(Partition(name, 0)).topic: Topic(*shape) for name, shape in topics.items()}
        await self._write(partial(self._file.begin_copy, self._prefix, wanted))

    async def put(self, partition: Partition, messages: Sequence[StoredMessage]) -> None:
        """Add messages of another log: see :class:`CopyableLog`."""
        await self._write(partial(self._file.put, self._place(partition), messages))

    async def finish_copy(self) -> None:
        """Take the mark of an unfinished copy away: see :class:`CopyableLog`."""
        await self._write(partial(self._file.finish_copy, self._prefix))

    async def _write(self, call: Callable[[threading.Event], _T]) -> _T:
        """Run a write in a thread, after those that are under way."""
        stop = threading.Event()
        async with self._appending:
            return await in_thread(partial(call, stop), stop=stop.set)

    async def aclose(self) -> None:
        """Close the file after the append that is under way; readers that wait get a UsageError."""
        # In this order: followers are woken before the file goes, and the file closes behind the last append.
        self._outage.close()
        await self._watch.aclose()
        async with self._appending:
            self._file.stop_reading()
            await in_thread(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _when_free(self, call: Callable[[], _T]) -> _T:
        return await when_free(call, self._busy_timeout_s)

    def _place(self, partition: Partition) -> Place:
        check_topic(partition.topic)
        return Place(f"{self._prefix}.{partition.topic}", partition.number)


def _check_path(path: str) -> None:
    try:
        usable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UsageError(f"no file can have the name {path!r}", hint="check the log's URL")
