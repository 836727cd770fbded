"""Positions that were signed, compared with logs: which fit, which do not, and what explains those."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from broker.access import bound_positions
from broker.access.bound_positions import Bound, BoundPositions, Fork
from broker.wire.manifest import LostRange, Positions, TopicHead

KEY, OTHER = b"k" * 32, b"o" * 32


def root(size: int, log: str = "as signed") -> bytes:
    """The root of a log at a size."""
    return f"{log} {size}".encode().ljust(32)


@dataclass
class Logs:
    """Logs that were read up to ``read``; from ``differs`` on a topic is another one."""

    read: dict[str, int] = field(default_factory=dict)
    differs: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def size(self, topic: str) -> int:
        """How far a log was read."""
        return self.read.get(topic, 0)

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Its root there."""
        self.asked += 1
        if size > self.size(topic):
            return None
        return root(size, "another" if size > self.differs.get(topic, 1 << 40) else "as signed")


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
    bound.take_late((lost(3, 9),), 6)
    assert forks(bound) == []
    bound.take(positions(9), offset=8, issued_at=9, key_id=KEY)  # signed again behind it
    assert [fork.first.offset for fork in forks(bound)] == [8]


@pytest.mark.parametrize("range_", [lost(3, 6), lost(6, 9), lost(3, 9, "a third log")])
def test_a_late_entry_that_names_less_does_not_explain_all(range_: LostRange) -> None:
    """An acknowledged loss hides no other one."""
    bound = taken(logs(12, returns=4), 3, 6, 9)
    bound.take_late((range_,), 6)
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


def test_a_revoked_key_binds_nothing() -> None:
    """Its thief could sign positions that no log fits."""
    bound = taken(logs(9), 3, key=KEY)
    bound.take(positions(6, log="invented"), offset=2, issued_at=1, key_id=OTHER)
    assert forks(bound) == []


def test_what_is_lost_by_a_late_entry() -> None:
    """Only a LATE entry behind the entry that speaks of a message says that it is lost."""
    bound = taken(logs(9))
    bound.take_late((lost(3, 6),), 8)
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


def test_contradictions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the bound change nothing: the topic is one fork."""
    monkeypatch.setattr(bound_positions, "_MAX_KEPT", 4)
    bound = taken(logs(100, returns=0), *range(1, 50))
    (fork,) = forks(bound)
    assert (fork.start, fork.first.head.size) == (0, 1)
