"""Errors of the SQLite log when its file, its directory or its disk fails."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker.errors import LogUnavailable, OutcomeUnknown, UsageError
from broker.log import SqliteLog
from log.contract import RETURNS, held, messages, take, until_waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a test's log."""
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    """Open a log with a message."""
    async with await SqliteLog.open(path) as log:
        await log.ensure("returns", 1)
        await log.append(RETURNS, messages(b"one"))
        yield log


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """Run as a user to whom permissions apply, unlike root, and who may write in one directory."""
    directory = Path(tempfile.mkdtemp())
    was = os.geteuid()
    if was == 0:
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    try:
        yield directory
    finally:
        if was == 0:
            os.seteuid(0)
        shutil.rmtree(directory)


async def refused(path: Path, kind: type[LogUnavailable | UsageError]) -> str:
    """Open a log that cannot be opened, and return the error."""
    with pytest.raises(kind) as caught:
        await SqliteLog.open(path)
    assert caught.value.hint
    assert str(path) in caught.value.message
    return caught.value.message


async def test_a_missing_directory(path: Path) -> None:
    """A directory that does not exist is the caller's mistake, and is not created."""
    assert "directory does not exist" in await refused(path.parent / "none" / "log.db", UsageError)
    path.write_bytes(b"")
    assert "directory does not exist" in await refused(path / "log.db", UsageError)


async def test_a_directory_in_place_of_the_file(path: Path) -> None:
    """A directory, or anything else that is not a file, is refused as a log."""
    path.mkdir()
    assert "not a file" in await refused(path, UsageError)
    fifo = path / "fifo"
    os.mkfifo(fifo)
    assert "not a file" in await refused(fifo, UsageError)


async def test_a_file_that_is_no_database(path: Path) -> None:
    """A file that is not a database is refused and stays as it was."""
    path.write_bytes(b"records, one a line\n" * 1_000)
    assert "not a SQLite database" in await refused(path, UsageError)
    assert path.read_bytes() == b"records, one a line\n" * 1_000


@pytest.mark.parametrize("schema", ["CREATE TABLE notes(text)", "CREATE TABLE message(topic, value)"])
async def test_a_database_of_something_else(path: Path, schema: str) -> None:
    """A database without the tables of a log is refused and stays as it was."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(schema)
    before = path.read_bytes()
    assert "something else" in await refused(path, UsageError)
    assert path.read_bytes() == before


async def test_a_damaged_file(path: Path) -> None:
    """Pages overwritten with noise make reading a LogUnavailable, never another error."""
    async with await SqliteLog.open(path) as log:
        await log.ensure("returns", 1)
        await log.append(RETURNS, messages(*(b"%d" % i * 100 for i in range(1_000))))
    content = path.read_bytes()
    begun = 7 * 8192  # the schema, and the first page of each table and index
    path.write_bytes(content[:begun] + b"\xa5" * (len(content) - begun))
    async with await SqliteLog.open(path) as log:
        with pytest.raises(LogUnavailable, match="damaged") as caught:
            await held(log, RETURNS)
        assert caught.value.hint
        with pytest.raises(LogUnavailable, match="damaged"):
            await log.append(RETURNS, messages(b"one"))


async def test_a_file_that_may_not_be_written(plain_user: Path) -> None:
    """A read-only log is a LogUnavailable whose hint says what to do."""
    path = plain_user / "log.db"
    async with await SqliteLog.open(path) as log:
        await log.ensure("returns", 1)
    path.chmod(0o400)
    assert "may not be written" in await refused(path, LogUnavailable)
    path.chmod(0)
    assert "may not be written" in await refused(path, LogUnavailable)


async def test_a_directory_that_may_not_be_written(plain_user: Path) -> None:
    """A log in a directory that belongs to another user is a LogUnavailable, and is not created."""
    plain_user.chmod(0o500)
    assert "may not be created" in await refused(plain_user / "log.db", LogUnavailable)
    plain_user.chmod(0o700)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
async def test_a_name_that_no_file_can_have(path: Path, name: str) -> None:
    """A name that no file can have is a UsageError with a hint."""
    with pytest.raises((UsageError, LogUnavailable)) as caught:
        await SqliteLog.open(path.parent / name if "\0" not in name else name)
    assert caught.value.hint


async def test_a_full_disk(path: Path, log: SqliteLog) -> None:
    """On a full disk an append is a LogUnavailable and stores nothing; with space again appends go on."""
    db = log._file._writer
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite reports it exactly as it does ENOSPC
    with pytest.raises(LogUnavailable, match="no space left") as caught:
        await log.append(RETURNS, messages(*[bytes(20_000)] * 10))
    assert caught.value.hint
    assert len(await held(log, RETURNS)) == 1
    db.execute("PRAGMA max_page_count = 1000000")
    assert await log.append(RETURNS, messages(b"two")) == 1


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let every write beyond this size of a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_fails_half_way(path: Path, log: SqliteLog) -> None:
    """The outcome of an append whose write fails is unknown; the tail shows it, and a retry succeeds."""
    wal = path.with_name("log.db-wal")
    batch = messages(*[bytes(20_000)] * 10)
    with largest_file(wal.stat().st_size + 30_000), pytest.raises(OutcomeUnknown) as caught:
        await log.append(RETURNS, batch)
    assert caught.value.hint
    assert await log.ends([RETURNS]) == {RETURNS: 1}
    assert await log.append(RETURNS, batch) == 1
    async with await SqliteLog.open(path) as other:
        assert [m.value for m in await held(other, RETURNS, 1)] == [m.value for m in batch]


@pytest.mark.parametrize("replace", [True, False])
async def test_a_file_that_was_moved_away(path: Path, log: SqliteLog, replace: bool) -> None:
    """When the file at the path was replaced or removed, appends and followers fail instead of being lost."""
    following = asyncio.create_task(take(log, RETURNS, 1, 1))
    await until_waiting(following)
    path.rename(path.with_name("moved.db"))
    if replace:
        path.write_bytes(b"")
    with pytest.raises(LogUnavailable, match="moved or replaced") as caught:
        await log.append(RETURNS, messages(b"two"))
    assert caught.value.hint
    with pytest.raises(LogUnavailable, match="moved or replaced"):
        await following
