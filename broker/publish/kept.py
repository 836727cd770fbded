"""Batches that are in the log and not yet taken over, kept so that they can be published anew.

A batch comes too late where another statement, made with more of the directory, was appended before it: a
channel got new keys, or a receiving key was retired. Nobody can prevent this race, and no reader delivers
such a batch. The key access service lists it as STALE, and its publisher publishes the records anew: in a new
batch with the same record ids, which names the stale one in ``instead_of``.

The bodies are kept until the service has answered, or until so many younger ones are kept that they are
dropped: a publisher that never asks must not fill the memory. A dropped batch that is stale stays STALE.

At most one batch ever replaces a stale one. The wait for its append may end early: by a time-out, by Ctrl-C
or with OutcomeUnknown. So its bytes are kept before they are appended, and whoever asks again appends these.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from broker.errors import BatchVoid, BrokerError
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.publish.admission import Admission
from broker.publish.sender import Prepared, Sender
from broker.publish.tickets import Parcel, Sent
from broker.wire.manifest import Collected, CollectionStatus

__all__ = ["MAX_KEPT_BYTES", "KeptBatches"]

MAX_KEPT_BYTES = 16_000_000
"""Bytes of all batches that are kept, as the log counts them."""

_MAX_SUCCESSORS = 65_536
"""Stale batches whose successor is remembered."""

_IDLE_US = 3_600_000_000
_log = get_logger("broker.publish")


@dataclass(slots=True)
class _Attempt:
    """A batch that replaces a stale one, and whose append has begun or is about to begin."""

    sender: Sender
    prepared: Prepared
    start: int
    """An end of the partition from before its first append."""
    was_tried: bool = False


class KeptBatches:
    """The batches of one publisher that wait for an answer; all of it belongs to one event loop."""

    def __init__(self, participant: Participant, admission: Admission) -> None:
        self._participant = participant
        self._admission = admission
        self._parcels: OrderedDict[bytes, Parcel] = OrderedDict()
        """By the id of the batch, the oldest first."""
        self._attempts: dict[bytes, _Attempt] = {}
        """By the id of a stale batch: what replaces it, from when it is built until it is durable."""
        self._successors: OrderedDict[bytes, Sent] = OrderedDict()
        """By the id of a stale batch: the durable batch that replaces it, the oldest first."""
        self._bytes = 0
        self._senders: dict[Partition, Sender] = {}
        """Senders of their own, since a batch that is published anew belongs to no open lane."""
        self._turn = asyncio.Lock()
        """Held while a batch is published anew: a sender appends one batch at a time."""

    def keep(self, sent: Sent, parcel: Parcel) -> None:
        """Keep a batch that is durable."""
        self._parcels[sent.batch_id] = parcel
        self._bytes += parcel.batch.max_size
        while self._bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._parcels)))

    def settle(self, answer: Collected) -> None:
        """Take a final answer of the service; the tickets of a void batch fail from now on."""
        parcel = self._parcels.get(answer.batch_id)
        if parcel is not None and answer.status is CollectionStatus.VOID:
            parcel.replaced = BatchVoid(
                f"the batch at {answer.topic}@{answer.offset} is void for every reader: {answer.detail}",
                hint="correct what the message says, and publish its records again",
            )
        if parcel is not None and answer.status is not CollectionStatus.UNKNOWN:
            self._drop(answer.batch_id)

    def _drop(self, batch_id: bytes) -> None:
        parcel = self._parcels.pop(batch_id)
        self._attempts.pop(batch_id, None)
        self._bytes -= parcel.batch.max_size
        parcel.batch.items.clear()

    async def publish_anew(self, stale: Collected) -> Sent | None:
        """Publish the records of a stale batch in a new one; None where they are no longer kept.

        Their tickets name the new batch from now on. Called again for the same batch, it returns the batch
        that replaces it. Raises what ``Sender`` raises. Cancelled or failed, the next call goes on with the
        same bytes, so that one batch and no second one ever replaces it.
        """
        async with self._turn:
            known = self._successors.get(stale.batch_id)
            parcel = self._parcels.get(stale.batch_id)
            if known is not None or parcel is None:
                return known
            attempt = self._attempts.get(stale.batch_id)
            if attempt is None:
                attempt = await self._begin(stale.batch_id, parcel)
            was_tried = attempt.was_tried
            attempt.was_tried = True
            sent = await attempt.sender.deliver(attempt.prepared, start=attempt.start, was_tried=was_tried)
            # Commit point: no await stands between the append and the line behind which it is known.
            self._succeed(stale.batch_id, parcel, sent)
        _log.info(
            "batch published anew",
            topic=stale.topic,
            stale=stale.offset,
            offset=sent.offset,
            reason=stale.detail,
        )
        return sent

    async def _begin(self, stale: bytes, parcel: Parcel) -> _Attempt:
        """Build the batch that replaces a stale one, and remember it."""
        lane = parcel.batch.lane
        partition = Partition(lane.topic, lane.partition)
        sender = self._senders.get(partition)
        if sender is None:
            sender = Sender(self._participant, self._admission, partition, _IDLE_US)
            self._senders[partition] = sender
        # The batch came too late because our view was old. The sender reads the directory once a second.
        await self._participant.follower.refresh()
        start = (await self._participant.log.ends([partition]))[partition]
        prepared = await sender.prepare(parcel.batch, instead_of=stale)
        attempt = _Attempt(sender, prepared, start)
        # No await stands between the building and this line.
        self._attempts[stale] = attempt
        return attempt

    def _succeed(self, stale: bytes, parcel: Parcel, sent: Sent) -> None:
        parcel.replaced = sent
        self._attempts.pop(stale, None)
        self._successors[stale] = sent
        if len(self._successors) > _MAX_SUCCESSORS:
            self._successors.popitem(last=False)
        # While the append was under way it may have been dropped, to make room for younger ones.
        if self._parcels.pop(stale, None) is not None:
            self._parcels[sent.batch_id] = parcel

    async def replace(self, stale: Collected) -> Sent | None:
        """The same, but a failure is logged and gives None: the batch then stays STALE."""
        try:
            return await self.publish_anew(stale)
        except BrokerError as error:
            _log.warning(
                "batch not published anew", topic=stale.topic, offset=stale.offset, reason=error.message
            )
            return None
