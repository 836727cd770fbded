"""The pause before something is tried again: each longer than the one before, and never too long."""

from __future__ import annotations

import random

__all__ = ["pause_s"]

# Enough to get from any pause that makes sense to any other, and far below what a float holds: without
# this an outage of an hour and a half ended in an OverflowError, at attempt 1,025.
_MOST_DOUBLINGS = 64


def pause_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """How long to wait after this attempt, in seconds.

    Attempts are counted from 1, and there may be any number of them. The pause doubles from ``first_s``
    up to ``longest_s``; of that, jitter takes away up to a half, so that those who were disturbed
    together do not come back together.
    """
    doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
    longest = min(first_s * 2.0**doublings, longest_s)
    return random.uniform(longest / 2, longest)  # noqa: S311 - nothing secret
