"""States of a channel's records, as the decision needs them: a pure fold of verified batches.

The key access service and the replay both keep a ``ChannelRecords``, so that both decide from the same
state. The state depends on which messages were applied, and not on the order in which topics were read:

    - A batch counts at its first offset. A copy at another offset is no batch.
    - The first access entry that lists a batch says what became of it.
    - An order (RECTIFY, RESTRICT, WITHDRAW, ERASE) counts only for records of its own issuer, and as soon as
      it is applied. It does not count when its own batch is listed as anything but COLLECTED, and no more
      once its issuer WITHDRAWs the order itself.
    - Orders commute. No order undoes another, except for a WITHDRAW that names it: so RESTRICT holds until
      it is withdrawn by name. Neither the log's times nor the offsets of orders decide anything.
    - RECTIFY with an earlier erase_by shortens the retention of its targets (LED art. 5). No order
      lengthens it.
    - A record that an ErasureTerms entry names is erased, whatever was ordered since.

What is kept grows with the batches that there are, and not with what somebody orders: orders of others than
the record's issuer are dropped, equal orders of one batch are one entry, and orders on a batch that is not
there are put aside (``OrdersAhead``), since its issuer may have appended them to another topic first.

Only ``add``, ``list`` and ``shred`` change the state, and each makes ``version`` grow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from sys import intern
from typing import Protocol

from broker.access.policy import RecordEntry, RecordState
from broker.clock import day_of
from broker.crypto.lock import context_of
from broker.verify.partition import VerifiedBatch
from broker.wire.limits import MAX_RECORDS
from broker.wire.manifest import Collected, CollectionStatus, ErasureTerms, RecordItem, Terms
from broker.wire.terms import Action, RecordTerms

__all__ = ["LISTED", "ChannelRecords", "IndexedBatch", "OrdersAhead"]

LISTED = frozenset({CollectionStatus.COLLECTED, CollectionStatus.REFUSED, CollectionStatus.STALE})
"""The statuses that an access entry may list; the others are answers to a publisher."""


# Bounded, since an entry may claim any time.
@lru_cache(maxsize=4096)
def _untouched(status: CollectionStatus, listed_day: int | None) -> RecordState:
    """Return the state of a record on which nothing was ever ordered. Most are like this, and share one."""
    return RecordState(status=status, listed_day=listed_day)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedBatch:
    """A batch as it is kept in memory: without digests, check values and seals, which decide nothing."""

    batch_id: bytes
    topic: str
    partition: int
    offset: int
    epoch: int
    issuer: str
    record_type: str
    manifest_id: bytes
    count: int
    judged_at: int
    terms: tuple[RecordTerms, ...]
    term_of: bytes

    def entry(self, index: int) -> RecordEntry:
        """Return what the manifest says about one record."""
        return RecordEntry(
            topic=self.topic,
            partition=self.partition,
            epoch=self.epoch,
            issuer=self.issuer,
            record_type=self.record_type,
            terms=self.terms[self.term_of[index]],
        )

    def context(self, genesis: bytes) -> bytes:
        """Return the context that binds the batch's shares to it."""
        place = (self.topic, self.partition, self.epoch, self.issuer, self.manifest_id)
        return context_of(genesis, *place)


@dataclass(frozen=True, slots=True)
class _Order:
    """Records of one batch with the same terms, which act on the same earlier records.

    Bit i of ``records`` is set where record i of the ordering batch is one of them.
    """

    action: Action
    batch_id: bytes
    records: int
    erase_by: int


class OrdersAhead(Protocol):
    """Orders on batches that are not there, as bytes. A service keeps them in a file: memory stays flat."""

    def put(self, target: bytes, order: bytes) -> None:
        """Put an order on the batch of this id aside."""

    def take(self, target: bytes) -> Sequence[bytes]:
        """Return the orders on a batch that has come, and forget them."""


class _InMemory:
    """Orders put aside in memory, for a fold of a few batches."""

    def __init__(self) -> None:
        self._orders: dict[bytes, list[bytes]] = {}

    def put(self, target: bytes, order: bytes) -> None:
        self._orders.setdefault(target, []).append(order)

    def take(self, target: bytes) -> Sequence[bytes]:
        return self._orders.pop(target, ())


class ChannelRecords:
    """Every batch of one channel, what became of it, and the orders on its records."""

    def __init__(self, ahead: OrdersAhead | None = None) -> None:
        self.version = 0
        """A number that grows with every change that may change a decision."""
        self._batches: dict[bytes, IndexedBatch] = {}
        self._listed: dict[bytes, Collected] = {}
        self._listed_days: dict[bytes, int] = {}
        """By batch: the day on which the entry that lists it was issued."""
        self._orders: dict[bytes, dict[int, list[_Order]]] = {}
        """By the target's batch and record: the orders of its own issuer. Those of others never count, and a
        member who wrote thousands of them on somebody's record must not make its readers wait."""
        self._ahead = _InMemory() if ahead is None else ahead
        self._shredded: dict[bytes, int] = {}
        """By batch: bit i is set where record i was shredded."""
        self._terms: dict[RecordTerms, RecordTerms] = {}

    # applying

    def add(self, batch: VerifiedBatch) -> IndexedBatch | None:
        """Take a batch of records. Returns None when it stands at an earlier offset already."""
        if batch.batch_id in self._batches:
            return None
        manifest = batch.opened.manifest
        indexed = IndexedBatch(
            batch_id=batch.batch_id,
            topic=batch.topic,
            partition=batch.partition,
            offset=batch.offset,
            epoch=manifest.header.epoch,
            issuer=intern(manifest.header.issuer),
            record_type=intern(manifest.record_type),
            manifest_id=manifest.manifest_id,
            count=manifest.count,
            judged_at=batch.judged_at,
            terms=tuple(self._shared(terms) for terms in batch.opened.entries.terms),
            term_of=batch.opened.entries.term_of,
        )
        self._put(indexed, batch.opened.entries.terms)
        return indexed

    def put(self, batch: IndexedBatch) -> bool:
        """Take a batch that was indexed before; returns False where it is here already."""
        if batch.batch_id in self._batches:
            return False
        self._put(batch, batch.terms)
        return True

    def _put(self, batch: IndexedBatch, terms: Sequence[Terms]) -> None:
        self.version += 1
        self._batches[batch.batch_id] = batch
        for packed in self._ahead.take(batch.batch_id):
            issuer, index, order = _unpacked(packed)
            if issuer == batch.issuer:
                self._give(batch, index, order)
        self._take_orders(batch, terms)

    def _shared(self, terms: Terms) -> RecordTerms:
        """Return one object for equal terms, which most batches have, and without targets, to save memory."""
        if not isinstance(terms, RecordTerms):
            raise TypeError("a batch of records with other terms is not verified")
        if terms.targets:
            terms = replace(terms, targets=())
        if len(self._terms) > 4096:
            return terms
        return self._terms.setdefault(terms, terms)

    def _take_orders(self, batch: IndexedBatch, all_terms: Sequence[Terms]) -> None:
        for number, terms in enumerate(all_terms):
            if not isinstance(terms, RecordTerms) or not terms.targets:
                continue
            records = _records_with(number, batch.term_of)
            order = _Order(terms.action, batch.batch_id, records, terms.erase_by)
            for target in terms.targets:
                found = self._batches.get(target.batch_id)
                if found is None:
                    self._ahead.put(target.batch_id, _packed(batch.issuer, target.index, order))
                elif found.issuer == batch.issuer:
                    self._give(found, target.index, order)

    def _give(self, target: IndexedBatch, index: int, order: _Order) -> None:
        if 0 <= index < target.count:
            self._orders.setdefault(target.batch_id, {}).setdefault(index, []).append(order)

    def list(self, batches: Iterable[Collected], issued_at: int) -> None:
        """Take a COLLECTION entry and its time. A batch that is listed already keeps what was said first."""
        self.version += 1
        for collected in batches:
            if collected.status in LISTED:
                self._listed.setdefault(collected.batch_id, collected)
                self._listed_days.setdefault(collected.batch_id, day_of(issued_at))

    def shred(self, terms: ErasureTerms) -> None:
        """Take an erasure entry. A target with an index that no batch can have is passed over."""
        self.version += 1
        for target in terms.targets:
            # Without the bound, an index near 2**31 would make a number of 256 MB.
            if 0 <= target.index < MAX_RECORDS:
                shredded = self._shredded.get(target.batch_id, 0)
                self._shredded[target.batch_id] = shredded | 1 << target.index

    # asking

    def batch(self, batch_id: bytes) -> IndexedBatch | None:
        """Return the batch with this id, wherever it stands."""
        return self._batches.get(batch_id)

    def find(self, item: RecordItem) -> IndexedBatch | None:
        """Return the batch that an item of a request names, if it stands exactly there."""
        batch = self._batches.get(item.batch_id)
        return batch if batch and (batch.topic, batch.offset) == (item.topic, item.offset) else None

    def listed(self, batch_id: bytes) -> Collected | None:
        """Return what the access log says became of a batch; None when no entry lists it."""
        return self._listed.get(batch_id)

    def to_be_held(self) -> Iterator[IndexedBatch]:
        """Yield the batches of which something may still be released: taken over, and not wholly shredded."""
        for batch_id, batch in self._batches.items():
            listed = self._listed.get(batch_id)
            is_left = self.shredded(batch_id).bit_count() < batch.count
            if is_left and listed is not None and listed.status is CollectionStatus.COLLECTED:
                yield batch

    def shredded(self, batch_id: bytes) -> int:
        """Return a number whose bit i is set where the access log says that record i was shredded."""
        return self._shredded.get(batch_id, 0)

    def state(self, batch: IndexedBatch, index: int) -> RecordState:
        """Return what became of one record, as far as messages were applied."""
        listed = self._listed.get(batch.batch_id)
        status = listed.status if listed else CollectionStatus.UNKNOWN
        listed_day = self._listed_days.get(batch.batch_id)
        orders = self._orders_on(batch.batch_id, index)
        if not orders and batch.batch_id not in self._shredded:
            return _untouched(status, listed_day)
        counting = [order for order in orders if self._counts(order)]
        actions = {order.action for order in counting}
        return RecordState(
            status=status,
            listed_day=listed_day,
            restricted=Action.RESTRICT in actions,
            withdrawn=Action.WITHDRAW in actions,
            erased=Action.ERASE in actions or bool(self.shredded(batch.batch_id) >> index & 1),
            erase_by=min(
                (order.erase_by for order in counting if order.action is Action.RECTIFY), default=None
            ),
        )

    def _orders_on(self, batch_id: bytes, index: int) -> Sequence[_Order]:
        return self._orders.get(batch_id, {}).get(index, ())

    def _counts(self, order: _Order) -> bool:
        """Whether one of the order's records counts: its batch is not refused, and it is not withdrawn."""
        if not self._is_effective(order):
            return False
        on_order = self._orders.get(order.batch_id)
        if on_order is None:
            return True
        # A withdrawal of an order has the order's issuer, which is that of the record: no other is kept.
        withdrawn = sum(1 << index for index, orders in on_order.items() if self._withdraws(orders))
        return bool(order.records & ~withdrawn)

    def _withdraws(self, orders: Iterable[_Order]) -> bool:
        return any(order.action is Action.WITHDRAW and self._is_effective(order) for order in orders)

    def _is_effective(self, order: _Order) -> bool:
        listed = self._listed.get(order.batch_id)
        return listed is None or listed.status is CollectionStatus.COLLECTED


# Cached, since a replay takes the same orders for each access to their target.
@lru_cache(maxsize=1024)
def _records_with(number: int, term_of: bytes) -> int:
    """Return a number whose bit i is set where record i of a batch has the terms with this number."""
    return sum(1 << index for index, term in enumerate(term_of) if term == number)


_PACKED = struct.Struct(">BBi32s32s")
_ACTIONS = tuple(Action)


def _packed(issuer: str, index: int, order: _Order) -> bytes:
    records = order.records.to_bytes(MAX_RECORDS // 8, "big")
    fields = (_ACTIONS.index(order.action), index, order.erase_by, order.batch_id, records)
    return _PACKED.pack(*fields) + issuer.encode()


def _unpacked(packed: bytes) -> tuple[str, int, _Order]:
    action, index, erase_by, batch_id, records = _PACKED.unpack_from(packed)
    order = _Order(_ACTIONS[action], batch_id, int.from_bytes(records, "big"), erase_by)
    return intern(packed[_PACKED.size :].decode()), index, order
