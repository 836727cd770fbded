"""The follower of the directory: each participant reads the directory's topic and folds it for itself.

No participant asks another what the directory says. Each one applies every statement itself, and so finds
out itself when a statement does not count, or when the log was altered.

``refresh`` is the only way forward, and one lock serialises it. It begins with the last message that was
read. Where another one stands there, or none, the log is another than the one that was read. ``history``,
``violations`` and all private fields change under that lock alone; tasks that share a follower may look at
them at any time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from broker.clock import MINUTE_US, Clock
from broker.crypto.sign import signing_key_id, verify
from broker.directory import Directory, HighWater, History, check_high_water
from broker.directory.party import AUTHORITY
from broker.errors import FormatError, LogForked, NotEntitled, SignatureInvalid
from broker.log.protocol import Log, Partition, StoredMessage
from broker.logger import get_logger
from broker.participant.snapshot import MAX_VIOLATIONS, Snapshot
from broker.verify.entitlement import listed_key
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import decode, decode_content
from broker.wire.manifest import Header, Signed

__all__ = ["DIRECTORY", "DirectoryFollower"]

_log = get_logger("broker.participant")

DIRECTORY = Partition("directory", 0)
_CLOCK_TOLERANCE_US = 5 * MINUTE_US
"""How far the newest message may be dated ahead of our own clock before that is worth a warning."""
_MAX_SIGNATURES = 64
"""Signatures of an invalid statement that are looked at."""


@dataclass(slots=True)
class DirectoryFollower:
    """The directory as far as it was read; ``refresh`` reads on to its end.

    A statement that does not count is skipped and kept in ``violations``; those beyond the first 1,000 are
    counted in ``unlisted``. No message is refused for its date.
    With a ``clock``, a warning is logged once when the newest message is dated ahead of it.
    """

    log: Log
    history: History
    violations: list[Violation]
    clock: Clock | None = None
    unlisted: int = 0
    """How many violations were found beyond those that are kept: junk must not fill the memory."""
    _next: int = 0
    """Offset of the next message to be read."""
    _warned: bool = False
    """True when the warning about a date ahead of our clock was logged."""
    _proven: int = 0
    """The largest view of an issuer whose statement counts: below this size it saw what we see."""
    _altered: Place | None = None
    """Where the directory begins to differ from what an issuer saw, as far as statements show it."""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def start(
        cls,
        log: Log,
        genesis: bytes,
        *,
        high_water: HighWater | None = None,
        clock: Clock | None = None,
        snapshot: Snapshot | None = None,
    ) -> DirectoryFollower:
        """Read the directory to its end and return its follower.

        Give a ``clock`` to follow a log that is written to now. With a ``snapshot`` the reading begins with
        the last message that the snapshot covers.

        Raises NotEntitled if the log holds no directory, or one that is not the pinned coalition's, or less
        of it than ``high_water`` says was seen before. Raises LogForked if it ends below the snapshot, or has
        another last message there.
        """
        follower = cls(log, History(genesis), [], clock)
        if snapshot is not None:
            follower._resume(snapshot)
        await follower.refresh()
        if follower.history.size == 0:
            seen = 0 if high_water is None else high_water.size
            before = f", and {seen} messages of it were seen before" if seen else ""
            raise NotEntitled(
                f"the log holds no directory{before}",
                hint="check the log's address and prefix; if they are right, the log was emptied or made "
                "anew: do not go on, ask its operator",
            )
        if high_water is not None:
            check_high_water(follower.history, high_water)
        return follower

    async def refresh(self, end: int | None = None) -> History:
        """Read on to the directory's present end, or to ``end``; return ``history``, which has grown.

        Tasks that share a follower may call this at any time: each message is applied once. Cancelled,
        what was read until then counts.
        """
        async with self._reading:
            await self._read_on(end)
        return self.history

    async def _read_on(self, end: int | None) -> None:
        appended_at: int | None = None
        last = self._next - 1
        async for message in self.log.read(DIRECTORY, max(last, 0)):
            if last >= 0:
                self._check_last(message, last)
                last = -1
                appended_at = message.appended_at
                continue
            if end is not None and message.offset >= end:
                return
            place = Place("directory", 0, message.offset)
            # The log numbers messages without gaps and nothing is deleted from this topic, so a gap is a
            # loss.
            if message.offset != self._next:
                gap = Place("directory", 0, self._next)
                count = message.offset - self._next
                detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
                self._report(Violation(kind=Kind.OFFSET_MISSING, place=gap, detail=detail, count=count))
                self.history.skip(count)
            # The message is folded before views are compared, because only then is it known whether it
            # counts.
            error = self.history.extend(message)
            self._compare_views(message, valid=error is None)
            if error is not None:
                cause = self._altered if self._altered and self._altered < place else None
                self._report(
                    Violation(
                        kind=Kind.DIRECTORY_STATEMENT, place=place, detail=error.message, caused_by=cause
                    )
                )
            # Nothing waits between the fold and this line, so a cancelled reading never applies a message
            # twice.
            self._next = message.offset + 1
            appended_at = message.appended_at
        if last >= 0:
            raise _forked(f"the directory ends below message {last}, which was read before")
        self._warn_of_date(appended_at)

    def _check_last(self, message: StoredMessage, last: int) -> None:
        """Raise LogForked unless this is the last message that was read, at its place."""
        # Stands against a log that was replaced, restored or made anew under who follows it: its directory
        # would otherwise go on from the old statements with new ones.
        if message.offset != last or not self.history.ends_with(message):
            raise _forked(f"the directory holds another message {last} than the one that was read")

    def _warn_of_date(self, appended_at: int | None) -> None:
        """Warn once when the newest message lies ahead of our clock: one of the two clocks is wrong."""
        if self.clock is None or appended_at is None or self._warned:
            return
        now = self.clock()
        if appended_at > now + _CLOCK_TOLERANCE_US:
            self._warned = True
            _log.warning(
                "the newest message of the directory is dated ahead of this machine's clock",
                ahead_minutes=(appended_at - now) // MINUTE_US,
            )

    def _report(self, violation: Violation) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(violation)
        else:
            self.unlisted += 1

    def _compare_views(self, message: StoredMessage, *, valid: bool) -> None:
        """Learn from the view of a statement's issuer whether the directory before it was altered."""
        found = _statement_of(message.value)
        if found is None:
            return
        signed, header = found
        size = header.directory_size
        place = Place("directory", 0, message.offset)
        if valid:
            self._proven = max(self._proven, size)
            # A valid statement was made by somebody who saw what we see, so the earlier, invalid one was
            # wrong.
            if self._altered is not None and self._altered.offset < size:
                self._altered = None
        elif (
            self._altered is None
            and self.history.root_at(size) != header.directory_root
            and _is_signed(self.history.latest, signed, header.issuer)
        ):
            self._altered = self._first_unproven(size) or place
            # One manipulation is one root: the violations that were reported behind it are its consequences.
            for i, violation in enumerate(self.violations):
                if violation.place > self._altered and violation.caused_by is None:
                    self.violations[i] = replace(violation, caused_by=self._altered)

    def _first_unproven(self, size: int) -> Place | None:
        """Return the first violation below ``size`` that no valid statement has passed by."""
        roots = (violation.place for violation in self.violations if violation.caused_by is None)
        return next((place for place in roots if self._proven <= place.offset < size), None)

    def fault(self, size: int) -> Place | None:
        """Return where the directory below ``size`` differs from what an issuer of that view saw, if it does.

        An invalid statement that stands as it was written is no such fault, since everybody sees the same.
        Only the first violation that no later valid statement has seen can be such a fault.
        """
        if self._altered is not None and self._altered.offset < size:
            return self._altered
        return self._first_unproven(size)

    def snapshot(self) -> Snapshot | None:
        """Return what a later run resumes from; None where there is no statement yet, or no root is known."""
        frontier = self.history.frontier
        if frontier is None or self.history.latest.size == 0:
            return None
        return Snapshot(
            history=self.history,
            frontier=frontier,
            violations=tuple(self.violations),
            unlisted=self.unlisted,
            proven=self._proven,
            altered=self._altered,
        )

    def _resume(self, snapshot: Snapshot) -> None:
        self.history = snapshot.history
        self.violations = list(snapshot.violations)
        self.unlisted = snapshot.unlisted
        self._next = snapshot.frontier.size
        self._proven = snapshot.proven
        self._altered = snapshot.altered

    @property
    def high_water(self) -> HighWater:
        """The size and root of the directory as far as it was seen, to be remembered between two runs."""
        latest = self.history.latest
        return HighWater(size=latest.size, root=latest.root)


def _forked(message: str) -> LogForked:
    return LogForked(
        message,
        hint="somebody replaced, restored or altered the log: ask the authority, and see operations.md",
    )


def _statement_of(value: bytes | None) -> tuple[Signed, Header] | None:
    """Return a directory statement, valid or not, and its header; None if it does not decode."""
    try:
        signed = decode(Signed, value or b"")
        header = getattr(decode_content(signed), "header", None)
    except FormatError:
        return None
    return (signed, header) if isinstance(header, Header) else None


def _is_signed(directory: Directory, signed: Signed, issuer: str) -> bool:
    """Tell whether a key of the issuer signed this, whatever became of the key.

    Anybody who may write to the topic can claim a view in any name, and a claim that nobody signed shows
    nothing. A directory that did not begin with a genesis knows no keys: its first message is altered, and
    every view shows that.
    """
    if not directory.authority.keys:
        return True
    authority = {signing_key_id(key): key for key in directory.authority.keys}
    for signature in signed.signatures[:_MAX_SIGNATURES]:
        public = (
            authority.get(signature.key_id)
            if issuer == AUTHORITY
            else listed_key(directory, issuer, signature.key_id)
        )
        try:
            if public is not None:
                verify(public, signed.kind, directory.genesis, signed.content, signature.signature)
                return True
        except SignatureInvalid:
            continue
    return False
