"""The ledger of a replay's violations: a root stands before its consequences, and known ones are marked.

A violation names in ``caused_by`` the root that it follows from. An operator who has dealt with a
violation names it as known: it is still shown, and it no longer counts. A violation that follows from a
known root counts unless it is named too, as an earlier report names it. Otherwise a new loss could hide
behind an old root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from broker.verify.violations import Kind, Place, Violation

__all__ = ["MAX_LISTED", "Known", "Ledger", "Reported"]

MAX_LISTED = 1000
"""The most violations that a report lists one by one; those beyond are counted by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A violation that an operator has dealt with; with a ``count`` it must not have grown since."""

    kind: Kind
    place: Place
    count: int | None = None

    def covers(self, violation: Violation) -> bool:
        """Tell whether this is the violation that is known, and no larger than it was."""
        is_same = (self.kind, self.place) == (violation.kind, violation.place)
        return is_same and (self.count is None or violation.count <= self.count)


@dataclass(frozen=True, slots=True)
class Reported:
    """A violation in the list of a report, and whether it is known."""

    violation: Violation
    known: bool


class Ledger:
    """The violations of one replay, in bounded memory: the first 1,000 are listed and all are counted."""

    def __init__(self, known: Iterable[Known] = ()) -> None:
        self.listed: list[Reported] = []
        self.by_kind: Counter[Kind] = Counter()
        self.open = 0
        """Violations that are not known."""
        self._known: dict[tuple[Kind, Place], list[Known]] = {}
        for entry in known:
            self._known.setdefault((entry.kind, entry.place), []).append(entry)

    @property
    def total(self) -> int:
        """The number of violations reported, known ones included."""
        return self.by_kind.total()

    def report(self, violation: Violation) -> Place:
        """Take a violation, and return the place of its root."""
        named = self._known.get((violation.kind, violation.place), [])
        known = next((entry for entry in named if entry.covers(violation)), None)
        if known is not None:
            # Each known entry stands for one violation: a second of its kind at this place is a new one.
            named.remove(known)
        # Every violation is counted, also one that is no longer listed: the verdict must not depend on
        # MAX_LISTED.
        self.open += known is None
        self.by_kind[violation.kind] += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(Reported(violation, known is not None))
        return violation.caused_by or violation.place

    def count(self, kind: Kind, number: int) -> None:
        """Count violations whose places were not kept; none of them can be known."""
        self.open += number
        self.by_kind[kind] += number
