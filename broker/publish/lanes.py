"""Lanes: the records that may share a batch, and the open batch of a lane that they fill. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.crypto.lock import locked_size
from broker.errors import UsageError
from broker.wire.batch import Item, batch_bytes_bound
from broker.wire.encoding import encode
from broker.wire.limits import MAX_BATCH_BYTES, MAX_RECORDS, MAX_TARGETS
from broker.wire.manifest import Terms, TermsLeaf
from broker.wire.terms import RecordTerms

__all__ = ["Lane", "Limits", "OpenBatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The things that all records of a batch have in common.

    ``releasable_to`` is one of these things because a batch has one member share, which is sealed to that
    list.
    """

    channel: str
    topic: str
    partition: int
    record_type: str
    releasable_to: tuple[str, ...]

    @property
    def member_seals(self) -> int:
        """The most keys to which the member share of a batch is sealed."""
        # The issuer may be one of those that are named.
        return len(self.releasable_to) + 1 if self.releasable_to else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The size at which a batch is full: 1 to 256 records, 1 to 1,000,000 bytes as the log counts them."""

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
    """An upper bound of the built batch's size: equal terms may be counted twice, and are never left out."""
    _targets: int = 0
    _terms: dict[int, Terms] = field(default_factory=dict)
    """The terms by identity: to hash their content for each record would cost more than the rest of ``take``.

    ``admission`` gives one object for equal terms, so few are counted twice. The values keep the objects
    alive: Python may give the identity of an object that is gone to a new one.
    """

    def __post_init__(self) -> None:
        self._bytes = batch_bytes_bound((), 0, self.lane.member_seals)

    def take(self, item: Item) -> int | None:
        """Add a record and return its index; None, and nothing changed, when it does not fit.

        The first record of a batch always fits, however large it is.
        """
        cost = self._cost(item)
        targets = _targets(item)
        if self.items and (
            len(self.items) >= self.limits.max_records
            or self._bytes + cost > self.limits.max_bytes
            # The format bounds the targets of a whole batch, and not those of each record: every reader would
            # refuse a batch with more.
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
        """Tell whether no record at all fits any more, so that the batch may be closed at once."""
        # The targets are not asked about: a record without targets would still fit.
        return (
            len(self.items) >= self.limits.max_records
            or self._bytes + _PER_RECORD + locked_size(0) > self.limits.max_bytes
        )

    @property
    def max_size(self) -> int:
        """The most bytes that the log may count for the batch."""
        return self._bytes

    @property
    def terms(self) -> tuple[Terms, ...]:
        """The terms of the batch's records; equal terms may be there more than once."""
        return tuple(self._terms.values())

    def _cost(self, item: Item) -> int:
        """The most bytes by which this record makes the batch larger."""
        cost = _PER_RECORD + locked_size(len(item.body))
        if id(item.terms) not in self._terms:
            cost += len(encode(TermsLeaf(terms=item.terms)))
        return cost


_PER_RECORD = batch_bytes_bound((0,), 0, 0) - batch_bytes_bound((), 0, 0) - locked_size(0)
"""Bytes that each record adds to a batch, besides its locked body and its terms."""


def _targets(item: Item) -> int:
    return len(item.terms.targets) if isinstance(item.terms, RecordTerms) else 0
