"""The entries of a channel's access log, as a replay meets them one after the other.

Only the form of an entry is judged here. Its statements about other logs are put into the index, and
``takeovers`` and ``access_check`` judge it when everything has been read. A LATE entry is a violation by
itself, since it says that somebody cut the log; the entries in it count as if they still stood there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.access.bound_positions import BoundPositions
from broker.access.late_entries import LostBatch, SealedLost, lost_batches
from broker.access.record_states import LISTED
from broker.audit.index import Index, StoredEntry
from broker.audit.stale import Covering
from broker.directory import EpochKey, History
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.envelope import OpenedManifest
from broker.wire.limits import MAX_RECORDS
from broker.wire.manifest import (
    AccessTerms,
    CollectionTerms,
    DenialTerms,
    ErasureTerms,
    Header,
    LateTerms,
    Positions,
    PositionTerms,
)

__all__ = ["MAX_LISTED_BATCHES", "AccessLog"]

MAX_LISTED_BATCHES = 256
"""The most batches that one COLLECTION entry may list."""


@dataclass(slots=True)
class AccessLog:
    """Puts one channel's access log into the index, and counts its entries by kind.

    ``bound`` and the counts are written here while the log is read, and only read afterwards.
    """

    partition: int
    topics: frozenset[str]
    history: History
    keys: Callable[[int], EpochKey | None]
    index: Index
    report: Callable[[Violation], Place]
    bound: BoundPositions
    """Takes the positions of each manifest."""
    news_end: int = 0
    """The end of the last batch that says more than positions."""
    covering: Covering = field(default_factory=Covering)
    collections: int = 0
    denials: int = 0
    erasures: int = 0
    late: int = 0
    not_judged: int = 0
    """Messages that came back in LATE entries, of epochs whose keys we do not hold."""
    seen: Callable[[OpenedManifest, int, bool], None] | None = None
    """Called with each batch of entries, its offset, and whether it was lost and came back as LATE."""

    def take(self, batch: VerifiedBatch) -> None:
        """Take the next batch of entries that stands in the log."""
        self._take(batch.opened, batch.offset)

    def _take(self, opened: OpenedManifest, offset: int, *, lost: bool = False) -> None:
        if self.seen is not None:
            self.seen(opened, offset, lost)
        header = opened.manifest.header
        # Nobody is measured by what was signed with a key that is revoked by now.
        is_binding = not lost and not self.history.latest.is_revoked(opened.key_id)
        positions = opened.manifest.positions
        if positions is None:
            raise TypeError("a manifest of the access log without positions is not verified")
        if not lost and any(not isinstance(terms, PositionTerms) for terms in opened.entries.terms):
            self.news_end = offset + 1 + opened.manifest.count
        fault = self._positions_fault(positions)
        if fault is None:
            # What came back was signed before the LATE entry that brought it.
            place = offset - 1 if lost else offset
            self.bound.take(positions, offset=place, issued_at=header.issued_at, key_id=opened.key_id)
            if is_binding:
                self._cover(positions, header.issued_at)
        elif not lost:
            self._violate(Kind.ACCESS_POSITIONS, offset, fault)
        for record, term in enumerate(opened.entries.term_of):
            terms = opened.entries.terms[term]
            match terms:
                case CollectionTerms():
                    self.collections += 1
                    self._list(terms, offset, header)
                case AccessTerms():
                    # A lost entry is read out of its order, so its stream says nothing about it.
                    stream = header.stream if is_binding else None
                    judged = positions if fault is None else None
                    self.index.enter(StoredEntry(offset, record, header.issued_at, stream, terms, judged))
                case DenialTerms():
                    self.denials += 1
                    self._check_denial(terms, offset)
                case ErasureTerms():
                    self.erasures += 1
                    self._shred(terms, offset)
                case LateTerms() if lost:
                    # It is followed by the batches within it, see ``lost_batches``.
                    self.bound.take_late(terms.lacking, offset=offset, key_id=opened.key_id)
                case LateTerms():
                    self.late += 1
                    self._take_late(terms, offset, opened.key_id)
                case PositionTerms():
                    pass
                case _:
                    detail = f"'{type(terms).__name__}' in the access log"
                    self._violate(Kind.TERMS_INVALID, offset, detail)

    def _cover(self, positions: Positions, issued_at: int) -> None:
        """Take the positions of a manifest that stands at its place, for the batches that came too late."""
        if self.history.root_at(positions.directory_size) == positions.directory_root:
            sizes = {head.topic: head.size for head in positions.heads}
            self.covering.take(positions.directory_size, issued_at, sizes)

    def _positions_fault(self, positions: Positions) -> str | None:
        """Say which positions no service can have read, whatever the logs hold; None where there is none."""
        if positions.directory_size < 0:
            return f"recorded {positions.directory_size} statements of the directory"
        topics = [seen.topic for seen in positions.topics]
        if topics != sorted(self.topics):
            return f"recorded positions in {', '.join(topics)[:200]}"
        # A position beyond the entry itself fits no log, so that it is a fork of the access log.
        negative = next((seen for seen in positions.heads if seen.size < 0), None)
        return None if negative is None else f"recorded {negative.size} as the end of {negative.topic}"

    def _violate(self, kind: Kind, offset: int, detail: str) -> Place:
        place = Place(ACCESS_TOPIC, self.partition, offset)
        return self.report(Violation(kind=kind, place=place, detail=detail))

    def _list(self, terms: CollectionTerms, offset: int, header: Header) -> None:
        if not 1 <= len(terms.batches) <= MAX_LISTED_BATCHES:
            self._violate(Kind.COLLECTION_WRONG, offset, f"a collection of {len(terms.batches)} batches")
        # The batches beyond the limit are dropped: one entry must not fill the index.
        for batch in terms.batches[:MAX_LISTED_BATCHES]:
            place = f"{batch.topic[:40]}@{batch.offset}"
            if batch.topic not in self.topics or batch.offset < 0 or batch.status not in LISTED:
                detail = f"lists a batch as {batch.status} at {place}"
                self._violate(Kind.COLLECTION_WRONG, offset, detail)
                continue
            before = self.index.take_listing(batch, offset, header)
            if before is None:
                continue
            # Two services may list the same batch, and then they must name the same place and count.
            if (before.topic, before.offset, before.records) != (batch.topic, batch.offset, batch.count):
                detail = f"lists a batch at {place}, the entry at {before.access_offset} did"
                self._violate(Kind.COLLECTION_WRONG, offset, f"{detail} at {before.topic}@{before.offset}")

    def _shred(self, terms: ErasureTerms, offset: int) -> None:
        indexes = [target.index for target in terms.targets]
        wrong = next((index for index in indexes if not 0 <= index < MAX_RECORDS), None)
        if wrong is not None:
            detail = f"shreds record {wrong} of a batch, which has at most {MAX_RECORDS}"
            self._violate(Kind.TERMS_INVALID, offset, detail)
        self.index.shred(terms, offset)

    def _check_denial(self, terms: DenialTerms, offset: int) -> None:
        if terms.count < 1 or terms.first_at > terms.last_at:
            self._violate(Kind.TERMS_INVALID, offset, f"{terms.count} denials of '{terms.agency[:60]}'")

    def _take_late(self, terms: LateTerms, offset: int, key_id: bytes) -> None:
        self.bound.take_late(terms.lacking, offset=offset, key_id=key_id)
        lost = list(
            lost_batches(terms.messages, history=self.history, partition=self.partition, keys=self.keys)
        )
        # Counted, so that a second cut is not taken for the first one, where that is known.
        cuts = 1 + max((len(one.within) for one in lost if isinstance(one, LostBatch)), default=0)
        place = Place(ACCESS_TOPIC, self.partition, offset)
        detail = _late_words(terms, cuts)
        self.report(Violation(kind=Kind.LATE_ENTRY, place=place, detail=detail, count=cuts))
        for found in lost:
            if isinstance(found, LostBatch):
                self._take(found.opened, offset, lost=True)
            elif isinstance(found, SealedLost):
                self.not_judged += 1
                self.index.skip(ACCESS_TOPIC, offset)
            else:
                self._violate(Kind.TERMS_INVALID, offset, f"late: {found}")


def _late_words(terms: LateTerms, cuts: int) -> str:
    said = []
    if terms.messages:
        how = "had been cut from the log" if cuts == 1 else f"had been cut from the log {cuts} times"
        said.append(f"{len(terms.messages)} messages that stood at {terms.offset} {how}")
    said += [
        f"messages {lost.start} to {lost.end - 1} of {lost.topic[:40]} are gone or differ from what was read"
        for lost in terms.lacking
    ]
    return "; ".join(said) or "says that nothing was lost"
