"""The rows of a log in SQLite: connections, topics, and rows as messages.

Any program of the file's owner can write to it, so a row may hold anything. Keys and values come back as
bytes or None, whatever their type was. A row whose offset is not an integer from 0 on is not a message. A
time that is not an integer from 0 to 2^53 comes back as NO_TIME. A row that is too long to have been appended
comes back with an empty key and an empty value: the reader sees that a message stands there, and no memory is
spent on it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from sys import getsizeof
from typing import NamedTuple

from broker.errors import LogUnavailable, UsageError
from broker.files import sync_folder
from broker.log.append_times import MAX_APPENDED_MS, NO_TIME
from broker.log.protocol import MAX_COPIED_BYTES, MAX_OFFSET, StoredMessage
from broker.log.sqlite.failures import is_too_big
from broker.log.sqlite.tables import newest_index, quoted

__all__ = [
    "Place",
    "Topic",
    "connect",
    "create",
    "first",
    "first_not_stored",
    "insert",
    "insert_topic",
    "is_copy",
    "last",
    "mark_copy",
    "read",
    "replace",
    "topic",
    "topics",
    "unmark_copy",
]

_INSERT = "INSERT INTO message(topic, partition, offset, key, value, appended_at) VALUES "
_ROW = "(?, ?, ?, ?, ?, ?)"
# SQLite does not enforce the types of columns. Offsets that are NULL, TEXT or BLOB lie outside of every range
# of numbers; fractions lie inside, and are ruled out by their type.
_IN_RANGE = (
    " FROM message WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ?"
    " AND typeof(offset) = 'integer' ORDER BY offset "
)
_APPENDED_AT = (
    "CASE WHEN typeof(appended_at) = 'integer' AND appended_at BETWEEN 0 AND"
    f" {MAX_APPENDED_MS} THEN appended_at * 1000 ELSE {NO_TIME} END"
)
_READ = "SELECT offset, CAST(key AS BLOB), CAST(value AS BLOB), " + _APPENDED_AT + _IN_RANGE + "LIMIT ?"
_OFFSETS = "SELECT offset" + _IN_RANGE + "LIMIT ?"
_FIRST = "SELECT offset" + _IN_RANGE + "LIMIT 1"
_LAST = "SELECT offset" + _IN_RANGE + "DESC LIMIT 1"
# As it is stored, with one row more than was written: nothing may stand behind it.
_READ_BACK = (
    "SELECT offset, key, value, appended_at FROM message"
    " WHERE topic = ? AND partition = ? AND offset >= ? AND typeof(offset) = 'integer'"
    " ORDER BY offset LIMIT ?"
)

_INSERT_MESSAGES = 256
_CHUNK_MESSAGES = 256
_CHUNK_BYTES = 1_000_000
_STEP = 64
_MAX_ROW_BYTES = MAX_COPIED_BYTES + 1_000  # the largest message of any log, with its names

# Two calls that the reading of each message makes: tuple.__new__ takes a third of the time of
# StoredMessage._make.
_value = itemgetter(2)
_stored = partial(tuple.__new__, StoredMessage)


class Place(NamedTuple):
    """A partition by the physical name of its topic."""

    topic: str
    number: int


class Topic(NamedTuple):
    """A topic as the log describes it."""

    partitions: int
    compacted: bool


# Files and connections


def create(path: str) -> None:
    """Create an empty file of mode 0600, durably, unless the file exists.

    SQLite gives the -wal and -shm files the same mode.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not Path(path).is_file():
            raise UsageError(f"{path} is not a log: it is not a file", hint="check the log's URL") from None
        # SQLite would open a file that may only be read, and fail at the first write. The permission is asked
        # for, and the file not opened: closing it again would release every lock that this process holds on
        # it (POSIX advisory locks, fcntl(2)).
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise LogUnavailable(
                f"the log {path} may not be written by this user",
                hint="run as the user who owns it, or copy it into a directory of your own",
            ) from None
        return
    # The name of the new file must survive a power cut, or everything that is appended is lost with it.
    sync_folder(Path(path).parent)


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Open a connection that writes (``rw``) or only reads (``ro``)."""
    db = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,  # worker threads take turns at the writer, under the lock of LogFile
    )
    try:
        # The file may be another's work: its views and triggers must not call functions with side effects
        # (trusted_schema), and a damaged page is an error, not a wrong row (cell_size_check).
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        if mode == "ro":
            # Against a row of a gigabyte, which would end the process: SQLite refuses to load it.
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW_BYTES)
        else:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
    except BaseException:
        db.close()
        raise
    return db


# Topics


def topic(db: sqlite3.Connection, name: str) -> Topic | None:
    """Return a topic, or None if the log has no topic of this name."""
    row = db.execute(
        "SELECT partitions, compacted IS TRUE FROM topic WHERE name = ? AND typeof(partitions) = 'integer'",
        (name,),
    ).fetchone()
    return None if row is None else Topic(int(row[0]), bool(row[1]))


def topics(db: sqlite3.Connection, prefix: str) -> dict[str, Topic]:
    """Return the topics whose names begin with a prefix."""
    found = db.execute(
        "SELECT name, partitions, compacted IS TRUE FROM topic"
        " WHERE typeof(partitions) = 'integer' AND substr(name, 1, ?) = ? ORDER BY name",
        (len(prefix), prefix),
    )
    return {str(name): Topic(int(partitions), bool(compacted)) for name, partitions, compacted in found}


def insert_topic(db: sqlite3.Connection, name: str, new: Topic) -> None:
    """Write a topic, and an index by key if it is compacted."""
    db.execute("INSERT OR REPLACE INTO topic VALUES (?, ?, ?)", (name, *new))
    if new.compacted:
        db.execute(newest_index(name).replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1))


# Messages


def insert(db: sqlite3.Connection, place: Place, messages: Sequence[StoredMessage]) -> None:
    """Write messages at their offsets, with their times."""
    # Not executemany: it releases the interpreter lock for each row, and beside a busy event loop the thread
    # waits milliseconds to get it back. The sizes are powers of two, so that the few statements that there
    # are stay in the cache of the connection.
    done = 0
    while rest := len(messages) - done:
        size = min(_INSERT_MESSAGES, 1 << (rest.bit_length() - 1))
        values: list[object] = []
        for message in messages[done : done + size]:
            values += (*place, message.offset, message.key, message.value, message.appended_at // 1000)
        db.execute(_INSERT + ", ".join([_ROW] * size), values)
        done += size


def replace(db: sqlite3.Connection, place: Place, messages: Sequence[StoredMessage]) -> bool:
    """Write messages, of which no two have the same key, over the last ones of their keys.

    Returns whether a value was replaced.
    """
    # The row is updated, not deleted and inserted. A deletion may merge pages: SQLite then leaves copies of
    # the rows that it moved in the gaps of the new page, where secure_delete does not reach them any more
    # when they are replaced later. The topic is a literal because SQLite uses the partial index only then.
    update = "UPDATE message SET offset = ?, value = ?, appended_at = ? WHERE partition = ? AND key = ?"
    update += f" AND topic = {quoted(place.topic)}"
    replaced = False
    for message in messages:
        new = (message.offset, message.value, message.appended_at // 1000)
        if db.execute(update, (*new, place.number, message.key)).rowcount:
            replaced = True
        else:
            insert(db, place, [message])
    return replaced


def first_not_stored(db: sqlite3.Connection, place: Place, messages: Sequence[StoredMessage]) -> int | None:
    """Return the offset of the first message that is not stored as it was written, or None if all are.

    A message behind the last one, which nobody wrote, counts as well.
    """
    written = [(m.offset, m.key, m.value, m.appended_at // 1000) for m in messages]
    found = db.execute(_READ_BACK, (*place, messages[0].offset, len(messages) + 1)).fetchall()
    if found == written:
        return None
    pairs = zip(written, found, strict=False)
    return next((row[0] for row, other in pairs if row != other), messages[-1].offset)


def last(db: sqlite3.Connection, place: Place) -> int:
    """Return the offset of the last message: -1 if the partition is empty."""
    row = db.execute(_LAST, (*place, 0, MAX_OFFSET + 1)).fetchone()
    return -1 if row is None else int(row[0])


def first(db: sqlite3.Connection, place: Place) -> int | None:
    """Return the offset of the first message, or None if the partition is empty."""
    row = db.execute(_FIRST, (*place, 0, MAX_OFFSET + 1)).fetchone()
    return None if row is None else int(row[0])


# Copies


def is_copy(db: sqlite3.Connection, prefix: str) -> bool:
    """Tell whether the topics of this prefix are an unfinished copy."""
    return db.execute("SELECT 1 FROM copy WHERE prefix = ?", (prefix,)).fetchone() is not None


def mark_copy(db: sqlite3.Connection, prefix: str, begun_at: int) -> None:
    """Mark the topics of this prefix as an unfinished copy, unless they are marked."""
    db.execute("INSERT OR IGNORE INTO copy VALUES (?, ?)", (prefix, begun_at))


def unmark_copy(db: sqlite3.Connection, prefix: str) -> None:
    """Take the mark of an unfinished copy away."""
    db.execute("DELETE FROM copy WHERE prefix = ?", (prefix,))


def read(db: sqlite3.Connection, place: Place, start: int, end: int) -> list[StoredMessage]:
    """Return the next messages from ``start`` on and before ``end``: at most 256, and about a megabyte."""
    try:
        return _read_many(db, place, start, end)
    except sqlite3.Error as error:
        if not is_too_big(error):
            raise
    # One of the rows is longer than any message that was appended. Row by row, the others are still read.
    offsets = db.execute(_OFFSETS, (*place, start, end, _STEP)).fetchall()
    return [message for (offset,) in offsets for message in _read_one(db, place, offset)]


def _read_many(db: sqlite3.Connection, place: Place, start: int, end: int) -> list[StoredMessage]:
    cursor = db.execute(_READ, (*place, start, end, _CHUNK_MESSAGES))
    chunk: list[StoredMessage] = []
    size = 0
    try:
        while size < _CHUNK_BYTES and (rows := cursor.fetchmany(_STEP)):
            chunk.extend(map(_stored, rows))
            size += sum(map(getsizeof, map(_value, rows)))
    finally:
        # Closing ends the read transaction, also when the budget of bytes ended before the rows did. An open
        # one would keep the WAL from being cut, and so keep deleted values on the disk.
        cursor.close()
    return chunk


def _read_one(db: sqlite3.Connection, place: Place, offset: int) -> list[StoredMessage]:
    """Read a message that may be too long, or that may have been replaced by now."""
    try:
        return [StoredMessage(*row) for row in db.execute(_READ, (*place, offset, offset + 1, 1)).fetchall()]
    except sqlite3.Error as error:
        if not is_too_big(error):
            raise
        return [StoredMessage(offset, b"", b"", 0)]
