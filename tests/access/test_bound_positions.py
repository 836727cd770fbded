"""Positions that were signed, compared with logs: which fit, which do not, and what explains those."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access import bound_positions
from broker.access.bound_positions import KEPT, Bound, BoundPositions, Fork
from broker.wire.manifest import LostRange, Positions, TopicHead

KEY, OTHER, THIEF = b"k" * 32, b"o" * 32, b"t" * 32


def root(size: int, log: str = "as signed") -> bytes:
    """The root of a log at a size."""
    return f"{log} {size}".encode().ljust(32)


@dataclass
class Logs:
    """Logs that were read up to ``read``; from ``differs`` on a topic is another one."""

    read: dict[str, int] = field(default_factory=dict)
    differs: dict[str, int] = field(default_factory=dict)
    revoked: set[bytes] = field(default_factory=set)

    def size(self, topic: str) -> int:
        """How far a log was read."""
        return self.read.get(topic, 0)

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Its root there."""
        if size > self.size(topic):
            return None
        return root(size, "another" if size > self.differs.get(topic, 1 << 40) else "as signed")

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether the key's thief was found out."""
        return key_id in self.revoked


def positions(returns: int, *, access: int = 0, log: str = "as signed") -> Positions:
    """What a manifest binds."""
    return Positions(
        directory_size=1,
        directory_root=root(1),
        access_size=access,
        access_root=root(access),
        topics=(TopicHead(topic="returns", size=returns, root=root(returns, log)),),
    )


def lost(start: int, end: int, log: str = "as signed") -> LostRange:
    """A range that a LATE entry names."""
    return LostRange(topic="returns", start=start, end=end, root=root(end, log))


def taken(logs: Logs, *sizes: int, key: bytes = KEY) -> BoundPositions:
    """Positions of the record topic in entries 0, 2, 4 …"""
    bound = BoundPositions(logs)
    for place, size in enumerate(sizes):
        bound.take(positions(size), offset=2 * place, issued_at=place, key_id=key)
    return bound


def forks(bound: BoundPositions, *, key: bytes = KEY, at_end: bool = True) -> list[Fork]:
    """The forks by what this key signed."""
    bound.settle()
    return list(bound.forks(lambda one: one.key_id == key, at_end=at_end))


def every_fork(bound: BoundPositions) -> list[Fork]:
    """The forks by what binds."""
    return list(bound.forks(lambda _: True, at_end=True))


def logs(read: int, **differs: int) -> Logs:
    """Logs of which the record topic was read so far."""
    return Logs({"directory": 1, "access": 0, "returns": read}, differs)


def test_what_fits_is_no_fork_and_the_newest_binds() -> None:
    """Positions need not rise: the largest that fits is the newest."""
    bound = taken(logs(9), 3, 9, 6)
    assert forks(bound) == []
    newest = bound.newest("returns")
    assert newest == Bound(TopicHead(topic="returns", size=9, root=root(9)), 2, 1, KEY)
    assert bound.newest("justice") is None


def test_a_fork_names_the_range_that_differs() -> None:
    """From the last position that fits to the last that does not."""
    bound = taken(logs(12, returns=4), 3, 6, 9)
    (fork,) = forks(bound)
    assert (fork.topic, fork.start, fork.first.head.size, fork.last.head.size) == ("returns", 3, 6, 9)
    assert fork.lost == lost(3, 9)


def test_a_log_that_ends_early_is_one_only_at_its_end() -> None:
    """A position beyond what was read waits, and is compared when that was read."""
    read = logs(3)
    bound = taken(read, 3, 6)
    assert forks(bound, at_end=False) == []
    assert [fork.start for fork in forks(bound)] == [3]
    read.read["returns"] = 6
    assert forks(bound) == []


def test_a_late_entry_explains_its_range_and_no_other() -> None:
    """What was signed before it, within its range, and at its end only this very root."""
    bound = taken(logs(12, returns=4), 3, 6, 9)
    bound.take_late((lost(3, 9),), offset=6, key_id=KEY)
    assert forks(bound) == []
    bound.take(positions(9), offset=8, issued_at=9, key_id=KEY)  # signed again behind it
    assert [fork.first.offset for fork in forks(bound)] == [8]


@pytest.mark.parametrize("range_", [lost(3, 6), lost(6, 9), lost(3, 9, "a third log")])
def test_a_late_entry_that_names_less_does_not_explain_all(range_: LostRange) -> None:
    """An acknowledged loss hides no other one."""
    bound = taken(logs(12, returns=4), 3, 6, 9)
    bound.take_late((range_,), offset=6, key_id=KEY)
    assert len(forks(bound)) == 1


def test_whoever_signs_the_same_takes_nothing_back() -> None:
    """A position that another replica, or a thief of a key that was revoked, signs too still binds."""
    bound = taken(logs(2), 3)
    bound.take(positions(3), offset=2, issued_at=1, key_id=OTHER)
    assert [fork.first.key_id for fork in forks(bound)] == [KEY]
    assert [fork.first.key_id for fork in forks(bound, key=OTHER)] == [OTHER]
    late = taken(logs(4, returns=1), 3)
    late.settle()
    late.take(positions(3), offset=2, issued_at=1, key_id=OTHER)
    assert [fork.first.key_id for fork in forks(late)] == [KEY]


def test_what_is_lost_by_a_late_entry() -> None:
    """Only a LATE entry behind the entry that speaks of a message says that it is lost."""
    bound = taken(logs(9))
    bound.take_late((lost(3, 6),), offset=8, key_id=KEY)
    assert [bound.lost_by("returns", message, 2) for message in (2, 3, 5, 6)] == [None, 8, 8, None]
    assert bound.lost_by("returns", 3, 8) is None
    assert bound.lost_by("justice", 3, 2) is None


def test_positions_that_wait_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The access log is read before the records: what waits for them is not sorted for each entry anew."""
    monkeypatch.setattr(bound_positions, "_MAX_WAITING", 16)
    read = logs(0)
    settled = 0
    bound = BoundPositions(read)
    settle = bound.settle

    def counted(*, at_end: bool = False) -> None:
        nonlocal settled
        settled += 1
        settle(at_end=at_end)

    monkeypatch.setattr(bound, "settle", counted)
    for size in range(1, 2001):
        bound.take(positions(size), offset=2 * size, issued_at=size, key_id=KEY)
    assert settled < 20
    read.read["returns"] = 2000
    assert forks(bound) == []
    newest = bound.newest("returns")
    assert newest is not None
    assert newest.head.size == 2000


@dataclass(frozen=True)
class Event:
    """An entry of the access log: a position that is signed, or a LATE entry that names a range of it."""

    key: bytes
    size: int
    log: str
    lost_from: int | None = None


KEYS = [KEY, OTHER, THIEF]
LOGS = ["as signed", "another", "a third log"]
SIZES = st.integers(1, 12)


def events(*named: str) -> st.SearchStrategy[list[Event]]:
    """Entries that name these logs."""
    key, log = st.sampled_from(KEYS), st.sampled_from(named)
    position = st.builds(Event, key, SIZES, log)
    late = st.builds(Event, key, SIZES, log, st.integers(0, 11))
    return st.lists(st.one_of(position, position, late), max_size=40)


def played(read: Logs, entries: Sequence[Event]) -> BoundPositions:
    """The entries, taken in their order."""
    bound = BoundPositions(read)
    for offset, one in enumerate(entries):
        if one.lost_from is None:
            bound.take(positions(one.size, log=one.log), offset=offset, issued_at=offset, key_id=one.key)
        else:
            lacking = (lost(one.lost_from, one.size, one.log),)
            bound.take_late(lacking, offset=offset, key_id=one.key)
    bound.settle()
    return bound


def sizes_against(entries: Sequence[Event]) -> list[int]:
    """What the rule says, without any limit: positions that bind, do not fit, and that nothing explains."""
    binding = [(offset, one) for offset, one in enumerate(entries) if one.key != THIEF]
    lates = [(offset, one.lost_from, one) for offset, one in binding if one.lost_from is not None]
    return [
        one.size
        for offset, one in binding
        if one.lost_from is None
        and one.log != "as signed"
        and not any(
            start < one.size <= late.size
            and (one.size < late.size or one.log == late.log)
            and offset < late_offset
            for late_offset, start, late in lates
        )
    ]


@given(events(*LOGS))
def test_forks_are_what_the_rule_says(entries: list[Event]) -> None:
    """The fork of a topic reaches from the smallest position to the largest, above the last that fits."""
    read = logs(12)
    bound = played(read, entries)
    read.revoked.add(THIEF)  # which is learnt later
    against = sizes_against(entries)
    binding = [one for one in entries if one.key != THIEF and one.lost_from is None]
    fits = [one.size for one in binding if one.log == "as signed"]
    found = [(fork.start, fork.first.head.size, fork.last.head.size) for fork in every_fork(bound)]
    start = max((size for size in fits if size < min(against, default=0)), default=0)
    assert found == ([(start, min(against), max(against))] if against else [])
    newest = bound.newest("returns")
    assert (newest.head.size if newest else 0) == max(fits, default=0)


@pytest.fixture
def little_room() -> Iterator[None]:
    """Room for a few positions and ranges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bound_positions, "_MAX_WAITING", 4)
        patch.setattr(bound_positions, "_MAX_RUNS", 2)
        patch.setattr(bound_positions, "_MAX_RANGES", 3)
        yield


@pytest.mark.usefixtures("little_room")
@given(events(*LOGS))
def test_no_limit_hides_a_fork(entries: list[Event]) -> None:
    """However full the tables are, what the rule finds is within what they say."""
    read = logs(12)
    bound = played(read, entries)
    read.revoked.add(THIEF)
    against = sizes_against(entries)
    found = every_fork(bound)
    if against:
        (fork,) = found
        assert fork.start < fork.first.head.size <= min(against) <= max(against) <= fork.last.head.size


@pytest.mark.usefixtures("little_room")
@given(events("as signed", "another"))
def test_whatever_is_found_can_be_explained(entries: list[Event]) -> None:
    """A service that names each time what it finds lacking stops at most once more for the limit."""
    bound = played(logs(12), entries)
    for offset in (100, 101):
        for fork in every_fork(bound):
            bound.take_late((fork.lost,), offset=offset, key_id=KEY)
    assert every_fork(bound) == []


def test_what_was_acknowledged_hides_no_later_change() -> None:
    """Three days of positions do not fit and are explained; one that is signed behind them does not fit."""
    bound = taken(logs(20_000, returns=0), *range(1, 5000))
    bound.take_late((lost(0, 4999),), offset=10_000, key_id=KEY)
    assert forks(bound) == []
    bound.take(positions(6000), offset=10_002, issued_at=1, key_id=KEY)
    assert [(fork.first.head.size, fork.last.head.size) for fork in forks(bound)] == [(6000, 6000)]


@pytest.mark.parametrize("learnt", ["before", "later"])
def test_a_thief_hides_nothing(learnt: str) -> None:
    """He signs thousands of roots that fit nothing, and explains what others signed."""
    read = logs(20_000, returns=100)
    if learnt == "before":
        read.revoked.add(THIEF)
    bound = taken(read, *range(1, 5000), key=THIEF)
    bound.take(positions(9000), offset=10_000, issued_at=1, key_id=KEY)
    bound.take_late((lost(0, 9000),), offset=10_002, key_id=THIEF)
    bound.settle()
    read.revoked.add(THIEF)
    assert [(fork.start, fork.first.head.size) for fork in every_fork(bound)] == [(0, 9000)]
    assert bound.newest("returns") is None
    assert bound.lost_by("returns", 5, 0) is None


def test_what_is_kept_binds_and_is_no_entry() -> None:
    """A receipt or a journal says that the log is another one; nobody who reads the log finds it there."""
    bound = taken(logs(4), 3, key=KEPT)
    bound.settle()
    assert bound.newest("returns") is None
    assert [fork.first.head.size for fork in forks(taken(logs(4, returns=1), 3, key=KEPT), key=KEPT)] == [3]


def test_contradictions_cost_flat_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many positions do not fit, the topic is one fork from the first to the last."""
    monkeypatch.setattr(bound_positions, "_MAX_WAITING", 64)
    monkeypatch.setattr(bound_positions, "_MAX_RUNS", 64)
    bound = BoundPositions(logs(10_000, returns=0))
    tracemalloc.start()
    try:
        for size in range(1, 10_000):
            bound.take(positions(size), offset=2 * size, issued_at=size, key_id=KEY)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
    (fork,) = forks(bound)
    assert (fork.start, fork.first.head.size, fork.last.head.size) == (0, 1, 9999)
