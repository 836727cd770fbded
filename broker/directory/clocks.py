"""The clock of the directory: what the key access service says the time is, and how long ago something was.

Time passes in the directory by signatures only. The key access service signs ``directory-clock`` statements,
each of which has two times: ``issued_at``, by the clock of the service, and the append time, by the clock of
the log. A wait is over when both have gone on for long enough:

    announcement ── first clock behind it ──────── wait ────────▶ a clock with both times this much later

So the operator of the log alone, or the service alone, can only make a wait longer. Both times are believed
as they stand: none makes a statement void, and they may fall, as when a host's clock was wrong and is put
right. No other append time matters to the directory.

A clock is behind an announcement where its issuer had seen the announcement. Its place in the log does not
matter: the operator may keep a true clock back, and append it behind an announcement that came days later.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from immutables import Map

__all__ = ["ClockMark", "Clocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMark:
    """A ``directory-clock`` that counted. Times are in microseconds."""

    size: int
    """Size of the view of the directory that its issuer had."""
    issued_at: int
    appended_at: int


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clock statements of a directory, in the order of the log; the sizes of their views never fall."""

    marks: Map[int, ClockMark] = field(default_factory=Map)
    """Each mark by its number, counted from 0."""

    @property
    def newest(self) -> ClockMark | None:
        """The last mark in the log, or None before the first one."""
        return self.marks.get(len(self.marks) - 1)

    def last(self, count: int) -> list[ClockMark]:
        """Return so many of the last marks in the log, at most, in the order of the log."""
        return [self.marks[number] for number in range(max(len(self.marks) - count, 0), len(self.marks))]

    def first_from(self, size: int) -> ClockMark | None:
        """Return the first mark whose issuer had seen a directory of this size or a larger one, or None."""
        number = bisect_left(range(len(self.marks)), size, key=lambda number: self.marks[number].size)
        return self.marks.get(number)

    def have_passed(self, wait_us: int, *, since: int) -> bool:
        """Tell whether this long has passed since the directory had the size ``since``, by both times."""
        first, newest = self.first_from(since), self.newest
        if first is None or newest is None:
            return False
        issued_us = newest.issued_at - first.issued_at
        appended_us = newest.appended_at - first.appended_at
        return min(issued_us, appended_us) >= wait_us

    def is_older(self, age_us: int, *, issued_at: int, size: int) -> bool:
        """Tell whether what was signed at this time and size is older than this, by either time.

        For what runs out, doubt has to go the other way than for what one waits for: here the service or
        the log alone is believed.
        """
        newest = self.newest
        if newest is None:
            return False
        first = self.first_from(size) or newest
        issued_us = newest.issued_at - min(issued_at, first.issued_at)
        appended_us = newest.appended_at - first.appended_at
        return max(issued_us, appended_us) > age_us

    def with_mark(self, mark: ClockMark) -> Clocks:
        """Return the clocks with one more mark, which is now the newest.

        A mark from a smaller view than that of the newest one is left out. It was overtaken, or kept back.
        """
        newest = self.newest
        if newest is not None and mark.size < newest.size:
            return self
        return Clocks(self.marks.set(len(self.marks), mark))
