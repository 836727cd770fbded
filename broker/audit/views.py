"""Views of the directory: the states that issuers say they saw, compared with the state that the log shows.

The follower finds a statement that was altered. A directory whose tail was cut shows nothing by itself.
The cut is shown by what participants saw of it before: first by the auditor's own high-water mark, then by
the newest entries of the key access service, then by any other statement.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.audit.causes import Ledger
from broker.directory import EpochKey, HighWater, check_high_water
from broker.errors import NotEntitled, PeerError
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.follower import DirectoryFollower
from broker.verify.entitlement import ACCESS_TOPIC, verify_manifest
from broker.verify.violations import Kind, Place, Violation
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.limits import MAX_RECORDS

__all__ = ["Views"]


class Views:
    """The directory as it was read, and where it differs from what others saw.

    ``_cut`` is set once, by the first evidence that the directory's tail is gone, and is the root of
    everything that was issued by a larger view. ``_asked`` is the view of the manifest in hand: ``fault``
    is called while a reader judges it, and ``saw`` when the violation that came of it is reported.
    """

    def __init__(self, follower: DirectoryFollower, ledger: Ledger) -> None:
        self._follower = follower
        self._ledger = ledger
        self._cut: Place | None = None
        self._asked = 0

    @property
    def size(self) -> int:
        """The number of messages that the directory has now."""
        return self._follower.history.latest.size

    def fault(self, size: int) -> Place | None:
        """Return where the directory of this size that an issuer saw begins to differ from ours."""
        self._asked = size
        return self._follower.fault(size) or (self._cut if size > self.size else None)

    def saw(self, violation: Violation) -> None:
        """Learn from a violation: an issuer who has seen more of the directory proves that it was cut."""
        if violation.kind is Kind.VIEW_UNKNOWN and self._asked > self.size and self._cut is None:
            self._cut = violation.caused_by or violation.place

    def check(self, high_water: HighWater | None) -> None:
        """Report what is wrong with the directory itself, and whether it shows less than was seen before."""
        for violation in self._follower.violations:
            self._ledger.report(violation)
        if self._follower.unlisted:
            self._ledger.count(Kind.DIRECTORY_STATEMENT, self._follower.unlisted)
        if high_water is not None:
            try:
                check_high_water(self._follower.history, high_water)
            except NotEntitled as error:
                self._report_cut(high_water.size, error.message)

    async def check_end(
        self, log: Log, partition: int, end: int, keys: Callable[[int], EpochKey | None]
    ) -> None:
        """Report a directory that ends below what the key access service had applied at its newest entry.

        ``partition`` is the channel's number and ``end`` the end of its access log.
        """
        # One cut is one root: later evidence of it is not reported again.
        if self._cut is not None:
            return
        newest: OpenedManifest | None = None
        # A batch has at most MAX_RECORDS bodies: within twice as many messages one whole batch stands.
        place = Partition(ACCESS_TOPIC, partition)
        async for message in log.read(place, max(0, end - 2 * MAX_RECORDS)):
            newest = self._open(message, partition, keys) or newest
        if newest is not None and newest.manifest.header.directory_size > self.size:
            header = newest.manifest.header
            seen = f"'{header.issuer}' saw {header.directory_size} messages of it"
            self._report_cut(header.directory_size, f"the directory ends at {self.size}, and {seen}")

    def _report_cut(self, size: int, detail: str) -> None:
        cause = self._follower.fault(size)
        place = Place("directory", 0, min(size, self.size))
        self._cut = self._ledger.report(
            Violation(kind=Kind.DIRECTORY_ROLLBACK, place=place, detail=detail, caused_by=cause)
        )

    def _open(
        self, message: StoredMessage, partition: int, keys: Callable[[int], EpochKey | None]
    ) -> OpenedManifest | None:
        """Open a manifest of the access log that the key access service signed; None for anything else."""
        envelope = parse_envelope(message.key, message.value)
        epoch_key = None if envelope is None else keys(envelope.epoch)
        if envelope is None or epoch_key is None:
            return None
        latest = self._follower.history.latest
        try:
            opened = open_manifest(envelope, topic=ACCESS_TOPIC, partition=partition, keys=epoch_key.keys)
            if opened is None:
                return None
            # Anybody may write to the topic and claim a larger view, so only a manifest of the service is
            # evidence.
            verify_manifest(latest, latest, opened)
        except PeerError:
            return None
        return opened
