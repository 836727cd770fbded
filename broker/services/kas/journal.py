"""The journal of a key access service: every batch that it appended to the access log, kept whole.

If somebody cuts the newest entries off the log, the journal still has them. It is one SQLite file
(``synchronous=FULL``), which several processes of a host may share. A batch is journalled after the log
acknowledged it and before anything is released. It is marked *late* once its messages stand in the log
again inside a LATE entry. An alarm stays open until an operator acknowledges it, over every restart.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.directory import HighWater
from broker.errors import FormatError, OperatorError
from broker.files import sync_folder
from broker.log.protocol import Log, Message, Partition
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.encoding import decode, encode
from broker.wire.manifest import LateTerms, LostMessage, Positions

__all__ = ["Alarm", "Journal", "Journalled", "is_in_log"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    terms BLOB NOT NULL, late INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS entry_place ON entry (partition, late, offset);
CREATE TABLE IF NOT EXISTS alarm (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, detail TEXT NOT NULL, raised_at INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS bound (
    partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL, issued_at INTEGER NOT NULL,
    positions BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS alarm_open ON alarm (partition) WHERE acknowledged = 0;
CREATE TABLE IF NOT EXISTS directory (
    id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, root BLOB NOT NULL);
"""
_BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Journalled:
    """A batch of the access log as it was written. ``id`` is the journal's own number for it."""

    id: int
    partition: int
    terms: LateTerms

    @property
    def end(self) -> int:
        """The offset behind the batch's last message."""
        return self.terms.offset + len(self.terms.messages)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The reason why releasing stopped on a channel. ``raised_at`` is in microseconds since 1970."""

    partition: int
    detail: str
    raised_at: int


class Journal:
    """An open journal; use it with ``with``, or ``close`` it. Its calls block while the disk writes."""

    def __init__(self, path: Path) -> None:
        try:
            # Created here and not by SQLite, which would let others of the host read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            # A power cut could otherwise take the name of a new journal away, with all that it remembers.
            sync_folder(path.parent)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OperatorError(f"cannot open the journal '{path}': {error}") from None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing it again does no harm."""
        with self._turn:
            self._db.close()

    def _run(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        try:
            with self._turn:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise OperatorError(f"the journal failed: {error}") from None

    # entries

    def record(
        self,
        partition: int,
        offset: int,
        batch_id: bytes,
        messages: Sequence[tuple[bytes, bytes]],
        *,
        positions: Positions | None = None,
        issued_at: int = 0,
    ) -> None:
        """Keep a batch that the log acknowledged, and what it binds; it is durable on return."""
        terms = LateTerms(
            offset=offset,
            batch_id=batch_id,
            messages=tuple(LostMessage(key=key, value=value) for key, value in messages),
        )
        self._run(
            "INSERT INTO entry (partition, offset, terms) VALUES (?, ?, ?)", partition, offset, encode(terms)
        )
        if positions is not None:
            sql = "INSERT OR REPLACE INTO bound VALUES (?, ?, ?, ?)"
            self._run(sql, partition, offset, issued_at, encode(positions))

    def bound(self, partition: int) -> tuple[Positions, int, int] | None:
        """Return the positions of the batch that was kept last, with its offset and time, or None.

        The logs must still be what they say, also where the batch itself was cut from the log.
        """
        sql = "SELECT positions, offset, issued_at FROM bound WHERE partition = ?"
        rows = self._run(sql, partition)
        if not rows:
            return None
        try:
            positions = decode(Positions, _bytes(rows[0][0]))
        except FormatError as error:
            raise OperatorError(f"the journal was altered: {error.message}") from None
        return positions, _whole(rows[0][1]), _whole(rows[0][2])

    def last(self, partition: int) -> Journalled | None:
        """Return the batch with the highest offset of those that must be in the log."""
        rows = self._run(
            "SELECT id, terms FROM entry WHERE partition = ? AND late = 0 ORDER BY offset DESC LIMIT 1",
            partition,
        )
        return _journalled(partition, *rows[0]) if rows else None

    def at(self, partition: int, offset: int) -> Journalled | None:
        """Return the batch that was journalled last at this offset."""
        sql = "SELECT id, terms FROM entry WHERE partition = ? AND offset = ? ORDER BY id DESC LIMIT 1"
        rows = self._run(sql, partition, offset)
        return _journalled(partition, *rows[0]) if rows else None

    def after(self, partition: int, entry: Journalled | None, limit: int = 64) -> list[Journalled]:
        """Return the next batches that must be in the log, by offset: behind ``entry``, or from the first.

        Two batches may have one offset: the log was cut, and written on before anybody noticed.
        """
        rows = self._run(
            "SELECT id, terms FROM entry WHERE partition = ? AND late = 0 AND (offset, id) > (?, ?)"
            " ORDER BY offset, id LIMIT ?",
            partition,
            entry.terms.offset if entry else -1,
            entry.id if entry else 0,
            limit,
        )
        return [_journalled(partition, *row) for row in rows]

    def mark_late(self, entry: Journalled) -> None:
        """Note that the batch's messages stand in the log again, inside a LATE entry that is durable."""
        self._run("UPDATE entry SET late = 1 WHERE id = ?", entry.id)

    def forget(self, partition: int, below: int) -> None:
        """Drop the batches below an offset, which a cosigned checkpoint covers."""
        self._run("DELETE FROM entry WHERE partition = ? AND offset < ? AND late = 0", partition, below)

    # alarms

    def raise_alarm(self, alarm: Alarm) -> None:
        """Stop releasing on a channel until the alarm is acknowledged. An open alarm is not replaced."""
        self._run(
            "INSERT OR IGNORE INTO alarm (partition, detail, raised_at) VALUES (?, ?, ?)",
            alarm.partition,
            alarm.detail,
            alarm.raised_at,
        )

    def alarms(self) -> list[Alarm]:
        """Return the alarms that nobody acknowledged yet."""
        rows = self._run("SELECT partition, detail, raised_at FROM alarm WHERE acknowledged = 0 ORDER BY id")
        return [Alarm(_whole(row[0]), str(row[1]), _whole(row[2])) for row in rows]

    def alarm(self, partition: int) -> Alarm | None:
        """Return the open alarm of a channel."""
        return next((alarm for alarm in self.alarms() if alarm.partition == partition), None)

    def alarms_ever(self, partition: int) -> int:
        """Return how many alarms a channel ever had.

        When the number changes, another process found the log cut: everything that was read of the channel
        must be read again.
        """
        return _whole(self._run("SELECT count(*) FROM alarm WHERE partition = ?", partition)[0][0])

    def acknowledge(self, partition: int) -> None:
        """Note that an operator has looked into the alarms of a channel."""
        self._run("UPDATE alarm SET acknowledged = 1 WHERE partition = ?", partition)

    # the directory's high-water mark

    def high_water(self) -> HighWater | None:
        """Return the largest directory that any process with this journal saw."""
        rows = self._run("SELECT size, root FROM directory")
        return HighWater(size=_whole(rows[0][0]), root=_bytes(rows[0][1])) if rows else None

    def saw_directory(self, mark: HighWater) -> None:
        """Remember how much of the directory was seen, if it is more than before."""
        self._run(
            "INSERT INTO directory VALUES (0, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET size = excluded.size, root = excluded.root WHERE excluded.size > size",
            mark.size,
            mark.root,
        )


async def is_in_log(log: Log, entry: Journalled) -> bool:
    """Whether the batch's very messages stand in the log, at the offsets where they stood."""
    place = Partition(ACCESS_TOPIC, entry.partition)
    messages = [Message(message.key, message.value) for message in entry.terms.messages]
    seen: list[Message] = []
    async for stored in log.read(place, entry.terms.offset):
        if stored.offset != entry.terms.offset + len(seen):
            return False
        seen.append(Message(stored.key, stored.value))
        if len(seen) == len(messages):
            return seen == messages
    return False


def _journalled(partition: int, id: object, terms: object) -> Journalled:
    try:
        return Journalled(_whole(id), partition, decode(LateTerms, _bytes(terms)))
    except FormatError as error:
        raise OperatorError(f"the journal was altered: {error.message}") from None


def _whole(value: object) -> int:
    if isinstance(value, int):
        return value
    raise OperatorError("the journal was altered")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise OperatorError("the journal was altered")
