"""Tickets: what a caller holds for a record that it handed over, until the record's batch is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field

from broker.errors import BrokerError
from broker.publish.lanes import OpenBatch

__all__ = ["Parcel", "Published", "Sent", "Ticket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A record that is durable in the log; its name there is the pair (batch_id, index)."""

    channel: str
    topic: str
    partition: int
    offset: int
    """The offset of the batch's manifest."""
    batch_id: bytes
    index: int
    record_id: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that is durable in the log; ``offset`` is that of its manifest."""

    offset: int
    batch_id: bytes


@dataclass(slots=True, eq=False)
class Parcel:
    """A batch on its way into the log, and one future for all of its records.

    The future is never given an exception: asyncio would complain about a failure that no caller awaited,
    although ``flush`` reports it. A failure is its result, and ``is_seen`` says that a caller has had it.
    """

    batch: OpenBatch
    outcome: asyncio.Future[Sent | BrokerError]
    record_ids: list[bytes] = field(default_factory=list)
    """The ids of its records in order; the tickets need them after the bodies are dropped."""
    is_seen: bool = False
    replaced: Sent | BrokerError | None = None
    """What became of the batch after it was durable: the batch that replaces it, or why it is void."""
    timer: asyncio.TimerHandle | None = None
    """Closes the batch when it has been open for the publisher's ``linger_s``."""

    @property
    def error(self) -> BrokerError | None:
        """The reason why the batch was not published; None if it was, or is not settled yet."""
        if not self.outcome.done() or self.outcome.cancelled():
            return None
        result = self.outcome.result()
        return result if isinstance(result, BrokerError) else None

    def settle(self, outcome: Sent | BrokerError) -> None:
        """Give all tickets their answer; the bodies of a batch that failed are dropped."""
        # The bodies of a durable batch are dropped by ``KeptBatches``, and not with the last ticket, because
        # a caller may keep its tickets for a whole file.
        if isinstance(outcome, BrokerError):
            self.batch.items.clear()
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Ticket:
    """``await ticket`` returns the record's Published, or raises the reason why it was not published.

    A ticket may be awaited twice, by two tasks, or never. The publisher's ``flush`` raises a failure that no
    caller has awaited. Awaited again after ``Publisher.collected``, a ticket names the batch that replaced a
    stale one, and raises BatchVoid for a batch that is void for every reader.
    """

    __slots__ = ("_index", "_parcel")

    def __init__(self, parcel: Parcel, index: int) -> None:
        self._parcel = parcel
        self._index = index

    def __await__(self) -> Generator[None, None, Published]:
        return self._redeem().__await__()

    @property
    def record_id(self) -> bytes:
        """The record's id."""
        return self._parcel.record_ids[self._index]

    def is_settled(self) -> bool:
        """Tell whether awaiting the ticket gives its answer at once."""
        return self._parcel.outcome.done()

    async def _redeem(self) -> Published:
        parcel = self._parcel
        if not parcel.outcome.done():
            # The shield is needed because all tickets of the batch wait for one future: without it, a caller
            # that is cancelled would cancel the future for the others.
            await asyncio.shield(parcel.outcome)
        sent = parcel.replaced or parcel.outcome.result()
        if isinstance(sent, BrokerError):
            parcel.is_seen = True
            raise sent
        lane = parcel.batch.lane
        return Published(
            channel=lane.channel,
            topic=lane.topic,
            partition=lane.partition,
            offset=sent.offset,
            batch_id=sent.batch_id,
            index=self._index,
            record_id=parcel.record_ids[self._index],
        )
