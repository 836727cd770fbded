"""Publishing: records go in, batches go out, and the caller holds a ticket for each record.

Theory of operation. ``publish`` checks a record, encodes it and puts it into the open batch of its
*lane* (channel, record type, releasable_to). A batch is closed when it is full, ``linger_s`` seconds after
its first record, at ``flush``, or when callers wait for room. A closed batch joins the queue of its
partition's *sender*, which builds and appends one batch at a time:

    open ──full, linger, flush──▶ queued ──▶ built ──▶ appended ──▶ settled

When a batch is settled its tickets have their answer, and room is made for the next records.

Who owns what. All of it belongs to one event loop; nothing is locked, and state changes only between awaits.

    ``_open``        the open batch of each lane: ``publish`` fills it, ``_close`` takes it out
    ``_senders``     the sender of each partition, with its queue: ``_close`` adds to the queue, the sender's
                     task takes from it
    ``_unsettled``   every batch whose tickets have no answer, open or queued: ``flush`` waits for these
    ``_failed``      batches that failed and whose failure ``flush`` has not yet raised
    ``_kept``        durable batches that the key access service has not answered for
    ``_in_flight``   how many records ``_unsettled`` holds; ``_waiting`` are the callers who wait for room

Publishing needs the log alone: it works while every key access service is down.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from broker.access.client import KeyAccess
from broker.errors import BrokerError, OutcomeUnknown, UsageError
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.participant.tasks import Tasks
from broker.publish.admission import Admission
from broker.publish.collections import ask_collected
from broker.publish.kept import KeptBatches
from broker.publish.lanes import Lane, Limits, OpenBatch
from broker.publish.sender import Sender
from broker.publish.tickets import Parcel, Published, Sent, Ticket
from broker.records.record import Record, encode_body
from broker.wire.batch import Item
from broker.wire.manifest import Collected

__all__ = ["Published", "Publisher", "Ticket"]


class Publisher:
    """Publishes the records of one agency: ``async with Publisher(participant) as publisher``.

    Leaving the block flushes, and raises the first failure that no ticket has reported. Leaving it by a
    cancellation sends nothing more. Of a batch that was being appended the log then holds all or nothing,
    and its tickets raise OutcomeUnknown; the tickets of records that were not sent say so.
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
        # With no room at all, the first caller would wait for a batch that nobody can fill.
        self._max_in_flight = max(max_in_flight_records, 1)
        self._idle_us = int(idle_s * 1_000_000)
        self._admission = Admission(participant)
        self._kept = KeptBatches(participant, self._admission)
        self._tasks = Tasks()
        self._open: dict[Lane, Parcel] = {}
        self._senders: dict[Partition, Sender] = {}
        self._unsettled: set[Parcel] = set()
        self._failed: list[Parcel] = []
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._has_closed = False
        """Whether a batch was closed since the last record was taken."""
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
                await self._drain()
        finally:
            # _abandon comes first, because it cancels what is still being sent. The exit of the tasks alone
            # would wait until all of it is sent.
            self._abandon()
            if is_cancelled:
                await self._tasks.__aexit__(kind, error, trace)
            else:
                # The caller's own error is not passed on: it is raised in any case, and the group would wrap
                # it.
                await self._tasks.__aexit__(None, None, None)
        if error is None:
            self._raise_failure()

    async def publish(self, channel_name: str, record: Record) -> Ticket:
        """Take a record and return its ticket; waits while too many records are under way.

        Raises UsageError, which says what the caller must change, or RecordInvalid for a body above 32 KiB.
        Cancelled, the record was not taken.
        """
        if self._has_closed:
            # One turn of the event loop lets the sender hand the closed batch to the log, which then writes
            # it while the next records are encoded here.
            self._has_closed = False
            await asyncio.sleep(0)
        self._check_open()
        while self._in_flight >= self._max_in_flight:
            await self._wait_for_room()
        admission = self._admission
        known = admission.known(channel_name, record) or await admission.admit(channel_name, record)
        lane, terms = known
        schema = self._participant.store.current(record.record_type)
        item = Item(record_id=record.record_id, terms=terms, body=encode_body(record, schema))
        # This is checked again because the publisher may have been closed while this call waited. Nothing
        # waits from here on, so a record that is taken is always settled.
        self._check_open()
        return self._put(lane, item)

    async def flush(self) -> None:
        """Send everything that was handed over, and return when all of it is settled.

        Raises the first failure that no ticket has reported yet.
        """
        await self._drain()
        self._raise_failure()

    async def collected(
        self, published: Sequence[Published], kas: KeyAccess, timeout_s: float = 30.0
    ) -> tuple[Collected, ...]:
        """Ask the key access service what became of these records' batches; see ``ask_collected``.

        Batches that came too late are published anew, also after the publisher was closed. Their tickets
        then name the new batches.
        """
        return await ask_collected(published, self._participant, kas, timeout_s=timeout_s, kept=self._kept)

    def _check_open(self) -> None:
        if not self._is_open:
            raise UsageError("the publisher is closed", hint="publish inside its 'async with' block")

    async def _drain(self) -> None:
        # Only the batches that are unsettled now are waited for. Otherwise a caller that goes on publishing
        # would keep a flush from ending.
        unsettled = [parcel.outcome for parcel in self._unsettled]
        self._close_all()
        if unsettled:
            await asyncio.wait(unsettled)

    def _raise_failure(self) -> None:
        failed = self._failed
        self._failed = []
        # A failure that a ticket has raised already is not raised a second time. The others are all marked
        # before the first one is raised, so the next flush does not report them as new.
        unseen = [parcel for parcel in failed if not parcel.is_seen]
        for parcel in unseen:
            parcel.is_seen = True
        for parcel in unseen:
            if (error := parcel.error) is not None:
                raise error

    def _put(self, lane: Lane, item: Item) -> Ticket:
        parcel = self._open.get(lane)
        index = None if parcel is None else parcel.batch.take(item)
        if parcel is None or index is None:
            self._close(lane)
            parcel = self._open_parcel(lane, item)
            index = 0
        parcel.record_ids.append(item.record_id)
        self._in_flight += 1
        if parcel.batch.is_full:
            self._close(lane)
        return Ticket(parcel, index)

    def _open_parcel(self, lane: Lane, first: Item) -> Parcel:
        """Open a batch for the lane, with its first record, which always fits."""
        batch = OpenBatch(lane, self._limits)
        batch.take(first)
        loop = asyncio.get_running_loop()
        parcel = Parcel(batch, loop.create_future())
        parcel.timer = loop.call_later(self._linger_s, self._close, lane)
        self._open[lane] = parcel
        self._unsettled.add(parcel)
        return parcel

    async def _wait_for_room(self) -> None:
        """Wait until a batch is settled."""
        # The open batches hold the room that is waited for: left to linger, they would make callers wait
        # for a timer rather than for the log.
        self._close_all()
        room = asyncio.get_running_loop().create_future()
        self._waiting.append(room)
        await room

    def _close_all(self) -> None:
        for lane in list(self._open):
            self._close(lane)

    def _close(self, lane: Lane) -> None:
        """Close the lane's open batch, if there is one, and have it sent."""
        parcel = self._open.pop(lane, None)
        if parcel is None:
            return
        self._has_closed = True
        if parcel.timer is not None:
            parcel.timer.cancel()
        sender = self._sender(Partition(lane.topic, lane.partition))
        sender.queue.append(parcel)
        if sender.task is None:
            name = f"publish {lane.topic}/{lane.partition}"
            sender.task = self._tasks.create_task(self._send_queued(sender), name=name)

    def _sender(self, partition: Partition) -> Sender:
        sender = self._senders.get(partition)
        if sender is None:
            sender = Sender(self._participant, self._admission, partition, self._idle_us)
            self._senders[partition] = sender
        return sender

    async def _send_queued(self, sender: Sender) -> None:
        """Send the batches of a queue until it is empty; a batch that fails does not stop the others."""
        try:
            while sender.queue:
                # The batch stays in the queue while it is sent: a cancellation must find it there
                # (``_abandon``).
                parcel = sender.queue[0]
                count = len(parcel.batch.items)
                try:
                    outcome: Sent | BrokerError = await sender.send(parcel.batch)
                except BrokerError as error:
                    outcome = error
                sender.queue.popleft()
                self._settle(parcel, outcome, count)
        finally:
            # No await stands between the look at the empty queue and this line, so no batch can join the
            # queue of a task that has just decided to end.
            sender.task = None

    def _settle(self, parcel: Parcel, outcome: Sent | BrokerError, count: int) -> None:
        """Answer the batch's tickets; ``count`` is how many records it had."""
        parcel.settle(outcome)
        self._unsettled.discard(parcel)
        if isinstance(outcome, BrokerError):
            self._failed.append(parcel)
        else:
            self._kept.keep(outcome, parcel)
        self._in_flight -= count
        # All callers are woken, in their order, and look for themselves whether there is room: a single
        # caller that was woken and then cancelled would take the room with it.
        waiting = self._waiting
        self._waiting = deque()
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _abandon(self) -> None:
        """Settle everything that will not be sent any more; after a flush there is nothing left to do."""
        for lane in list(self._open):
            parcel = self._open.pop(lane)
            if parcel.timer is not None:
                parcel.timer.cancel()
        # The sender is asked, not its task: the error that ends us may have ended the task already, in the
        # middle of an append of which nothing is known.
        appending = {id(sender.appending) for sender in self._senders.values() if sender.appending}
        for parcel in self._unsettled:
            if id(parcel) in appending:
                parcel.settle(OutcomeUnknown("cancelled while the batch was being appended"))
            else:
                parcel.settle(_cancelled())
        self._unsettled.clear()
        for sender in self._senders.values():
            if sender.task is not None:
                sender.task.cancel()
        for room in self._waiting:
            if not room.done():
                room.set_exception(_cancelled())


def _cancelled() -> UsageError:
    return UsageError("not published: the publisher was cancelled")
