"""Copies of a log: whole, at equal offsets and times, whatever stopped the copying, or refused by name."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from broker.errors import LogUnavailable, UsageError
from broker.log import CopyableLog, Message, Partition, SqliteLog, StoredMessage, TopicShape
from broker.upkeep.copying import Copied, copy_log
from support.played import played

TOPICS = ("returns", "relocation", "rehabilitation", "emergence", "justice", "access", "directory", "keys")
RETURNS = Partition("returns", 0)
KEYS = Partition("keys", 0)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The log of a coalition at work."""
    return Path(shutil.copy(played().folder / "log.db", tmp_path / "original.db"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the copy is made."""
    return tmp_path / "copy.db"


def opened(path: Path) -> Awaitable[SqliteLog]:
    return SqliteLog.open(path, may_be_unfinished=True)


async def copied(original: Path, target: Path, *, before_the_end: str = "") -> Copied:
    """Copy a log; ``before_the_end`` is run on the original when its messages are copied."""

    def moved(done: int, of: int) -> None:
        nonlocal before_the_end
        if before_the_end and done >= of // 2:
            sql(original, before_the_end)
            before_the_end = ""

    async with await opened(original) as source, await opened(target) as copy:
        return await copy_log(source, copy, TOPICS, moved)


def sql(path: Path, statement: str) -> None:
    """Alter a file behind the log's back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def rows(path: Path) -> list[tuple[object, ...]]:
    """Every message of a file but those of the compacted topic, and then the values of that."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT * FROM message WHERE topic != 'ftf.keys' ORDER BY 1, 2, 3").fetchall()
        keys = db.execute(
            "SELECT key, value, appended_at FROM message"
            " WHERE topic = 'ftf.keys' AND value NOT NULL ORDER BY 1"
        )
        return [*found, *keys.fetchall()]


async def test_a_copy_is_whole(original: Path, target: Path) -> None:
    """Every topic, partition, offset, key, value and time is in the copy, and its roots are equal."""
    sql(original, f"UPDATE message SET appended_at = {2**53} WHERE topic = 'ftf.returns' AND offset = 1")
    async with await SqliteLog.open(original) as log:
        await log.ensure("notes", 1)  # by hand, or by accident
    done = await copied(original, target)
    assert done.roots_equal
    assert done.left_out == ("notes",)
    assert sum(done.messages.values()) == len(rows(original))
    assert rows(target) == rows(original)
    async with await SqliteLog.open(original) as one, await SqliteLog.open(target) as other:
        shapes = dict(await one.topics())
        del shapes["notes"]
        assert await other.topics() == shapes


async def test_a_copy_that_was_finished_is_compared(original: Path, target: Path) -> None:
    """The same copy again changes nothing; a log that goes on is no copy any more, and stays as it is."""
    await copied(original, target)
    before = rows(target)
    assert (await copied(original, target)).roots_equal
    async with await SqliteLog.open(target) as log:
        await log.append(RETURNS, [Message(b"k", b"v")])
    with pytest.raises(UsageError, match=r"partition ftf\.returns/0 of the copy ends at") as caught:
        await copied(original, target)
    assert caught.value.hint
    assert len(rows(target)) == len(before) + 1


async def test_a_log_of_another_coalition_is_no_target(original: Path, target: Path) -> None:
    """A log that has topics, and was not begun as a copy, is refused by what is in it."""
    async with await SqliteLog.open(target) as log:
        await log.ensure("returns", 2)
    with pytest.raises(UsageError, match=r"topic ftf\.access of the copy has no partition"):
        await copied(original, target)
    assert rows(target) == []


async def test_there_is_nothing_to_copy(target: Path, tmp_path: Path) -> None:
    """An empty original is a mistake in its URL."""
    with pytest.raises(UsageError, match="nothing to copy"):
        await copied(tmp_path / "empty.db", target)


# Killed anywhere


class _Killed(Exception):
    """Stands for the end of the process."""


class Dying:
    """A log to copy to whose ``left``-th change is not made, or is the last one."""

    def __init__(self, inner: SqliteLog, left: int, *, is_kept: bool) -> None:
        self._inner = inner
        self._left = left
        self._is_kept = is_kept
        self.prefix = inner.prefix
        self.keeps_gaps = True
        self.is_dead = False

    async def _change(self, change: Awaitable[None]) -> None:
        self._left -= 1
        self.is_dead = self._left == 0
        if self.is_dead and not self._is_kept:
            await _never(change)
        else:
            await change
        if self.is_dead:
            raise _Killed

    async def begin_copy(self, topics: Mapping[str, TopicShape]) -> None:
        await self._change(self._inner.begin_copy(topics))

    async def put(self, partition: Partition, messages: Sequence[StoredMessage]) -> None:
        await self._change(self._inner.put(partition, messages))

    async def finish_copy(self) -> None:
        await self._change(self._inner.finish_copy())

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


async def _never(change: Awaitable[None]) -> None:
    """Leave a change undone."""
    close = getattr(change, "close", None)
    if close is not None:
        close()


@pytest.mark.parametrize("is_kept", [True, False])
async def test_killed_anywhere_the_same_copy_goes_on(
    original: Path, tmp_path: Path, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or behind any of its changes, a copy opens for nothing else, and goes on to its end."""
    monkeypatch.setattr("broker.upkeep.copying._BATCH_MESSAGES", 3)
    for left in range(1, 10_000):
        target = tmp_path / f"copy-{left}.db"
        async with await opened(original) as source, await opened(target) as copy:
            dying = Dying(copy, left, is_kept=is_kept)
            with suppress(_Killed):
                await copy_log(source, dying, TOPICS)  # type: ignore[arg-type]
            is_unfinished = await copy.is_unfinished()
        if is_unfinished:
            with pytest.raises(LogUnavailable, match="not finished"):
                await SqliteLog.open(target)
        assert (await copied(original, target)).roots_equal
        assert rows(target) == rows(original)
        await (await SqliteLog.open(target)).aclose()
        if not dying.is_dead:
            break
    assert left > 20


async def test_a_key_that_was_erased_meanwhile_is_erased_in_the_copy(original: Path, target: Path) -> None:
    """When the copying goes on, a key that is gone is deleted, and a new value replaces the old one."""
    await copied(original, target)
    sql(target, "INSERT INTO copy VALUES ('ftf', 1)")  # as if it had been killed at the very end
    async with await SqliteLog.open(original) as log:
        [first, second] = [m async for m in log.read(KEYS, 0)][:2]
        await log.append(KEYS, [Message(first.key, None), Message(second.key, b"another")])
    done = await copied(original, target)
    assert done.roots_equal
    assert rows(target) == rows(original)
    assert first.value is not None
    assert first.value not in b"".join(path.read_bytes() for path in target.parent.glob("copy.db*"))


# Differences


@pytest.mark.parametrize(
    ("change", "offset"),
    [
        ("UPDATE message SET value = x'00' WHERE topic = 'ftf.returns' AND partition = 0 AND offset = 2", 2),
        ("UPDATE message SET key = NULL WHERE topic = 'ftf.returns' AND partition = 0 AND offset = 3", 3),
        (
            "UPDATE message SET appended_at = 5 WHERE topic = 'ftf.returns' AND partition = 0 AND offset = 0",
            0,
        ),
        ("DELETE FROM message WHERE topic = 'ftf.returns' AND partition = 0 AND offset = 1", 1),
    ],
)
async def test_a_target_that_differs_is_refused_by_name(
    original: Path, target: Path, change: str, offset: int
) -> None:
    """A copy that holds another message than the original is named, finished or not, and nothing is added."""
    await copied(original, target)
    sql(target, change)
    before = rows(target)
    for is_marked in (False, True):
        if is_marked:
            sql(target, "INSERT INTO copy VALUES ('ftf', 1)")
        with pytest.raises(UsageError) as caught:
            await copied(original, target)
        said = f"partition ftf.returns/0 of the copy differs from the original at offset {offset}"
        assert caught.value.message == said
        assert rows(target) == before


async def test_an_original_that_grows_is_said(
    original: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was appended to the original meanwhile is missed; the copy stays unfinished, and can go on."""
    monkeypatch.setattr("broker.upkeep.copying._MOVED_EVERY", 1)
    insert = "INSERT INTO message VALUES ('ftf.returns', 0, 1000, x'00', x'00', 1)"
    sql(original, "DELETE FROM message WHERE topic = 'ftf.returns' AND partition = 0")
    with pytest.raises(UsageError, match="grew while it was copied") as caught:
        await copied(original, target, before_the_end=insert)
    assert "stop every service" in (caught.value.hint or "")
    with pytest.raises(LogUnavailable, match="not finished"):
        await SqliteLog.open(target)
    assert (await copied(original, target)).roots_equal


async def test_roots_that_differ_leave_the_copy_unfinished(
    original: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that does not give back what was put into it is not finished, and its partition is named."""

    async def read(
        self: SqliteLog, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        async for message in plain(self, partition, start):
            is_spoiled = partition == RETURNS and self._file.path == str(target) and message.offset == 1
            yield message._replace(value=b"another") if is_spoiled else message

    plain = SqliteLog.read
    monkeypatch.setattr(SqliteLog, "read", read)
    done = await copied(original, target)
    assert (done.roots_equal, done.differing) == (False, (RETURNS,))
    with pytest.raises(LogUnavailable, match="not finished"):
        await SqliteLog.open(target)


# Gaps


async def test_gaps_are_kept(original: Path, target: Path) -> None:
    """Offsets at which the original has no message have none in the copy, at the beginning and within."""
    sql(original, "DELETE FROM message WHERE topic = 'ftf.returns' AND partition = 0 AND offset IN (0, 1, 4)")
    assert (await copied(original, target)).roots_equal
    assert rows(target) == rows(original)


@pytest.mark.parametrize("offset", [0, 4])
async def test_a_gap_that_a_log_cannot_have_is_named(original: Path, target: Path, offset: int) -> None:
    """A broker gives each message the next offset, so that a log with a gap is not copied to a cluster."""
    sql(original, f"DELETE FROM message WHERE topic = 'ftf.returns' AND partition = 0 AND offset = {offset}")
    async with await opened(original) as source, await opened(target) as copy:
        closed: CopyableLog = Dying(copy, -1, is_kept=True)  # type: ignore[assignment]
        closed.keeps_gaps = False  # type: ignore[misc]
        with pytest.raises(UsageError, match=f"no message at offset {offset} of partition") as caught:
            await copy_log(source, closed, TOPICS)
    assert "replay the original" in (caught.value.hint or "")
