"""The state of one channel, as the key access service reads it from every record topic and the access log.

``apply_to(ends)`` reads on to given ends: the directory first, since it says whose signatures count; then
the access log, since it says which batches are listed already; then the record topics. A batch that no
access entry lists yet waits in ``pending``. What the entries' positions bind is compared with what was read
of each log (``access.bound_positions``). A ``ChannelState`` belongs to one task at a time: the task that
holds the ``turn`` of its channel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from broker.access.bound_positions import KEPT, BoundPositions
from broker.access.late_entries import LostBatch, lost_batches
from broker.access.record_states import ChannelRecords
from broker.avro.schema import default_store
from broker.crypto.log_tree import LogTree
from broker.directory import Channel, Directory
from broker.errors import KasUnavailable
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.participant.follower import DIRECTORY
from broker.participant.participant import Participant
from broker.services.kas.orders_ahead import OrdersInFile
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import PartitionReader, Stale, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.access import BatchRef
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import (
    CollectionTerms,
    ErasureTerms,
    LateTerms,
    LostRange,
    Positions,
    PositionTerms,
    Terms,
    TopicHead,
)

__all__ = ["MAX_PENDING", "ChannelState", "WentBack", "channel_partitions"]

MAX_PENDING = 256
"""The most batches that wait to be listed, which is the most that one COLLECTION entry lists."""

_MAX_VOID = 4096
"""Violations whose details are kept for their publishers."""

_MAX_LOGGED = 100
"""The most violations of a channel that get a log line; a flood of garbage must not flood our log."""
_log = get_logger("broker.access")


class WentBack(KasUnavailable):
    """A log ends before messages that were read from it: somebody cut it, or shows an old state of it."""


def channel_partitions(number: int) -> tuple[Partition, ...]:
    """Return the partitions that a decision about this channel depends on, the directory first."""
    records = (Partition(topic, number) for topic in default_store().topics)
    return (DIRECTORY, Partition(ACCESS_TOPIC, number), *records)


class ChannelState:
    """What the logs say of one channel, as far as they were read. ``on_entry`` is called for each entry."""

    def __init__(
        self,
        participant: Participant,
        channel: Channel,
        *,
        on_entry: Callable[[VerifiedBatch], None] | None = None,
    ) -> None:
        self.name = channel.name
        self.number = channel.number
        self.records = ChannelRecords(OrdersInFile())
        self.pending: dict[bytes, VerifiedBatch | Stale] = {}
        """Batches that no access entry lists yet, by id, in the order in which they were read. Whoever takes
        batches over removes those that it cannot list."""
        self._void: OrderedDict[tuple[str, int], str] = OrderedDict()
        """By topic and offset what is wrong there; the oldest are forgotten."""
        self.violations: Counter[str] = Counter()
        """How many violations of each kind were read."""
        self.bound = BoundPositions(self)
        """The positions in the access log, compared with what was read."""
        self._news_end = 0
        """The end of the access log's last batch that says more than positions."""
        self._marks: list[tuple[int, int]] = []
        """(offset, mark) wherever the access log's largest directory size grew, by offset."""
        self._participant = participant
        self._on_entry = on_entry
        self.access_key = participant.epoch_keys(channel, ACCESS_TOPIC)
        """A function from an epoch to our access key for it."""
        self.access = participant.reader(channel, ACCESS_TOPIC, keep_bodies=False, tree=LogTree())
        self.topics = {
            topic: participant.reader(channel, topic, keep_bodies=False, tree=LogTree())
            for topic in default_store().topics
        }

    # applying

    def check_ends(self, ends: Mapping[Partition, int], directory_size: int) -> None:
        """Raise WentBack when a log ends before messages that were read from it.

        ``directory_size`` is the size that was read before the ends were taken. The size of now must not be
        compared: another channel's task may have read the directory on since, which is no cut.
        """
        readers = (self.access, *self.topics.values())
        read = {Partition(reader.topic, self.number): reader.next_offset for reader in readers}
        read[DIRECTORY] = directory_size
        for partition, applied in read.items():
            if ends[partition] < applied:
                where = f"{partition.topic}/{partition.number}"
                raise WentBack(f"{where} ends at {ends[partition]}, and {applied} messages were read before")

    def size(self, topic: str) -> int:
        """Return how many offsets of a log were read."""
        return self._participant.follower.history.size if topic == DIRECTORY.topic else self._reader(topic)[0]

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Return the root of a log's tree at this size; None where it is not known."""
        if topic == DIRECTORY.topic:
            return self._participant.follower.history.root_at(size)
        tree = self._reader(topic)[1]
        return None if tree is None else tree.root_at(size)

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether the directory revokes this key."""
        return self._participant.directory.is_revoked(key_id)

    def _reader(self, topic: str) -> tuple[int, LogTree | None]:
        reader = self.access if topic == ACCESS_TOPIC else self.topics.get(topic)
        return (0, None) if reader is None else (reader.next_offset, reader.tree)

    def lacking(self, key_id: bytes, journalled: tuple[Positions, int, int] | None) -> tuple[LostRange, ...]:
        """Return what the logs lack of what was signed with this key, or ``journalled`` (``Journal.bound``).

        Access entries bind what the service had read, so a log that was changed while the service was down
        is noticed too. What a LATE entry in the log explains is not lacking any more.
        """
        if journalled is not None:
            positions, offset, issued_at = journalled
            self.bound.take(positions, offset=offset, issued_at=issued_at, key_id=KEPT)
        self.bound.settle()
        return tuple(
            fork.lost for fork in self.bound.forks(lambda one: one.key_id in (key_id, KEPT), at_end=True)
        )

    def contradicted(self, key_id: bytes) -> tuple[LostRange, ...]:
        """Return what the logs lack of what another replica signed, which is an alarm and no more."""
        return tuple(
            fork.lost for fork in self.bound.forks(lambda one: one.key_id not in (key_id, KEPT), at_end=True)
        )

    @property
    def has_news(self) -> bool:
        """Whether something was read that no position binds yet. Positions by themselves are no news."""
        if self._news_end > self._bound_size(ACCESS_TOPIC):
            return True
        return any(reader.settled_offset > self._bound_size(topic) for topic, reader in self.topics.items())

    def _bound_size(self, topic: str) -> int:
        newest = self.bound.newest(topic)
        return 0 if newest is None else newest.head.size

    async def apply_to(
        self, ends: Mapping[Partition, int], when_full: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Read on to these ends. A batch that is unfinished at an end is not waited for.

        ``when_full`` is awaited whenever MAX_PENDING batches wait to be listed. Raises KasUnavailable when
        the log gives fewer messages than its ends announce: an operator who holds messages back cannot
        have a decision made without them.
        """
        await self._participant.follower.refresh(ends[DIRECTORY])
        if self._participant.follower.history.size < ends[DIRECTORY]:
            raise KasUnavailable("the log withholds part of the directory")
        await self.apply_access(ends[Partition(ACCESS_TOPIC, self.number)])
        for topic, reader in self.topics.items():
            async for batch in self._read(reader, ends[Partition(topic, self.number)]):
                is_new = isinstance(batch, Stale) or self.records.add(batch) is not None
                if is_new and self.records.listed(batch.batch_id) is None:
                    self.pending[batch.batch_id] = batch
                    if when_full is not None and len(self.pending) >= MAX_PENDING:
                        await when_full()

    async def apply_access(self, end: int, *, awaited: bytes | None = None) -> int | None:
        """Read the access log on to this end; return the offset of the batch with the awaited id, or None."""
        found = None
        async for batch in self._read(self.access, end):
            if isinstance(batch, Stale):
                continue  # Another replica's entry came first, from a newer directory.
            if batch.batch_id == awaited:
                found = batch.offset
            if not self._marks or self.access.mark > self._marks[-1][1]:
                self._marks.append((batch.offset, self.access.mark))
            if self._on_entry is not None:
                self._on_entry(batch)
            self._bind(batch.opened, batch.offset)
            if any(not isinstance(terms, PositionTerms) for terms in batch.opened.entries.terms):
                self._news_end = batch.offset + 1 + batch.opened.manifest.count
            for terms in batch.opened.entries.terms:
                self._take_entry(terms, batch.opened, batch.offset)
        return found

    def _bind(self, opened: OpenedManifest, offset: int) -> None:
        positions = opened.manifest.positions
        if positions is not None:
            self.bound.take(
                positions,
                offset=offset,
                issued_at=opened.manifest.header.issued_at,
                key_id=opened.key_id,
            )

    def _take_entry(self, terms: Terms, opened: OpenedManifest, offset: int) -> None:
        match terms:
            case CollectionTerms():
                self.records.list(terms.batches, opened.manifest.header.issued_at)
                for collected in terms.batches:
                    self.pending.pop(collected.batch_id, None)
            case ErasureTerms():
                self.records.shred(terms)
            case LateTerms():
                self._take_late(terms, offset, opened.key_id)

    def _take_late(self, late: LateTerms, offset: int, key_id: bytes) -> None:
        """Apply the entries that were cut off and put back, as if they had never been cut."""
        self.bound.take_late(late.lacking, offset=offset, key_id=key_id)
        for lost in lost_batches(
            late.messages,
            history=self._participant.follower.history,
            partition=self.number,
            keys=self.access_key,
        ):
            if isinstance(lost, LostBatch):
                self._bind(lost.opened, offset - 1)
                for terms in lost.opened.entries.terms:
                    # A LATE entry that was lost itself is followed by the batches within it.
                    if isinstance(terms, LateTerms):
                        self.bound.take_late(terms.lacking, offset=offset, key_id=lost.opened.key_id)
                    else:
                        self._take_entry(terms, lost.opened, offset)

    def access_mark(self, offset: int) -> int:
        """Return the largest directory size in the access log before this offset.

        A reader that starts there judges by it, as if it had read the log from the beginning.
        """
        place = bisect_left(self._marks, (offset, 0))
        return self._marks[place - 1][1] if place else 0

    async def _read(self, reader: PartitionReader, end: int) -> AsyncIterator[VerifiedBatch | Stale]:
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

    def void_reason(self, batch: BatchRef) -> str | None:
        """Say why every reader passes over a batch that no entry lists; None where that is not certain.

        It is certain behind everything that was read whole, unless we lack the key of an epoch.
        """
        reader = self.topics.get(batch.topic)
        if reader is None:
            return "the topic holds no records"
        if reader.settled_offset <= batch.offset or reader.unjudged or batch.batch_id in self.pending:
            return None
        known = self.records.batch(batch.batch_id)
        if known is None:
            return self._void.get((batch.topic, batch.offset), "no valid batch of this name stands there")
        if (known.topic, known.offset) == (batch.topic, batch.offset):
            return None
        return f"it counts at {known.topic}@{known.offset}, where it stands first"

    def positions(self, directory: Directory) -> Positions:
        """Return how far everything was read, as an access entry binds it: never within a batch.

        Raises KasUnavailable where a log has so large a hole that its root cannot be told.
        """
        topics = sorted(self.topics.items())
        return Positions(
            directory_size=directory.size,
            directory_root=directory.root,
            access_size=self.access.settled_offset,
            access_root=self._root(self.access),
            topics=tuple(
                TopicHead(topic=topic, size=reader.settled_offset, root=self._root(reader))
                for topic, reader in topics
            ),
        )

    def _root(self, reader: PartitionReader) -> bytes:
        root = None if reader.tree is None else reader.tree.root_at(reader.settled_offset)
        if root is None:
            raise KasUnavailable(f"too much of {reader.topic}/{self.number} is missing to bind what was read")
        return root

    def _report(self, violation: Violation) -> None:
        self.violations[violation.kind] += violation.count
        self._void[violation.place.topic, violation.place.offset] = f"{violation.kind}: {violation.detail}"
        if len(self._void) > _MAX_VOID:
            self._void.popitem(last=False)
        if self.violations.total() <= _MAX_LOGGED:
            _log.warning(
                "violation read",
                kind=str(violation.kind),
                place=str(violation.place),
                detail=violation.detail,
                count=violation.count,
            )
