"""Access entries decided again: who was given what, on whose signed request, from which state of the logs.

An auditor trusts no decision of the service. Each access entry is judged by five checks:

    (1) its positions are at the ends of batches, never below those of an earlier entry of its stream, nor of
        any entry that was issued ten minutes before; whether they fit the logs at all was judged before
        (``access_log``, ``channel_trees``)
    (2) its request is signed by the agency that it names, at a directory that we know and that is no
        newer than the one at those positions, its time is the entry's, and its batches have one issuer
    (3) its outcomes cover each record that was asked for, once
    (4) each record that was allowed exists where the request says
    (5) ``decide_request`` gives the same outcomes from the state at those positions, at the entry's time
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.access.answers import RecordRef, requested_refs
from broker.access.decisions import check_one_issuer, decide_request
from broker.access.policy import Decision
from broker.access.record_states import ChannelRecords
from broker.access.request_checks import MAX_CLOCK_DIFFERENCE_US, check_form, check_signed
from broker.audit.index import Index, Listed, StoredBatch, StoredEntry
from broker.clock import MINUTE_US
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

__all__ = ["AccessCheck", "RecordsAt"]

_MAX_WAITING_US = 60 * 1_000_000
"""The longest time between a request's arrival and its entry, in microseconds."""

_BY_OTHER_MESSAGES = frozenset(
    {None, Reason.NOT_COLLECTED, Reason.RESTRICTED, Reason.WITHDRAWN, Reason.ERASED, Reason.EXPIRED}
)
"""The reasons that other messages than the record's batch decide; None stands for ALLOWED."""

_REPLICAS_DIFFER_US = 10 * MINUTE_US
"""How far two replicas may be behind each other: two clocks may differ by five minutes each way."""

_MAX_RECENT = 65_536

_Reached = dict[str, int]
"""An end for each topic; the directory and the access log are among them."""

_Fault = tuple[str, Place | None]
"""The fault in words, and the place of the violation that it follows from."""


class RecordsAt:
    """The records that one request names, as the logs stood at the positions that its entry recorded."""

    def __init__(self, index: Index, positions: Positions) -> None:
        self.records = ChannelRecords()
        self._index = index
        self._ends = {seen.topic: seen.size for seen in positions.topics}
        self._access_end = positions.access_size

    def load(self, batch_id: bytes) -> None:
        """Take a batch, the orders on its records, and the orders that withdraw those orders."""
        batch = self._index.batch(batch_id)
        if batch is None or not self._take(batch):
            return
        issuer = batch.indexed.issuer
        # Two levels of orders are loaded: an order counts for its record, and a withdrawal counts for its
        # order.
        for order in self._index.orders_on(batch_id, issuer):
            if self._take(order):
                for withdrawal in self._index.orders_on(order.indexed.batch_id, issuer):
                    self._take(withdrawal)
        shredded = self._index.shreddings(batch_id, self._access_end)
        targets = tuple(Target(batch_id=batch_id, index=record) for record in shredded)
        self.records.shred(ErasureTerms(targets=targets, order=None))

    def _take(self, batch: StoredBatch) -> bool:
        """Take a batch if it stood below the positions; returns whether it did."""
        indexed = batch.indexed
        # Its last body counts, and not its manifest: a service takes nothing over before the batch is whole.
        if batch.last >= self._ends.get(indexed.topic, 0):
            return False
        if self.records.put(indexed):
            listed = self._index.listed(indexed.batch_id)
            # A later entry was not there yet when the service decided, so it must not excuse the decision.
            if listed is not None and listed.access_offset < self._access_end:
                self.records.list([_collected(listed)], listed.issued_at)
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
class AccessCheck:
    """The check of one channel's access entries; ``ends`` are those of its record partitions."""

    index: Index
    history: History
    partition: int
    ends: Mapping[str, int]
    report: Callable[[Violation], Place]
    directory_fault: Callable[[int], Place | None]
    not_judged: int = 0
    """Entries whose decisions may hang on messages for which we hold no key."""
    _reached: OrderedDict[bytes, _Reached] = field(default_factory=OrderedDict)
    """The furthest positions of the streams that wrote last. Only ``_fallen_back`` writes them."""
    _recent: deque[tuple[int, _Reached]] = field(default_factory=deque)
    """The positions of the last ten minutes, with their times. Only ``_left_behind`` writes these two."""
    _known: _Reached = field(default_factory=dict)
    """The furthest positions from before that."""

    def check(self) -> None:
        """Judge every entry of the channel, in the order of the log."""
        for entry in self.index.entries():
            positions = entry.positions
            if positions is None or self._is_another_directory(positions):
                continue
            self._check(entry, positions)

    def _is_another_directory(self, positions: Positions) -> bool:
        """Whether the service saw another directory than we do, which was reported as a fork of it."""
        return self.history.root_at(positions.directory_size) != positions.directory_root

    def _check(self, entry: StoredEntry, positions: Positions) -> None:
        # Each step needs the one before it: without true positions there is no state to decide from. So the
        # first step that fails ends the check, and an entry has one violation.
        fault = self._positions_fault(entry, positions)  # (1)
        if fault is not None:
            detail, cause = fault
            self._violate(Kind.ACCESS_POSITIONS, entry, detail, cause)
            return
        directory = self.history.at(positions.directory_size)
        try:
            request = self._request(entry, directory)  # (2)
            if request.directory_size > directory.size:
                # Somebody may have shown the service an old directory on purpose, because a suspension or a
                # revocation stands in the part that the requester had already seen.
                seen = request.directory_size
                detail = f"decided on {directory.size} statements, its request had seen {seen}"
                self._violate(Kind.ACCESS_POSITIONS, entry, detail)
                return
            sizes = {head.topic: head.size for head in positions.heads}
            unseen = next((one for one in request.seen if one.size > sizes.get(one.topic, 0)), None)
            if unseen is not None:
                detail = f"decided on {sizes.get(unseen.topic, 0)} messages of {unseen.topic[:40]}"
                detail = f"{detail}, its request had seen {unseen.size}"
                self._violate(Kind.ACCESS_POSITIONS, entry, detail)
                return
            records = self._records(positions, request)
            check_one_issuer(request, records)
            outcomes = _outcomes(request, entry.terms)  # (3)
        except (RequestRefused, FormatError) as error:
            self._violate(Kind.ACCESS_REQUEST, entry, error.message)
            return
        decisions = decide_request(request, directory, records, self.partition, entry.issued_at)
        differing = [ref for ref in outcomes if outcomes[ref] != decisions[ref]]
        judged = [
            ref
            for ref in differing
            if not self._is_beyond_us(entry, request.items[ref.item], outcomes[ref], decisions[ref])
        ]
        if judged:
            # Only the first difference is reported: a false decision is one manipulation, however many
            # records it has.
            self._report_decision(entry, request, judged[0], outcomes, decisions)
        elif differing:
            self.not_judged += 1

    # (1) the positions

    def _positions_fault(self, entry: StoredEntry, positions: Positions) -> _Fault | None:
        for seen in positions.topics:
            across = self.index.batch_across(seen.topic, seen.size)
            # A service reads whole batches. An end inside a batch was made up, or batches before it were
            # removed.
            if across is not None:
                detail = f"recorded {seen.size} in {seen.topic}, within the batch at {across.indexed.offset}"
                return detail, self.index.root_within(seen.topic, 0, seen.size)
        now = {seen.topic: seen.size for seen in positions.heads}
        now["directory"] = positions.directory_size
        return self._fallen_back(entry, now) or self._left_behind(entry, now)

    def _fallen_back(self, entry: StoredEntry, now: _Reached) -> _Fault | None:
        """Find a service that decided on an older state than before.

        The operator of a service may hold a topic back, so that the service allows what the newest state
        would deny. Its positions then fall within one stream of entries, and that gives it away.
        """
        if entry.stream is None:
            return None
        # Taking the stream out and putting it back keeps the table in the order of last use, so the stream
        # that was silent longest is dropped first.
        before = self._reached.pop(entry.stream, {})
        self._reached[entry.stream] = {topic: max(end, before.get(topic, 0)) for topic, end in now.items()}
        if len(self._reached) > MAX_HEADS:
            self._reached.popitem(last=False)
        fallen = next((topic for topic, end in now.items() if end < before.get(topic, 0)), None)
        if fallen is None:
            return None
        return f"recorded {now[fallen]} in {fallen}, its stream had reached {before[fallen]} before", None

    def _left_behind(self, entry: StoredEntry, now: _Reached) -> _Fault | None:
        """Find a service that began a new stream to decide on an older state.

        Replicas read at the same time, so that their positions need not rise. But a service reads to the ends
        of now before it decides: it has seen whatever another one bound ten minutes before.
        """
        known = self._known
        while self._recent and self._recent[0][0] <= entry.issued_at - _REPLICAS_DIFFER_US:
            _, older = self._recent.popleft()
            known |= {topic: max(end, known.get(topic, 0)) for topic, end in older.items()}
        if entry.stream is not None and len(self._recent) < _MAX_RECENT:
            self._recent.append((entry.issued_at, now))
        behind = next((topic for topic, end in now.items() if end < known.get(topic, 0)), None)
        if behind is None:
            return None
        return (
            f"recorded {now[behind]} in {behind}, where an entry ten minutes before saw {known[behind]}",
            None,
        )

    # (2) the request, (4) and (5) the decision

    def _request(self, entry: StoredEntry, directory: Directory) -> AccessRequest:
        signed = entry.terms.request
        if signed.kind != "access-request":
            raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'access-request'")
        request = decode(AccessRequest, signed.content)
        # The signature comes first: nothing is said of an agency by a request that it did not sign. It is
        # checked at the directory of the decision. A key that was revoked later does not undo it.
        check_signed(signed, request.issuer, directory)
        check_form(request)
        if self.history.root_at(request.directory_size) != request.directory_root:
            raise RequestRefused(f"'{request.issuer[:60]}' saw another directory")
        # A service could keep a signed request and use it once more, long after its agency has stopped
        # asking.
        if abs(request.issued_at - entry.issued_at) > MAX_CLOCK_DIFFERENCE_US + _MAX_WAITING_US:
            raise RequestRefused("the request's time is not the entry's")
        return request

    def _records(self, positions: Positions, request: AccessRequest) -> ChannelRecords:
        state = RecordsAt(self.index, positions)
        for item in request.items:
            if isinstance(item, RecordItem):
                state.load(item.batch_id)
        return state.records

    def _is_beyond_us(
        self, entry: StoredEntry, item: RecordItem | LogItem, said: Decision, decided: Decision
    ) -> bool:
        """Tell whether messages for which we hold no key may explain a decision.

        A record may stand in such a message itself. Orders, erasures and collections may, where they decide
        the difference. What hangs on the record and the directory alone is judged.
        """
        if not isinstance(item, RecordItem):
            return False
        if self.index.is_skipped(item.topic, item.offset):
            return True
        if entry.positions is None or not {said.reason, decided.reason} <= _BY_OTHER_MESSAGES:
            return False
        return any(self.index.skipped_within(head.topic, 0, head.size - 1) for head in entry.positions.heads)

    def _report_decision(
        self,
        entry: StoredEntry,
        request: AccessRequest,
        ref: RecordRef,
        outcomes: Mapping[RecordRef, Decision],
        decisions: Mapping[RecordRef, Decision],
    ) -> None:
        item = request.items[ref.item]
        decided = decisions[ref]
        cause = self._cause(entry, item)
        if decided.reason is Reason.UNKNOWN_RECORD and isinstance(item, RecordItem):  # (4)
            detail = f"record {ref.record} of {item.topic}@{item.offset} is not there"
            self._violate(Kind.ACCESS_RECORD, entry, detail, cause)
            return
        said = _words(outcomes[ref])
        detail = f"'{request.issuer}' was {said}, and decided again it is {_words(decided)}"
        self._violate(Kind.ACCESS_DECISION, entry, detail, cause)  # (5)

    def _cause(self, entry: StoredEntry, item: RecordItem | LogItem) -> Place | None:
        """Return the place of the violation that a wrong decision may follow from.

        It is the first violation at the record itself, or else the first one below the entry's positions.
        """
        if isinstance(item, RecordItem):
            listed = self.index.listed(item.batch_id)
            last = item.offset + (listed.records if listed else max(item.indexes, default=0) + 1)
            found = self.index.root_within(item.topic, item.offset, last)
            if found is not None:
                return found
        places = [(seen.topic, seen.size) for seen in entry.positions.heads] if entry.positions else []
        roots = (self.index.root_within(topic, 0, end) for topic, end in places)
        return next((root for root in roots if root is not None), None)

    def _violate(self, kind: Kind, entry: StoredEntry, detail: str, cause: Place | None = None) -> None:
        place = Place(ACCESS_TOPIC, self.partition, entry.offset)
        words = f"entry {entry.record}: {detail}"
        self.report(Violation(kind=kind, place=place, detail=words, caused_by=cause))


def _outcomes(request: AccessRequest, terms: AccessTerms) -> dict[RecordRef, Decision]:
    """Return the decision of an entry for each record that was asked for.

    Raises FormatError unless it covers each record exactly once.
    """
    found: dict[RecordRef, Decision] = {}
    for outcome in terms.outcomes:
        if (outcome.verdict is Verdict.DENIED) != (outcome.reason is not None):
            raise FormatError(f"{outcome.verdict} with reason {outcome.reason}")
        # A range of the access log has no indexes; the index -1 stands for the whole range.
        for index in outcome.indexes or (-1,):
            ref = RecordRef(outcome.item, index)
            if ref in found:
                raise FormatError(f"two outcomes for record {index} of item {outcome.item}")
            found[ref] = Decision(outcome.verdict, outcome.reason)
    if found.keys() != set(requested_refs(request)):
        raise FormatError("outcomes do not cover exactly what was asked for")
    return found


def _words(decision: Decision) -> str:
    return str(decision.verdict) + (f" ({decision.reason})" if decision.reason else "")
