"""The file of an embedded log, as its operator can alter it: by plain SQL, behind the log's back.

Each method returns the place at which the damage must be found.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from broker.verify.violations import Place

__all__ = ["LogFile", "Row", "behind"]

_WHERE = "WHERE topic = ? AND partition = ? AND offset "


class Row(NamedTuple):
    """A message as the table holds it; ``topic`` without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: int

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.topic, self.partition, self.offset)


@dataclass
class LogFile:
    """A log in a folder; ``spoiled`` are the manifest ids of batches that were touched."""

    folder: Path
    spoiled: set[bytes] = field(default_factory=set)

    @property
    def path(self) -> Path:
        """The log's file."""
        return self.folder / "log.db"

    def rows(self, topic: str | None = None, partition: int | None = None) -> list[Row]:
        """The messages of a topic, or of all but the service's own."""
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute(
                "SELECT topic, partition, offset, key, value, appended_at FROM message"
                " WHERE topic != 'ftf.keys' ORDER BY topic, partition, offset"
            ).fetchall()
        rows = [Row(row[0].removeprefix("ftf."), *row[1:]) for row in found]
        return [
            row
            for row in rows
            if (topic is None or row.topic == topic) and (partition is None or row.partition == partition)
        ]

    def row(self, place: Place) -> Row:
        """The message at a place."""
        return next(row for row in self.rows(place.topic, place.partition) if row.offset == place.offset)

    def end(self, topic: str, partition: int) -> Place:
        """The place behind the last message."""
        rows = self.rows(topic, partition)
        return Place(topic, partition, rows[-1].offset + 1 if rows else 0)

    def sql(self, statement: str, *values: object) -> None:
        """Alter the file behind the log's back."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(statement, values)

    def _spoil(self, *rows: Row) -> None:
        self.spoiled |= {row.key[:16] for row in rows if row.key is not None and row.topic != "access"}

    def _set(self, place: Place, column: str, new: object) -> Place:
        self._spoil(self.row(place))
        self.sql(
            f"UPDATE message SET {column} = ? {_WHERE} = ?",
            new, f"ftf.{place.topic}", place.partition, place.offset,
        )  # fmt: skip
        return place

    def flip(self, place: Place, *, column: str = "value", byte: int = -1) -> Place:
        """Flip a bit of one byte, the last of the value unless told otherwise."""
        data = bytearray(getattr(self.row(place), column))
        data[byte] ^= 1
        return self._set(place, column, bytes(data))

    def overwrite(self, place: Place, value: object, *, column: str = "value") -> Place:
        """Put another value into a message."""
        return self._set(place, column, value)

    def _shift(self, place: Place, by: int) -> None:
        where = (f"ftf.{place.topic}", place.partition)
        self.sql(f"UPDATE message SET offset = -1 - offset {_WHERE} >= ?", *where, place.offset)
        self.sql(f"UPDATE message SET offset = -1 - offset + ? {_WHERE} < 0", by, *where)

    def drop(self, place: Place, count: int = 1, *, close_up: bool = False) -> Place:
        """Remove messages, with the offsets behind them closed up or not."""
        for row in self.rows(place.topic, place.partition):
            if place.offset <= row.offset < place.offset + count:
                self._spoil(row)
        where, last = (f"ftf.{place.topic}", place.partition), place.offset + count - 1
        self.sql(f"DELETE FROM message {_WHERE} BETWEEN ? AND ?", *where, place.offset, last)
        if close_up:
            self._shift(Place(place.topic, place.partition, place.offset + count), -count)
        return place

    def cut_tail(self, place: Place) -> Place:
        """Remove everything from here on."""
        return self.drop(place, 1_000_000)

    def swap(self, one: Place, other: Place) -> Place:
        """Exchange two messages of a partition; the first of the two places."""
        self._spoil(self.row(one), self.row(other))
        where = (f"ftf.{one.topic}", one.partition)
        for new, old in ((-1, one.offset), (one.offset, other.offset), (other.offset, -1)):
            self.sql(f"UPDATE message SET offset = ? {_WHERE} = ?", new, *where, old)
        return min(one, other)

    def insert(self, place: Place, key: object, value: object) -> Place:
        """Put a message where another stands, and move all behind it."""
        if place.offset:
            self._spoil_across(place)
        at = self.row(place).appended_at
        self._shift(place, 1)
        values = (f"ftf.{place.topic}", place.partition, place.offset, key, value, at)
        self.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
        return place

    def _spoil_across(self, place: Place) -> None:
        """A batch that is broken apart between two messages is void."""
        around = [r for r in self.rows(place.topic, place.partition) if 0 <= place.offset - r.offset <= 1]
        keys = {row.key[:16] for row in around if row.key is not None}
        if len(around) == 2 and len(keys) == 1:
            self._spoil(*around)

    def append(self, topic: str, partition: int, *messages: tuple[object, object]) -> Place:
        """Append raw messages, whatever they are."""
        first = self.end(topic, partition)
        at = max((row.appended_at for row in self.rows(topic, partition)), default=1)
        rows = [
            (f"ftf.{topic}", partition, first.offset + i, key, value, at)
            for i, (key, value) in enumerate(messages)
        ]
        with closing(sqlite3.connect(self.path)) as db, db:
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        return first


def behind(place: Place, count: int) -> Place:
    """The place so many messages further."""
    return place._replace(offset=place.offset + count)
