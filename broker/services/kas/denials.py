"""Denials: a member's first is logged at once, further ones as one counted entry a minute.

So that nobody fills the access log by asking for what it may not have, and every attempt counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.wire.manifest import DenialTerms

__all__ = ["WINDOW_US", "Denials"]

WINDOW_US = 60 * 1_000_000
"""A minute, in microseconds."""


@dataclass(slots=True)
class _Window:
    opened_at: int
    count: int = 0
    first_at: int = 0
    last_at: int = 0


class Denials:
    """Wholly denied requests of one channel, by agency."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def is_first(self, agency: str, now: int) -> bool:
        """Whether a denial now is logged whole: none was in the last minute."""
        window = self._windows.get(agency)
        return window is None or (window.count == 0 and not 0 <= now - window.opened_at < WINDOW_US)

    def logged(self, agency: str, now: int) -> None:
        """A denial was logged whole."""
        self._windows[agency] = _Window(now)

    def count(self, agency: str, now: int) -> None:
        """A further denial, to be logged with others."""
        window = self._windows[agency]
        window.first_at = window.first_at if window.count else now
        window.count, window.last_at = window.count + 1, now

    def due(self, now: int, *, all: bool = False) -> list[DenialTerms]:
        """The counted entries whose minute is over, or all of them."""
        return [
            DenialTerms(agency=agency, count=one.count, first_at=one.first_at, last_at=one.last_at)
            for agency, one in self._windows.items()
            if one.count and (all or not 0 <= now - one.opened_at < WINDOW_US)
        ]

    def settled(self, terms: DenialTerms, now: int) -> None:
        """A counted entry is durable: its agency's next minute begins."""
        window = self._windows[terms.agency]
        # more may have come while the entry was written
        window.opened_at, window.count = now, window.count - terms.count
        window.first_at = terms.last_at if window.count else 0

    def forget_quiet(self, now: int) -> None:
        """Drop the agencies that were quiet for a minute."""
        for agency in [a for a in self._windows if self.is_first(a, now)]:
            del self._windows[agency]
