"""What a caller holds of a record that was handed over: a ticket, redeemed when its batch is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field

from broker.errors import BrokerError
from broker.publish.lanes import OpenBatch

__all__ = ["Parcel", "Published", "Sent", "Ticket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A record that is durable in the log; (batch_id, index) is its name."""

    channel: str
    topic: str
    partition: int
    offset: int
    """Of its batch's manifest."""
    batch_id: bytes
    index: int
    record_id: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that is durable."""

    offset: int
    batch_id: bytes


@dataclass(slots=True, eq=False)
class Parcel:
    """A batch on its way, and what became of it: one future for all of its records.

    The future holds a value even where publishing failed; ``is_seen`` says that a caller knows of it.
    """

    batch: OpenBatch
    outcome: asyncio.Future[Sent | BrokerError]
    record_ids: list[bytes] = field(default_factory=list)
    is_seen: bool = False
    timer: asyncio.TimerHandle | None = None

    @property
    def error(self) -> BrokerError | None:
        """Why it failed, if it is settled and did."""
        if not self.outcome.done() or self.outcome.cancelled():
            return None
        result = self.outcome.result()
        return result if isinstance(result, BrokerError) else None

    def settle(self, outcome: Sent | BrokerError) -> None:
        """Tell everybody who waits, and forget the bodies."""
        self.batch.items.clear()
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Ticket:
    """``await ticket`` gives the record's Published, or raises why it could not be published.

    Awaiting it twice, by two tasks, or not at all does no harm; a failure that no ticket's holder has
    seen is raised by ``flush``.
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
        """Tell whether awaiting it gives its answer at once."""
        return self._parcel.outcome.done()

    async def _redeem(self) -> Published:
        parcel = self._parcel
        if not parcel.outcome.done():
            await asyncio.shield(parcel.outcome)  # a waiter that is cancelled cancels nobody else
        sent = parcel.outcome.result()
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
