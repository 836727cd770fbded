"""Promises of the SQLite log beyond the contract: one file, several processes, hostile rows, erasure."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.errors import BrokerError, LogForked, LogUnavailable, UsageError
from broker.log import MAX_OFFSET, Log, Message, Partition, SqliteLog
from log.contract import KEYS, RETURNS, held, messages, take, until_waiting

BATCH = 40
APPENDER = f"""
import asyncio, sys
from broker.log import Message, Partition, SqliteLog

async def main(path, name, count):
    async with await SqliteLog.open(path) as log:
        for batch in range(count):
            body = [Message(f"{{name}} {{batch}} {{i}}".encode(), bytes(600)) for i in range({BATCH})]
            await log.append(Partition("returns", 0), body)
            print(batch, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a test's log."""
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    """Open a log with a topic of each kind."""
    async with await SqliteLog.open(path) as log:
        await log.ensure("returns", 2)
        await log.ensure("keys", 1, compacted=True)
        yield log


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as a person with any SQLite tool does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def insert(db: sqlite3.Connection, offset: object, key: object, value: object, at: object = 1) -> None:
    row = ("ftf.returns", 0, offset, key, value, at)
    db.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", row)


@asynccontextmanager
async def appender(path: Path, name: str, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another process that appends batches to the same file and prints a line for each."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", APPENDER, str(path), name, str(count), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


# The file


async def test_any_sqlite_tool_reads_the_log(log: SqliteLog, path: Path) -> None:
    """The table has the documented columns and physical topic names."""
    await log.append(Partition("returns", 1), [Message(b"k", b"v")])
    [stored] = await held(log, Partition("returns", 1))
    with tampering(path) as db:
        columns = [row[1:3] for row in db.execute("PRAGMA table_info(message)")]
        rows = db.execute("SELECT * FROM message").fetchall()
    assert columns == [
        ("topic", "TEXT"), ("partition", "INTEGER"), ("offset", "INTEGER"),
        ("key", "BLOB"), ("value", "BLOB"), ("appended_at", "INTEGER"),
    ]  # fmt: skip
    assert rows == [("ftf.returns", 1, 0, b"k", b"v", stored.appended_at // 1000)]


async def test_the_files_are_for_their_owner_only(log: SqliteLog, path: Path) -> None:
    """The database, its write-ahead log and its index have mode 0600, whatever the umask is."""
    await log.append(RETURNS, messages(b"one"))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}


async def test_the_reading_connection_is_closed_where_it_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread closes a connection under a statement of another one: SQLite would crash the process."""
    closed_in: dict[str, int] = {}

    class Noted(sqlite3.Connection):
        """A connection that notes in which thread it is closed."""

        def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(database, *args, **kwargs)
            self.mode = database.rpartition("=")[2]

        def close(self) -> None:
            closed_in.setdefault(self.mode, threading.get_ident())
            super().close()

    monkeypatch.setattr("broker.log.sqlite.rows.sqlite3.connect", partial(sqlite3.connect, factory=Noted))
    log = await SqliteLog.open(path)
    await log.aclose()
    await log.aclose()
    assert closed_in["ro"] == threading.get_ident()
    assert closed_in["rw"] != threading.get_ident()


async def test_readers_get_an_error_when_the_log_is_closed_under_them(log: SqliteLog) -> None:
    """Readers that are busy while the log is closed get a UsageError, and nothing else happens."""
    await log.append(RETURNS, messages(*[bytes(300)] * 500))

    async def read_on() -> None:
        while True:
            await held(log, RETURNS)

    readers = [asyncio.create_task(read_on()) for _ in range(4)]
    await asyncio.sleep(0.01)
    await log.aclose()
    for error in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(error, UsageError)


async def test_prefixes_share_a_file_and_nothing_else(log: SqliteLog, path: Path) -> None:
    """Logs with different prefixes in one file do not see each other's topics."""
    async with await SqliteLog.open(path, prefix="exercise") as other:
        with pytest.raises(LogUnavailable, match=r"exercise\.returns"):
            await other.append(RETURNS, messages(b"one"))
        await other.ensure("returns", 1)
        await other.append(RETURNS, messages(b"one"))
    assert await held(log, RETURNS) == []


# Several processes


async def test_processes_append_at_once(log: SqliteLog, path: Path) -> None:
    """Batches of several processes are whole, in order for each process, and fill all offsets."""
    async with appender(path, "a", 25) as a, appender(path, "b", 25) as b:
        for i in range(25):
            await log.append(RETURNS, [Message(f"c {i} {j}".encode(), None) for j in range(BATCH)])
        assert (await a.wait(), await b.wait()) == (0, 0)
    stored = await held(log, RETURNS)
    assert [m.offset for m in stored] == list(range(3 * 25 * BATCH))
    firsts = [(stored[at].key or b"").decode().split() for at in range(0, len(stored), BATCH)]
    for name in "abc":
        assert [int(batch) for who, batch, _ in firsts if who == name] == list(range(25))
    for at, (who, batch, _) in enumerate(firsts):
        keys = [m.key for m in stored[at * BATCH : (at + 1) * BATCH]]
        assert keys == [f"{who} {batch} {i}".encode() for i in range(BATCH)]


async def test_a_follower_is_woken_by_another_process(log: SqliteLog, path: Path) -> None:
    """A follower gets the messages of another process while nothing happens in its own."""
    following = asyncio.create_task(take(log, RETURNS, 0, 3 * BATCH))
    await until_waiting(following)
    async with appender(path, "other", 3):
        taken = await following
    assert [m.offset for m in taken] == list(range(3 * BATCH))


@pytest.mark.parametrize("batches", [1, 4, 9])
async def test_a_killed_process_leaves_whole_batches(log: SqliteLog, path: Path, batches: int) -> None:
    """After kill -9 in the middle of appends, every acknowledged batch is there and every batch is whole."""
    async with appender(path, "victim", 1_000_000) as process:
        assert process.stdout is not None
        for _ in range(batches):
            acknowledged = int(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    end = (await log.ends([RETURNS]))[RETURNS]
    assert end >= (acknowledged + 1) * BATCH
    assert end % BATCH == 0
    assert await log.append(RETURNS, messages(b"after")) == end
    stored = await held(log, RETURNS)
    assert [m.offset for m in stored] == list(range(end + 1))
    assert [m.key for m in stored[-3:-1]] == [
        f"victim {end // BATCH - 1} {i}".encode() for i in (BATCH - 2, BATCH - 1)
    ]


# Locks and the clock


async def test_a_lock_that_stays_is_an_error(path: Path, log: SqliteLog) -> None:
    """While another program keeps the file locked past the time-out, an append fails; later ones succeed."""
    async with await SqliteLog.open(path, busy_timeout_s=0.05) as impatient:
        with tampering(path) as db:
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="locked") as caught:
                await impatient.append(RETURNS, messages(b"one"))
            assert caught.value.hint
            assert await held(impatient, RETURNS) == []
        assert await impatient.append(RETURNS, messages(b"one")) == 0


async def test_a_lock_that_is_released_is_waited_for(path: Path, log: SqliteLog) -> None:
    """An append waits for another program's transaction and then succeeds."""
    with tampering(path) as db:
        db.execute("BEGIN IMMEDIATE")
        appending = asyncio.create_task(log.append(RETURNS, messages(b"one")))
        await until_waiting(appending)
        db.execute("COMMIT")
        assert await appending == 0


async def test_a_cancelled_append_stops_waiting_for_the_lock(path: Path, log: SqliteLog) -> None:
    """An append that is cancelled while it waits for a lock ends at once, and never writes anything."""
    async with await SqliteLog.open(path, busy_timeout_s=3600) as patient:
        with tampering(path) as db:
            db.execute("BEGIN IMMEDIATE")
            appending = asyncio.create_task(patient.append(RETURNS, messages(b"one")))
            await until_waiting(appending)
            async with asyncio.timeout(60):  # an hour is the time-out for locks
                appending.cancel()
                await asyncio.wait([appending])
            assert appending.cancelled()
            db.execute("COMMIT")
    assert await log.ends([RETURNS]) == {RETURNS: 0}


async def test_no_append_inherits_an_earlier_date(path: Path, log: SqliteLog) -> None:
    """When the clock was ahead once, later messages have the time of the clock and not that one."""
    ahead = 2**52
    with tampering(path) as db:
        insert(db, 0, b"k", b"v", ahead)
    before = time.time_ns() // 1_000_000
    await log.append(RETURNS, messages(b"one"))
    first, second = [m.appended_at for m in await held(log, RETURNS)]
    assert first == ahead * 1000
    assert before <= second // 1000 <= time.time_ns() // 1_000_000


async def test_a_time_that_no_clock_gives_counts_as_0(path: Path, log: SqliteLog) -> None:
    """A time below 0, above 2^53 ms or of another type counts as 0, and each partition is reported once."""
    stored: list[object] = [2**53, 2**53 + 1, -1, -(2**63), 2**63 - 1, "soon", 1e300, None, b"\x01", 0]
    with tampering(path) as db:
        for offset, at in enumerate(stored):
            insert(db, offset, b"k", b"v", at)
    with capture_logs() as lines:
        times = [m.appended_at for _ in range(2) for m in await held(log, RETURNS)]
    assert times == [2**53 * 1000, *[0] * 9] * 2
    [line] = lines
    assert (line["topic"], line["partition"], line["offset"]) == ("ftf.returns", 0, 1)
    assert "counts as 0" in line["event"]


# Rows that somebody else wrote


@pytest.mark.parametrize("start", [0, 3])
async def test_a_partition_that_was_cut_is_noticed(path: Path, log: SqliteLog, start: int) -> None:
    """A follower whose position is beyond the end gets an error, and does not wait for ever."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    following = asyncio.create_task(take(log, RETURNS, start, 4))
    await until_waiting(following)
    await asyncio.sleep(0.05)
    with tampering(path) as db:
        db.execute("DELETE FROM message WHERE offset > 0")
    with pytest.raises(LogForked, match="ends before offset 3, up to where it was read") as caught:
        await following
    assert caught.value.hint


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("regrown", [0, 1, 2, 3, 40])
async def test_a_partition_that_was_cut_and_written_on_is_noticed(
    path: Path, log: SqliteLog, start: int, regrown: int
) -> None:
    """A follower is told at once, with whatever the partition ends, and is given nothing of what is new."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    given = []

    async def follow() -> None:
        async for message in log.read(RETURNS, start, follow=True):
            given.append(message.value)

    following = asyncio.create_task(follow())
    await until_waiting(following)
    await asyncio.sleep(0.05)
    with tampering(path) as db:
        db.execute("BEGIN")
        db.execute("DELETE FROM message WHERE offset > 0")
        for offset in range(1, 1 + regrown):
            insert(db, offset, b"k", b"new")
        db.execute("COMMIT")
    said = "ends before offset 3" if regrown < 2 else "holds another message 2 than the one that was read"
    with pytest.raises(LogForked, match=said):
        await asyncio.wait_for(following, 5)
    assert given == [b"0", b"1", b"2"][start:]


async def test_a_change_elsewhere_is_none_of_a_followers_business(path: Path, log: SqliteLog) -> None:
    """It goes on where it was, whatever else becomes of the file."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    following = asyncio.create_task(take(log, RETURNS, 0, 4))
    await until_waiting(following)
    with tampering(path) as db:
        db.execute("INSERT INTO message VALUES ('ftf.returns', 1, 0, NULL, x'00', 1)")
    await asyncio.sleep(0.05)
    await log.append(RETURNS, messages(b"3"))
    assert [message.value for message in await following] == [b"0", b"1", b"2", b"3"]


async def test_a_file_that_was_replaced_is_no_log_to_read(path: Path, log: SqliteLog) -> None:
    """A file that was restored under an open log is another one: whoever reads on is told."""
    await log.append(RETURNS, messages(b"0"))
    following = asyncio.create_task(take(log, RETURNS, 0, 2))
    await until_waiting(following)
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(backup)) as to:
        db.backup(to)
    backup.replace(path)
    for asked in (log.ends([RETURNS]), held(log, RETURNS), following):
        with pytest.raises(LogUnavailable, match="was moved or replaced while it was open"):
            await asked


async def test_gaps_are_read_over(path: Path, log: SqliteLog) -> None:
    """Deleted rows leave gaps in the offsets, for readers and for followers."""
    await log.append(RETURNS, messages(*(b"%d" % i for i in range(2_000))))
    with tampering(path) as db:
        db.execute("DELETE FROM message WHERE offset IN (0, 7) OR offset BETWEEN 100 AND 1500")
    expected = [i for i in range(2_000) if i not in (0, 7) and not 100 <= i <= 1500]
    assert [m.offset for m in await held(log, RETURNS)] == expected
    assert [m.offset for m in await take(log, RETURNS, 0, len(expected))] == expected


async def test_rows_of_other_types_come_as_bytes(path: Path, log: SqliteLog) -> None:
    """Text, numbers and NULL in place of bytes are read as bytes or None, and bad times as numbers."""
    hostile: list[tuple[object, object, object]] = [
        ("é", 5, "soon"), (1.5, None, None), (None, "\0", b"\xff"), (b"\xff", "x", 1e300)
    ]  # fmt: skip
    with tampering(path) as db:
        for offset, (key, value, at) in enumerate(hostile):
            insert(db, offset, key, value, at)
        db.execute("UPDATE message SET value = CAST(x'ff41' AS TEXT) WHERE offset = 3")
    stored = await held(log, RETURNS)
    assert [(m.key, m.value) for m in stored] == [
        ("é".encode(), b"5"), (b"1.5", None), (None, b"\0"), (b"\xff", b"\xffA")
    ]  # fmt: skip
    assert all(type(m.appended_at) is int for m in stored)
    assert await log.append(RETURNS, messages(b"more")) == 4


async def test_a_row_without_an_offset_is_no_message(path: Path, log: SqliteLog) -> None:
    """Rows whose offset is text, NULL, bytes, a fraction or negative are passed over."""
    await log.append(RETURNS, messages(b"one"))
    with tampering(path) as db:
        for offset in ("zzz", None, b"\xff", 0.5, 1e300, -1, -(2**63)):
            insert(db, offset, b"k", b"hostile")
    assert [m.value for m in await held(log, RETURNS)] == [b"one"]
    assert await log.append(RETURNS, messages(b"two")) == 1
    assert [m.value for m in await take(log, RETURNS, 0, 2)] == [b"one", b"two"]


async def test_a_row_at_the_last_offset_stops_appends_and_nothing_else(path: Path, log: SqliteLog) -> None:
    """A row at the largest offset is read as it is; an append behind it is a LogUnavailable."""
    with tampering(path) as db:
        insert(db, MAX_OFFSET, b"k", b"hostile")
    assert [m.offset for m in await held(log, RETURNS)] == [MAX_OFFSET]
    with pytest.raises(LogUnavailable, match="cannot grow"):
        await log.append(RETURNS, messages(b"one"))
    assert await log.append(Partition("returns", 1), messages(b"one")) == 0


async def test_a_row_that_is_too_long_comes_empty(path: Path, log: SqliteLog) -> None:
    """A value longer than any append takes no memory: its message comes empty, the others whole."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    with tampering(path) as db:
        db.execute("UPDATE message SET value = zeroblob(50000000) WHERE offset = 1")
    assert [m.value for m in await held(log, RETURNS)] == [b"0", b"", b"2"]


anything = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()


async def test_no_row_makes_another_error(path: Path, log: SqliteLog) -> None:
    """Any row is read as a message with the right types, or as a BrokerError."""
    loop = asyncio.get_running_loop()

    async def check(offset: object, key: object, value: object, at: object) -> None:
        with tampering(path) as db:
            db.execute("DELETE FROM message")
            try:
                insert(db, offset, key, value, at)
            except UnicodeEncodeError:
                return
        for message in await held(log, RETURNS):
            assert message.offset == offset
            assert isinstance(message.key, bytes | None)
            assert isinstance(message.value, bytes | None)
            assert type(message.appended_at) is int
        try:
            first = await log.append(RETURNS, messages(b"one"))
        except BrokerError:
            return
        assert (await held(log, RETURNS, first))[0].value == b"one"

    @given(anything, anything, anything, anything)
    def any_row(offset: object, key: object, value: object, at: object) -> None:
        asyncio.run_coroutine_threadsafe(check(offset, key, value, at), loop).result()

    await asyncio.to_thread(any_row)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE topic SET partitions = 'many'", "UPDATE topic SET partitions = -5", "DELETE FROM topic"],
)
async def test_a_changed_topic_is_an_error(path: Path, log: SqliteLog, damage: str) -> None:
    """An append to a topic whose row was changed is a LogUnavailable with a hint."""
    with tampering(path) as db:
        db.executescript(damage)
    with pytest.raises(LogUnavailable) as caught:
        await log.append(RETURNS, messages(b"one"))
    assert caught.value.hint


NOT_OURS = {
    "swallows inserts": (
        "CREATE TRIGGER t1 BEFORE INSERT ON message WHEN new.topic = 'ftf.returns'"
        " BEGIN SELECT RAISE(IGNORE); END",
        "a trigger 't1'",
    ),
    "changes what is stored": (
        "CREATE TRIGGER t2 AFTER INSERT ON message BEGIN UPDATE message SET value = x'00'"
        " WHERE topic = new.topic AND partition = new.partition AND offset = new.offset; END",
        "a trigger 't2'",
    ),
    "adds messages": (
        "CREATE TRIGGER t3 AFTER INSERT ON message WHEN new.offset < 5 BEGIN INSERT INTO message VALUES"
        " (new.topic, new.partition, new.offset + 1, new.key, new.value, new.appended_at); END",
        "a trigger 't3'",
    ),
    "removes messages": (
        "CREATE TRIGGER t4 AFTER INSERT ON message BEGIN DELETE FROM message WHERE offset = new.offset; END",
        "a trigger 't4'",
    ),
    "refuses": (
        "CREATE TRIGGER t5 BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'no'); END",
        "a trigger 't5'",
    ),
    "a view in place of the table": (
        "ALTER TABLE message RENAME TO m; CREATE VIEW message AS SELECT * FROM m",
        "a table 'm'",
    ),
    "a view beside the tables": ("CREATE VIEW v AS SELECT * FROM message", "a view 'v'"),
    "another index": ("CREATE UNIQUE INDEX i ON message(value)", "an index 'i'"),
    "an index with the name of ours": (
        'CREATE UNIQUE INDEX "newest of ftf.returns" ON message(value)',
        "an index 'newest of ftf.returns'",
    ),
    "another column": ("ALTER TABLE message ADD COLUMN more TEXT", "a table 'message'"),
    "another constraint": (
        "ALTER TABLE topic RENAME TO old; CREATE TABLE topic(name TEXT PRIMARY KEY, partitions INTEGER"
        " NOT NULL CHECK (partitions < 9), compacted INTEGER NOT NULL);"
        " INSERT INTO topic SELECT * FROM old; DROP TABLE old",
        "a table 'topic'",
    ),
    "a default": (
        "DROP TABLE copy; CREATE TABLE copy(prefix TEXT PRIMARY KEY, begun_at INTEGER NOT NULL DEFAULT 7)",
        "a table 'copy'",
    ),
    "a table that lacks": ("DROP TABLE copy", "lacks the table 'copy'"),
}


@pytest.mark.parametrize(("damage", "named"), NOT_OURS.values(), ids=NOT_OURS)
async def test_a_schema_that_is_not_ours_is_refused_by_name(
    path: Path, log: SqliteLog, damage: str, named: str
) -> None:
    """A trigger, a view, a constraint, a column or an index of another is named, and nothing is written.

    Both whoever opens the file and whoever has it open learn of it.
    """
    with tampering(path) as db:
        db.executescript(damage)
    for attempt in (lambda: log.append(RETURNS, messages(b"one")), lambda: SqliteLog.open(path)):
        with pytest.raises(LogUnavailable) as caught:
            await attempt()
        assert named in caught.value.message
        assert caught.value.hint
    with tampering(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if "message" in {name for (name,) in db.execute("SELECT name FROM sqlite_master")}:
            assert db.execute("SELECT count(*) FROM message").fetchone() == (0,)


@pytest.mark.parametrize(
    "damage",
    [NOT_OURS[name][0] for name in ("swallows inserts", "changes what is stored", "removes messages")],
)
async def test_what_is_not_stored_is_never_reported_as_appended(
    path: Path, log: SqliteLog, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was appended is read back before the commit, whatever the schema says."""
    monkeypatch.setattr("broker.log.sqlite.tables.check_schema", lambda db, path: None)
    with tampering(path) as db:
        db.executescript(damage)
    for partition, batch in ((RETURNS, messages(b"0", b"1", b"2")), (KEYS, messages(b"one"))):
        if partition is KEYS and "IGNORE" in damage:
            continue  # that trigger is for returns only
        with pytest.raises(LogUnavailable, match="does not store what is appended") as caught:
            await log.append(partition, batch)
        assert "offset" in caught.value.message
        assert await held(log, partition) == []


async def test_a_message_that_a_trigger_adds_is_found(
    path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may stand behind what was appended but what was appended."""
    monkeypatch.setattr("broker.log.sqlite.tables.check_schema", lambda db, path: None)
    with tampering(path) as db:
        db.executescript(NOT_OURS["adds messages"][0])
    with pytest.raises(LogUnavailable, match="does not store what is appended"):
        await log.append(RETURNS, messages(b"0"))


async def test_an_index_that_another_process_made_is_ours(path: Path, log: SqliteLog) -> None:
    """A compacted topic that another connection creates changes the schema, and nothing is refused."""
    await log.append(RETURNS, messages(b"one"))
    async with await SqliteLog.open(path, prefix="exercise") as other:
        await other.ensure("keys", 1, compacted=True)
    assert await log.append(RETURNS, messages(b"two")) == 1


# Erasure


def traces(path: Path, *secrets: bytes) -> set[tuple[str, bytes]]:
    """Return which files still hold which of the secrets."""
    found = set()
    for file in (path, path.with_name(path.name + "-wal")):
        content = file.read_bytes() if file.exists() else b""
        found |= {(file.name, secret) for secret in secrets if secret in content}
    return found


async def test_a_replaced_value_is_gone_from_the_disk(path: Path, log: SqliteLog) -> None:
    """When the append that replaces a value returns, no file holds the old value any more."""
    old = b"the old release secret"
    await log.append(KEYS, [Message(b"batch", old), Message(b"other", b"kept value")])
    assert traces(path, old, b"kept value")
    await log.append(KEYS, [Message(b"batch", None)])
    assert {secret for _, secret in traces(path, old, b"kept value")} == {b"kept value"}


async def test_a_value_replaced_in_its_own_append_is_gone_too(path: Path, log: SqliteLog) -> None:
    """Of several values of a key in one append only the last reaches the disk for good."""
    await log.append(KEYS, [Message(b"batch", b"first value"), Message(b"batch", b"second value")])
    assert {secret for _, secret in traces(path, b"first value", b"second value")} == {b"second value"}


async def test_an_open_reader_delays_erasure_until_the_next_append(path: Path, log: SqliteLog) -> None:
    """While another program reads, the old value stays; any append after that removes it."""
    old = b"the old release secret"
    await log.append(KEYS, [Message(b"batch", old)])
    with tampering(path) as db:
        db.execute("BEGIN")
        db.execute("SELECT * FROM message").fetchall()
        await log.append(KEYS, [Message(b"batch", None)])
        await log.append(RETURNS, messages(b"one"))
        assert traces(path, old)
    await log.append(RETURNS, messages(b"two"))
    assert not traces(path, old)


async def test_erasure_goes_on_in_another_process(path: Path, log: SqliteLog) -> None:
    """An old value that one connection could not remove is removed by the first append of a later one."""
    old = b"the old release secret"
    async with await SqliteLog.open(path) as dies:
        await log.append(KEYS, [Message(b"batch", old)])
        with tampering(path) as db:
            db.execute("BEGIN")
            db.execute("SELECT * FROM message").fetchall()
            await dies.append(KEYS, [Message(b"batch", None)])
        async with await SqliteLog.open(path) as later:
            assert traces(path, old)
            await later.append(RETURNS, messages(b"one"))
            assert not traces(path, old)


@pytest.mark.parametrize("seed", range(4, 8))
async def test_no_order_of_rewriting_and_erasing_leaves_a_trace(
    path: Path, log: SqliteLog, seed: int
) -> None:
    """After each append all values that were rewritten, shortened or erased are gone from the disk."""
    # With seeds 4 and 6, deleting rows instead of updating them leaves copies behind.
    chance = random.Random(seed)
    sizes = {b"batch %03d" % i: chance.choice([100, 600, 2_000]) for i in range(60)}
    current: dict[bytes, bytes] = {}
    old: set[bytes] = set()
    for number in range(40):
        batch = []
        for key in chance.sample(sorted(sizes), chance.randint(1, 8)):
            old |= {current.pop(key)} if key in current else set()
            size = sizes[key] = chance.choice([0, sizes[key], sizes[key], sizes[key], sizes[key] // 2])
            mark = b"<%s in append %d>" % (key, number)
            current |= {key: mark} if size else {}
            batch.append(Message(key, mark.ljust(size + 40, b".") if size else None))
        await log.append(KEYS, batch)
        if seed % 2:
            await log.append(RETURNS, messages(bytes(600)))
        assert not traces(path, *old)
    assert len(old) > 50
    assert len(traces(path, *current.values())) == len(current) > 10


async def test_other_topics_keep_every_value_of_a_key(log: Log) -> None:
    """A key that is repeated in a topic that is not compacted deletes nothing."""
    await log.append(KEYS, [Message(b"k", b"0")])
    await log.append(RETURNS, [Message(b"k", b"1"), Message(b"k", b"2")])
    await log.append(Partition("returns", 1), [Message(b"k", b"3")])
    assert [m.value for m in await held(log, RETURNS)] == [b"1", b"2"]
    assert [m.value for m in await held(log, KEYS)] == [b"0"]


async def test_a_log_without_open_readers_is_one_file(path: Path) -> None:
    """Closing the last connection leaves the database alone on the disk."""
    async with await SqliteLog.open(path) as log:
        await log.ensure("returns", 1)
        await log.append(RETURNS, messages(b"one"))
    assert [file.name for file in path.parent.iterdir()] == ["log.db"]


async def test_opening_an_existing_log_with_a_prefix_that_cannot_be(path: Path) -> None:
    """A prefix with which no topic name can begin is a UsageError, and no file is created."""
    with pytest.raises(UsageError, match="prefix"):
        await SqliteLog.open(path, prefix="a'b")
    assert not path.exists()
