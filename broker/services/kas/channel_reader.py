"""A channel as the key access service follows it: every record topic, and its access log.

``apply_to(ends)`` reads on to given ends, the directory first, then what the access log lists, then
the records; batches that are not yet listed wait in ``pending``. A ``ChannelState`` is in the hands
of one task at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from broker.access.late_entries import lost_manifests
from broker.access.record_states import ChannelRecords
from broker.avro.schema import default_store
from broker.directory import Channel, Directory
from broker.errors import KasUnavailable
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.participant.follower import DIRECTORY
from broker.participant.participant import Participant
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import PartitionReader, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import (
    AccessTerms,
    CollectionTerms,
    ErasureTerms,
    LateTerms,
    Positions,
    Terms,
    TopicEnd,
)

__all__ = ["MAX_PENDING", "ChannelState", "WentBack", "channel_partitions"]

MAX_PENDING = 256
"""Batches that wait to be listed; a COLLECTION entry lists so many."""

_MAX_LOGGED = 100
_log = get_logger("broker.access")


class WentBack(KasUnavailable):
    """A log ends before what was read of it: somebody cut it, or shows an old state."""


def channel_partitions(number: int) -> tuple[Partition, ...]:
    """The partitions that a decision on this channel depends on, the directory first."""
    records = (Partition(topic, number) for topic in default_store().topics)
    return (DIRECTORY, Partition(ACCESS_TOPIC, number), *records)


class ChannelState:
    """What the logs say of one channel, as far as they were applied."""

    def __init__(
        self,
        participant: Participant,
        channel: Channel,
        *,
        on_entry: Callable[[VerifiedBatch], None] | None = None,
    ) -> None:
        self.name = channel.name
        self.number = channel.number
        self.records = ChannelRecords()
        self.pending: dict[bytes, VerifiedBatch] = {}
        """Batches that no access entry lists yet, in the order in which they were read."""
        self.violations: Counter[str] = Counter()
        self._seen: dict[str, tuple[int, int]] = {}
        self._marks: list[tuple[int, int]] = []
        self._participant = participant
        self._on_entry = on_entry
        self.access_key = participant.epoch_keys(channel, ACCESS_TOPIC)
        """Gives our access key of an epoch."""
        self.access = participant.reader(channel, ACCESS_TOPIC, keep_bodies=False)
        self.topics = {
            topic: participant.reader(channel, topic, keep_bodies=False) for topic in default_store().topics
        }

    # applying

    def check_ends(self, ends: Mapping[Partition, int], directory_size: int) -> None:
        """Raise WentBack where a log ends before what was read of it.

        ``directory_size`` is what was read before the ends were taken: other channels read on meanwhile.
        """
        readers = (self.access, *self.topics.values())
        read = {Partition(reader.topic, self.number): reader.next_offset for reader in readers}
        read[DIRECTORY] = directory_size
        for partition, applied in read.items():
            if ends[partition] < applied:
                where = f"{partition.topic}/{partition.number}"
                raise WentBack(f"{where} ends at {ends[partition]}, and {applied} messages were read before")

    def lacks(self, ends: Mapping[Partition, int]) -> str | None:
        """Which log ends below what an entry of the access log saw of it: kept over every restart."""
        for topic, (seen, at) in sorted(self._seen.items()):
            partition = Partition(topic, self.number)
            if ends.get(partition, seen) < seen:
                return f"{topic}/{self.number} was cut: access@{at} saw {seen} messages of it"
        return None

    async def apply_to(
        self, ends: Mapping[Partition, int], when_full: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Read on to these ends; an unfinished batch at an end is not waited for.

        ``when_full`` is awaited whenever MAX_PENDING batches wait to be listed. KasUnavailable where
        the log gives less than it says it has.
        """
        await self._participant.follower.refresh(ends[DIRECTORY])
        if self._participant.follower.history.size < ends[DIRECTORY]:
            raise KasUnavailable("the log withholds part of the directory")
        await self.apply_access(ends[Partition(ACCESS_TOPIC, self.number)])
        for topic, reader in self.topics.items():
            async for batch in self._read(reader, ends[Partition(topic, self.number)]):
                if self.records.add(batch) and self.records.listed(batch.batch_id) is None:
                    self.pending[batch.batch_id] = batch
                    if when_full is not None and len(self.pending) >= MAX_PENDING:
                        await when_full()

    async def apply_access(self, end: int, *, awaited: bytes | None = None) -> int | None:
        """Read the access log on to this end; where the entry with the awaited batch id stood."""
        found = None
        async for batch in self._read(self.access, end):
            if batch.batch_id == awaited:
                found = batch.offset
            if not self._marks or self.access.mark > self._marks[-1][1]:
                self._marks.append((batch.offset, self.access.mark))
            if self._on_entry is not None:
                self._on_entry(batch)
            for terms in batch.opened.entries.terms:
                self._take_entry(terms, batch.offset)
        return found

    def _take_entry(self, terms: Terms, offset: int) -> None:
        match terms:
            case AccessTerms():
                for seen in terms.positions.ends:
                    if seen.end > self._seen.get(seen.topic, (0, 0))[0]:
                        self._seen[seen.topic] = (seen.end, offset)
            case CollectionTerms():
                self.records.list(terms.batches)
                for one in terms.batches:
                    self.pending.pop(one.batch_id, None)
            case ErasureTerms():
                self.records.shred(terms)
            case LateTerms():
                self._take_late(terms, offset)

    def _take_late(self, late: LateTerms, offset: int) -> None:
        """Take what was cut off and put back as if it stood; a LATE entry within counts for nothing."""
        for lost in lost_manifests(
            late.messages,
            history=self._participant.follower.history,
            partition=self.number,
            keys=self.access_key,
        ):
            if isinstance(lost, OpenedManifest):
                for terms in lost.entries.terms:
                    if not isinstance(terms, LateTerms):
                        self._take_entry(terms, offset)

    def access_mark(self, offset: int) -> int:
        """The largest directory size in the access log before this offset: it judges what follows."""
        place = bisect_left(self._marks, (offset, 0))
        return self._marks[place - 1][1] if place else 0

    async def _read(self, reader: PartitionReader, end: int) -> AsyncIterator[VerifiedBatch]:
        if reader.next_offset >= end:
            return
        async for event in self._participant.read(reader, end=end):
            if isinstance(event, Violation):
                self._report(event)
            else:
                yield event
        for event in reader.flush():
            if isinstance(event, Violation):
                self._report(event)
        if reader.next_offset < end:
            raise KasUnavailable(f"the log withholds messages of {reader.topic}/{self.number}")

    def positions(self, directory: Directory) -> Positions:
        """How far everything was applied, as an access entry records it: never within a batch."""
        topics = sorted(self.topics.items())
        return Positions(
            directory_size=directory.size,
            directory_head=directory.head,
            ends=tuple(TopicEnd(topic=topic, end=reader.settled_offset) for topic, reader in topics),
            access_end=self.access.settled_offset,
        )

    def _report(self, violation: Violation) -> None:
        self.violations[violation.kind] += violation.count
        if self.violations.total() <= _MAX_LOGGED:
            _log.warning(
                "violation read",
                kind=str(violation.kind),
                place=str(violation.place),
                detail=violation.detail,
                count=violation.count,
            )
