"""Collections against batches, both ways: what streams cannot show, these do.

    an entry lists a batch that is not there, or stands elsewhere    COLLECTION_WRONG at the offset it names
    an entry lists another count than the batch has                  COLLECTION_WRONG at the entry
    COLLECTED, and its issuer was not entitled at the KAS's size     COLLECTION_WRONG at the entry
    the log ends below what an access entry recorded of it           ACCESS_POSITIONS where the log ends
    no entry lists a batch, and later ones of its topic are listed   NOT_COLLECTED at the batch

A batch behind all that is listed is merely not collected yet. A batch that is missing moves all
behind it where the offsets were closed up: they follow from the first, until one is in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.audit.index import Index, Listed, StoredBatch
from broker.directory import History
from broker.errors import NotEntitled
from broker.verify.entitlement import ACCESS_TOPIC, judge_claim
from broker.verify.violations import Kind, Place, Violation
from broker.wire.manifest import CollectionStatus

__all__ = ["Takeovers"]


@dataclass(slots=True)
class Takeovers:
    """The cross-check of one channel; ``recorded`` as in AccessLog."""

    index: Index
    history: History
    partition: int
    report: Callable[[Violation], Place]
    recorded: Mapping[str, tuple[int, int]]
    uncollected: int = 0

    def check(self, topic: str, end: int) -> None:
        """Check one record topic."""
        if not self._check_listings(topic, end):
            self._check_end(topic, end, self.index.root_within(topic, 0, self.recorded.get(topic, (0, 0))[0]))
        self._check_unlisted(topic)

    def _violate(self, kind: Kind, topic: str, offset: int, detail: str, cause: Place | None = None) -> Place:
        place = Place(topic, self.partition, offset)
        return self.report(Violation(kind=kind, place=place, detail=detail, caused_by=cause))

    def _check_end(self, topic: str, end: int, cause: Place | None) -> Place | None:
        """Report a log that was cut below a position that an access entry recorded."""
        recorded, offset = self.recorded.get(topic, (0, 0))
        if recorded <= end:
            return None
        detail = f"the log ends at {end}, and access@{offset} saw {recorded} messages of it"
        return self._violate(Kind.ACCESS_POSITIONS, topic, end, detail, cause)

    def _check_listings(self, topic: str, end: int) -> bool:
        """Check what is listed; True if the log's end was found to be cut."""
        in_place, moved, cut = 0, None, False
        for one in self.index.listings(topic):
            batch = self.index.batch(one.batch_id)
            if batch is not None and (batch.indexed.topic, batch.indexed.offset) == (topic, one.offset):
                in_place, moved = batch.last + 1, None
                self._check_listing(one, batch)
                continue
            last = one.offset + max(one.records, 0)
            if batch is None and self.index.skipped_within(topic, one.offset, min(last, end)):
                continue
            cause = moved or self.index.root_within(topic, in_place, last)
            if cause is None and batch is None:
                cause = self.index.gap_behind(topic, one.offset)
            if cause is None and one.offset >= end:
                cause, cut = self._check_end(topic, end, None), True
            where = "is not there" if batch is None else f"stands at {_place(batch)}"
            detail = f"the batch that access@{one.access_offset} lists {where}"
            moved = self._violate(Kind.COLLECTION_WRONG, topic, one.offset, detail, cause)
        return cut

    def _check_listing(self, one: Listed, batch: StoredBatch) -> None:
        what = f"lists {_place(batch)}"
        if one.records != batch.indexed.count:
            detail = f"{what} with {one.records} records, it has {batch.indexed.count}"
            self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, one.access_offset, detail)
        if one.status is not CollectionStatus.COLLECTED or one.size == batch.indexed.judged_at:
            return
        known = batch.indexed
        try:
            judge_claim(
                self.history.at(one.size),
                topic=known.topic,
                partition=known.partition,
                epoch=known.epoch,
                issuer=known.issuer,
                record_type=known.record_type,
                key_id=batch.key_id,
            )
        except NotEntitled as error:
            detail = f"{what} as COLLECTED: {error.message}"
            self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, one.access_offset, detail)

    def _check_unlisted(self, topic: str) -> None:
        for batch in self.index.unlisted(topic):
            before, behind = self.index.listed_around(topic, batch.indexed.offset)
            if behind is None:
                self.uncollected += 1
                continue
            first, last = sorted((before.access_offset if before else 0, behind.access_offset))
            if self.index.skipped_within(ACCESS_TOPIC, first, last):
                self.uncollected += 1
                continue
            cause = self.index.root_within(ACCESS_TOPIC, first, last)
            detail = f"no access entry lists this batch, and access@{behind.access_offset} lists a later one"
            self._violate(Kind.NOT_COLLECTED, topic, batch.indexed.offset, detail, cause)


def _place(batch: StoredBatch) -> str:
    return f"{batch.indexed.topic}@{batch.indexed.offset}"
