"""Subscribing: a channel is read, each record verified, its reading logged, and then unlocked.

Theory of operation. Readers verify what stands in the log (``reader_set``) and put it into windows of up to
16 batches. For each window the key access service is asked once for each issuer (``asking``), so that no
issuer learns what was read of others, and the receipts are kept. Then each record is opened (``delivery``)
and handed to the consumer, one by one (``window_delivery``):

    verified ──▶ asked for ──▶ receipt kept ──▶ opened ──▶ handed over ──▶ done ──▶ stored

A record is *done* when the consumer asks for the next one, or commits (``progress``). What is done is
stored: after a window, the positions of the readers behind it; within a window, the place of the next
record. After a crash the window is read and verified again, the records that are done are passed over, and
the others are asked for again. That is a new access, which has an entry of its own in the log.

    autocommit=True    stored every 1024 records, every second, and at close; after a crash, the records
                       that were done since the last time are delivered again
    autocommit=False   stored by ``commit(sink=…)`` alone, with the consumer's own position in the same
                       file; a consumer that cuts its output back to ``sink`` when it starts has every
                       record exactly once

Every fault of the log is reported as a Violation with its place, and reading goes on. After a restart
a violation may be reported again. Where the log is another one than the one that was read (``log_watch``),
reading begins anew.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.access.client import KeyAccess
from broker.crypto.log_tree import Frontier
from broker.directory import Channel
from broker.errors import OtherLogRead, UsageError
from broker.log.outage import Outage, outlasting
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.participant.tasks import Tasks
from broker.subscribe.asking import Asker, Ground
from broker.subscribe.delivery import Delivered, Delivery, NotDelivered, Opener
from broker.subscribe.log_watch import SignedHeads, common_size, is_as_it_was, is_repaired
from broker.subscribe.progress import Progress
from broker.subscribe.reader_set import ReaderSet
from broker.subscribe.state import Json
from broker.subscribe.window_delivery import WindowDelivery
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Delivered", "Delivery", "Ground", "NotDelivered", "Subscriber", "Violation"]


class Subscriber:
    """Reads one channel for one participant: ``async with Subscriber(...) as subscriber``.

    ``record_types`` are the types to be delivered, by default all that the channel allows and our release
    knows. Without ``state_path`` it reads from the beginning each time, and keeps no receipts.
    """

    def __init__(
        self,
        participant: Participant,
        kas: KeyAccess,
        *,
        ground: Ground,
        record_types: Sequence[str] | None = None,
        state_path: str | os.PathLike[str] | None = None,
        autocommit: bool = True,
        kas_timeout_s: float = 60.0,
    ) -> None:
        self._participant = participant
        self._record_types = record_types
        self._state_path = None if state_path is None else Path(state_path)
        self._autocommit = autocommit
        self._asker = Asker(participant, kas, ground, kas_timeout_s)
        self._opener = Opener(participant.keyring, participant.store)
        self._tasks = Tasks()
        self._open_progress: Progress | None = None
        """The progress while the block is open; None before it."""
        self._is_delivering = False
        self._readers: list[ReaderSet] = []
        """The reader sets whose tasks run. A generator that is left without being closed keeps its set
        here, so that leaving the block can stop it."""

    async def __aenter__(self) -> Self:
        # The result is not used here. The call raises for an unknown channel or type before a file is locked.
        self._wanted_types()
        channel = self._asker.ground.channel
        self._open_progress = Progress.open(
            self._state_path, self._participant.follower, channel, autocommit=self._autocommit
        )
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # The loop needs a copy: a generator that ends while we wait takes its set out of the list.
            for readers in list(self._readers):
                await readers.aclose()
            if kind is not None and not issubclass(kind, Exception):
                await self._tasks.__aexit__(kind, error, trace)
            else:
                # The caller's own error is not passed on: it is raised in any case, and the group would wrap
                # it.
                await self._tasks.__aexit__(None, None, None)
        finally:
            # This is the last step, even after an error: it stores the position and releases the state file.
            self._progress.close()

    @property
    def _progress(self) -> Progress:
        if self._open_progress is None:
            raise UsageError("the subscriber is not open", hint="use it by 'async with'")
        return self._open_progress

    @property
    def sink(self) -> Json:
        """The value that the consumer committed last; None if it never did."""
        return self._progress.sink

    async def deliveries(self, *, follow: bool = False) -> AsyncGenerator[Delivery, None]:
        """Yield every record from the stored position to the present end of the log; or follow it for ever.

        Records come in order within each topic. Close the generator (``contextlib.aclosing``) when you
        leave it early; the record in hand then counts as not done, unless it was committed.

        Raises KasUnavailable when the key access service did not answer in time or answered wrongly, and
        LogUnavailable when the log cannot be read. The position is kept, and this may be called again.
        With ``follow`` it waits until it is cancelled while the log or the service does not answer, and
        raises only what waiting cannot mend: a wrong answer, a service that was stopped, access refused.
        """
        # Two generators would move one position, and each would take the other's record in hand as done.
        if self._is_delivering:
            raise UsageError("deliveries are being read already", hint="one at a time to a subscriber")
        self._is_delivering = True
        try:
            async with aclosing(self._deliveries(follow)) as items:
                async for item in items:
                    yield item
        finally:
            self._is_delivering = False

    async def commit(self, *, sink: Json = None) -> None:
        """Store durably that everything handed over so far is done, the record in hand included.

        ``sink`` is stored with it. It needs ``autocommit=False``: otherwise our position could be stored by
        time, without the position of the sink that belongs to it.
        """
        if sink is not None:
            if self._autocommit:
                hint = "open the subscriber with autocommit=False"
                raise UsageError("a sink's position needs to be stored with each commit", hint=hint)
            self._progress.sink = sink
        self._progress.finish()
        self._progress.save()

    async def _deliveries(self, follow: bool) -> AsyncGenerator[Delivery, None]:
        participant = self._participant
        outage = Outage(channel=self._asker.ground.channel) if follow else None
        # The directory is read first, so that a channel or an epoch that is new since the last call is known.
        await outlasting(outage, participant.follower.refresh)
        channel = self._channel()
        self._check_recipient(channel)
        types = self._wanted_types()
        topics = sorted({participant.store.current(record_type).topic for record_type in types})
        partitions = [Partition(topic, channel.number) for topic in topics]
        ends = await outlasting(outage, partial(participant.log.ends, partitions))
        # A log that was cut, restored or replaced: reading on would skip what is new in it, in silence.
        for violation in await self._begin_anew(await self._doubted(partitions, ends, outage), outage):
            yield violation
        delivery = WindowDelivery(
            participant=participant,
            asker=self._asker,
            opener=self._opener,
            progress=self._progress,
            heads=SignedHeads(participant.follower.history.root_at),
            record_types=types,
            outage=outage,
        )
        while True:
            states = self._progress.readers(partitions)
            readers = ReaderSet(
                participant, channel, states, None if follow else ends, self._tasks, outage=outage
            )
            self._readers.append(readers)
            try:
                async with aclosing(self._windows(readers, delivery)) as items:
                    async for item in items:
                        yield item
                return
            except OtherLogRead:
                # The log may have been altered when we read it, and be repaired by now, so that the message
                # before our position is right and one before it is not.
                replaced = await self._begin_anew(readers.frontiers, outage)
                if not replaced:
                    raise  # We have read what stands there: the service is shown another log.
            finally:
                self._readers.remove(readers)
                await readers.aclose()
            for violation in replaced:
                yield violation

    async def _windows(self, readers: ReaderSet, delivery: WindowDelivery) -> AsyncGenerator[Delivery, None]:
        while (window := await readers.next_window()) is not None:
            async with aclosing(delivery.deliver(window)) as items:
                async for item in items:
                    yield item
            # Only a window that was delivered whole is finished: the readers' positions behind it say that
            # nothing before them is needed any more.
            self._progress.finish_window(window)
            self._progress.save_if_due()
            for violation in delivery.heads.check(readers.trees):
                yield violation

    async def _doubted(
        self, partitions: Sequence[Partition], ends: Mapping[Partition, int], outage: Outage | None
    ) -> dict[Partition, Frontier]:
        """Return what was read of each partition that is another one at a place that is always looked at."""
        found: dict[Partition, Frontier] = {}
        for partition, state in self._progress.readers(partitions).items():
            frontier = state.frontier or Frontier(0)
            look = partial(is_as_it_was, self._participant.log, partition, frontier, ends[partition])
            faults = self._progress.faults(partition)
            look_again = partial(is_repaired, self._participant.log, partition, faults)
            if not await outlasting(outage, look) or await outlasting(outage, look_again):
                found[partition] = frontier
        return found

    async def _begin_anew(self, read: Mapping[Partition, Frontier], outage: Outage | None) -> list[Violation]:
        """Begin anew in each partition that is not as it was read; return a violation for each."""
        found = []
        for partition, frontier in read.items():
            compare = partial(common_size, self._participant.log, partition, frontier)
            kept = await outlasting(outage, compare)
            if kept < frontier.size:
                self._progress.begin_anew(partition, kept)
                found.append(_replaced(partition, kept, frontier.size))
        return found

    def _channel(self) -> Channel:
        return self._participant.channel(self._asker.ground.channel)

    def _check_recipient(self, channel: Channel) -> None:
        name = self._participant.name
        # A former member still reads what was sealed to it while it was one.
        was_member = any(epoch.is_recipient(name) for epoch in channel.epochs.values())
        if name not in channel.members and not was_member:
            hint = "ask the authority and the members to let you join it"
            raise UsageError(f"'{name}' is no member of channel '{channel.name}'", hint=hint)

    def _wanted_types(self) -> frozenset[str]:
        channel = self._channel()
        readable = channel.record_types & frozenset(self._participant.store.record_types)
        if self._record_types is None:
            return readable
        for record_type in self._record_types:
            if record_type not in readable:
                raise UsageError(
                    f"channel '{channel.name}' has no record type '{record_type}'",
                    hint=f"it has: {', '.join(sorted(readable))}",
                )
        return frozenset(self._record_types)


def _replaced(partition: Partition, kept: int, read: int) -> Violation:
    detail = (
        f"the log was read up to {read} before, and from {kept} on it is another one now; "
        "what stands there is delivered, and some of it may be delivered a second time"
    )
    place = Place(partition.topic, partition.number, kept)
    return Violation(kind=Kind.LOG_FORKED, place=place, detail=detail, count=max(read - kept, 1))
