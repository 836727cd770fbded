"""Pauses before another attempt: their bounds, and that they double."""

from __future__ import annotations

import sys

from hypothesis import example, given
from hypothesis import strategies as st

from broker.log.pause import pause_s

pauses = st.floats(0.001, 100.0)


@example(attempt=0, first_s=0.05, longest_s=5.0)
@example(attempt=1_025, first_s=0.05, longest_s=5.0)
@example(attempt=sys.maxsize, first_s=0.05, longest_s=5.0)
@given(attempt=st.integers(0, 10**30), first_s=pauses, longest_s=pauses)
def test_every_pause_is_finite_and_within_its_bounds(attempt: int, first_s: float, longest_s: float) -> None:
    """At any attempt the pause is at least half of the first one, and at most the longest."""
    found = pause_s(attempt, first_s=first_s, longest_s=longest_s)
    assert min(first_s, longest_s) / 2 <= found <= longest_s


def test_pauses_double_until_they_are_the_longest() -> None:
    """The upper bound of each pause is twice that of the one before, up to the longest."""
    for attempt in range(1, 40):
        longest = min(0.05 * 2 ** (attempt - 1), 5.0)
        assert longest / 2 <= pause_s(attempt, first_s=0.05, longest_s=5.0) <= longest


def test_a_first_pause_of_nothing_stays_nothing() -> None:
    """A first pause of 0, as tests set it, makes every pause 0."""
    assert pause_s(1_000_000, first_s=0.0, longest_s=5.0) == 0.0
