"""Replay: prove that nothing in the logs was altered, dropped, inserted or reordered.

With an auditor's keys, which open metadata and never content. Theory of operation:

    the ends of all partitions are taken in one round trip, then the directory is read to its end,
    so that whatever a statement before those ends says of the directory has been read;
    then channel by channel
        each record partition      signatures, entitlement, streams, digests, every body accounted for
        the access partition       the same; its entries into the channel's index
        collections and batches    compared both ways, see ``takeovers``
        access entries             decided again, see ``decisions``

Memory stays flat: what must be remembered of a channel lies in a temporary file (``index``). A
violation is reported with its root, roots before what they cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from broker.audit.access_check import Decisions
from broker.audit.access_log import AccessLog
from broker.audit.causes import Known, Ledger
from broker.audit.index import Index
from broker.audit.receipt_check import KeptReceipts
from broker.audit.report import Progress, ReplayReport
from broker.audit.takeovers import Takeovers
from broker.audit.views import Views
from broker.directory import Channel, HighWater
from broker.errors import UsageError
from broker.log.protocol import Partition, StoredMessage
from broker.participant.participant import Participant
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import DirectoryBehind, Event, PartitionReader, VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.batch import MAX_BATCH_BYTES

__all__ = ["Progress", "ReplayReport", "replay"]

_REPORT_EVERY = 2048


async def replay(
    participant: Participant,
    *,
    channels: Sequence[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    known: Iterable[Known] = (),
    high_water: HighWater | None = None,
    receipts: KeptReceipts | None = None,
) -> ReplayReport:
    """Verify both logs of these channels, or of all whose keys we hold.

    The follower is started without a high-water mark: a directory that shows less than
    ``high_water`` is reported here, not refused. ``receipts`` are compared with the entries that they
    name. UsageError for a channel that there is not, or
    where there is nothing that these keys open.
    """
    chosen = _choose(participant, channels)
    topics = sorted(participant.store.topics)
    partitions = [Partition(topic, one.number) for one in chosen for topic in (*topics, ACCESS_TOPIC)]
    ends = await participant.log.ends(partitions)
    await participant.follower.refresh()
    one = _Replay(participant, topics, ends, Ledger(known), progress, receipts)
    await one.check_directory(chosen, high_water)
    for channel in chosen:
        await one.check_channel(channel)
    return one.report(tuple(channel.name for channel in chosen))


def _choose(participant: Participant, channels: Sequence[str] | None) -> list[Channel]:
    """The channels to verify. With a directory that was altered there may be none: that is reported."""
    directory, name, follower = participant.directory, participant.name, participant.follower
    if channels is None:
        found = [one for _, one in sorted(directory.channels.items()) if _is_ours(one, name)]
        if not found and directory.channels and not follower.violations:
            raise UsageError(
                f"'{name}' holds the keys of no channel", hint="replay with the profile of an auditor"
            )
        return found
    chosen = []
    for wanted in dict.fromkeys(channels):
        channel = directory.channel(wanted)
        if channel is not None and _is_ours(channel, name):
            chosen.append(channel)
        elif not follower.violations:
            names = ", ".join(
                one for one in sorted(directory.channels) if _is_ours(directory.channels[one], name)
            )
            raise UsageError(
                f"'{name}' holds no key of a channel '{wanted[:80]}'",
                hint=f"channels: {names[:500] or 'none'}",
            )
    return chosen


def _is_ours(channel: Channel, name: str) -> bool:
    return any(epoch.is_recipient(name) for epoch in channel.epochs.values())


def _report_twice(twice: Sequence[tuple[Place, Place]], note: Callable[[Violation], Place]) -> None:
    """What was repeated so late that the reader had forgotten its stream."""
    for place, first in twice:
        note(Violation(kind=Kind.STREAM_REPLAYED, place=place, detail=f"the batch at {first} again"))


class _Replay:
    """One run: what it reads with, and what it has found so far."""

    def __init__(
        self,
        participant: Participant,
        topics: Sequence[str],
        ends: Mapping[Partition, int],
        ledger: Ledger,
        progress: Callable[[Progress], None] | None,
        receipts: KeptReceipts | None,
    ) -> None:
        self._participant = participant
        self._topics = topics
        self._ends = ends
        self._ledger = ledger
        self._progress = progress
        self._receipts = receipts
        self._total = sum(ends.values())
        self._views = Views(participant.follower, ledger)
        self._access_unread: list[str] = []
        self._told = 0
        self._read = self._records = self._manifests = self._opaque = 0
        self._accesses = self._collections = self._denials = self._erasures = self._uncollected = 0

    def report(self, channels: tuple[str, ...]) -> ReplayReport:
        """What was found."""
        ledger = self._ledger
        return ReplayReport(
            verified=ledger.open == 0,
            channels=channels,
            access_unread=tuple(self._access_unread),
            records=self._records,
            manifests=self._manifests,
            access_entries=self._accesses,
            collections=self._collections,
            denials=self._denials,
            erasures=self._erasures,
            uncollected=self._uncollected,
            opaque=self._opaque,
            receipts=0 if self._receipts is None else self._receipts.compared,
            receipts_not_compared=0 if self._receipts is None else self._receipts.not_compared,
            messages=self._read,
            directory_size=self._participant.directory.size,
            violations=tuple(ledger.listed),
            violation_count=ledger.total,
            by_kind=dict(ledger.by_kind),
        )

    async def check_directory(self, channels: Sequence[Channel], high_water: HighWater | None) -> None:
        """Verify the directory, and that it is all that was seen of it."""
        self._views.check(high_water)
        for one in channels:
            end = self._ends[Partition(ACCESS_TOPIC, one.number)]
            keys = self._participant.epoch_keys(one, ACCESS_TOPIC)
            await self._views.check_end(self._participant.log, one.number, end, keys)

    def _note(self, index: Index, violation: Violation) -> Place:
        index.note(violation)
        self._views.saw(violation)
        return self._ledger.report(violation)

    # a channel

    async def check_channel(self, channel: Channel) -> None:
        """Verify both logs of one channel and compare them."""
        number = channel.number
        with Index(number) as index:
            note = partial(self._note, index)
            entries = AccessLog(
                partition=number,
                topics=frozenset(self._topics),
                history=self._participant.follower.history,
                keys=self._participant.epoch_keys(channel, ACCESS_TOPIC),
                index=index,
                report=note,
            )

            def add(batch: VerifiedBatch) -> None:
                _report_twice(index.add(batch), note)

            for topic in self._topics:
                reader = self._reader(channel, topic)
                await self._check_partition(reader, index, add, note)
            _report_twice(index.flush(), note)
            reader = self._reader(channel, ACCESS_TOPIC)
            if self._receipts is not None:
                entries.seen = partial(self._receipts.see, index=index, report=note)
            await self._check_partition(reader, index, entries.take, note)
            if self._receipts is not None:
                self._receipts.conclude(self._ends[Partition(ACCESS_TOPIC, number)], index, note)
            if reader.opaque and all(entries.keys(epoch) is None for epoch in channel.epochs):
                self._access_unread.append(channel.name)
            else:
                self._compare(index, entries, number, note)

    def _compare(
        self, index: Index, entries: AccessLog, number: int, note: Callable[[Violation], Place]
    ) -> None:
        ends = {topic: self._ends[Partition(topic, number)] for topic in self._topics}
        history = self._participant.follower.history
        takeovers = Takeovers(
            index=index, history=history, partition=number, report=note, recorded=entries.recorded
        )
        for topic, end in ends.items():
            takeovers.check(topic, end)
        decisions = Decisions(
            index=index,
            history=history,
            partition=number,
            ends=ends,
            report=note,
            directory_fault=self._views.fault,
        )
        decisions.check()
        self._accesses += index.requests()
        self._collections += entries.collections
        self._denials += entries.denials
        self._erasures += entries.erasures
        self._uncollected += takeovers.uncollected

    def _reader(self, channel: Channel, topic: str) -> PartitionReader:
        # The views know more than the follower: a directory whose end was cut is a fault too.
        return self._participant.reader(channel, topic, keep_bodies=False, directory_fault=self._views.fault)

    async def _check_partition(
        self,
        reader: PartitionReader,
        index: Index,
        take: Callable[[VerifiedBatch], None],
        note: Callable[[Violation], Place],
    ) -> None:
        partition = Partition(reader.topic, reader.partition)
        end, start, wanted, held = self._ends[partition], self._read, 1, 0
        run: list[StoredMessage] = []

        def use(events: Iterable[Event]) -> None:
            for event in events:
                if isinstance(event, Violation):
                    note(event)
                else:
                    take(event)
                    self._count(event)

        def feed(message: StoredMessage) -> None:
            opaque = reader.opaque
            try:
                use(reader.feed(message))
            except DirectoryBehind:  # it was read to an end behind everything here: a lie
                use(reader.feed(message, directory_read=True))
            if reader.opaque != opaque:
                index.skip(reader.topic, message.offset)

        async for message in self._participant.log.read(partition, 0):
            if message.offset >= end:
                break
            run.append(message)
            held += len(message.value or b"")
            if len(run) < wanted and held <= MAX_BATCH_BYTES:  # more is no batch, and is not kept
                continue
            events = reader.feed_bodies(run)
            if events is not None:
                use(events)
            else:
                for one in run:
                    feed(one)
            run.clear()
            held = 0
            wanted = reader.awaited or 1
            self._tell(start + message.offset, partition)
        for one in run:
            feed(one)
        use(reader.flush(at_end=True))
        self._opaque += reader.opaque
        self._read = start + end
        self._tell(self._read, partition, at_once=True)

    def _count(self, batch: VerifiedBatch) -> None:
        self._manifests += 1
        if batch.topic != ACCESS_TOPIC:
            self._records += batch.opened.manifest.count

    def _tell(self, done: int, partition: Partition, *, at_once: bool = False) -> None:
        if self._progress is not None and (at_once or done - self._told >= _REPORT_EVERY):
            self._told = done
            self._progress(Progress(done=done, total=self._total, now=partition))
