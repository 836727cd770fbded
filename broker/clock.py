"""The clock: a function that is passed in, so that a test can say what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["DAY_US", "HOUR_US", "MINUTE_US", "Clock", "day_of", "system_clock"]

Clock = Callable[[], int]
"""A clock returns the time in microseconds since 1970-01-01, UTC."""

MINUTE_US = 60 * 1_000_000
"""Microseconds of a minute."""

HOUR_US = 60 * MINUTE_US
"""Microseconds of an hour."""

DAY_US = 24 * HOUR_US
"""Microseconds of a day. UTC as computers count it has no leap seconds."""


def system_clock() -> int:
    """Return the time of this machine."""
    # This clock may be set back, since signed times must be those of the calendar.
    return time.time_ns() // 1000


def day_of(now: int) -> int:
    """Return the UTC day of a time, counted from 1970-01-01."""
    return now // DAY_US
