"""Answers of the key access service, as the service makes them and the requester opens and checks them.

    AccessAnswer {receipt: Signed(Receipt), shares, entries}, sealed to the requester's receiving key

The requester keeps the receipt: it names the access entry that must stand in the log. It uses the shares
and forgets them. The issuer of a record signed a check value for its release share, so the reader, who
holds the batch, checks each share with ``lock.check_release_share``. Anything wrong here convicts the
service and is a PeerError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, TypeVar

from broker.access.requests import PreparedRequest
from broker.crypto.lock import SHARE_BYTES
from broker.crypto.seal import ReceivingKey, open_sealed_answer
from broker.directory import Directory
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid
from broker.verify.entitlement import verify_signature
from broker.wire.access import (
    AccessAnswer,
    AccessRequest,
    CollectionAnswer,
    CollectionQuery,
    EntryRef,
    ItemShares,
    LogEntry,
    Receipt,
    ReceiptOutcome,
)
from broker.wire.encoding import decode, encode
from broker.wire.manifest import (
    Collected,
    LogItem,
    Reason,
    RecordItem,
    Signed,
    Verdict,
)

__all__ = [
    "Answer",
    "Outcome",
    "RecordRef",
    "check_service_signature",
    "encode_answer",
    "grouped",
    "open_answer",
    "open_collection_answer",
    "open_receipt",
    "receipt_outcomes",
    "requested_refs",
    "share_of",
]

MAX_ANSWER_BYTES = 16_000_000
"""Bytes of an answer: the shares of 16 batches need 150,000, the rest is for a range of the access log."""

_T = TypeVar("_T")


class RecordRef(NamedTuple):
    """A record that a request names: the place of its item, and the record's index in the batch.

    A range of the access log is named as a whole, with the record index -1.
    """

    item: int
    record: int


class Outcome(NamedTuple):
    """The decision about one record, and whether its share was released.

    A record can be allowed and still not be released: ``reason`` then says why its share was withheld.
    """

    verdict: Verdict
    reason: Reason | None
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """A checked answer. ``signed`` is the receipt, which is kept; ``shares`` are never stored."""

    signed: Signed
    receipt: Receipt
    outcomes: Mapping[RecordRef, Outcome]
    shares: Mapping[RecordRef, bytes]
    entries: tuple[LogEntry, ...]

    @property
    def entry(self) -> EntryRef | None:
        """The place of the access entry; None when the denial was only counted."""
        return self.receipt.entry


def open_answer(
    prepared: PreparedRequest, sealed: bytes, keys: Iterable[ReceivingKey], directory: Directory
) -> Answer:
    """Open an answer of the key access service and check it, as far as no log is needed.

    (1) The seal opens for this request, (2) the Avro is strict, (3) the service signed the receipt,
    (4) the receipt answers this request, (5) its outcomes cover each index of each item once, (6) the
    shares are exactly those of the released records, (7) nothing is released without an access entry,
    which stands in the channel's own partition and comes with the positions that bind it, (8) log entries
    come only if they were requested. Raises OpenError, FormatError, SignatureInvalid or NotEntitled, which
    says what is wrong.
    """
    if len(sealed) > MAX_ANSWER_BYTES:
        raise FormatError(f"answer of {len(sealed)} bytes, at most {MAX_ANSWER_BYTES}")
    answer = decode(AccessAnswer, _open(sealed, keys, prepared.digest))  # (1) (2)
    receipt = open_receipt(answer.receipt, directory)  # (3)
    request = prepared.request
    if receipt.request_digest != prepared.digest:
        raise OpenError("the receipt answers another request")  # (4)
    outcomes = _check_outcomes(request, receipt.outcomes)  # (5)
    shares = _check_shares(outcomes, answer.shares)  # (6)
    # (7) A service that released without logging would leave the requester as the only witness.
    if receipt.entry is None and any(outcome.released for outcome in outcomes.values()):
        raise FormatError("released without an access entry")
    channel = directory.channel(request.channel)
    if receipt.entry is not None and (channel is None or receipt.entry.partition != channel.number):
        raise FormatError(f"the access entry stands in partition {receipt.entry.partition}")
    if (receipt.entry is None) != (receipt.positions is None):
        raise FormatError("positions belong to a receipt that names an entry, and to each of them")
    if answer.entries and not any(isinstance(item, LogItem) for item in request.items):  # (8)
        raise FormatError("entries of the access log where none were asked for")
    return Answer(
        signed=answer.receipt, receipt=receipt, outcomes=outcomes, shares=shares, entries=answer.entries
    )


def share_of(answer: Answer, item: int, index: int) -> bytes:
    """Return the release share of one record. Raises OpenError when it was not released."""
    share = answer.shares.get(RecordRef(item, index))
    if share is None:
        raise OpenError(f"record {index} of item {item} was not released")
    return share


def open_receipt(signed: Signed, directory: Directory) -> Receipt:
    """Return the content of a receipt that the key access service of this directory signed.

    Raises FormatError, NotEntitled or SignatureInvalid, which says what is wrong.
    """
    if signed.kind != "receipt":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'receipt'")
    receipt = decode(Receipt, signed.content)
    check_service_signature(signed, receipt.issuer, directory)
    return receipt


def open_collection_answer(answer: bytes, query: Signed, directory: Directory) -> tuple[Collected, ...]:
    """Return what became of each batch of a collection query, in the order of the query.

    Raises a PeerError when the answer is malformed, is not the service's, or answers another query.
    """
    signed = decode(Signed, answer)
    if signed.kind != "collection-answer":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'collection-answer'")
    content = decode(CollectionAnswer, signed.content)
    check_service_signature(signed, content.issuer, directory)
    if content.query_digest != sha256(query.content).digest():
        raise OpenError("the collection answer answers another query")
    asked = [batch.batch_id for batch in decode(CollectionQuery, query.content).batches]
    if [batch.batch_id for batch in content.batches] != asked:
        raise FormatError("the collection answer is not about the batches asked for, in their order")
    return content.batches


def check_service_signature(signed: Signed, issuer: str, directory: Directory) -> None:
    """Check that a statement is the key access service's own, under exactly one signature.

    ``issuer`` is the name that the statement claims. Raises NotEntitled or SignatureInvalid.
    """
    if issuer != directory.kas_name:
        raise NotEntitled(f"'{issuer[:60]}' is not the key access service")
    try:
        verify_signature(directory, signed, issuer)
    except SignatureInvalid as error:
        raise SignatureInvalid(f"{signed.kind}: {error.message}") from None
    directory.signer(issuer, signed.signatures[0].key_id)


def grouped(values: Mapping[RecordRef, _T]) -> list[tuple[int, _T, bytes]]:
    """Return (item, value, indexes) for each distinct value of an item, in the order of their first record.

    The records of one item stand together in ``values``. A range of the access log has no indexes.
    """
    groups: list[tuple[int, _T, list[int]]] = []
    first_of_item = 0
    current = -1
    for (item, record), value in values.items():
        if item != current:
            first_of_item = len(groups)
            current = item
        for place in range(first_of_item, len(groups)):
            known = groups[place][1]
            # A search, not a dict: an item has few distinct values, and to hash their enums would cost
            # more than the decision itself.
            if known is value or known == value:
                groups[place][2].append(record)
                break
        else:
            groups.append((item, value, [record]))
    return [(item, value, bytes(i for i in records if i >= 0)) for item, value, records in groups]


def receipt_outcomes(outcomes: Mapping[RecordRef, Outcome]) -> tuple[ReceiptOutcome, ...]:
    """Return the outcomes as a receipt lists them: grouped by item, and equal outcomes together."""
    return tuple(
        ReceiptOutcome(
            item=item,
            indexes=indexes,
            verdict=outcome.verdict,
            reason=outcome.reason,
            released=outcome.released,
        )
        for item, outcome, indexes in grouped(outcomes)
    )


def requested_refs(request: AccessRequest) -> list[RecordRef]:
    """Return every record and log range that a request names, in its order."""
    refs: list[RecordRef] = []
    for place, item in enumerate(request.items):
        if isinstance(item, RecordItem):
            refs += [RecordRef(place, index) for index in item.indexes]
        else:
            refs.append(RecordRef(place, -1))
    return refs


def _open(sealed: bytes, keys: Iterable[ReceivingKey], digest: bytes) -> bytes:
    for key in keys:
        try:
            return open_sealed_answer(key, sealed, digest)
        except OpenError:
            continue
    raise OpenError("the answer does not open with any of our receiving keys for this request")


def _check_outcomes(request: AccessRequest, outcomes: tuple[ReceiptOutcome, ...]) -> dict[RecordRef, Outcome]:
    found: dict[RecordRef, Outcome] = {}
    for outcome in outcomes:
        if not 0 <= outcome.item < len(request.items):
            raise FormatError(f"outcome for item {outcome.item} of {len(request.items)}")
        _check_outcome(outcome)
        is_log = isinstance(request.items[outcome.item], LogItem)
        if is_log != (not outcome.indexes):
            raise FormatError(f"outcome for {len(outcome.indexes)} indexes of item {outcome.item}")
        for index in outcome.indexes or (-1,):
            ref = RecordRef(outcome.item, index)
            if ref in found:
                raise FormatError(f"two outcomes for record {index} of item {outcome.item}")
            found[ref] = Outcome(outcome.verdict, outcome.reason, outcome.released)
    if found.keys() != set(requested_refs(request)):
        raise FormatError("outcomes do not cover exactly what was asked for")
    return found


def _check_outcome(outcome: ReceiptOutcome) -> None:
    """Check that a reason is given where, and only where, nothing is released."""
    if (outcome.verdict is Verdict.DENIED or not outcome.released) != (outcome.reason is not None):
        raise FormatError(f"{outcome.verdict}, released {outcome.released}, with reason {outcome.reason}")
    if outcome.verdict is Verdict.DENIED and outcome.released:
        raise FormatError("denied and released")


def _check_shares(
    outcomes: Mapping[RecordRef, Outcome], groups: tuple[ItemShares, ...]
) -> dict[RecordRef, bytes]:
    found: dict[RecordRef, bytes] = {}
    for group in groups:
        if len(group.release_shares) != SHARE_BYTES * len(group.indexes):
            size = len(group.release_shares)
            raise FormatError(f"{size} bytes of shares for {len(group.indexes)} records")
        for place, index in enumerate(group.indexes):
            ref = RecordRef(group.item, index)
            if ref in found:
                raise FormatError(f"two shares for record {index} of item {group.item}")
            found[ref] = group.release_shares[place * SHARE_BYTES : (place + 1) * SHARE_BYTES]
    # A share too many would be a release that no receipt admits; one too few, a release that never was.
    released = {ref for ref, outcome in outcomes.items() if outcome.released and ref.record >= 0}
    if found.keys() != released:
        raise FormatError("shares are not exactly those of what was released")
    return found


def _item_shares(shares: Mapping[RecordRef, bytes]) -> tuple[ItemShares, ...]:
    groups: dict[int, list[RecordRef]] = {}
    for ref in shares:
        groups.setdefault(ref.item, []).append(ref)
    return tuple(
        ItemShares(
            item=item,
            indexes=bytes(ref.record for ref in refs),
            release_shares=b"".join(shares[ref] for ref in refs),
        )
        for item, refs in groups.items()
    )


def encode_answer(receipt: Signed, shares: Mapping[RecordRef, bytes], entries: tuple[LogEntry, ...]) -> bytes:
    """Return an answer as the bytes that the service seals to the requester."""
    return encode(AccessAnswer(receipt=receipt, shares=_item_shares(shares), entries=entries))
