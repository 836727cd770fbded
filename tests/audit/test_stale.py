"""What a change of the directory excuses, by the positions in the access log."""

from __future__ import annotations

from broker.audit.stale import GRACE_US, Covering


def test_nothing_closes_before_a_later_entry_covers_the_change() -> None:
    """Without an entry five minutes behind the first one that knows the change, everything is excused."""
    covering = Covering()
    assert covering.closes(5, "returns") is None
    covering.take(4, 1000, {"returns": 10})
    covering.take(5, 2000, {"returns": 20})
    covering.take(6, 2000 + GRACE_US - 1, {"returns": 30})
    assert covering.closes(5, "returns") is None


def test_the_first_entry_five_minutes_later_closes() -> None:
    """It binds what came in time; entries that follow it change nothing."""
    covering = Covering()
    covering.take(5, 2000, {"returns": 20})
    covering.take(5, 2000 + GRACE_US, {"returns": 30})
    covering.take(5, 2001 + GRACE_US, {"returns": 40})
    assert covering.closes(5, "returns") == 30
    assert covering.closes(4, "returns") == 30
    assert covering.closes(6, "returns") is None
    assert covering.closes(5, "relocation") is None


def test_an_entry_with_an_older_view_is_not_the_first() -> None:
    """Several replicas need not see the same: only a view that has the change counts as the first."""
    covering = Covering()
    covering.take(7, 1000, {"returns": 10})
    covering.take(3, 1000 + GRACE_US, {"returns": 20})
    covering.take(9, 1001 + GRACE_US, {"returns": 30})
    assert (covering.closes(7, "returns"), covering.closes(8, "returns")) == (20, None)
    assert covering.newest_at == 1001 + GRACE_US


def test_memory_is_bounded_by_the_directory() -> None:
    """A million entries of one view are one value."""
    covering = Covering()
    for at in range(100_000):
        covering.take(5, at, {"returns": at})
    assert len(covering._firsts) == 1
