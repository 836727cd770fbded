"""The ledger of violations: roots before what they cause, the known ones marked, the rest counted.

A violation names in ``caused_by`` the root that it follows from. Who has dealt with a violation
names it as known: it is still shown, and no longer counts. What follows from it is known only where it
is named too, as an earlier report does: else a new loss could hide behind an old root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from broker.verify.violations import Kind, Place, Violation

__all__ = ["MAX_LISTED", "Known", "Ledger", "Reported"]

MAX_LISTED = 1000
"""Violations listed one by one in a replay's answer, after which they are counted by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A violation that was dealt with; ``count`` where it must be no more than it was."""

    kind: Kind
    place: Place
    count: int | None = None

    def covers(self, violation: Violation) -> bool:
        """Whether it is this violation, no larger than it was."""
        same = (self.kind, self.place) == (violation.kind, violation.place)
        return same and (self.count is None or violation.count <= self.count)


@dataclass(frozen=True, slots=True)
class Reported:
    """A violation as it is listed."""

    violation: Violation
    known: bool


class Ledger:
    """What a replay has to report, in bounded memory."""

    def __init__(self, known: Iterable[Known] = ()) -> None:
        self.listed: list[Reported] = []
        self.by_kind: Counter[Kind] = Counter()
        self.open = 0
        """Violations that are not known."""
        self._known: dict[tuple[Kind, Place], list[Known]] = {}
        for one in known:
            self._known.setdefault((one.kind, one.place), []).append(one)

    @property
    def total(self) -> int:
        """Violations reported, known or not."""
        return self.by_kind.total()

    def report(self, violation: Violation) -> Place:
        """Take a violation; returns its root."""
        named = self._known.get((violation.kind, violation.place), [])
        known = next((one for one in named if one.covers(violation)), None)
        if known is not None:
            named.remove(known)  # each names one: a second of its kind at this place is another
        self.open += known is None
        self.by_kind[violation.kind] += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(Reported(violation, known is not None))
        return violation.caused_by or violation.place
