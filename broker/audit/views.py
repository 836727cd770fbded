"""Views of the directory: what issuers say they saw of it, against what the log shows now.

A statement that was altered is found by the follower. A directory whose tail was cut shows nothing
by itself: what its participants saw before does, the auditor's own high-water mark first, then the
newest entries of the key access service.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.audit.causes import Ledger
from broker.crypto.seal import ReceivingKey
from broker.directory import EpochKey, HighWater, check_high_water
from broker.errors import NotEntitled, PeerError
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.follower import DirectoryFollower
from broker.verify.entitlement import ACCESS_TOPIC, verify_manifest
from broker.verify.violations import Kind, Place, Violation
from broker.wire.batch import MAX_RECORDS, OpenedManifest, open_manifest, parse_envelope

__all__ = ["Views"]


class Views:
    """The directory as it was read, and where it differs from what others saw."""

    def __init__(self, follower: DirectoryFollower, ledger: Ledger) -> None:
        self._follower = follower
        self._ledger = ledger
        self._cut: Place | None = None
        self._asked = 0

    @property
    def size(self) -> int:
        """How much of the directory there is."""
        return self._follower.history.latest.size

    def fault(self, size: int) -> Place | None:
        """Where the directory that an issuer saw differs from ours: altered, or cut."""
        self._asked = size
        return self._follower.fault(size) or (self._cut if size > self.size else None)

    def saw(self, violation: Violation) -> None:
        """Learn from a violation: whoever is the first to have seen more is why others are wrong."""
        if violation.kind is Kind.VIEW_UNKNOWN and self._asked > self.size and self._cut is None:
            self._cut = violation.caused_by or violation.place

    def check(self, high_water: HighWater | None) -> None:
        """Report what is wrong with the directory, and one that shows less than was seen before."""
        for violation in self._follower.violations:
            self._ledger.report(violation)
        if high_water is not None:
            try:
                check_high_water(self._follower.history, high_water)
            except NotEntitled as error:
                self._report_cut(high_water.size, error.message)

    async def check_end(
        self, log: Log, partition: int, end: int, keys: Callable[[int], EpochKey | None]
    ) -> None:
        """Report a directory that ends below what the KAS had applied at its newest entry of a channel."""
        if self._cut is not None:
            return
        newest: OpenedManifest | None = None
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
        """A manifest of the access log that the KAS signed; None for anything else."""
        envelope = parse_envelope(message.key, message.value)
        epoch_key = None if envelope is None else keys(envelope.epoch)
        if envelope is None or epoch_key is None:
            return None
        key: ReceivingKey = epoch_key.key
        latest = self._follower.history.latest
        try:
            opened = open_manifest(
                envelope, genesis=latest.genesis, topic=ACCESS_TOPIC, partition=partition, key=key
            )
            verify_manifest(latest, opened)
        except PeerError:
            return None
        return opened
