"""The sender of one partition: it appends one batch after another, on a stream of its own.

A *stream* is a chain of batches of one issuer: each names the batch before it, so that a reader notices a
batch that was left out. Sending one batch has four steps:

    (1) the directory is read on, at most once a second, and the batch's permission is checked again
    (2) the batch is built for the next place of the stream
    (3) it is appended and settled (``broker.participant.settle``); a retry appends the same bytes
    (4) the stream moves on to the next place

A stream has at most one unsettled batch. It is begun anew in each epoch, after ``idle_us`` without a batch,
and after an append that failed for good: the place of that batch may be used up, or may not.

A publisher does not read the partition, so it does not see the streams of other processes of its agency.
When an issuer has too many streams, a reader closes the one that was silent longest; a publisher has left
such a stream by then.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field

from broker.clock import day_of
from broker.directory import Channel, Directory, Epoch
from broker.errors import BrokerError
from broker.log.protocol import Message, Partition
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.settle import append_settled
from broker.publish.admission import Admission
from broker.publish.assembly import StreamPlace, build_record_batch
from broker.publish.lanes import OpenBatch
from broker.publish.permission import check_publisher, check_terms
from broker.publish.tickets import Parcel, Sent
from broker.wire.batch import Batch
from broker.wire.terms import RecordTerms

__all__ = ["Prepared", "Sender"]

_log = get_logger("broker.publish")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prepared:
    """A batch that was built for a place of a stream. Whatever happens, these bytes are appended or none."""

    built: Batch
    place: StreamPlace
    epoch: int
    issued_at: int
    """In microseconds; it is the time of the stream as well."""
    channel: str


@dataclass(slots=True)
class Sender:
    """Appends the closed batches of one partition, one at a time.

    The publisher fills ``queue`` and owns ``task``, which empties it; the other fields change in ``deliver``
    alone. Since there is one task to a sender, nothing here is locked.
    """

    participant: Participant
    admission: Admission
    partition: Partition
    idle_us: int
    queue: deque[Parcel] = field(default_factory=deque)
    """Closed batches that are not settled; the first of them is the one that is being sent."""
    task: asyncio.Task[None] | None = None
    _place: StreamPlace | None = None
    """The place of the next batch; None when the next batch begins a stream."""
    _epoch: int = -1
    _used_at: int = 0
    """The time of the stream's last batch, in microseconds; ``_epoch`` is the epoch of that batch."""
    _end: int | None = None
    """An offset that is known to be at or before the partition's end; settling an append reads from it."""
    _is_appending: bool = False

    @property
    def appending(self) -> Parcel | None:
        """The batch that was given to the log and whose outcome is not known, if there is one."""
        return self.queue[0] if self._is_appending and self.queue else None

    async def send(self, batch: OpenBatch) -> Sent:
        """Append a batch, and return when it is durable.

        Raises what ``prepare`` and ``deliver`` raise. Cancelled while it appends, the batch is in the log as
        a whole or not at all.
        """
        return await self.deliver(await self.prepare(batch), start=self._end)

    async def prepare(self, batch: OpenBatch, *, instead_of: bytes | None = None) -> Prepared:
        """Build a batch for the next place of the stream. ``instead_of`` names a stale one that it replaces.

        Raises UsageError or KasUnavailable when the batch may no longer be published.
        """
        participant = self.participant
        lane = batch.lane
        now = participant.clock()
        directory = await self.admission.directory()  # (1)
        channel, epoch = self._check(batch, directory, now)
        place = self._next_place(channel, epoch, now)
        built = build_record_batch(  # (2)
            directory,
            participant.keyring,
            channel,
            schema=participant.store.current(lane.record_type),
            items=batch.items,
            place=place,
            issued_at=now,
            releasable_to=lane.releasable_to,
            instead_of=instead_of,
        )
        return Prepared(built=built, place=place, epoch=epoch.number, issued_at=now, channel=lane.channel)

    async def deliver(self, prepared: Prepared, *, start: int | None, was_tried: bool = False) -> Sent:
        """Append a batch that was built here, and return when it is durable.

        ``start`` and ``was_tried`` are those of ``append_settled``, and so are the errors.
        """
        built = prepared.built
        messages = [Message(key, value) for key, value in built.messages]
        offset = await self._append(messages, start, was_tried)  # (3)
        self._place = prepared.place.behind(built)  # (4)
        self._epoch = prepared.epoch
        self._used_at = prepared.issued_at
        _log.debug(
            "batch published",
            channel=prepared.channel,
            topic=self.partition.topic,
            offset=offset,
            records=built.manifest.count,
            batch_id=built.batch_id.hex(),
        )
        return Sent(offset, built.batch_id)

    def _check(self, batch: OpenBatch, directory: Directory, now: int) -> tuple[Channel, Epoch]:
        """Check again what was checked when the records were taken: the directory or the day may be new."""
        lane = batch.lane
        participant = self.participant
        channel, epoch = check_publisher(
            directory, participant.name, participant.keyring.signing.key_id, lane.channel, lane.record_type
        )
        for terms in batch.terms:
            if isinstance(terms, RecordTerms):
                check_terms(channel, terms, day_of(now))
        return channel, epoch

    def _next_place(self, channel: Channel, epoch: Epoch, now: int) -> StreamPlace:
        is_idle = now - self._used_at > self.idle_us
        if self._place is not None and self._epoch == epoch.number and not is_idle:
            return self._place
        if epoch.complained:
            # Publishing goes on all the same: a recipient that lies must not stop a channel.
            _log.warning(
                "a recipient complained of the channel's keys", channel=channel.name, epoch=epoch.number
            )
        elif channel.needs_new_epoch:
            _log.warning("channel needs new keys", channel=channel.name, epoch=epoch.number)
        # The name is random because the processes of an agency do not know of each other. Two that chose the
        # same name would look like one issuer who forks its stream.
        return StreamPlace(stream=secrets.token_bytes(16))

    async def _append(self, messages: list[Message], start: int | None, was_tried: bool) -> int:
        # The place is given up before the append: if the append fails, its outcome may never be known, and
        # a second batch at the same place would look like a forged stream.
        self._place = None
        self._is_appending = True
        try:
            offset = await append_settled(
                self.participant.log, self.partition, messages, start=start, was_tried=was_tried
            )
        except BrokerError:
            self._is_appending = False
            raise
        # A cancellation passes by here without clearing the flag: then nobody knows what became of the
        # batch, and the publisher must say so (``Publisher._abandon``).
        self._is_appending = False
        self._end = offset + len(messages)
        return offset
