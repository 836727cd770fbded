"""The pause before another attempt: each is about twice as long as the one before, up to a longest."""

from __future__ import annotations

import random

__all__ = ["pause_s"]

# 64 doublings lead from any sensible first pause to any sensible longest one. Without this bound 2.0**1024
# raised an OverflowError, and an outage of an hour and a half ended the reader at attempt 1,025.
_MOST_DOUBLINGS = 64


def pause_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Return how long to wait after this attempt, in seconds.

    Attempts are counted from 1, and there may be any number of them. The pause doubles from ``first_s`` up
    to ``longest_s``. Jitter then takes away up to a half of it, so that clients which lost the log at the
    same moment do not all come back at the same moment.
    """
    doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
    longest = min(first_s * 2.0**doublings, longest_s)
    return random.uniform(longest / 2, longest)  # noqa: S311 - nothing secret
