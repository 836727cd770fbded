"""One manipulation of the message table is one root, at the offset that was manipulated, in every topic."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from broker.audit.replay import ReplayReport
from broker.verify.violations import Kind, Place
from support.audit_log import Row, alter, copy_of, played, replayed_file, rows

Change = Callable[[sqlite3.Connection], object]
_WHERE = "WHERE topic = ? AND partition = ? AND offset "


def _place(row: Row, offset: int | None = None) -> Place:
    topic = row.topic.removeprefix("ftf.")
    return Place(topic, row.partition, row.offset if offset is None else offset)


_PARTITIONS = (
    ("ftf.access", 0),
    ("ftf.access", 1),
    ("ftf.access", 2),
    ("ftf.directory", 0),
    ("ftf.justice", 0),
    ("ftf.rehabilitation", 2),
    ("ftf.returns", 0),
    ("ftf.returns", 1),
)


def _partition(topic: str, number: int = 0) -> list[Row]:
    return [row for row in rows(played().path) if (row.topic, row.partition) == (topic, number)]


@pytest.fixture(params=_PARTITIONS, ids=lambda place: f"{place[0]}-{place[1]}")
def partition(request: pytest.FixtureRequest) -> list[Row]:
    """The messages of each partition that has any, the directory's and the access log's among them."""
    place: tuple[str, int] = request.param
    return _partition(*place)


async def _forged(folder: Path, change: Change) -> ReplayReport:
    path = copy_of(played().path, folder)
    alter(path, change)
    found = await replayed_file(path)
    path.unlink()
    return found


def _check_one_root(found: ReplayReport, allowed: set[Place], what: str) -> None:
    listed = [one.violation for one in found.violations]
    shown = "\n".join(f"{v.place} {v.kind} x{v.count} {v.detail} <- {v.caused_by}" for v in listed)
    assert not found.verified, what
    assert listed[0].place in allowed, f"{what}: expected {sorted(allowed)}\n{shown}"
    assert listed[0].caused_by is None, f"{what}\n{shown}"
    assert all(one.caused_by == listed[0].place for one in listed[1:]), f"{what}\n{shown}"


def _shift(db: sqlite3.Connection, row: Row, first: int, by: int) -> None:
    """Move the messages from ``first`` on by ``by`` offsets."""
    where = (row.topic, row.partition)
    db.execute(f"UPDATE message SET offset = -1 - offset {_WHERE} >= ?", (*where, first))
    db.execute(f"UPDATE message SET offset = -1 - offset + ? {_WHERE} < 0", (by, *where))


def _drop(row: Row, *, close_up: bool, count: int = 1) -> Change:
    def change(db: sqlite3.Connection) -> None:
        where = (row.topic, row.partition)
        last = row.offset + count - 1
        db.execute(f"DELETE FROM message {_WHERE} BETWEEN ? AND ?", (*where, row.offset, last))
        if close_up:
            _shift(db, row, row.offset + count, -count)

    return change


def _insert(row: Row, offset: int, key: bytes | None, value: bytes | None) -> Change:
    def change(db: sqlite3.Connection) -> None:
        _shift(db, row, offset, 1)
        db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)",
            (row.topic, row.partition, offset, key, value, row.appended_at),
        )

    return change


async def test_nothing_is_found_in_the_log_as_it_was_played() -> None:
    """The whole log verifies: two record topics and more, three channels, orders, accesses, collections."""
    found = await replayed_file(played().path, high_water=played().high_water)
    assert found.violations == ()
    assert found.verified
    assert {(row.topic, row.partition) for row in rows(played().path)} == set(_PARTITIONS)
    assert (found.counts.records, found.counts.manifests) == (played().records, played().manifests)
    counts = found.counts
    assert (counts.access_entries, counts.uncollected, counts.opaque) == (played().accesses, 0, 0)


@pytest.mark.parametrize("column", ["key", "value"])
async def test_a_byte_flipped(partition: list[Row], column: str, tmp_path: Path) -> None:
    """The message that was altered is the first violation; what follows from it says so."""
    if column == "key" and partition[0].topic == "ftf.directory":
        pytest.skip("the directory's keys are empty")
    sql = f"UPDATE message SET {column} = ? {_WHERE} = ?"
    for row in partition:
        data = bytearray(getattr(row, column) or b"\0")
        data[len(data) // 2] ^= 1
        values = (bytes(data), row.topic, row.partition, row.offset)

        def change(db: sqlite3.Connection, values: tuple[object, ...] = values) -> None:
            db.execute(sql, values)

        found = await _forged(tmp_path, change)
        _check_one_root(found, {_place(row)}, f"{column} of {_place(row)}")


@pytest.mark.parametrize("close_up", [False, True], ids=["leaving a hole", "offsets closed up"])
async def test_a_message_dropped(partition: list[Row], close_up: bool, tmp_path: Path) -> None:
    """The root is where it stood; only what nobody has seen, at the very end, waits for checkpoints."""
    for row in partition:
        found = await _forged(tmp_path, _drop(row, close_up=close_up))
        _check_one_root(found, {_place(row)}, f"{_place(row)}")


async def test_two_messages_swapped(partition: list[Row], tmp_path: Path) -> None:
    """Neighbours and strangers, bodies and manifests: the root is one of the two."""
    pairs = [(a, b) for a in partition for b in partition if a.offset < b.offset]
    for a, b in Random(7).sample(pairs, min(len(pairs), 16)):

        def change(db: sqlite3.Connection, a: Row = a, b: Row = b) -> None:
            where, sql = (a.topic, a.partition), f"UPDATE message SET offset = ? {_WHERE} = ?"
            for new, old in ((-1, a.offset), (a.offset, b.offset), (b.offset, -1)):
                db.execute(sql, (new, *where, old))

        found = await _forged(tmp_path, change)
        _check_one_root(found, {_place(a), _place(b)}, f"{_place(a)} and {_place(b)}")


async def test_a_copy_appended(partition: list[Row], tmp_path: Path) -> None:
    """A copy of any message behind all others is found where it stands."""
    end = partition[-1].offset + 1
    for row in partition:
        found = await _forged(tmp_path, _insert(row, end, row.key, row.value))
        _check_one_root(found, {_place(row, end)}, f"copy of {_place(row)}")


@pytest.mark.parametrize("garbage", [(None, None), (b"k" * 16, b"\x01" + bytes(3000)), (b"k" * 20, b"\x02")])
async def test_garbage_inserted(
    partition: list[Row], garbage: tuple[bytes | None, bytes | None], tmp_path: Path
) -> None:
    """What stands where nothing was written is found there, and what it moved follows from it."""
    for row in partition:
        found = await _forged(tmp_path, _insert(row, row.offset, *garbage))
        _check_one_root(found, {_place(row)}, f"garbage at {_place(row)}")


async def test_a_batch_cut_out(partition: list[Row], tmp_path: Path) -> None:
    """A whole batch gone with the offsets closed up: its stream shows it, or its collection."""
    if partition[0].topic == "ftf.directory":
        pytest.skip("the directory has no batches")
    starts = [row for row in partition if len(row.key) == 16]
    for row, behind in zip(starts, [*starts[1:], None], strict=True):
        if behind is None and row.topic == "ftf.access":
            continue  # the newest entry of all waits for checkpoints
        count = (behind.offset if behind else partition[-1].offset + 1) - row.offset
        found = await _forged(tmp_path, _drop(row, close_up=True, count=count))
        listed = [one.violation for one in found.violations]
        roots = {one.place for one in listed if one.caused_by is None}
        assert len(roots) == 1, (row, listed)
        assert listed[0].place in roots
        assert listed[0].place.offset + listed[0].count > row.offset


async def test_a_log_cut_below_a_recorded_position(tmp_path: Path) -> None:
    """What the service saw of a log must still be there: the root is behind what still fits."""
    last = _partition("ftf.returns")[-2]
    found = await _forged(tmp_path, _drop(last, close_up=False, count=2))
    listed = [one.violation for one in found.violations]
    assert (listed[0].kind, listed[0].place.topic) == (Kind.LOG_FORKED, "returns")
    assert listed[0].place.offset <= last.offset < listed[0].place.offset + listed[0].count
    assert {one.kind for one in listed[1:]} >= {Kind.COLLECTION_WRONG}
    assert all(one.caused_by == listed[0].place for one in listed[1:])


async def test_a_batch_moved_to_another_partition_or_topic(tmp_path: Path) -> None:
    """A copy of a batch in another channel or topic is not accounted for there."""
    source = _partition("ftf.justice")
    for topic, number in (("ftf.justice", 1), ("ftf.relocation", 0), ("ftf.access", 0)):
        end = sum(row.topic == topic and row.partition == number for row in rows(played().path))

        def change(db: sqlite3.Connection, topic: str = topic, number: int = number, end: int = end) -> None:
            for i, row in enumerate(source):
                values = (topic, number, end + i, row.key, row.value, row.appended_at)
                db.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", values)

        found = await _forged(tmp_path, change)
        _check_one_root(found, {Place(topic.removeprefix("ftf."), number, end)}, f"{topic}/{number}")
