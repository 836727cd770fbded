"""Collections compared with batches, both ways: the comparison shows losses that streams cannot show.

    an entry lists a batch that is not there, or stands elsewhere    COLLECTION_WRONG at the offset it names
    an entry lists another count than the batch has                  COLLECTION_WRONG at the entry
    COLLECTED, but its issuer was not entitled at the KAS's size     COLLECTION_WRONG at the entry
    STALE and it came in time, or stale and not listed as STALE      COLLECTION_WRONG at the entry
    no entry lists a batch, and later ones of its topic are listed   NOT_COLLECTED at the batch

A batch behind all listed ones is merely not collected yet. Where a batch was cut out and the offsets were
closed up, all batches behind it stand elsewhere: they follow from the first one, until a batch is in its
place again. What a later LATE entry names as lost follows from that entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from broker.access.bound_positions import BoundPositions
from broker.audit.index import Index, Listed, StoredBatch
from broker.audit.stale import StaleBatch
from broker.directory import History
from broker.errors import NotEntitled
from broker.verify.entitlement import ACCESS_TOPIC, judge_claim
from broker.verify.violations import Kind, Place, Violation
from broker.wire.manifest import CollectionStatus

__all__ = ["Takeovers"]


@dataclass(slots=True)
class Takeovers:
    """The comparison of one channel. Where a log lacks messages, ``channel_trees`` has said so before."""

    index: Index
    history: History
    partition: int
    bound: BoundPositions
    report: Callable[[Violation], Place]
    uncollected: int = 0
    not_judged: int = 0
    """Listings and batches that may be about messages for which we hold no key."""

    def check(self, topic: str, end: int) -> None:
        """Compare one record topic, whose log ends at ``end``."""
        self._check_listings(topic, end)
        self._check_unlisted(topic)

    def _violate(self, kind: Kind, topic: str, offset: int, detail: str, cause: Place | None = None) -> Place:
        place = Place(topic, self.partition, offset)
        return self.report(Violation(kind=kind, place=place, detail=detail, caused_by=cause))

    def _check_listings(self, topic: str, end: int) -> None:
        """Check that each listed batch is where its entry says."""
        in_place = 0
        """The offset behind the last batch that was found in its place."""
        moved: Place | None = None
        """The root of the batches that stand elsewhere, until one is in its place again."""
        for listed in self.index.listings(topic):
            batch = self.index.batch(listed.batch_id)
            if batch is not None and (batch.indexed.topic, batch.indexed.offset) == (topic, listed.offset):
                in_place = batch.last + 1
                moved = None
                self._check_listing(listed, batch)
                continue
            stale = self.index.stale.get(listed.batch_id) if batch is None else None
            if stale is not None and (stale.topic, stale.offset) == (topic, listed.offset):
                in_place = stale.offset + stale.records + 1
                moved = None
                self._check_stale_listing(listed, stale)
                continue
            if batch is None and self.index.is_skipped(topic, listed.offset):
                # We hold no key for the manifest there, so we cannot say that the batch is missing.
                self.not_judged += 1
                continue
            # The count comes from an entry, so it may be any number.
            last = listed.offset + max(listed.records, 0)
            cause = moved or self.index.root_within(topic, in_place, last)
            if cause is None and batch is None:
                # A batch that was cut out shows itself in its stream too, when the next batch of the stream
                # is read.
                cause = self.index.gap_behind(topic, listed.offset)
            # A log that ends too early may have lost this batch, with the offsets closed up behind it.
            cause = cause or self.index.root_within(topic, end, end) or self._lost_by(listed)
            where = "is not there" if batch is None else f"stands at {_place(batch)}"
            detail = f"the batch that access@{listed.access_offset} lists {where}"
            moved = self._violate(Kind.COLLECTION_WRONG, topic, listed.offset, detail, cause)

    def _lost_by(self, listed: Listed) -> Place | None:
        """Return the LATE entry by which the service has said since that the batch is lost."""
        late = self.bound.lost_by(listed.topic, listed.offset, listed.access_offset)
        return None if late is None else self.index.root_within(ACCESS_TOPIC, late, late)

    def _check_listing(self, listed: Listed, batch: StoredBatch) -> None:
        what = f"lists {_place(batch)}"
        if listed.records != batch.indexed.count:
            detail = f"{what} with {listed.records} records, it has {batch.indexed.count}"
            self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, listed.access_offset, detail)
        if listed.status is CollectionStatus.STALE and self._may_be_stale(batch):
            self.not_judged += 1
        elif listed.status is CollectionStatus.STALE:
            detail = f"{what} as STALE, and it came in time"
            self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, listed.access_offset, detail)
        # The reader has judged the issuer by the directory of size ``judged_at``. The result can be another
        # one only where the service saw a directory of another size.
        if listed.status is not CollectionStatus.COLLECTED or listed.size == batch.indexed.judged_at:
            return
        known = batch.indexed
        try:
            judge_claim(
                self.history.at(listed.size),
                topic=known.topic,
                partition=known.partition,
                epoch=known.epoch,
                # The reader has judged complaints by the view of the issuer. That is the same for everybody.
                seen=0,
                issuer=known.issuer,
                record_type=known.record_type,
                key_id=batch.key_id,
            )
        except NotEntitled as error:
            detail = f"{what} as COLLECTED: {error.message}"
            self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, listed.access_offset, detail)

    def _may_be_stale(self, batch: StoredBatch) -> bool:
        """Tell whether a message before it, which we cannot open, may have named a larger view."""
        return self.index.skipped_within(batch.indexed.topic, 0, batch.indexed.offset)

    def _check_stale_listing(self, listed: Listed, stale: StaleBatch) -> None:
        what = f"lists {stale.topic}@{stale.offset}"
        if listed.status is not CollectionStatus.STALE:
            detail = f"{what} as {listed.status}, and it is stale"
        elif listed.records != stale.records:
            detail = f"{what} with {listed.records} records, it has {stale.records}"
        else:
            return
        self._violate(Kind.COLLECTION_WRONG, ACCESS_TOPIC, listed.access_offset, detail)

    def _check_unlisted(self, topic: str) -> None:
        unlisted = (batch.indexed.offset for batch in self.index.unlisted(topic))
        for offset in chain(unlisted, self.index.stale.unlisted(topic)):
            before, behind = self.index.listed_around(topic, offset)
            # The service lists a topic in the order of the log. A batch behind all listed ones may still be
            # taken over, and one between two listed ones was passed over.
            if behind is None:
                self.uncollected += 1
                continue
            first, last = sorted((before.access_offset if before else 0, behind.access_offset))
            # The entry that lists the batch may be one for which we hold no key.
            if self.index.skipped_within(ACCESS_TOPIC, first, last):
                self.not_judged += 1
                continue
            cause = self.index.root_within(ACCESS_TOPIC, first, last)
            detail = f"no access entry lists this batch, and access@{behind.access_offset} lists a later one"
            self._violate(Kind.NOT_COLLECTED, topic, offset, detail, cause)


def _place(batch: StoredBatch) -> str:
    return f"{batch.indexed.topic}@{batch.indexed.offset}"
