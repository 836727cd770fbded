"""Access entries decided again: who was given what, by whose signed request, from which state.

(1) the positions are within the logs, at the ends of batches, never below those of an earlier entry
    of the stream, and the directory's head is right
(2) the request is one, signed by its issuer, at a directory that we know, no later than the one at
    those positions, in time
(3) the outcomes cover each record asked for once
(4) what was allowed exists where the request says
(5) ``decide_request`` gives the same again, from the state at those positions, at the entry's time
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.access.answers import RecordRef, asked_for
from broker.access.decisions import decide_request
from broker.access.policy import Decision
from broker.access.record_states import ChannelRecords
from broker.access.requests import MAX_CLOCK_DIFFERENCE_US, check_form, check_signed
from broker.audit.index import Index, Listed, StoredBatch, StoredEntry
from broker.directory import Directory, History
from broker.errors import FormatError, RequestRefused
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.streams import MAX_HEADS
from broker.verify.violations import Kind, Place, Violation
from broker.wire.access import AccessRequest
from broker.wire.encoding import decode
from broker.wire.manifest import (
    AccessTerms,
    Collected,
    ErasureTerms,
    LogItem,
    Positions,
    Reason,
    RecordItem,
    Verdict,
)
from broker.wire.terms import Target

__all__ = ["Decisions", "RecordsAt"]

_MAX_WAITING_US = 60 * 1_000_000
"""Between a request's arrival and the entry's time, at most."""

_Reached = dict[str, int]
"""Positions by topic; the directory and the access log among them."""


class RecordsAt(ChannelRecords):
    """The records that a request names, as the logs stood at recorded positions."""

    def __init__(self, index: Index, positions: Positions) -> None:
        super().__init__()
        self._index = index
        self._ends = {one.topic: one.end for one in positions.ends}
        self._access_end = positions.access_end

    def load(self, batch_id: bytes) -> None:
        """Take a batch, the orders on its records, and what withdraws those."""
        batch = self._index.batch(batch_id)
        if batch is None or not self._put(batch):
            return
        issuer = batch.indexed.issuer
        for order in self._index.orders_on(batch_id, issuer):
            if self._put(order):
                for withdrawal in self._index.orders_on(order.indexed.batch_id, issuer):
                    self._put(withdrawal)
        shredded = self._index.shreddings(batch_id, self._access_end)
        targets = tuple(Target(batch_id=batch_id, index=record) for record in shredded)
        self.shred(ErasureTerms(targets=targets, order=None))

    def _put(self, batch: StoredBatch) -> bool:
        one = batch.indexed
        if batch.last >= self._ends.get(one.topic, 0):
            return False
        if one.batch_id in self._batches:
            return True
        self._batches[one.batch_id] = one
        self._take_orders(one, (batch.appended_at, one.topic, one.offset))
        listed = self._index.listed(one.batch_id)
        if listed is not None and listed.access_offset < self._access_end:
            self.list([_collected(listed)])
        return True


def _collected(listed: Listed) -> Collected:
    return Collected(
        topic=listed.topic,
        offset=listed.offset,
        batch_id=listed.batch_id,
        count=listed.records,
        status=listed.status,
        detail="",
    )


@dataclass(slots=True)
class Decisions:
    """The access entries of one channel, judged; ``ends`` are those of its record partitions."""

    index: Index
    history: History
    partition: int
    ends: Mapping[str, int]
    report: Callable[[Violation], Place]
    directory_fault: Callable[[int], Place | None]
    _reached: OrderedDict[bytes, _Reached] = field(default_factory=OrderedDict)
    """The furthest positions of each of the streams that wrote last."""

    def check(self) -> None:
        """Judge every entry."""
        for entry in self.index.entries():
            self._check(entry)

    # (1)

    def _positions_wrong(self, entry: StoredEntry) -> tuple[str, Place | None] | None:
        positions = entry.terms.positions
        head = self.history.head_at(positions.directory_size)
        if head is None or head != positions.directory_head:
            detail = f"saw another directory of {positions.directory_size} statements"
            return detail, self.directory_fault(positions.directory_size)
        if not 0 <= positions.access_end <= entry.offset:
            detail = f"recorded {positions.access_end} as the end of the access log before it"
            return detail, self.index.root_within(ACCESS_TOPIC, 0, entry.offset)
        topics = [one.topic for one in positions.ends]
        if sorted(topics) != sorted(self.ends):
            return f"recorded positions in {', '.join(topics)[:200]}", None
        for one in positions.ends:
            if one.end < 0:
                return f"recorded {one.end} as the end of {one.topic}", None
            across = self.index.batch_across(one.topic, one.end)
            if across is not None:
                detail = f"recorded {one.end} in {one.topic}, within the batch at {across.indexed.offset}"
                return detail, self.index.root_within(one.topic, 0, one.end)
        return self._fallen(entry)

    def _fallen(self, entry: StoredEntry) -> tuple[str, Place | None] | None:
        """A service that decides on what was, because what is would deny, gives itself away."""
        if entry.stream is None:
            return None
        positions = entry.terms.positions
        now = {one.topic: one.end for one in positions.ends}
        now |= {"directory": positions.directory_size, ACCESS_TOPIC: positions.access_end}
        before = self._reached.pop(entry.stream, {})
        self._reached[entry.stream] = {topic: max(end, before.get(topic, 0)) for topic, end in now.items()}
        if len(self._reached) > MAX_HEADS:
            self._reached.popitem(last=False)
        topic = next((topic for topic, end in now.items() if end < before.get(topic, 0)), None)
        if topic is None:
            return None
        return f"recorded {now[topic]} in {topic}, its stream had reached {before[topic]} before", None

    # all of it

    def _check(self, entry: StoredEntry) -> None:
        wrong = self._positions_wrong(entry)  # (1)
        if wrong is not None:
            self._violate(Kind.ACCESS_POSITIONS, entry, *wrong)
            return
        directory = self.history.at(entry.terms.positions.directory_size)
        try:
            request = self._request(entry, directory)  # (2)
            if request.directory_size > directory.size:
                detail = (
                    f"decided on {directory.size} statements, its request had seen {request.directory_size}"
                )
                self._violate(Kind.ACCESS_POSITIONS, entry, detail)
                return
            outcomes = _outcomes(request, entry.terms)  # (3)
        except (RequestRefused, FormatError) as error:
            self._violate(Kind.ACCESS_REQUEST, entry, error.message)
            return
        decisions = self._decide(entry, request, directory)
        wrong_refs = [ref for ref in outcomes if outcomes[ref] != decisions[ref]]
        if wrong_refs:
            self._report_decision(entry, request, wrong_refs[0], outcomes, decisions)

    def _request(self, entry: StoredEntry, directory: Directory) -> AccessRequest:
        signed = entry.terms.request
        if signed.kind != "access-request":
            raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'access-request'")
        request = check_form(decode(AccessRequest, signed.content))
        head = self.history.head_at(request.directory_size)
        if head is None or head != request.directory_head:
            raise RequestRefused(f"'{request.issuer[:60]}' saw another directory")
        if abs(request.issued_at - entry.issued_at) > MAX_CLOCK_DIFFERENCE_US + _MAX_WAITING_US:
            raise RequestRefused("the request's time is not the entry's")
        check_signed(signed, request.issuer, directory)
        return request

    def _decide(
        self, entry: StoredEntry, request: AccessRequest, directory: Directory
    ) -> Mapping[RecordRef, Decision]:
        records = RecordsAt(self.index, entry.terms.positions)
        for item in request.items:
            if isinstance(item, RecordItem):
                records.load(item.batch_id)
        return decide_request(request, directory, records, self.partition, entry.issued_at)

    def _report_decision(
        self,
        entry: StoredEntry,
        request: AccessRequest,
        ref: RecordRef,
        outcomes: Mapping[RecordRef, Decision],
        decisions: Mapping[RecordRef, Decision],
    ) -> None:
        said, found, item = outcomes[ref], decisions[ref], request.items[ref.item]
        cause = self._cause(entry, item)
        if found.reason is Reason.UNKNOWN_RECORD and isinstance(item, RecordItem):  # (4)
            detail = f"record {ref.record} of {item.topic}@{item.offset} is not there"
            self._violate(Kind.ACCESS_RECORD, entry, detail, cause)
            return
        detail = f"'{request.issuer}' was {_words(said)}, and decided again it is {_words(found)}"
        self._violate(Kind.ACCESS_DECISION, entry, detail, cause)  # (5)

    def _cause(self, entry: StoredEntry, item: RecordItem | LogItem) -> Place | None:
        """The trouble that an entry's decision may follow from: with its record, else below its positions."""
        positions = entry.terms.positions
        if isinstance(item, RecordItem):
            listed = self.index.listed(item.batch_id)
            last = item.offset + (listed.records if listed else max(item.indexes, default=0) + 1)
            found = self.index.root_within(item.topic, item.offset, last)
            if found is not None:
                return found
        places = [(ACCESS_TOPIC, positions.access_end), *((one.topic, one.end) for one in positions.ends)]
        roots = (self.index.root_within(topic, 0, end) for topic, end in places)
        return next((root for root in roots if root is not None), None)

    def _violate(self, kind: Kind, entry: StoredEntry, detail: str, cause: Place | None = None) -> None:
        place = Place(ACCESS_TOPIC, self.partition, entry.offset)
        what = f"entry {entry.record}: {detail}"
        self.report(Violation(kind=kind, place=place, detail=what, caused_by=cause))


def _outcomes(request: AccessRequest, terms: AccessTerms) -> dict[RecordRef, Decision]:
    """What an entry says of each record asked for; FormatError unless it covers each once."""
    found: dict[RecordRef, Decision] = {}
    for one in terms.outcomes:
        if (one.verdict is Verdict.DENIED) != (one.reason is not None):
            raise FormatError(f"{one.verdict} with reason {one.reason}")
        for index in one.indexes or (-1,):
            ref = RecordRef(one.item, index)
            if ref in found:
                raise FormatError(f"two outcomes for record {index} of item {one.item}")
            found[ref] = Decision(one.verdict, one.reason)
    if found.keys() != set(asked_for(request)):
        raise FormatError("outcomes do not cover exactly what was asked for")
    return found


def _words(decision: Decision) -> str:
    return str(decision.verdict) + (f" ({decision.reason})" if decision.reason else "")
