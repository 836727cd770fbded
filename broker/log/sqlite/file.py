"""One SQLite file that holds a log: plain calls, none knows of asyncio.

Rules
-----
* One connection writes, under a lock; each write is one ``BEGIN IMMEDIATE`` transaction, so that
  several processes take turns. Waiting for a turn is done here, with jitter, not by SQLite.
* One connection reads, in the thread of the event loop (see ``_calls``), and holds no transaction
  between calls: a reader that is slow, or that was abandoned, never blocks a checkpoint.
* What a compacted topic replaces is overwritten in its page (``secure_delete``), but the WAL keeps
  the pages as they were until it is copied back whole and cut to nothing. That is tried with the
  write that replaces, and with each later one until it succeeds. It holds for values that do not
  grow; when one does and its page is full, SQLite moves rows and may leave copies of them behind.
  So it is no substitute for storing ciphertext under keys that are destroyed.
* Names here are physical (``ftf.returns``); the caller has checked every argument.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self, TypeVar

from broker.errors import LogUnavailable, OutcomeUnknown, UsageError
from broker.log.protocol import MAX_OFFSET, Message, StoredMessage
from broker.log.sqlite import rows
from broker.log.sqlite.calls import jitter_s
from broker.log.sqlite.failures import is_busy, is_io_error, translated
from broker.log.sqlite.rows import Place, Topic
from broker.logger import get_logger

__all__ = ["LogFile"]

_T = TypeVar("_T")

_SCRUB_WAIT_MS = 50


class LogFile:
    """An open log file, made by :meth:`open`; any thread may write, one thread reads."""

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
        self._writing = threading.Lock()  # guards _writer, _scrub_due and _scrub_blocked
        self._writer = writer
        self._reader = reader
        self._version = 0
        self._topics: dict[str, Topic] = {}
        self._closed = False
        # Another process may have died before the values that it deleted were gone from the disk.
        self._scrub_due = True
        self._scrub_blocked = False

    @classmethod
    def open(cls, path: str, *, busy_timeout_s: float) -> Self:
        """Open the log at this absolute path; create it, for its owner only, if nothing is there."""
        with translated(path):
            rows.create(path)
            writer = rows.connect(path, "rw")
            try:
                _patiently(partial(rows.prepare, writer, path), busy_timeout_s, threading.Event())
                return cls(path, busy_timeout_s, _identity(path), writer, rows.connect(path, "ro"))
            except BaseException:
                writer.close()
                raise

    def close(self) -> None:
        """Close the file, after the write that is under way; called while nothing reads."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            self._reader.close()
            with translated(self.path):
                if self._scrub_due:
                    self._scrub()
                self._writer.close()

    # Writing

    def append(self, place: Place, messages: Sequence[Message], stop: threading.Event) -> int:
        """Add messages and return the first one's offset; ``stop`` ends the wait for the lock."""
        with self._transaction(stop) as db:
            topic = self._known(db, place, fresh=True)
            last, not_before = rows.last(db, place)
            first = last + 1
            if last + len(messages) > MAX_OFFSET:
                raise LogUnavailable(
                    f"partition {place.number} of {place.topic} cannot grow: its last offset is {last}",
                    hint="no message of this program has such an offset: replay the log to see what it is",
                )
            at = max(time.time_ns() // 1000, not_before)
            if not topic.compacted:
                rows.insert(db, place, first, messages, at)
            else:
                if any(message.key is None for message in messages):
                    raise UsageError(
                        f"no key in a message for topic {place.topic}, which is compacted by key"
                    )
                # Stays due if the transaction fails: one checkpoint too many does no harm.
                self._scrub_due |= rows.replace(db, place, first, messages, at)
        return first

    def ensure(self, name: str, wanted: Topic, stop: threading.Event) -> None:
        """Create the topic, or let it grow."""
        with self._transaction(stop) as db:
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

    @contextmanager
    def _transaction(self, stop: threading.Event) -> Iterator[sqlite3.Connection]:
        with self._writing, translated(self.path):
            self._check_open()
            self._check_same_file()
            db = self._writer
            _patiently(partial(db.execute, "BEGIN IMMEDIATE"), self._busy_timeout_s, stop)
            try:
                yield db
            except BaseException:
                rows.roll_back(db)
                raise
            self._commit(db)
            if self._scrub_due:
                self._scrub()

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            # Commit point: the WAL is synced (synchronous=FULL), so what was appended survives a power cut.
            db.execute("COMMIT")
        except sqlite3.Error as error:
            rows.roll_back(db)
            if is_io_error(error):
                # The frames may have reached the disk, and a recovery after a crash would find them.
                raise OutcomeUnknown(
                    f"writing the log {self.path} failed half way: {error}",
                    hint="check its disk and the space left on it; reading the log's end shows what is there",
                ) from error
            raise

    def _scrub(self) -> None:
        """Try to remove deleted values from the WAL; while a reader is open it stays due."""
        try:
            # Waits for readers once; while one stays, later writes try without waiting.
            self._writer.execute(f"PRAGMA busy_timeout = {0 if self._scrub_blocked else _SCRUB_WAIT_MS}")
            (blocked, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._scrub_due, cause = bool(blocked), "another connection is reading"
        except sqlite3.Error as error:
            # What was appended is durable; failing now would tell the caller otherwise.
            cause = str(error)
        if self._scrub_due and not self._scrub_blocked:
            get_logger("broker.log").warning(
                "deleted values are not yet gone from the disk", log=self.path, cause=cause
            )
        self._scrub_blocked = self._scrub_due

    # Reading

    def read(self, place: Place, start: int, end: int) -> list[StoredMessage]:
        """Give the next messages from ``start`` on and before ``end``: at most 256, and about a megabyte."""
        with self._reading() as db:
            return rows.read(db, place, start, end)

    def ends(self, places: Sequence[Place]) -> list[int]:
        """Tell the offset behind the last message of each partition, all at one moment."""
        with self._reading() as db:
            db.execute("BEGIN")
            try:
                for place in places:
                    self._known(db, place)
                return [rows.last(db, place)[0] + 1 for place in places]
            finally:
                rows.roll_back(db)

    def version(self) -> int:
        """Give a number that changes with every commit; takes a few microseconds."""
        with self._reading() as db:
            self._check_same_file()
            try:
                (self._version,) = db.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                if not is_busy(error):  # while another process opens or closes the file: ask again later
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
        """Refuse to go on with a file that is no longer at its path: what it is given would be lost."""
        try:
            found: tuple[int, int] | None = _identity(self.path)
        except FileNotFoundError:
            found = None
        if found != self._identity:
            raise LogUnavailable(
                f"the log {self.path} was moved or replaced while it was open",
                hint="start again with the right file",
            )

    def _known(self, db: sqlite3.Connection, place: Place, *, fresh: bool = False) -> Topic:
        """Give the topic of a partition that exists, or raise what is missing."""
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


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _patiently(call: Callable[[], _T], timeout_s: float, stop: threading.Event) -> _T:
    """Call until the lock is free, at most for the time-out."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline or stop.wait(jitter_s()):
                raise
