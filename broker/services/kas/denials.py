"""Denials of one channel: an agency's first one is logged whole, those that follow are counted.

Each minute of counted denials becomes one entry. So no member can fill the access log by asking for records
that it may not have, and yet every attempt counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.wire.manifest import DenialTerms

__all__ = ["WINDOW_US", "Denials"]

WINDOW_US = 60 * 1_000_000
"""Denials of an agency within this time are counted into one entry, in microseconds."""


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
        """Whether a denial now is logged whole, because the agency had none in the last minute."""
        window = self._windows.get(agency)
        return window is None or (window.count == 0 and not 0 <= now - window.opened_at < WINDOW_US)

    def logged(self, agency: str, now: int) -> None:
        """Note that a denial was logged whole: the agency's minute begins."""
        self._windows[agency] = _Window(now)

    def count(self, agency: str, now: int) -> None:
        """Count a further denial of an agency."""
        window = self._windows[agency]
        if window.count == 0:
            window.first_at = now
        window.count += 1
        window.last_at = now

    def due(self, now: int, *, all: bool = False) -> list[DenialTerms]:
        """Return the entries of counted denials whose minute is over, or all of them."""
        return [
            DenialTerms(agency=agency, count=window.count, first_at=window.first_at, last_at=window.last_at)
            for agency, window in self._windows.items()
            if window.count and (all or not 0 <= now - window.opened_at < WINDOW_US)
        ]

    def settled(self, terms: DenialTerms, now: int) -> None:
        """Note that an entry of counted denials is durable: its agency's next minute begins."""
        window = self._windows[terms.agency]
        window.opened_at = now
        # Not zero: further denials may have come while the entry was written.
        window.count -= terms.count
        window.first_at = terms.last_at if window.count else 0

    def forget_quiet(self, now: int) -> None:
        """Drop the agencies that had no denial for a minute."""
        for agency in [agency for agency in self._windows if self.is_first(agency, now)]:
            del self._windows[agency]
