"""The entries of a channel's access log, as a replay meets them one after the other.

Only the form of an entry is judged here. Its statements about other logs are put into the index, and
``takeovers`` and ``access_check`` judge it when everything has been read. A LATE entry is a violation by
itself, since it says that somebody cut the log; the entries in it count as if they still stood there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.access.late_entries import LostBatch, lost_batches
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
)

__all__ = ["MAX_LISTED_BATCHES", "AccessLog"]

MAX_LISTED_BATCHES = 256
"""The most batches that one COLLECTION entry may list."""


@dataclass(slots=True)
class AccessLog:
    """Puts one channel's access log into the index, and counts its entries by kind.

    ``recorded`` and the counts are written here while the log is read, and only read afterwards.
    """

    partition: int
    topics: frozenset[str]
    history: History
    keys: Callable[[int], EpochKey | None]
    index: Index
    report: Callable[[Violation], Place]
    recorded: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each record topic the furthest end that an entry recorded, and the offset of that entry."""
    covering: Covering = field(default_factory=Covering)
    collections: int = 0
    denials: int = 0
    erasures: int = 0
    late: int = 0
    seen: Callable[[OpenedManifest, int, bool], None] | None = None
    """Called with each batch of entries, its offset, and whether it was lost and came back as LATE."""

    def take(self, batch: VerifiedBatch) -> None:
        """Take the next batch of entries that stands in the log."""
        self._take(batch.opened, batch.offset)

    def _take(self, opened: OpenedManifest, offset: int, *, lost: bool = False) -> None:
        if self.seen is not None:
            self.seen(opened, offset, lost)
        header = opened.manifest.header
        if not lost:
            self._cover(opened)
        for record, term in enumerate(opened.entries.term_of):
            terms = opened.entries.terms[term]
            match terms:
                case CollectionTerms():
                    self.collections += 1
                    self._list(terms, offset, header)
                case AccessTerms():
                    self._record_ends(terms, offset)
                    # A lost entry is read out of its order, so its stream says nothing about it.
                    stream = None if lost else header.stream
                    self.index.enter(StoredEntry(offset, record, header.issued_at, stream, terms))
                case DenialTerms():
                    self.denials += 1
                    self._check_denial(terms, offset)
                case ErasureTerms():
                    self.erasures += 1
                    self._shred(terms, offset)
                case LateTerms() if lost:
                    pass  # It is followed by the batches within it, see ``lost_batches``.
                case LateTerms():
                    self.late += 1
                    self._take_late(terms, offset)
                case _:
                    detail = f"'{type(terms).__name__}' in the access log"
                    self._violate(Kind.TERMS_INVALID, offset, detail)

    def _cover(self, opened: OpenedManifest) -> None:
        """Take the positions of an entry that stands at its place, for the batches that came too late."""
        at = opened.manifest.header.issued_at
        for terms in opened.entries.terms:
            if isinstance(terms, AccessTerms):
                positions = terms.positions
                if self.history.root_at(positions.directory_size) == positions.directory_root:
                    sizes = {seen.topic: seen.end for seen in positions.ends}
                    sizes[ACCESS_TOPIC] = positions.access_end
                    self.covering.take(positions.directory_size, at, sizes)

    def _record_ends(self, terms: AccessTerms, offset: int) -> None:
        for seen in terms.positions.ends:
            # An entry that came back counts here too: it saw the log as it was before somebody cut it.
            if seen.topic in self.topics and seen.end > self.recorded.get(seen.topic, (0, 0))[0]:
                self.recorded[seen.topic] = (seen.end, offset)

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

    def _take_late(self, terms: LateTerms, offset: int) -> None:
        lost = list(
            lost_batches(terms.messages, history=self.history, partition=self.partition, keys=self.keys)
        )
        # Counted, so that a second cut is not taken for the first one, where that is known.
        cuts = 1 + max((len(one.within) for one in lost if isinstance(one, LostBatch)), default=0)
        messages = f"{len(terms.messages)} messages that stood at {terms.offset}"
        how = "had been cut from the log" if cuts == 1 else f"had been cut from the log {cuts} times"
        place = Place(ACCESS_TOPIC, self.partition, offset)
        self.report(Violation(kind=Kind.LATE_ENTRY, place=place, detail=f"{messages} {how}", count=cuts))
        for found in lost:
            if isinstance(found, LostBatch):
                self._take(found.opened, offset, lost=True)
            else:
                self._violate(Kind.TERMS_INVALID, offset, f"late: {found}")
