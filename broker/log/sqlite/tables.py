"""The tables of a log in SQLite, and the refusal of a file that has anything beside them.

A trigger can drop or change what is appended, a view in place of a table can show what is not stored, and
another constraint or index can refuse some messages and not others. None of them is a log's own, so a file
that has one is refused by its name: when it is opened, and again before a write when its schema has changed
since.

    message  a message; ``appended_at`` is in whole milliseconds since 1970, as the tree of a partition has it
    topic    a topic with its number of partitions, and whether it keeps the newest value of each key only
    copy     a prefix whose topics are being copied from another log; without rows when nothing is half done
"""

from __future__ import annotations

import sqlite3

from broker.errors import LogUnavailable, UsageError

__all__ = ["check_schema", "newest_index", "prepare", "quoted", "roll_back", "schema_version"]

_TABLES = {
    "message": "message(topic TEXT, partition INTEGER, offset INTEGER, key BLOB, value BLOB,"
    " appended_at INTEGER, PRIMARY KEY(topic, partition, offset))",
    "topic": "topic(name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL)",
    "copy": "copy(prefix TEXT PRIMARY KEY, begun_at INTEGER NOT NULL)",
}
_OF_ITSELF = {f"sqlite_autoindex_{table}_1" for table in _TABLES}
_INDEX = "newest of "
_MAX_SHOWN = 100


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Create the tables in a new file; refuse the database of another program before writing to it."""
    names = {str(name) for (name,) in db.execute("SELECT CAST(name AS TEXT) FROM sqlite_master")}
    if names:
        if not {"message", "topic"} <= names:
            raise UsageError(
                f"{path} is not a log: it is the SQLite database of something else",
                hint="check the log's URL",
            )
        check_schema(db, path)
    # This has an effect on a new file only; reads are a fifth faster than with 4096 bytes.
    db.execute("PRAGMA page_size = 8192")
    # Asked for, not assumed: on a file system without shared memory SQLite answers with another mode.
    (journal,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise LogUnavailable(
            f"the log {path} cannot have a write-ahead log where it is",
            hint="put it on a disk of this machine",
        )
    if names:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for definition in _TABLES.values():
            db.execute(f"CREATE TABLE IF NOT EXISTS {definition}")
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction that failed, unless SQLite has ended it by itself, as it does when a disk is full."""
    if db.in_transaction:
        db.execute("ROLLBACK")


def schema_version(db: sqlite3.Connection) -> int:
    """Return the number that SQLite changes with every change of the schema."""
    (version,) = db.execute("PRAGMA schema_version").fetchone()
    return int(version)


def check_schema(db: sqlite3.Connection, path: str) -> None:
    """Raise a LogUnavailable that names what is in the file and is not a log's, or what it lacks."""
    found = set()
    for kind, name, table, sql in db.execute(
        "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), CAST(sql AS TEXT)"
        " FROM sqlite_master"
    ):
        if (kind, sql) == ("table", f"CREATE TABLE {_TABLES.get(name)}"):
            found.add(name)
        elif not _is_our_index(kind, name, table, sql):
            raise LogUnavailable(
                f"the log {path} has {_article(kind)} {kind} {name[:_MAX_SHOWN]!r} that is not a log's",
                hint="another program changed this file: ask its owner why, and use a copy from before that",
            )
    for missing in sorted(_TABLES.keys() - found):
        raise LogUnavailable(
            f"the log {path} lacks the table {missing!r}",
            hint="another program changed this file: ask its owner why, and use a copy from before that",
        )


def newest_index(topic: str) -> str:
    """Return the statement that creates the index by key of a compacted topic."""
    name = quoted(_INDEX + topic, '"')
    return f"CREATE INDEX {name} ON message(partition, key, offset) WHERE topic = {quoted(topic)}"


def _is_our_index(kind: str, name: str, table: str, sql: str | None) -> bool:
    if kind != "index":
        return False
    if sql is None:
        return name in _OF_ITSELF
    topic = name.removeprefix(_INDEX)
    return table == "message" and name.startswith(_INDEX) and sql == newest_index(topic)


def quoted(name: str, quote: str = "'") -> str:
    """Return a name between quotes, as SQL has it."""
    return quote + name.replace(quote, 2 * quote) + quote


def _article(kind: str) -> str:
    return "an" if kind[:1] in "aeiou" else "a"
