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

Only ``add``, ``list`` and ``shred`` change the state, and each makes ``version`` grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import intern

from broker.access.policy import RecordEntry, RecordState
from broker.clock import day_of
from broker.crypto.lock import context_of
from broker.verify.partition import VerifiedBatch
from broker.wire.limits import MAX_RECORDS
from broker.wire.manifest import Collected, CollectionStatus, ErasureTerms, RecordItem, Terms
from broker.wire.terms import Action, RecordTerms

__all__ = ["ChannelRecords", "IndexedBatch"]

_Key = tuple[bytes, int]


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
    """A record that acts on an earlier one. ``record`` names the order itself, not its target."""

    action: Action
    record: _Key
    erase_by: int


class ChannelRecords:
    """Every batch of one channel, what became of it, and the orders on its records."""

    def __init__(self) -> None:
        self.version = 0
        """A number that grows with every change that may change a decision."""
        self._batches: dict[bytes, IndexedBatch] = {}
        self._listed: dict[bytes, Collected] = {}
        self._listed_days: dict[bytes, int] = {}
        """By batch: the day on which the entry that lists it was issued."""
        self._orders: dict[_Key, dict[str, list[_Order]]] = {}
        """By target, then by the order's issuer. Orders of other agencies never count, and a member who
        wrote thousands of them on somebody's record must not make its originator's readers wait."""
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
        self.put(indexed)
        return indexed

    def put(self, batch: IndexedBatch) -> bool:
        """Take a batch that was indexed before; returns False where it is here already."""
        if batch.batch_id in self._batches:
            return False
        self.version += 1
        self._batches[batch.batch_id] = batch
        self._take_orders(batch)
        return True

    def _shared(self, terms: Terms) -> RecordTerms:
        """Return one object for equal terms, which most batches have, to save memory."""
        if not isinstance(terms, RecordTerms):
            raise TypeError("a batch of records with other terms is not verified")
        if terms.targets or len(self._terms) > 4096:
            return terms
        return self._terms.setdefault(terms, terms)

    def _take_orders(self, batch: IndexedBatch) -> None:
        for index, term in enumerate(batch.term_of):
            terms = batch.terms[term]
            for target in terms.targets:
                order = _Order(terms.action, (batch.batch_id, index), terms.erase_by)
                by_issuer = self._orders.setdefault((target.batch_id, target.index), {})
                by_issuer.setdefault(batch.issuer, []).append(order)

    def list(self, batches: Iterable[Collected], issued_at: int) -> None:
        """Take a COLLECTION entry and its time. A batch that is listed already keeps what was said first."""
        self.version += 1
        for collected in batches:
            if collected.status is not CollectionStatus.UNKNOWN:
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

    def shredded(self, batch_id: bytes) -> int:
        """Return a number whose bit i is set where the access log says that record i was shredded."""
        return self._shredded.get(batch_id, 0)

    def state(self, batch: IndexedBatch, index: int) -> RecordState:
        """Return what became of one record, as far as messages were applied."""
        listed = self._listed.get(batch.batch_id)
        status = listed.status if listed else CollectionStatus.UNKNOWN
        listed_day = self._listed_days.get(batch.batch_id)
        orders = self._orders_on((batch.batch_id, index), batch.issuer)
        if not orders and batch.batch_id not in self._shredded:
            return _untouched(status, listed_day)
        counting = [order for order in orders if self._counts(order, batch.issuer)]
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

    def _orders_on(self, record: _Key, issuer: str) -> Sequence[_Order]:
        return self._orders.get(record, {}).get(issuer, ())

    def _counts(self, order: _Order, issuer: str) -> bool:
        return self._is_effective(order) and not any(
            other.action is Action.WITHDRAW and self._is_effective(other)
            for other in self._orders_on(order.record, issuer)
        )

    def _is_effective(self, order: _Order) -> bool:
        listed = self._listed.get(order.record[0])
        return listed is None or listed.status is CollectionStatus.COLLECTED
