"""Replay: an auditor proves that nothing in the logs was altered, dropped, inserted or reordered.

The auditor's keys open metadata and never content. Theory of operation:

    (1) the ends of all partitions are taken in one round trip
        those of partitions that are no channel's are among them, and must hold nothing
    (2) the directory is read to its end, so that everything has been read that a statement before
        those ends can say of the directory; the order of (1) and (2) matters for that reason
    (3) then channel by channel
        each record partition      signatures, entitlement, streams, digests, every body accounted for
        the access partition       the same; what its entries say goes into the channel's index
        positions                  compared with the roots of the logs, see ``channel_trees``
        collections and batches    compared both ways, see ``takeovers``
        access entries             decided again, see ``access_check``
        stale batches              excused for a while, see ``stale``

Memory stays flat: what must be remembered of a channel lies in a temporary file (``index``). A
violation is reported with the root that it follows from, and the root comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from broker.access.bound_positions import BoundPositions
from broker.audit.access_check import AccessCheck
from broker.audit.access_log import AccessLog
from broker.audit.causes import Known, Ledger
from broker.audit.channel_trees import BoundAt, ChannelTrees, report_forks
from broker.audit.index import Index
from broker.audit.partition_check import PartitionCheck, ends_beyond, messages_of_no_channel
from broker.audit.receipt_check import KeptReceipts
from broker.audit.report import Counts, Progress, ReplayReport
from broker.audit.stale import MAX_LISTED_STALE, StaleBatch, check_stale
from broker.audit.takeovers import Takeovers
from broker.audit.views import Views
from broker.directory import Channel, HighWater
from broker.errors import UsageError
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import PartitionReader, VerifiedBatch
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Progress", "ReplayReport", "replay"]

_REPORT_EVERY = 2048
"""Messages between two calls of the progress function."""


async def replay(
    participant: Participant,
    *,
    channels: Sequence[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    known: Iterable[Known] = (),
    high_water: HighWater | None = None,
    receipts: KeptReceipts | None = None,
) -> ReplayReport:
    """Verify both logs of these channels, or of all channels whose keys the participant holds.

    The participant's follower is started without a high-water mark: a directory that shows less than
    ``high_water`` is reported here, and not refused. ``known`` violations are shown and do not count.
    ``receipts`` are compared with the entries that they name.

    Raises UsageError for a channel that does not exist, or where these keys open nothing.
    """
    chosen = _choose(participant, channels)
    topics = sorted(participant.store.topics)
    partitions = [Partition(topic, channel.number) for channel in chosen for topic in (*topics, ACCESS_TOPIC)]
    ends = await participant.log.ends(partitions)  # (1)
    beyond = await ends_beyond(participant.log, topics, participant.directory)
    await participant.follower.refresh()  # (2)
    run = _Replay(participant, topics, ends, Ledger(known), progress, receipts)
    await run.check_directory(chosen, high_water)
    await run.check_beyond(beyond)
    for channel in chosen:  # (3)
        await run.check_channel(channel)
    return run.report(tuple(channel.name for channel in chosen))


def _choose(participant: Participant, wanted: Sequence[str] | None) -> list[Channel]:
    """Return the channels to verify.

    A directory that was altered may not show them. That is a violation to report, and no wrong usage. So a
    channel that is missing is passed over where the follower has violations.
    """
    directory = participant.directory
    name = participant.name
    is_damaged = bool(participant.follower.violations)
    ours = {channel.name: channel for channel in directory.channels.values() if _is_ours(channel, name)}
    if wanted is None:
        if not ours and directory.channels and not is_damaged:
            raise UsageError(
                f"'{name}' holds the keys of no channel", hint="replay with the profile of an auditor"
            )
        return [channel for _, channel in sorted(ours.items())]
    missing = [channel_name for channel_name in wanted if channel_name not in ours]
    if missing and not is_damaged:
        raise UsageError(
            f"'{name}' holds no key of a channel '{missing[0][:80]}'",
            hint=f"channels: {', '.join(sorted(ours))[:500] or 'none'}",
        )
    return [ours[channel_name] for channel_name in dict.fromkeys(wanted) if channel_name in ours]


def _is_ours(channel: Channel, name: str) -> bool:
    # Old epochs count as well: a former auditor can still prove the part of the log that it has keys for.
    return any(epoch.is_recipient(name) for epoch in channel.epochs.values())


class _Replay:
    """One run of a replay: what it reads with, and what it has found so far.

    ``_counts`` and ``_ledger`` grow while channels are checked, one channel after the other; nothing
    else writes to them. ``_done`` is the number of messages of all partitions that are finished.
    """

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
        self._views = Views(participant.follower, ledger)
        self._counts = Counts()
        self._access_unread: list[str] = []
        self._stale: list[tuple[int, StaleBatch]] = []
        self._bound: list[BoundAt] = []
        self._total = sum(ends.values())
        self._done = 0
        self._told = 0

    def report(self, channels: tuple[str, ...]) -> ReplayReport:
        """Return the report of everything that was found."""
        ledger = self._ledger
        receipts = self._receipts
        return ReplayReport(
            verified=ledger.open == 0,
            channels=channels,
            access_unread=tuple(self._access_unread),
            counts=self._counts,
            bound=tuple(self._bound),
            receipts=0 if receipts is None else receipts.compared,
            receipts_not_compared=0 if receipts is None else receipts.not_compared,
            messages=self._done,
            replayed_at=self._participant.clock(),
            directory_size=self._participant.directory.size,
            violations=tuple(ledger.listed),
            violation_count=ledger.total,
            by_kind=dict(ledger.by_kind),
            stale=tuple(self._stale),
        )

    async def check_directory(self, channels: Sequence[Channel], high_water: HighWater | None) -> None:
        """Verify the directory, and that it is all that was ever seen of it."""
        self._views.check(high_water)
        for channel in channels:
            end = self._ends[Partition(ACCESS_TOPIC, channel.number)]
            keys = self._participant.epoch_keys(channel, ACCESS_TOPIC)
            await self._views.check_end(self._participant.log, channel.number, end, keys)
            self._check_halves(channel)

    def _check_halves(self, channel: Channel) -> None:
        """Report what was sealed to us of the channel's epochs and is junk, against who sealed it."""
        directory = self._participant.directory
        for half in self._participant.keyring.junk_of(directory, channel):
            place = Place("directory", 0, directory.applied[half.statement])
            which = f"the {half.use} half of epoch {half.epoch} of '{channel.name}'"
            detail = f"'{half.sealer}': {which}: {half.detail}"
            self._ledger.report(Violation(kind=Kind.JUNK_HALF, place=place, detail=detail))

    async def check_beyond(self, ends: Mapping[Partition, int]) -> None:
        """Report what stands in partitions whose numbers are no channel's."""
        # A directory that was altered may lack the statement that opens their channel.
        cause = self._views.fault(self._participant.follower.history.size + 1)
        for violation in await messages_of_no_channel(
            self._participant.log, ends, self._participant.directory
        ):
            self._ledger.report(replace(violation, caused_by=cause))

    # a channel

    async def check_channel(self, channel: Channel) -> None:
        """Verify both logs of one channel, and compare them."""
        history = self._participant.follower.history
        with Index(channel.number) as index, ChannelTrees(history, self._topics) as trees:
            note = partial(self._note, index)
            # Records come first: entries of the access log are compared with them, and name their violations
            # as roots.
            await self._check_records(channel, index, trees, note)
            entries = AccessLog(
                partition=channel.number,
                topics=frozenset(self._topics),
                history=self._participant.follower.history,
                keys=self._participant.epoch_keys(channel, ACCESS_TOPIC),
                index=index,
                report=note,
                bound=BoundPositions(trees),
            )
            is_readable = await self._check_access_log(channel, entries, index, trees, note)
            forks = partial(
                report_forks,
                entries.bound,
                trees,
                index=index,
                report=note,
                directory_fault=self._views.fault,
            )
            # A log that ends too early is the root of much that follows. One that differs follows from what
            # the checks of its batches find.
            forks(is_cut=True)
            if is_readable:
                self._check_takeovers(index, entries, note)
            # Receipts bind the logs too, where the access log itself is sealed to others.
            forks(is_cut=False)
            if is_readable:
                self._check_accesses(index, entries, note)
                self._bound += trees.newest(entries.bound, channel.number, entries.news_end)
            else:
                self._access_unread.append(channel.name)
            for stale in check_stale(index.stale, entries.covering, channel.number, note):
                self._counts.unreplaced += 1
                if len(self._stale) < MAX_LISTED_STALE:
                    self._stale.append((channel.number, stale))

    async def _check_records(
        self, channel: Channel, index: Index, trees: ChannelTrees, note: Callable[[Violation], Place]
    ) -> None:
        def take(batch: VerifiedBatch) -> None:
            _report_twice(index.add(batch), note)

        for topic in self._topics:
            await self._read(self._reader(channel, topic, trees), index, take, note)
        _report_twice(index.flush(), note)

    async def _check_access_log(
        self,
        channel: Channel,
        entries: AccessLog,
        index: Index,
        trees: ChannelTrees,
        note: Callable[[Violation], Place],
    ) -> bool:
        """Read the access log into the index; returns False where none of its keys is ours."""
        reader = self._reader(channel, ACCESS_TOPIC, trees)
        if self._receipts is not None:
            entries.seen = partial(self._receipts.see, index=index)
        await self._read(reader, index, entries.take, note)
        if self._receipts is not None:
            self._receipts.conclude(index, trees, entries.bound, note)
        holds_a_key = any(entries.keys(epoch) is not None for epoch in channel.epochs)
        return holds_a_key or not reader.opaque

    def _check_takeovers(self, index: Index, entries: AccessLog, note: Callable[[Violation], Place]) -> None:
        """Compare collections with batches, both ways."""
        takeovers = Takeovers(
            index=index,
            history=self._participant.follower.history,
            partition=index.partition,
            bound=entries.bound,
            report=note,
        )
        for topic, end in self._record_ends(index).items():
            takeovers.check(topic, end)
        self._counts.uncollected += takeovers.uncollected
        self._counts.not_judged += takeovers.not_judged

    def _check_accesses(self, index: Index, entries: AccessLog, note: Callable[[Violation], Place]) -> None:
        """Decide each access again. A false decision may follow from a lost batch, so losses come before."""
        check = AccessCheck(
            index=index,
            history=self._participant.follower.history,
            partition=index.partition,
            ends=self._record_ends(index),
            report=note,
            directory_fault=self._views.fault,
        )
        check.check()
        self._counts.access_entries += index.requests()
        self._counts.repeated_requests += index.repeated_requests()
        self._counts.collections += entries.collections
        self._counts.denials += entries.denials
        self._counts.erasures += entries.erasures
        self._counts.not_judged += check.not_judged + entries.not_judged

    def _record_ends(self, index: Index) -> dict[str, int]:
        return {topic: self._ends[Partition(topic, index.partition)] for topic in self._topics}

    def _note(self, index: Index, violation: Violation) -> Place:
        index.note(violation)
        self._views.saw(violation)
        return self._ledger.report(violation)

    # a partition

    def _reader(self, channel: Channel, topic: str, trees: ChannelTrees) -> PartitionReader:
        # The views know more than the follower does: a directory whose end was cut is a fault too.
        return self._participant.reader(
            channel, topic, keep_bodies=False, tree=trees.tree(topic), directory_fault=self._views.fault
        )

    async def _read(
        self,
        reader: PartitionReader,
        index: Index,
        take_batch: Callable[[VerifiedBatch], None],
        note: Callable[[Violation], Place],
    ) -> None:
        """Read one partition up to the end that was taken at the beginning."""
        partition = Partition(reader.topic, reader.partition)
        end = self._ends[partition]
        check = PartitionCheck(reader, index, self._counts, take_batch, note)
        async for message in self._participant.log.read(partition, 0):
            # Messages behind the end came while we read. The directory that they need may not have been read.
            if message.offset >= end:
                break
            if check.take(message):
                self._tell(self._done + message.offset, partition)
        check.conclude()
        self._done += end
        self._tell(self._done, partition, at_once=True)

    def _tell(self, done: int, partition: Partition, *, at_once: bool = False) -> None:
        if self._progress is not None and (at_once or done - self._told >= _REPORT_EVERY):
            self._told = done
            self._progress(Progress(done=done, total=self._total, now=partition))


def _report_twice(twice: Sequence[tuple[Place, Place]], note: Callable[[Violation], Place]) -> None:
    """Report batches that were repeated so late that the reader had forgotten their stream."""
    for place, first in twice:
        note(Violation(kind=Kind.STREAM_REPLAYED, place=place, detail=f"the batch at {first} again"))
