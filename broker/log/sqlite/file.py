"""One SQLite file that holds a log, as plain blocking calls without asyncio.

Rules
-----
* One connection writes, under a lock. Each write is one ``BEGIN IMMEDIATE`` transaction, so that several
  processes take turns. The wait for a turn happens here, with jitter, and not in SQLite.
* One connection reads, in the thread of the event loop (calls.py says why). It holds no transaction between
  two calls: a slow reader, or one that was abandoned, never blocks a checkpoint.
* A value that a compacted topic replaces is overwritten in its page (``secure_delete``). The write-ahead log
  (WAL), however, keeps the old pages until it is copied back whole and cut to length 0. The write that
  replaces a value tries to do that, and so does each later write until it succeeds. This erases values that
  do not grow: when a value grows and its page is full, SQLite moves rows, and may leave copies of them
  behind. So it is no substitute for storing ciphertext under keys that are destroyed.
* What was appended is read back before the commit and compared whole, and nothing is written to a file whose
  schema is not a log's (tables.py). So no trigger can make an append report what is not stored.
* Names here are physical (``ftf.returns``). The caller has checked every argument.

Who owns which field
--------------------
``_writer``, ``_schema_version``, ``_scrub_due`` and ``_scrub_blocked`` belong to the thread that holds
``_writing``. ``_reader`` and ``_version`` belong to the thread of the event loop. Both sides read and write
``_topics``: it is a cache, each access is one step of a dict, and a topic only ever grows, so that an old
entry is at worst looked up again. ``stop_reading`` alone writes ``_closed``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self, TypeVar

from broker.errors import LogUnavailable, OutcomeUnknown, UsageError
from broker.log.append_times import microseconds, now_ms
from broker.log.cut import cut, replaced
from broker.log.protocol import MAX_OFFSET, Message, StoredMessage
from broker.log.sqlite import rows, tables
from broker.log.sqlite.calls import jitter_s
from broker.log.sqlite.failures import is_busy, is_io_error, translated
from broker.log.sqlite.rows import Place, Topic
from broker.logger import get_logger

__all__ = ["LogFile"]

_T = TypeVar("_T")

_SCRUB_WAIT_MS = 50


class LogFile:
    """An open log file, made by :meth:`open`. Any thread may write; only the event loop's thread reads."""

    def __init__(
        self,
        path: str,
        busy_timeout_s: float,
        identity: tuple[int, int],
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
    ) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._identity = identity
        self._writing = threading.Lock()
        self._writer = writer
        self._reader = reader
        self._version = 0
        self._schema_version: int | None = None
        self._topics: dict[str, Topic] = {}
        self._closed = False
        # Due from the start: a process before this one may have died with deleted values still in the WAL.
        self._scrub_due = True
        self._scrub_blocked = False

    @classmethod
    def open(cls, path: str, *, busy_timeout_s: float) -> Self:
        """Open the log at this absolute path, or create it with mode 0600 if there is no file."""
        with translated(path):
            rows.create(path)
            writer = rows.connect(path, "rw")
            try:
                _patiently(partial(tables.prepare, writer, path), busy_timeout_s, threading.Event())
                return cls(path, busy_timeout_s, _identity(path), writer, rows.connect(path, "ro"))
            except BaseException:
                writer.close()
                raise

    def stop_reading(self) -> None:
        """Refuse every further call, and close the reading connection. It runs in the event loop's thread."""
        # Not a part of close(), which runs in a worker thread: SQLite crashes the process when one thread
        # closes a connection under a statement that another thread runs.
        self._closed = True
        self._reader.close()

    def close(self) -> None:
        """Close the file after the write that is under way; ``stop_reading`` comes before. Twice is once."""
        with self._writing, translated(self.path):
            if self._scrub_due:
                self._scrub()
            self._scrub_due = False  # A second call finds the connection closed, and nothing to do.
            self._writer.close()

    # Writing

    def append(self, place: Place, messages: Sequence[Message], stop: threading.Event) -> int:
        """Add messages and return the offset of the first; ``stop`` ends the wait for the lock."""
        with self._transaction(stop) as db:
            # Read anew in each transaction: another process may have made the topic in the meantime.
            topic = self._known(db, place, fresh=True)
            last = rows.last(db, place)
            first = last + 1
            if last + len(messages) > MAX_OFFSET:
                raise LogUnavailable(
                    f"partition {place.number} of {place.topic} cannot grow: its last offset is {last}",
                    hint="no message of this program has such an offset: replay the log to see what it is",
                )
            at = microseconds(now_ms())
            stored = [StoredMessage(first + i, m.key, m.value, at) for i, m in enumerate(messages)]
            self._write(db, place, topic, stored)
        return first

    def _write(
        self, db: sqlite3.Connection, place: Place, topic: Topic, messages: Sequence[StoredMessage]
    ) -> None:
        """Write messages behind the last one, and read back what is stored of them."""
        if not topic.compacted:
            rows.insert(db, place, messages)
        else:
            if any(message.key is None for message in messages):
                raise UsageError(f"no key in a message for topic {place.topic}, which is compacted by key")
            newest = {message.key: message for message in messages}
            kept = sorted(newest.values())
            # It stays due if the transaction fails: one checkpoint too many does no harm.
            self._scrub_due |= rows.replace(db, place, kept) or len(kept) < len(messages)
            messages = kept
        # Before the commit: what is reported as appended is what every reader will find.
        wrong = rows.first_not_stored(db, place, messages)
        if wrong is not None:
            raise LogUnavailable(
                f"the log {self.path} does not store what is appended: partition {place.number} of"
                f" {place.topic} differs at offset {wrong}",
                hint="another program changed this file, or it is damaged: use a copy from before that",
            )

    def ensure(self, name: str, wanted: Topic, stop: threading.Event) -> None:
        """Create a topic, or grow it to the wanted number of partitions."""
        with self._transaction(stop) as db:
            _ensure(db, name, wanted)

    # Copies

    def begin_copy(self, prefix: str, topics: Mapping[str, Topic], stop: threading.Event) -> None:
        """Mark the topics of a prefix as an unfinished copy, and create those that are missing."""
        with self._transaction(stop) as db:
            if not rows.is_copy(db, prefix) and rows.topics(db, f"{prefix}."):
                raise UsageError(
                    f"the log {self.path} has topics with the prefix {prefix}, and is no unfinished copy",
                    hint="copy into a new file, or under another prefix",
                )
            rows.mark_copy(db, prefix, now_ms())
            for name, wanted in topics.items():
                _ensure(db, name, wanted)

    def put(self, place: Place, messages: Sequence[StoredMessage], stop: threading.Event) -> None:
        """Write messages of another log at their offsets, with their times."""
        with self._transaction(stop) as db:
            topic = self._known(db, place, fresh=True)
            last = rows.last(db, place)
            if topic.compacted:
                messages = [m._replace(offset=last + 1 + i) for i, m in enumerate(messages)]
            elif messages[0].offset <= last:
                raise LogUnavailable(
                    f"partition {place.number} of {place.topic} in {self.path} grew while it was copied to",
                    hint="stop whatever writes to the copy, and begin with a new file",
                )
            self._write(db, place, topic, messages)

    def finish_copy(self, prefix: str, stop: threading.Event) -> None:
        """Take the mark of an unfinished copy away."""
        with self._transaction(stop) as db:
            rows.unmark_copy(db, prefix)

    @contextmanager
    def _transaction(self, stop: threading.Event) -> Iterator[sqlite3.Connection]:
        with self._writing, translated(self.path):
            self._check_open()
            self._check_same_file()
            db = self._writer
            _patiently(partial(db.execute, "BEGIN IMMEDIATE"), self._busy_timeout_s, stop)
            try:
                self._check_schema(db)
                yield db
            except BaseException:
                tables.roll_back(db)
                raise
            self._commit(db)
            if self._scrub_due:
                self._scrub()

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            # Commit point: SQLite syncs the WAL (synchronous=FULL), so the messages survive a power cut.
            db.execute("COMMIT")
        except sqlite3.Error as error:
            tables.roll_back(db)
            if is_io_error(error):
                # The fault of a disk that fails while it syncs: the frames may have reached it all the same,
                # and a recovery after a crash would find them.
                raise OutcomeUnknown(
                    f"writing the log {self.path} failed half way: {error}",
                    hint="check its disk and the space left on it; reading the log's end shows what is there",
                ) from error
            raise

    def _scrub(self) -> None:
        """Try to remove deleted values from the WAL. While another connection reads, it stays due."""
        try:
            # The first attempt waits for readers. While one stays, later writes try without waiting, or each
            # append would be slower by the whole wait.
            self._writer.execute(f"PRAGMA busy_timeout = {0 if self._scrub_blocked else _SCRUB_WAIT_MS}")
            (blocked, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._scrub_due = bool(blocked)
            cause = "another connection is reading"
        except sqlite3.Error as error:
            # The messages are durable; an error now would tell the caller that they are not.
            cause = str(error)
        if self._scrub_due and not self._scrub_blocked:
            get_logger("broker.log").warning(
                "deleted values are not yet gone from the disk", log=self.path, cause=cause
            )
        self._scrub_blocked = self._scrub_due

    # Reading

    def read(self, place: Place, start: int, end: int) -> list[StoredMessage]:
        """Return the next messages from ``start`` on and before ``end``: at most 256, about a megabyte."""
        with self._reading() as db:
            return rows.read(db, place, start, end)

    def before(self, place: Place, start: int) -> StoredMessage | None:
        """Return the message right before this offset, if there is one; the partition must be known."""
        self.ends([place])
        return next(iter(self.read(place, max(start - 1, 0), start)), None)

    def read_on(
        self, place: Place, start: int, last: StoredMessage | None
    ) -> tuple[int, list[StoredMessage]]:
        """Return the next messages from ``start`` on, and the version that the file had before the reading.

        Raises LogForked unless the partition still holds ``last``. Both are read as of one moment: whoever
        cuts messages off and lets others take their offsets is noticed, however fast.
        """
        # The version comes first: what changes behind it is looked at again.
        version = self.version()
        chunk = self.read(place, start if last is None else last.offset, MAX_OFFSET + 1)
        if last is None:
            return version, chunk
        if not chunk:
            raise cut(*place, last.offset + 1)
        if chunk[0] != last:
            raise replaced(*place, last.offset)
        return version, chunk[1:]

    def ends(self, places: Sequence[Place]) -> list[int]:
        """Return the offset behind the last message of each partition, all as of one moment."""
        with self._reading() as db:
            # Every reader asks for an end: with another file open than the writers, it hears nothing more.
            self._check_same_file()
            # One read transaction is one snapshot of the file.
            db.execute("BEGIN")
            try:
                for place in places:
                    self._known(db, place)
                return [rows.last(db, place) + 1 for place in places]
            finally:
                tables.roll_back(db)

    def topics(self, prefix: str) -> dict[str, Topic]:
        """Return the topics whose physical names begin with a prefix."""
        with self._reading() as db:
            return rows.topics(db, prefix)

    def begins(self, places: Sequence[Place]) -> list[int]:
        """Return the offset of the first message of each partition, which is 0 while it has none."""
        with self._reading() as db:
            return [rows.first(db, place) or 0 for place in places]

    def is_copy(self, prefix: str) -> bool:
        """Tell whether the topics of this prefix are an unfinished copy."""
        with self._reading() as db:
            return rows.is_copy(db, prefix)

    def version(self) -> int:
        """Return a number that changes with every commit of another connection; it takes microseconds."""
        with self._reading() as db:
            self._check_same_file()
            try:
                (self._version,) = db.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                # Busy while another process opens or closes the file: the number of before is returned, and
                # the caller asks again soon.
                if not is_busy(error):
                    raise
            return self._version

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with translated(self.path):
            self._check_open()
            yield self._reader

    # Checks

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the log {self.path} is closed")

    def _check_same_file(self) -> None:
        """Raise a LogUnavailable if the file is no longer at its path: whoever uses it is alone with it."""
        try:
            found: tuple[int, int] | None = _identity(self.path)
        except FileNotFoundError:
            found = None
        if found != self._identity:
            raise LogUnavailable(
                f"the log {self.path} was moved or replaced while it was open",
                hint="start again with the right file",
            )

    def _check_schema(self, db: sqlite3.Connection) -> None:
        """Raise a LogUnavailable if somebody added a trigger or the like since the schema was looked at."""
        version = tables.schema_version(db)
        if version != self._schema_version:
            tables.check_schema(db, self.path)
            self._schema_version = version

    def _known(self, db: sqlite3.Connection, place: Place, *, fresh: bool = False) -> Topic:
        """Return the topic of a partition; raise a LogUnavailable if the topic or partition is missing."""
        topic = None if fresh else self._topics.get(place.topic)
        if topic is None or not 0 <= place.number < topic.partitions:
            topic = rows.topic(db, place.topic)
        if topic is None:
            raise LogUnavailable(
                f"the log {self.path} has no topic {place.topic}",
                hint="set the log up first, or check the path and the prefix in the log's URL",
            )
        if not 0 <= place.number < topic.partitions:
            raise LogUnavailable(
                f"the log {self.path} has no partition {place.number} of topic {place.topic},"
                f" it has {topic.partitions}",
                hint="open the channel first: that adds its partition to each topic",
            )
        self._topics[place.topic] = topic
        return topic


def _ensure(db: sqlite3.Connection, name: str, wanted: Topic) -> None:
    topic = rows.topic(db, name)
    if topic is None:
        rows.insert_topic(db, name, wanted)
    elif topic.compacted != wanted.compacted:
        raise UsageError(
            f"topic {name} {'is' if topic.compacted else 'is not'} compacted, expected the opposite",
            hint="this is settled when a topic is created: use another log, or another prefix",
        )
    elif topic.partitions < wanted.partitions:
        rows.insert_topic(db, name, wanted)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _patiently(call: Callable[[], _T], timeout_s: float, stop: threading.Event) -> _T:
    """Repeat a call until the lock is free, the time-out is over, or ``stop`` is set."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline or stop.wait(jitter_s()):
                raise
