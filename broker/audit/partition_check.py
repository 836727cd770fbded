"""One partition read to its end: each message is accounted for, and valid batches are counted.

A partition whose number is no channel's holds nothing, or what stands there is accounted for by nobody.

Theory of operation. A batch is one manifest and its bodies. Replay reads the messages of a partition in
*runs*: while a manifest waits for its bodies a run grows until it holds them all, and then the reader
checks them in one call. A run that turns out to be something else is fed message by message, so that
the result is always the one that a reader without runs would have found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.audit.index import Index
from broker.audit.report import MAX_REPEATED, Counts
from broker.directory import Directory
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.follower import DIRECTORY
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import DirectoryBehind, Event, PartitionReader, Stale, VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.limits import MAX_BATCH_BYTES

__all__ = ["PartitionCheck", "ends_beyond", "messages_of_no_channel"]


async def ends_beyond(log: Log, topics: Sequence[str], directory: Directory) -> Mapping[Partition, int]:
    """Return the ends of all partitions that have no channel in this directory.

    Read the directory again before you judge them: a channel may just have been opened.
    """
    owned = _owned(directory)
    beyond = []
    for topic in (*topics, ACCESS_TOPIC, DIRECTORY.topic):
        partitions = [Partition(topic, number) for number in range(await log.partitions(topic))]
        beyond += [partition for partition in partitions if not _is_owned(partition, owned)]
    return await log.ends(beyond)


async def messages_of_no_channel(
    log: Log, ends: Mapping[Partition, int], directory: Directory
) -> list[Violation]:
    """Return a violation for each partition that has messages and no channel.

    ``ends`` are those that ``ends_beyond`` has returned.
    """
    owned = _owned(directory)
    found = []
    for partition, end in sorted(ends.items()):
        if end == 0 or _is_owned(partition, owned):
            continue
        first = end - 1  # where the beginning was deleted nothing may be left to read
        async for message in log.read(partition, 0):
            first = min(first, message.offset)
            break
        place = Place(partition.topic, partition.number, first)
        detail = "it stands in a partition of no channel, and nothing accounts for it"
        found.append(Violation(kind=Kind.UNACCOUNTED, place=place, detail=detail, count=end - first))
    return found


def _owned(directory: Directory) -> frozenset[int]:
    return frozenset(channel.number for channel in directory.channels.values())


def _is_owned(partition: Partition, channels: frozenset[int]) -> bool:
    return partition == DIRECTORY or (partition.topic != DIRECTORY.topic and partition.number in channels)


@dataclass(slots=True)
class PartitionCheck:
    """The check of one partition: ``take`` each message in order, then ``conclude``.

    ``take_batch`` gets each batch that stands, ``note`` each violation. ``counts`` belongs to the whole
    replay; this check adds to its manifests, records and opaque messages, and to nothing else of it.
    """

    reader: PartitionReader
    index: Index
    counts: Counts
    take_batch: Callable[[VerifiedBatch], None]
    note: Callable[[Violation], Place]
    _run: list[StoredMessage] = field(default_factory=list)
    """Messages that were read and not yet fed to the reader."""
    _run_bytes: int = 0
    _wanted: int = 1
    """How many messages the run needs: all bodies that the reader waits for, or the next manifest."""

    def take(self, message: StoredMessage) -> bool:
        """Take the next message; returns True where the run was fed to the reader, which is a good pause."""
        self._run.append(message)
        self._run_bytes += len(message.value or b"")
        # A run that is larger than any batch cannot be a batch. It is fed now, so that memory stays bounded.
        if len(self._run) < self._wanted and self._run_bytes <= MAX_BATCH_BYTES:
            return False
        repeats_before = self.reader.repeats
        events = self.reader.feed_bodies(self._run)
        if events is None:
            self._feed_each()
        else:
            self._use(events)
            self._note_repeat(repeats_before)
        self._run.clear()
        self._run_bytes = 0
        self._wanted = self.reader.awaited or 1
        return True

    def conclude(self) -> None:
        """End the partition here: feed the messages that are left, and report an unfinished batch."""
        self._feed_each()
        self._run.clear()
        self._use(self.reader.flush(at_end=True))
        self.counts.opaque += self.reader.opaque

    def _feed_each(self) -> None:
        for message in self._run:
            unjudged_before = self.reader.unjudged
            repeats_before = self.reader.repeats
            try:
                events = self.reader.feed(message)
            except DirectoryBehind:
                # The directory was read to an end that was taken after everything here was in the log.
                # So a manifest that claims to have seen more of it lies.
                events = self.reader.feed(message, directory_read=True)
            self._use(events)
            if self.reader.unjudged != unjudged_before:
                self.index.skip(self.reader.topic, message.offset)
            self._note_repeat(repeats_before)

    def _note_repeat(self, before: int) -> None:
        """Count a batch that was repeated, if the last messages completed one."""
        if self.reader.repeats == before:
            return
        self.counts.repeats += 1
        if len(self.counts.repeated) < MAX_REPEATED:
            place = Place(self.reader.topic, self.reader.partition, self.reader.repeated_at)
            self.counts.repeated.append(place)

    def _use(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Violation):
                self.note(event)
            elif isinstance(event, Stale):
                self.counts.stale += 1
                self.index.stale.add(event)
                self.index.stale.succeed(event.opened)
            else:
                self.take_batch(event)
                self.counts.manifests += 1
                if event.topic != ACCESS_TOPIC:
                    self.counts.records += event.opened.manifest.count
