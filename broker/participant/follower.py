"""Following the directory: every reader and writer keeps its own fold of ``ftf.directory``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from broker.clock import Clock
from broker.directory import HighWater, History, check_high_water
from broker.directory.history import check_append_time
from broker.errors import FormatError, NotEntitled
from broker.log.protocol import Log, Partition, StoredMessage
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import decode, decode_content
from broker.wire.manifest import Header, Signed

__all__ = ["DIRECTORY", "DirectoryFollower"]

DIRECTORY = Partition("directory", 0)
_MAX_VIOLATIONS = 1000


@dataclass(slots=True)
class DirectoryFollower:
    """The directory as far as it was read; ``refresh`` reads on to its end.

    Statements that do not count are kept as ``violations`` and skipped; reading goes on. With a ``clock``
    a message whose append time cannot be true is not read, nor anything behind it: LogUnavailable.
    """

    log: Log
    history: History
    violations: list[Violation]
    clock: Clock | None = None
    _next: int = 0
    _ended_at: int | None = None
    _proven: int = 0
    _altered: Place | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def start(
        cls, log: Log, genesis: bytes, *, high_water: HighWater | None = None, clock: Clock | None = None
    ) -> DirectoryFollower:
        """Read the directory to its end; NotEntitled if it is another, or less, than was pinned or seen.

        Give a ``clock`` to follow a log live; without, as for a log kept for years, its own is believed.
        """
        follower = cls(log, History(genesis), [], clock)
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
        """Read on to the directory's end now, or to ``end``; the same History object, extended.

        Several tasks may share a follower: each message is applied once. Cancelled, what was read counts.
        """
        async with self._reading:
            await self._read_on(end)
        return self.history

    async def _read_on(self, end: int | None) -> None:
        begun_at = self.clock() if self.clock else None
        async for message in self.log.read(DIRECTORY, self._next):
            if end is not None and message.offset >= end:
                return
            if self.clock is not None:
                check_append_time(message.appended_at, ended_at=self._ended_at, now=self.clock())
            place = Place("directory", 0, message.offset)
            if message.offset != self._next:
                gap = Place("directory", 0, self._next)
                count = message.offset - self._next
                detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
                self._report(Violation(kind=Kind.OFFSET_MISSING, place=gap, detail=detail, count=count))
            error = self.history.extend(message)
            self._compare_views(message, valid=error is None)
            if error is not None:
                cause = self._altered if self._altered and self._altered < place else None
                self._report(
                    Violation(
                        kind=Kind.DIRECTORY_STATEMENT, place=place, detail=error.message, caused_by=cause
                    )
                )
            self._next = message.offset + 1
        self._ended_at = begun_at

    def _report(self, violation: Violation) -> None:
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(violation)

    def _compare_views(self, message: StoredMessage, *, valid: bool) -> None:
        """Learn from what a statement's issuer had seen whether what stands before it was altered."""
        header = _header_of(message.value)
        if header is None:
            return
        size, place = header.directory_size, Place("directory", 0, message.offset)
        if valid:
            self._proven = max(self._proven, size)
            if self._altered is not None and self._altered.offset < size:
                self._altered = None  # whoever said so was wrong
        elif self._altered is None and self.history.head_at(size) != header.directory_head:
            self._altered = self._first_unproven(size) or place
            for i, one in enumerate(self.violations):
                if one.place > self._altered and one.caused_by is None:
                    self.violations[i] = replace(one, caused_by=self._altered)

    def _first_unproven(self, size: int) -> Place | None:
        found = (v.place for v in self.violations if v.caused_by is None)
        return next((place for place in found if self._proven <= place.offset < size), None)

    def fault(self, size: int) -> Place | None:
        """Where the directory below this size begins to differ from what an issuer of that view saw.

        An invalid statement that stands as it was written changes nobody's view, so it is no fault:
        only the first violation behind all that later valid statements have seen can be one.
        """
        if self._altered is not None and self._altered.offset < size:
            return self._altered
        return self._first_unproven(size)

    @property
    def high_water(self) -> HighWater:
        """The largest size and head seen, to be remembered."""
        latest = self.history.latest
        return HighWater(size=latest.size, head=latest.head)


def _header_of(value: bytes | None) -> Header | None:
    """The header of a directory statement, valid or not; None where it does not decode."""
    try:
        header = getattr(decode_content(decode(Signed, value or b"")), "header", None)
    except FormatError:
        return None
    return header if isinstance(header, Header) else None
