"""The entries of a channel's access log, as replay meets them: form first, the rest when all is read.

What an entry says about other logs can be judged only when those were read, so it is put into the
index here; ``takeovers`` and ``decisions`` judge it. A LATE entry is a violation by itself
(somebody cut the log), and what it holds counts as present.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.access.late_entries import lost_manifests
from broker.audit.index import Index, StoredEntry
from broker.directory import EpochKey, History
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.batch import MAX_RECORDS, OpenedManifest
from broker.wire.manifest import (
    AccessTerms,
    CollectionStatus,
    CollectionTerms,
    DenialTerms,
    ErasureTerms,
    LateTerms,
)

__all__ = ["MAX_LISTED_BATCHES", "AccessLog"]

MAX_LISTED_BATCHES = 256
"""Batches that one COLLECTION entry lists."""


@dataclass(slots=True)
class AccessLog:
    """One channel's access log on its way into the index."""

    partition: int
    topics: frozenset[str]
    history: History
    keys: Callable[[int], EpochKey | None]
    index: Index
    report: Callable[[Violation], Place]
    recorded: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The furthest end of each record topic that an entry recorded, and the entry's offset."""
    collections: int = 0
    denials: int = 0
    erasures: int = 0
    late: int = 0
    seen: Callable[[OpenedManifest, int, bool], None] | None = None
    """Told each batch of entries that counts, where it stands, and whether it was lost and is LATE."""

    def take(self, batch: VerifiedBatch) -> None:
        """Take a batch of entries that stands."""
        self._take(batch.opened, batch.offset)

    def _take(self, opened: OpenedManifest, offset: int, *, lost: bool = False) -> None:
        if self.seen is not None:
            self.seen(opened, offset, lost)
        header = opened.manifest.header
        for record, term in enumerate(opened.entries.term_of):
            terms = opened.entries.terms[term]
            match terms:
                case CollectionTerms():
                    self.collections += 1
                    self._list(terms, offset, header.directory_size)
                case AccessTerms():
                    self._record_ends(terms, offset)
                    stream = None if lost else header.stream
                    self.index.enter(StoredEntry(offset, record, header.issued_at, stream, terms))
                case DenialTerms():
                    self.denials += 1
                    self._check_denial(terms, offset)
                case ErasureTerms():
                    self.erasures += 1
                    self._shred(terms, offset)
                case LateTerms() if not lost:
                    self.late += 1
                    self._take_late(terms, offset)
                case _:
                    detail = f"'{type(terms).__name__}' in the access log"
                    self._violate(Kind.TERMS_INVALID, offset, detail)

    def _record_ends(self, terms: AccessTerms, offset: int) -> None:
        for one in terms.positions.ends:
            if one.topic in self.topics and one.end > self.recorded.get(one.topic, (0, 0))[0]:
                self.recorded[one.topic] = (one.end, offset)

    def _violate(self, kind: Kind, offset: int, detail: str) -> Place:
        place = Place(ACCESS_TOPIC, self.partition, offset)
        return self.report(Violation(kind=kind, place=place, detail=detail))

    def _list(self, terms: CollectionTerms, offset: int, size: int) -> None:
        if not 1 <= len(terms.batches) <= MAX_LISTED_BATCHES:
            self._violate(Kind.COLLECTION_WRONG, offset, f"a collection of {len(terms.batches)} batches")
        for one in terms.batches[:MAX_LISTED_BATCHES]:
            if one.topic not in self.topics or one.offset < 0 or one.status is CollectionStatus.UNKNOWN:
                detail = f"lists a batch as {one.status} at {one.topic[:40]}@{one.offset}"
                self._violate(Kind.COLLECTION_WRONG, offset, detail)
                continue
            before = self.index.take_listing(one, offset, size)
            if before is not None and (before.topic, before.offset, before.records) != (
                one.topic, one.offset, one.count,
            ):  # fmt: skip
                detail = f"lists a batch at {one.topic}@{one.offset}, the entry at {before.access_offset} did"
                self._violate(Kind.COLLECTION_WRONG, offset, f"{detail} at {before.topic}@{before.offset}")

    def _shred(self, terms: ErasureTerms, offset: int) -> None:
        wrong = next((one.index for one in terms.targets if not 0 <= one.index < MAX_RECORDS), None)
        if wrong is not None:
            detail = f"shreds record {wrong} of a batch, which has at most {MAX_RECORDS}"
            self._violate(Kind.TERMS_INVALID, offset, detail)
        self.index.shred(terms, offset)

    def _check_denial(self, terms: DenialTerms, offset: int) -> None:
        if terms.count < 1 or terms.first_at > terms.last_at:
            self._violate(Kind.TERMS_INVALID, offset, f"{terms.count} denials of '{terms.agency[:60]}'")

    def _take_late(self, terms: LateTerms, offset: int) -> None:
        count = len(terms.messages)
        detail = f"{count} messages that stood at {terms.offset} had been cut from the log"
        self._violate(Kind.LATE_ENTRY, offset, detail)
        found = lost_manifests(terms.messages, history=self.history, partition=self.partition, keys=self.keys)
        for lost in found:
            if isinstance(lost, OpenedManifest):
                self._take(lost, offset, lost=True)
            else:
                self._violate(Kind.TERMS_INVALID, offset, f"late: {lost}")
