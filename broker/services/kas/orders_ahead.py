"""Orders on records that are not there, in a temporary file: no member makes the service large with them.

An order may stand in the log before its record does, in another topic. So none is ever dropped, however many
a member writes on records that do not exist. They are read from the logs at every start; the file has no name
and disappears with the service.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

__all__ = ["MAX_MEMORY_KIB", "OrdersInFile"]

MAX_MEMORY_KIB = 1024
"""The most memory of one channel for orders on records that are not there; the rest is in the file."""


class OrdersInFile:
    """The orders ahead of one channel; see ``broker.access.record_states.OrdersAhead``."""

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None
        """None until there is an order: most channels never have one."""

    def put(self, target: bytes, order: bytes) -> None:
        """Put an order on the batch of this id aside."""
        if self._db is None:
            self._db = _opened()
        self._db.execute("INSERT INTO ahead VALUES (?, ?)", (target, order))

    def take(self, target: bytes) -> Sequence[bytes]:
        """Return the orders on a batch that has come, and forget them."""
        if self._db is None:
            return ()
        rows = self._db.execute("SELECT packed FROM ahead WHERE target = ?", (target,)).fetchall()
        if rows:
            self._db.execute("DELETE FROM ahead WHERE target = ?", (target,))
        return [packed for (packed,) in rows]

    def __del__(self) -> None:
        if self._db is not None:
            self._db.close()


def _opened() -> sqlite3.Connection:
    # A database without a name: SQLite writes to a file that it has deleted already, once the cache is full.
    # One task at a time uses it, but the garbage collector may close it in any thread.
    db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    pragmas = (
        "journal_mode = OFF",
        "synchronous = OFF",
        f"cache_size = -{MAX_MEMORY_KIB}",
        "temp_store = FILE",
    )
    for pragma in pragmas:
        db.execute(f"PRAGMA {pragma}")
    db.executescript("CREATE TABLE ahead(target BLOB, packed BLOB); CREATE INDEX by_target ON ahead(target);")
    db.execute("BEGIN")
    return db
