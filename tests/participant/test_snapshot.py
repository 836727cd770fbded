"""A snapshot saves time and decides nothing: it equals a reading from the beginning, or it is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.crypto.log_tree import Frontier
from broker.directory import History
from broker.errors import FormatError, LogForked, NotEntitled, PeerError
from broker.log.protocol import Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DIRECTORY, DirectoryFollower
from broker.participant.snapshot import MAX_VIOLATIONS, Snapshot
from support.coalition import BORDER, Coalition
from support.fault_log import FaultLog

SEEDS = range(4)


@pytest.fixture
async def flooded(tmp_path: Path) -> AsyncIterator[tuple[SqliteLog, Coalition]]:
    """A log on which statements of a coalition and garbage of a seeded mixture take turns."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        coalition = await Coalition.live().write_to(log)
        await pour(log, coalition, 150)
        await act(coalition, log)
        await pour(log, coalition, 40)
        yield log, coalition


async def pour(log: SqliteLog, coalition: Coalition, count: int) -> None:
    """Append garbage, and copies of statements, which do not count again."""
    random = Random(count)
    old = [message.value or b"" for message in coalition.messages[:8]]
    for _ in range(count):
        value = random.choice([b"x", random.randbytes(40), random.choice(old)])
        await log.append(DIRECTORY, [Message(random.choice([b"", b"k"]), value)])
    async for message in log.read(DIRECTORY, len(coalition.messages)):
        coalition._take(message)


async def act(coalition: Coalition, log: SqliteLog) -> None:
    """The authority suspends an agency."""
    other = coalition.copy()
    other.suspend(BORDER)
    statement, keys = other.made[-1]
    await coalition.add_to(log, coalition.updated(statement), *keys)


async def read(log: SqliteLog | FaultLog, coalition: Coalition, **how: Any) -> DirectoryFollower:
    return await DirectoryFollower.start(log, coalition.genesis, **how)


def stored(follower: DirectoryFollower, genesis: bytes) -> Snapshot:
    """What the follower keeps, written and read again."""
    snapshot = follower.snapshot()
    assert snapshot is not None
    return Snapshot.from_bytes(snapshot.to_bytes(), genesis)


def facts(follower: DirectoryFollower) -> dict[str, Any]:
    """Everything that a participant can ask its follower."""
    history = follower.history
    sizes = range(history.size + 2)
    return {
        "size": history.size,
        "views": [(history.upto(size), history.root_at(size)) for size in sizes],
        "frontier": history.frontier,
        "changes": history.changes,
        "violations": follower.violations,
        "unlisted": follower.unlisted,
        "faults": [follower.fault(size) for size in sizes],
        "mark": follower.high_water,
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_snapshot_equals_a_reading_from_the_beginning(
    flooded: tuple[SqliteLog, Coalition], seed: int
) -> None:
    """Wherever the snapshot was taken, nobody can tell afterwards that the reading began with it."""
    log, coalition = flooded
    expected = facts(await read(log, coalition))
    random = Random(seed)
    for _ in range(6):
        follower = DirectoryFollower(log, History(coalition.genesis), [])
        await follower.refresh(random.randint(1, len(coalition.messages)))
        snapshot = stored(follower, coalition.genesis)
        assert facts(await read(log, coalition, snapshot=snapshot)) == expected


async def test_behind_a_snapshot_only_what_is_new_is_read(flooded: tuple[SqliteLog, Coalition]) -> None:
    """Of a flooded directory the statements that counted are judged again, and one message is read."""
    log, coalition = flooded
    snapshot = stored(await read(log, coalition), coalition.genesis)
    counting = CountingLog(log)
    follower = await read(counting, coalition, snapshot=snapshot)
    assert counting.given == 1
    assert len(snapshot.history.changes) < len(coalition.messages) / 2
    await act_again(coalition, log)
    assert (await follower.refresh()).latest == coalition.directory
    assert counting.given == 3


async def act_again(coalition: Coalition, log: SqliteLog) -> None:
    """The authority reinstates the agency."""
    other = coalition.copy()
    other.reinstate(BORDER)
    statement, keys = other.made[-1]
    await coalition.add_to(log, coalition.updated(statement), *keys)


class CountingLog(FaultLog):
    """A log that counts the messages that it gave."""

    given = 0

    async def read(self, partition: Partition, start: int, *, follow: bool = False) -> AsyncIterator[Any]:
        async for message in super().read(partition, start, follow=follow):
            self.given += 1
            yield message


async def test_a_damaged_snapshot_is_refused(flooded: tuple[SqliteLog, Coalition]) -> None:
    """Each changed byte, and each place where the file may end too early, is noticed."""
    log, coalition = flooded
    snapshot = (await read(log, coalition)).snapshot()
    assert snapshot is not None
    data = snapshot.to_bytes()
    for place in [*range(80), *range(80, len(data), 1997)]:
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        for each in (damaged, data[:place]):
            with pytest.raises(FormatError):
                Snapshot.from_bytes(each, coalition.genesis)


WRONG: tuple[Any, ...] = (None, True, -1, 2**70, "", "zz", "0" * 64, [], [1], {}, 1.5)


def places(value: Any, path: tuple[Any, ...] = ()) -> Sequence[tuple[Any, ...]]:
    """The path of each field of a JSON value; of a list its first and last item."""
    found = [path] if path else []
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and value:
        items = [(0, value[0]), (len(value) - 1, value[-1])]
    return found + [place for key, item in items for place in places(item, (*path, key))]


async def test_a_snapshot_with_a_wrong_field_is_refused(flooded: tuple[SqliteLog, Coalition]) -> None:
    """Where somebody wrote it with a right digest, each field is refused by our error, or harms nothing."""
    log, coalition = flooded
    taken = (await read(log, coalition)).snapshot()
    assert taken is not None
    text = taken.to_bytes().split(b"\n")[1]
    refused = 0
    for path in places(json.loads(text)):
        for wrong in WRONG:
            value = json.loads(text)
            parent = value
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = wrong
            try:
                Snapshot.from_bytes(signed(value), coalition.genesis)
            except PeerError:
                refused += 1
    assert refused > 300


def signed(value: Any) -> bytes:
    line = json.dumps(value).encode()
    return sha256(line).hexdigest().encode() + b"\n" + line + b"\n"


@pytest.mark.parametrize("what", ["statement", "order", "missing", "root", "frontier", "repeated"])
async def test_statements_that_do_not_fit_together_are_refused(
    flooded: tuple[SqliteLog, Coalition], what: str
) -> None:
    """Each statement is judged again, its signature and the view that it names included."""
    log, coalition = flooded
    history = (await read(log, coalition)).history
    changes, frontier = list(history.changes), history.frontier
    assert frontier is not None
    if what == "statement":
        value = json.loads(stored(await read(log, coalition), coalition.genesis).to_bytes().split(b"\n")[1])
        value["changes"][3]["value"] = value["changes"][3]["value"][:-8] + "AAAAAAA="
        with pytest.raises(PeerError):
            Snapshot.from_bytes(signed(value), coalition.genesis)
        return
    if what == "order":
        changes[3], changes[4] = changes[4], changes[3]
    elif what == "missing":
        del changes[3]
    elif what == "repeated":
        changes.insert(3, changes[3])
    elif what == "root":
        frontier = Frontier(0)
        changes = changes[:1]
    else:
        frontier = Frontier(frontier.size, frontier.peaks[:-1], frontier.leaves)
    with pytest.raises(PeerError):
        History.resume(coalition.genesis, changes, frontier)


async def test_a_snapshot_of_another_coalition_is_refused(flooded: tuple[SqliteLog, Coalition]) -> None:
    """The genesis that the profile pins decides."""
    log, coalition = flooded
    snapshot = (await read(log, coalition)).snapshot()
    assert snapshot is not None
    with pytest.raises(FormatError, match="another coalition"):
        Snapshot.from_bytes(snapshot.to_bytes(), bytes(32))
    value = json.loads(snapshot.to_bytes().split(b"\n")[1])
    value["genesis"] = bytes(32).hex()
    with pytest.raises(NotEntitled):
        Snapshot.from_bytes(signed(value), bytes(32))


async def test_violations_beyond_the_kept_ones_are_counted(tmp_path: Path) -> None:
    """Of a flood the first 1,000 are kept with their places, and the others in one number."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        coalition = await Coalition.live().write_to(log)
        await log.append(DIRECTORY, [Message(b"", b"x")] * (MAX_VIOLATIONS + 250))
        follower = await read(log, coalition)
        assert (len(follower.violations), follower.unlisted) == (MAX_VIOLATIONS, 250)
        resumed = await read(log, coalition, snapshot=stored(follower, coalition.genesis))
        assert (len(resumed.violations), resumed.unlisted) == (MAX_VIOLATIONS, 250)


# a log that is replaced


@pytest.mark.parametrize("how", ["shorter", "other garbage", "made anew", "empty"])
async def test_a_replaced_directory_is_named(tmp_path: Path, how: str) -> None:
    """Behind a snapshot as under a follower, the last message that was read must still stand there."""
    async with await SqliteLog.open(tmp_path / "log.db") as log, await SqliteLog.open(tmp_path / "b.db") as b:
        coalition = await Coalition.live().write_to(log)
        await log.append(DIRECTORY, [Message(b"", b"garbage")])
        follower = await read(log, coalition)
        snapshot = stored(follower, coalition.genesis)
        await b.ensure("directory", 1)
        if how == "made anew":
            await Coalition.live().write_to(b)
            await b.append(DIRECTORY, [Message(b"", b"garbage")] * 3)
        elif how != "empty":
            await b.append(DIRECTORY, [Message(each.key or b"", each.value) for each in coalition.messages])
            if how == "other garbage":
                await b.append(DIRECTORY, [Message(b"", b"gArbage")])
        follower.log = b
        before = facts(follower)
        for _ in range(2):
            with pytest.raises(LogForked, match=r"which was read before|than the one that was read"):
                await follower.refresh()
        assert facts(follower) == before
        with pytest.raises(LogForked):
            await read(b, coalition, snapshot=snapshot)
