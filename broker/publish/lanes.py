"""Which records travel together: one open batch for each lane, and when it is full. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.crypto.lock import locked_size
from broker.errors import UsageError
from broker.log.protocol import MAX_BATCH_BYTES
from broker.wire.batch import MAX_RECORDS, MAX_TARGETS, Item, batch_bytes
from broker.wire.encoding import encode
from broker.wire.manifest import Terms, TermsLeaf
from broker.wire.terms import RecordTerms

__all__ = ["Lane", "Limits", "OpenBatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What the records of one batch have in common.

    ``releasable_to`` decides whom the member share is sealed to, so it is one list to a batch.
    """

    channel: str
    topic: str
    partition: int
    record_type: str
    releasable_to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is full: ``max_records`` of 256, ``max_bytes`` of 1,000,000 as the log counts them."""

    max_records: int = MAX_RECORDS
    max_bytes: int = MAX_BATCH_BYTES

    def __post_init__(self) -> None:
        if not 1 <= self.max_records <= MAX_RECORDS:
            raise UsageError(f"max_records {self.max_records}, expected 1 to {MAX_RECORDS}")
        if not 1 <= self.max_bytes <= MAX_BATCH_BYTES:
            raise UsageError(f"max_bytes {self.max_bytes}, expected 1 to {MAX_BATCH_BYTES}")


@dataclass(slots=True)
class OpenBatch:
    """A batch that still takes records."""

    lane: Lane
    limits: Limits
    items: list[Item] = field(default_factory=list)
    _bytes: int = 0
    _targets: int = 0
    _terms: dict[int, Terms] = field(default_factory=dict)
    """By identity: hashing terms costs more than all else here, and counting equal ones twice is safe."""

    def __post_init__(self) -> None:
        self._bytes = batch_bytes((), 0, len(self.lane.releasable_to) + 1)

    def take(self, item: Item) -> int | None:
        """Take a record and return its index; None, and nothing changed, where it does not fit.

        An empty batch takes any record that a log takes at all.
        """
        cost, targets = self._cost(item), _targets(item)
        if self.items and (
            len(self.items) >= self.limits.max_records
            or self._bytes + cost > self.limits.max_bytes
            or self._targets + targets > MAX_TARGETS
        ):
            return None
        self._bytes += cost
        self._targets += targets
        self._terms[id(item.terms)] = item.terms
        self.items.append(item)
        return len(self.items) - 1

    @property
    def is_full(self) -> bool:
        """Tell whether no further record can join."""
        return (
            len(self.items) >= self.limits.max_records
            or self._bytes + _PER_RECORD + locked_size(0) > self.limits.max_bytes
        )

    @property
    def max_size(self) -> int:
        """The bytes that the log will count for it, at most."""
        return self._bytes

    @property
    def terms(self) -> tuple[Terms, ...]:
        """The terms of its records; equal ones may be there more than once."""
        return tuple(self._terms.values())

    def _cost(self, item: Item) -> int:
        """The bytes by which this record makes the batch larger, at most."""
        cost = _PER_RECORD + locked_size(len(item.body))
        if id(item.terms) not in self._terms:
            cost += len(encode(TermsLeaf(terms=item.terms)))
        return cost


_PER_RECORD = batch_bytes((0,), 0, 0) - batch_bytes((), 0, 0) - locked_size(0)


def _targets(item: Item) -> int:
    return len(item.terms.targets) if isinstance(item.terms, RecordTerms) else 0
