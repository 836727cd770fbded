"""Sweeps over the demo's log: every message that is flipped, dropped, swapped or copied is reported.

FTF_THOROUGH=1 alters each message. Otherwise the tests alter a few of them, so that the suite stays
quick. The exhaustive sweep of a smaller log is in tests/audit/test_replay_manipulation.py.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Transcript, ftf_broker
from support.log_file import Row

THOROUGH = os.environ.get("FTF_THOROUGH") == "1"
SAMPLES = 4
_WHERE = "WHERE topic = ? AND partition = ? AND offset "
Change = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the demo leaves behind."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    told = ftf_broker("demo", "--dir", str(folder), "--json")
    assert told.code == 0, told.err
    return folder


def _rows(folder: Path) -> list[list[Row]]:
    with closing(sqlite3.connect(folder / "log.db")) as db:
        found = db.execute(
            "SELECT topic, partition, offset, key, value, appended_at FROM message"
            " WHERE topic != 'ftf.keys' ORDER BY topic, partition, offset"
        ).fetchall()
    return [list(group) for _, group in groupby((Row(*row) for row in found), key=lambda row: row[:2])]


def _some(rows: list[Row]) -> list[Row]:
    """Every message, or only the first, the last and some between them."""
    if THOROUGH or len(rows) <= SAMPLES:
        return rows
    step = (len(rows) - 1) / (SAMPLES - 1)
    return [rows[round(i * step)] for i in range(SAMPLES)]


def _sql(statement: str, *values: object) -> Change:
    return lambda db: db.execute(statement, values)


def _replayed(folder: Path, copy: Path, change: Change) -> Transcript:
    path = folder / "log.db"
    kept = copy / "kept.db"
    shutil.copy(path, kept)
    try:
        with closing(sqlite3.connect(path)) as db, db:
            change(db)
        return ftf_broker("audit", "replay", "--json", "--profile", str(folder / "auditor/auditor.toml"))
    finally:
        # SQLite would apply a left-over WAL of the altered log to the file that is put back.
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        shutil.copy(kept, path)


def _check(told: Transcript, *allowed: tuple[str, int, int]) -> None:
    """Exit code 1; the first violation is a root at an allowed place and causes all others."""
    assert told.code == 1, (allowed, told.out[:300], told.err)
    violations: list[dict[str, Any]] = told.json["violations"]
    places = [(violation["topic"], violation["partition"], violation["offset"]) for violation in violations]
    assert places[0] in allowed, (allowed, violations[:3])
    assert violations[0]["caused_by"] is None
    first = dict(zip(("topic", "partition", "offset"), places[0], strict=True))
    assert all(violation["caused_by"] == first for violation in violations[1:]), (allowed, violations)


def test_a_byte_flipped(demo: Path, tmp_path: Path) -> None:
    """A flipped byte of a message's value or key is reported at that message."""
    for rows in _rows(demo):
        for row in _some(rows):
            size = len(row.value or b"")
            places = (0, 1, 5, 21, size // 2, size - 1) if THOROUGH else (size // 2,)
            changes = [("value", byte) for byte in places] + ([("key", -1)] if row.key else [])
            for column, byte in changes:
                data = bytearray(getattr(row, column))
                data[byte] ^= 1
                values = (bytes(data), *row[:3])
                flip = _sql(f"UPDATE message SET {column} = ? {_WHERE} = ?", *values)
                _check(_replayed(demo, tmp_path, flip), row[:3])


def test_a_message_dropped(demo: Path, tmp_path: Path) -> None:
    """A dropped message is reported at the hole that it leaves."""
    for rows in _rows(demo):
        for row in _some(rows):
            drop = _sql(f"DELETE FROM message {_WHERE} = ?", *row[:3])
            _check(_replayed(demo, tmp_path, drop), row[:3])


def test_two_neighbours_swapped(demo: Path, tmp_path: Path) -> None:
    """Two neighbours that are swapped are reported at one of their two places."""
    sql = f"UPDATE message SET offset = ? {_WHERE} = ?"
    for rows in _rows(demo):
        for row in _some(rows[:-1]):

            def change(db: sqlite3.Connection, row: Row = row) -> None:
                for new, old in ((-1, row.offset), (row.offset, row.offset + 1), (row.offset + 1, -1)):
                    db.execute(sql, (new, *row[:2], old))

            _check(_replayed(demo, tmp_path, change), row[:3], (*row[:2], row.offset + 1))


def test_a_copy_appended(demo: Path, tmp_path: Path) -> None:
    """An appended copy of a message is reported where the copy stands."""
    sql = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)"
    for rows in _rows(demo):
        end = rows[-1].offset + 1
        for row in _some(rows):
            copy = _sql(sql, *row[:2], end, row.key, row.value, rows[-1].appended_at)
            _check(_replayed(demo, tmp_path, copy), (*row[:2], end))


def test_the_demo_is_still_what_it_was(demo: Path) -> None:
    """The log verifies after the sweeps, because they put back what they altered."""
    told = ftf_broker("audit", "replay", "--json", "--profile", str(demo / "auditor/auditor.toml"))
    assert (told.code, told.json["violations"]) == (0, [])
