"""Following the directory: every reader and writer keeps its own fold of ``ftf.directory``."""

from __future__ import annotations

from dataclasses import dataclass

from broker.directory import HighWater, History, check_high_water
from broker.errors import NotEntitled
from broker.log.protocol import Log, Partition
from broker.verify.violations import Kind, Place, Violation

__all__ = ["DIRECTORY", "DirectoryFollower"]

DIRECTORY = Partition("directory", 0)
_MAX_VIOLATIONS = 1000


@dataclass(slots=True)
class DirectoryFollower:
    """The directory as far as it was read; ``refresh`` reads on to its end.

    Statements that do not count are kept as ``violations`` and skipped; reading goes on.
    """

    log: Log
    history: History
    violations: list[Violation]
    _next: int = 0

    @classmethod
    async def start(
        cls, log: Log, genesis: bytes, *, high_water: HighWater | None = None
    ) -> DirectoryFollower:
        """Read the directory to its end; NotEntitled if it is another, or less, than was pinned or seen."""
        follower = cls(log, History(genesis), [])
        await follower.refresh()
        if follower.history.latest.size == 0:
            raise NotEntitled(
                "the log holds no directory",
                hint="check the log's address and prefix, or run: ftf-broker init",
            )
        if high_water is not None:
            check_high_water(follower.history, high_water)
        return follower

    async def refresh(self, end: int | None = None) -> History:
        """Read on to the directory's end now, or to ``end``; the same History object, extended."""
        async for message in self.log.read(DIRECTORY, self._next):
            if end is not None and message.offset >= end:
                break
            place = Place("directory", 0, message.offset)
            if message.offset != self._next:
                gap = Place("directory", 0, self._next)
                count = message.offset - self._next
                detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
                self._report(Violation(kind=Kind.OFFSET_MISSING, place=gap, detail=detail, count=count))
            error = self.history.extend(message)
            if error is not None:
                cause = self.fault(message.offset)
                self._report(
                    Violation(
                        kind=Kind.DIRECTORY_STATEMENT, place=place, detail=error.message, caused_by=cause
                    )
                )
            self._next = message.offset + 1
        return self.history

    def _report(self, violation: Violation) -> None:
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(violation)

    def fault(self, size: int) -> Place | None:
        """The place of the first violation below this size that would change every later running hash.

        An invalid statement that was written as it stands changes no hash; it is a fault only where
        what was written was altered, which shows in the statements behind it.
        """
        return next((v.place for v in self.violations if v.place.offset < size), None)

    @property
    def high_water(self) -> HighWater:
        """The largest size and head seen, to be remembered."""
        latest = self.history.latest
        return HighWater(size=latest.size, head=latest.head)
