"""Histories keep every size, and a log may never show less than was seen (ATTACKS 5 and 10)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from broker.crypto.log_tree import EMPTY_ROOT
from broker.directory import HighWater, check_high_water, drafts
from broker.errors import NotEntitled
from broker.log.protocol import StoredMessage
from broker.log.sqlite.sqlite_log import SqliteLog
from support.coalition import BORDER, DIRECTORY, JUSTICE, START_US, Coalition


@pytest.fixture
def coalition() -> Coalition:
    return Coalition.create()


def mark(coalition: Coalition) -> HighWater:
    return HighWater(size=coalition.directory.size, root=coalition.directory.root)


def test_every_size_is_at_hand(coalition: Coalition) -> None:
    """A history holds every view up to the latest, and no other size is a view."""
    coalition.append(b"garbage")
    history = coalition.history
    views = range(history.size)
    assert [history.at(size).size for size in views] == list(views)
    assert [history.root_at(size) for size in (0, history.size - 1)] == [EMPTY_ROOT, history.latest.root]
    assert history.upto(history.size) is history.latest
    assert history.upto(-1).size == 0
    for size in (-1, history.size, history.size + 1):
        assert history.root_at(size) is None
        with pytest.raises(NotEntitled, match="there is no view of the directory of size"):
            history.at(size)


def test_a_flood_of_garbage_keeps_no_value_and_no_leaf(coalition: Coalition) -> None:
    """Anybody may append: what changes nothing costs its reader no memory."""
    history = coalition.history
    for number in range(20_000):
        history.extend(StoredMessage(number, b"", b"%d" % number, START_US))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(20_000):
        history.extend(StoredMessage(number, b"", b"%d" % number, START_US))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert history.size == coalition.directory.size + 40_000
    assert grown < 400_000


def test_garbage_behind_a_hole_without_a_root_costs_no_leaf(coalition: Coalition) -> None:
    """Behind more missing messages than have a root, reading goes on, and nothing counts any more."""
    history = coalition.history
    history.skip(2**40)
    assert history.frontier is None
    for number in range(5000):
        assert history.extend(StoredMessage(number, b"", b"x", START_US)) is not None
    assert history.size == coalition.directory.size + 2**40 + 5000


def test_a_hole_changes_the_root_of_every_later_view(coalition: Coalition) -> None:
    """Offsets at which the log holds nothing are leaves of their own."""
    other = coalition.copy()
    other.history.skip(1)
    coalition.append(None)
    for each in (coalition, other):
        each.history.extend(each.messages[-1]._replace(value=b"garbage"))
        each.suspend(BORDER)
    assert coalition.directory.size == other.directory.size
    assert coalition.directory.root != other.directory.root


def test_high_water_rises(coalition: Coalition) -> None:
    """A participant that has seen less than the log shows goes on with a new mark."""
    seen = mark(coalition)
    coalition.suspend(BORDER)
    assert check_high_water(coalition.history, seen) == mark(coalition)


def test_rollback_is_refused(coalition: Coalition) -> None:
    """A log that shows fewer statements than were seen before is refused."""
    coalition.suspend(BORDER)
    with pytest.raises(NotEntitled, match="24 messages were seen before"):
        check_high_water(Coalition.replay(coalition.messages[:-1]), mark(coalition))


def test_fork_is_refused(coalition: Coalition) -> None:
    """A log that shows other statements than were seen before is refused, however long it is."""
    other = coalition.copy()
    coalition.suspend(BORDER)
    other.suspend(JUSTICE)
    other.reinstate(JUSTICE)
    with pytest.raises(NotEntitled, match="differs from what was seen before"):
        check_high_water(other.history, mark(coalition))


def test_a_copy_goes_its_own_way(coalition: Coalition) -> None:
    """A message that is added to a copy of a history does not appear in the original."""
    copy = coalition.copy()
    copy.suspend(BORDER)
    assert copy.history.size == coalition.history.size + 1


async def test_written_to_a_log(tmp_path: Path) -> None:
    """A coalition that is written to a log again is the same coalition, with the log's append times."""
    coalition = Coalition.live()
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await coalition.write_to(log)
        await written.add_to(
            log,
            drafts.close_channel(written.directory, channel="xaa-xbb", issued_at=1),
            *written.authority_keys,
        )
        messages = [message async for message in log.read(DIRECTORY, 0)]
    assert messages == written.messages
    assert Coalition.replay(messages, coalition.genesis).latest == written.directory
    assert written.directory.intake_keys == coalition.directory.intake_keys
    assert written.epoch_keys("repatriation", 0, BORDER).keys() == {"metadata", "content"}
