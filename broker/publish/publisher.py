"""Publishing: records in, batches out, and a ticket for each record.

Theory of operation. ``publish`` checks a record, encodes it and puts it into the open batch of its
lane (channel, record type, releasable_to). A batch closes when it is full, ``linger_s`` after its
first record, at ``flush``, or when callers wait for room. A closed batch joins the queue of its
*line* (topic, partition); each line builds and appends one batch at a time:

    open ──full, linger, flush──▶ queued ──▶ built ──▶ appended ──▶ settled

    (1) the directory is read on, at most each second, and what the caller was told is checked again
    (2) the batch is built for the next place of the line's stream
    (3) it is appended and settled (``settle``); a retry appends the same bytes
    (4) the stream moves on; the tickets are redeemed

So a stream has one unsettled batch. It is begun anew for each epoch, after an hour of idleness, and
after an append that failed for good, whose sequence number may or may not be used up. (We do not read
the partition, and so do not see other processes' streams of our agency: a reader closes the one that
has been silent longest, and a publisher that was silent for an hour has left its stream.)

Publishing needs the log alone: it works while every key access service is down.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from broker.access.client import KeyAccess
from broker.clock import day_of
from broker.errors import BrokerError, OutcomeUnknown, UsageError
from broker.log.protocol import Message, Partition
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.settle import append_settled
from broker.participant.tasks import Tasks
from broker.publish.admission import Admission
from broker.publish.assembly import StreamPlace, build_record_batch
from broker.publish.collections import ask_collected
from broker.publish.lanes import Lane, Limits, OpenBatch
from broker.publish.permission import check_publisher, check_terms
from broker.publish.tickets import Parcel, Published, Sent, Ticket
from broker.records.record import Record, encode_body
from broker.wire.batch import Item
from broker.wire.manifest import Collected
from broker.wire.terms import RecordTerms

__all__ = ["Published", "Publisher", "Ticket"]

_log = get_logger("broker.exchange")


@dataclass(slots=True)
class _Line:
    """The batches of one partition of one topic: sent one after the other, on one stream."""

    partition: Partition
    queue: deque[Parcel] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    epoch: int = -1
    place: StreamPlace | None = None
    used_at: int = 0
    end: int | None = None
    """An offset known to be at or before the partition's end."""
    is_appending: bool = False
    """Whether the first batch of the queue was given to the log, and what became of it is not known."""


class Publisher:
    """Publishes one agency's records: ``async with Publisher(...) as publisher``.

    Leaving the block flushes, and raises the first failure that no ticket's holder has seen. Leaving it
    by cancellation sends nothing more: of a batch that was being appended the log holds all or nothing,
    its tickets say OutcomeUnknown, and those of records not yet sent say that they were not.
    """

    def __init__(
        self,
        participant: Participant,
        *,
        linger_s: float = 0.05,
        max_records: int = 256,
        max_bytes: int = 1_000_000,
        max_in_flight_records: int = 4096,
        idle_s: float = 3600,
    ) -> None:
        self._participant = participant
        self._linger_s = linger_s
        self._limits = Limits(max_records=max_records, max_bytes=max_bytes)
        self._max_in_flight = max(max_in_flight_records, 1)
        self._idle_us = int(idle_s * 1_000_000)
        self._tasks = Tasks()
        self._open: dict[Lane, Parcel] = {}
        self._lines: dict[Partition, _Line] = {}
        self._unsettled: set[Parcel] = set()
        self._failed: list[Parcel] = []
        self._in_flight = 0
        self._has_closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._admission = Admission(participant)
        self._is_open = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        is_cancelled = kind is not None and not issubclass(kind, Exception)
        try:
            if not is_cancelled:
                await self._drained()
        finally:
            self._abandon()
            if is_cancelled:
                await self._tasks.__aexit__(kind, error, trace)
            else:  # the caller's own error goes on as it is, not in a group
                await self._tasks.__aexit__(None, None, None)
        if error is None:
            self._raise_failure()

    # taking records

    async def publish(self, channel_name: str, record: Record) -> Ticket:
        """Hand a record over; waits while too much is under way. Cancelled, it was not taken.

        UsageError (RecordInvalid, for a body above 32 KiB) says what the caller must change.
        """
        if self._has_closed:  # what was closed is sent while the next records are encoded
            self._has_closed = False
            await asyncio.sleep(0)
        self._check_open()
        while self._in_flight >= self._max_in_flight:
            await self._room()
        admission = self._admission
        known = admission.known(channel_name, record) or await admission.admit(channel_name, record)
        lane, terms = known
        schema = self._participant.store.current(record.record_type)
        item = Item(record_id=record.record_id, terms=terms, body=encode_body(record, schema))
        self._check_open()  # it may have been closed while we waited
        return self._put(lane, item)

    def _check_open(self) -> None:
        if not self._is_open:
            raise UsageError("the publisher is closed", hint="publish inside its 'async with' block")

    async def flush(self) -> None:
        """Send what waits and return when everything handed over so far is settled.

        Raises the first failure that no ticket's holder has seen yet.
        """
        await self._drained()
        self._raise_failure()

    async def collected(
        self, published: Sequence[Published], kas: KeyAccess, timeout_s: float = 30.0
    ) -> tuple[Collected, ...]:
        """What became of these records' batches, as the key access service says; see ``ask_collected``."""
        return await ask_collected(published, self._participant, kas, timeout_s=timeout_s)

    async def _drained(self) -> None:
        unsettled = [parcel.outcome for parcel in self._unsettled]
        for lane in list(self._open):
            self._close(lane)
        if unsettled:
            await asyncio.wait(unsettled)

    def _raise_failure(self) -> None:
        failed, self._failed = self._failed, []
        unseen = [parcel for parcel in failed if not parcel.is_seen]
        for parcel in unseen:
            parcel.is_seen = True
        for parcel in unseen:
            if (error := parcel.error) is not None:
                raise error

    def _put(self, lane: Lane, item: Item) -> Ticket:
        parcel = self._open.get(lane)
        index = parcel.batch.take(item) if parcel else None
        if parcel is None or index is None:
            self._close(lane)
            parcel = self._new_parcel(lane)
            index = parcel.batch.take(item) or 0  # an empty batch takes any record
        parcel.record_ids.append(item.record_id)
        self._in_flight += 1
        if parcel.batch.is_full:
            self._close(lane)
        return Ticket(parcel, index)

    def _new_parcel(self, lane: Lane) -> Parcel:
        loop = asyncio.get_running_loop()
        parcel = Parcel(OpenBatch(lane, self._limits), loop.create_future())
        parcel.timer = loop.call_later(self._linger_s, self._close, lane)
        self._open[lane] = parcel
        self._unsettled.add(parcel)
        return parcel

    async def _room(self) -> None:
        """Wait until something is settled; whoever waits must not wait for others' lingering."""
        for lane in list(self._open):
            self._close(lane)
        room = asyncio.get_running_loop().create_future()
        self._waiting.append(room)
        await room

    # sending batches

    def _close(self, lane: Lane) -> None:
        """Close the lane's open batch, if it has one, and have it sent."""
        parcel = self._open.pop(lane, None)
        if parcel is None:
            return
        self._has_closed = True
        if parcel.timer is not None:
            parcel.timer.cancel()
        partition = Partition(lane.topic, lane.partition)
        line = self._lines.setdefault(partition, _Line(partition))
        line.queue.append(parcel)
        if line.task is None:
            name = f"publish {partition.topic}/{partition.number}"
            line.task = self._tasks.create_task(self._send_all(line), name=name)

    async def _send_all(self, line: _Line) -> None:
        try:
            while line.queue:
                parcel = line.queue[0]
                count = len(parcel.batch.items)
                try:
                    outcome: Sent | BrokerError = await self._send(line, parcel.batch)
                except BrokerError as error:
                    outcome = error
                line.queue.popleft()
                self._settle(parcel, outcome, count)
        finally:
            line.task = None

    async def _send(self, line: _Line, batch: OpenBatch) -> Sent:
        participant, lane, now = self._participant, batch.lane, self._participant.clock()
        directory = await self._admission.directory()  # (1)
        channel, epoch = check_publisher(
            directory, participant.name, participant.keyring.signing.key_id, lane.channel, lane.record_type
        )
        for terms in batch.terms:
            if isinstance(terms, RecordTerms):
                check_terms(channel, terms, day_of(now))
        if line.place is None or line.epoch != epoch.number or now - line.used_at > self._idle_us:
            line.place, line.epoch = StreamPlace(stream=secrets.token_bytes(16)), epoch.number
            if channel.needs_new_epoch:
                _log.warning("channel needs new keys", channel=channel.name, epoch=epoch.number)
        built = build_record_batch(  # (2)
            directory,
            participant.keyring,
            channel,
            schema=participant.store.current(lane.record_type),
            items=batch.items,
            place=line.place,
            issued_at=now,
            releasable_to=lane.releasable_to,
        )
        messages = [Message(key, value) for key, value in built.messages]
        place, line.place = line.place, None  # until it is settled the stream is nobody's
        line.is_appending = True
        try:
            offset = await append_settled(participant.log, line.partition, messages, start=line.end)  # (3)
        except BrokerError:
            line.is_appending = False  # it says itself what became of the batch
            raise
        line.is_appending = False
        line.end = offset + len(messages)
        line.place, line.used_at = place.behind(built), now  # (4)
        _log.debug(
            "batch published",
            channel=lane.channel,
            topic=lane.topic,
            offset=offset,
            records=len(batch.items),
            batch_id=built.batch_id.hex(),
        )
        return Sent(offset, built.batch_id)

    def _settle(self, parcel: Parcel, outcome: Sent | BrokerError, count: int) -> None:
        parcel.settle(outcome)
        self._unsettled.discard(parcel)
        if isinstance(outcome, BrokerError):
            self._failed.append(parcel)
        self._in_flight -= count
        # All who wait are woken, in their order: one that was cancelled meanwhile would keep the room.
        waiting, self._waiting = self._waiting, deque()
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _abandon(self) -> None:
        """Settle what will not be sent any more; nothing is left after a flush."""
        for lane in list(self._open):
            parcel = self._open.pop(lane)
            if parcel.timer is not None:
                parcel.timer.cancel()
        # Its task may be gone by now, ended by whatever ended us: that says nothing of the append.
        appending = {id(line.queue[0]) for line in self._lines.values() if line.queue and line.is_appending}
        for parcel in self._unsettled:
            if id(parcel) in appending:
                parcel.settle(OutcomeUnknown("cancelled while the batch was being appended"))
            else:
                parcel.settle(UsageError("not published: the publisher was cancelled"))
        self._unsettled.clear()
        for line in self._lines.values():
            if line.task is not None:
                line.task.cancel()
        for room in self._waiting:
            if not room.done():
                room.set_exception(UsageError("not published: the publisher was cancelled"))
