"""Answers of the key access service, opened and checked by who asked.

    AccessAnswer {receipt: Signed(Receipt), shares, entries}, sealed to the requester's receiving key

The receipt is kept: it names the access entry that must stand in the log. The shares are used and
forgotten; whoever holds the batch checks each with ``lock.check_release_share``, since the issuer
signed for it. Whatever is wrong here convicts the service and is a PeerError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple, TypeVar

from broker.access.requests import PreparedRequest
from broker.crypto.lock import SHARE_BYTES, unlock
from broker.crypto.merkle import verify_inclusion
from broker.crypto.seal import ReceivingKey, answer_info, open_sealed
from broker.crypto.sign import verify
from broker.directory import Directory, History
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid
from broker.wire.access import (
    AccessAnswer,
    AccessBody,
    AccessDetails,
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
    RecordManifest,
    Signed,
    Terms,
    TermsLeaf,
    Verdict,
)

__all__ = [
    "MAX_ENTRIES_BYTES",
    "Answer",
    "LoggedAccess",
    "Outcome",
    "RecordRef",
    "asked_for",
    "check_log_entry",
    "encode_answer",
    "entries_size",
    "grouped",
    "open_answer",
    "open_collection_answer",
    "open_log_entry",
    "open_receipt",
    "receipt_outcomes",
    "share_of",
]

MAX_ANSWER_BYTES = 16_000_000
"""Bytes of an answer: 16 batches need 150,000, a range of the access log the rest."""
MAX_ENTRIES_BYTES = 8_000_000
"""Bytes of entries in an answer, beyond which it stops; the caller asks again behind the last one."""

_T = TypeVar("_T")
_ENTRY_FIXED_BYTES = 16 + 16 + 32 + 32 + 32


class RecordRef(NamedTuple):
    """A record of a request: place of its item, and its index in the batch (-1 for a range of the log)."""

    item: int
    record: int


class Outcome(NamedTuple):
    """What was decided for one record, and whether its share came along."""

    verdict: Verdict
    reason: Reason | None
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """A checked answer. ``signed`` is the receipt, to be kept; ``shares`` are never stored."""

    signed: Signed
    receipt: Receipt
    outcomes: Mapping[RecordRef, Outcome]
    shares: Mapping[RecordRef, bytes]
    entries: tuple[LogEntry, ...]

    @property
    def entry(self) -> EntryRef | None:
        """Where the access entry stands; None where denials are only counted."""
        return self.receipt.entry


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAccess:
    """An entry of the access log, proved; ``details`` where it was unlocked and somebody asked."""

    offset: int
    index: int
    manifest: RecordManifest
    record_id: bytes
    terms: Terms
    details: AccessDetails | None


def open_answer(
    prepared: PreparedRequest, sealed: bytes, keys: Iterable[ReceivingKey], directory: Directory
) -> Answer:
    """Open the answer to a request and check everything that needs no log.

    (1) the seal, for this request, (2) strict Avro, (3) the receipt's signature, (4) it answers this
    request, (5) outcomes cover each index of each item once, (6) shares exactly for what was
    released, and nothing is released without an entry. OpenError, FormatError, SignatureInvalid or
    NotEntitled says which failed.
    """
    if len(sealed) > MAX_ANSWER_BYTES:
        raise FormatError(f"answer of {len(sealed)} bytes, at most {MAX_ANSWER_BYTES}")
    answer = decode(AccessAnswer, _open(sealed, keys, prepared.digest))  # (1) (2)
    receipt = open_receipt(answer.receipt, directory)  # (3)
    request = prepared.request
    if receipt.request_digest != prepared.digest:
        raise OpenError("the receipt answers another request")  # (4)
    outcomes = _check_outcomes(request, receipt.outcomes)  # (5)
    shares = _check_shares(request, outcomes, answer.shares)  # (6)
    if receipt.entry is None and any(outcome.released for outcome in outcomes.values()):
        raise FormatError("released without an access entry")
    channel = directory.channel(request.channel)
    if receipt.entry is not None and (channel is None or receipt.entry.partition != channel.number):
        raise FormatError(f"the access entry stands in partition {receipt.entry.partition}")
    if answer.entries and not any(isinstance(item, LogItem) for item in request.items):
        raise FormatError("entries of the access log where none were asked for")
    return Answer(
        signed=answer.receipt, receipt=receipt, outcomes=outcomes, shares=shares, entries=answer.entries
    )


def share_of(answer: Answer, item: int, index: int) -> bytes:
    """The release share of one record; OpenError where it was not released."""
    share = answer.shares.get(RecordRef(item, index))
    if share is None:
        raise OpenError(f"record {index} of item {item} was not released")
    return share


def open_receipt(signed: Signed, directory: Directory) -> Receipt:
    """The receipt, if the key access service of this directory signed it."""
    if signed.kind != "receipt":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'receipt'")
    receipt = decode(Receipt, signed.content)
    _check_service(signed, receipt.issuer, directory)
    return receipt


def open_collection_answer(answer: bytes, query: Signed, directory: Directory) -> tuple[Collected, ...]:
    """What became of the batches asked for, in the order asked; a PeerError where the answer is wrong."""
    signed = decode(Signed, answer)
    if signed.kind != "collection-answer":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'collection-answer'")
    content = decode(CollectionAnswer, signed.content)
    _check_service(signed, content.issuer, directory)
    if content.query_digest != sha256(query.content).digest():
        raise OpenError("the collection answer answers another query")
    asked = [one.batch_id for one in decode(CollectionQuery, query.content).batches]
    if [one.batch_id for one in content.batches] != asked:
        raise FormatError("the collection answer is not about the batches asked for, in their order")
    return content.batches


def open_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """An entry of the access log as its answer carries it, proved and unlocked.

    As ``check_log_entry``, and (4) the body unlocks to what was committed to.
    """
    logged = check_log_entry(entry, history, partition)
    if entry.body_key is None:
        raise OpenError("the answer lacks the key of the body")
    body = unlock(entry.body_key, entry.index, entry.body, entry.entry[64:96])  # (4)
    return replace(logged, details=decode(AccessBody, body).details)


def check_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """An entry of the access log, proved by the service's own signature; its body stays locked.

    (1) the manifest is the service's, signed with a key that was active at its directory size,
    (2) the entry is in it, (3) the body is the entry's.
    """
    signed = entry.manifest
    if signed.kind != "manifest":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'manifest'")
    manifest = decode(RecordManifest, signed.content)
    header = manifest.header
    if (header.topic, header.partition) != ("access", partition):
        raise FormatError("the manifest stands in another log")
    directory = history.at(header.directory_size)
    _check_service(signed, header.issuer, directory)  # (1)
    verify_inclusion(entry.entry, entry.index, manifest.count, entry.path, manifest.entries_root)  # (2)
    if sha256(entry.body).digest() != entry.entry[32:64]:
        raise OpenError("the body is not the one that the entry names")  # (3)
    return LoggedAccess(
        offset=entry.offset,
        index=entry.index,
        manifest=manifest,
        record_id=entry.entry[16:32],
        terms=decode(TermsLeaf, entry.entry[_ENTRY_FIXED_BYTES:]).terms,
        details=None,
    )


def grouped(values: Mapping[RecordRef, _T]) -> list[tuple[int, _T, bytes]]:
    """(item, value, indexes) for each distinct value of an item, in the order of their first record."""
    groups: list[tuple[int, _T, list[int]]] = []
    start, current = 0, -1
    for (item, record), value in values.items():
        if item != current:
            start, current = len(groups), item
        for place in range(start, len(groups)):
            known = groups[place][1]
            if known is value or known == value:  # hashing enums would cost more than the decision
                groups[place][2].append(record)
                break
        else:
            groups.append((item, value, [record]))
    return [(item, value, bytes(i for i in places if i >= 0)) for item, value, places in groups]


def receipt_outcomes(outcomes: Mapping[RecordRef, Outcome]) -> tuple[ReceiptOutcome, ...]:
    """Outcomes as a receipt lists them: grouped by item and by what was decided."""
    return tuple(
        ReceiptOutcome(
            item=item, indexes=indexes, verdict=one.verdict, reason=one.reason, released=one.released
        )
        for item, one, indexes in grouped(outcomes)
    )


def asked_for(request: AccessRequest) -> list[RecordRef]:
    """Everything that a request asks for, in its order."""
    refs: list[RecordRef] = []
    for place, item in enumerate(request.items):
        refs += [RecordRef(place, i) for i in item.indexes] if isinstance(item, RecordItem) else []
        refs += [RecordRef(place, -1)] if isinstance(item, LogItem) else []
    return refs


def _open(sealed: bytes, keys: Iterable[ReceivingKey], digest: bytes) -> bytes:
    info = answer_info(digest)
    for key in keys:
        try:
            return open_sealed(key, sealed, info)
        except OpenError:
            continue
    raise OpenError("the answer does not open with any of our receiving keys for this request")


def _check_service(signed: Signed, issuer: str, directory: Directory) -> None:
    if issuer != directory.kas_name:
        raise NotEntitled(f"'{issuer[:60]}' is not the key access service")
    if len(signed.signatures) != 1:
        raise NotEntitled(f"{len(signed.signatures)} signatures, expected 1")
    (one,) = signed.signatures
    public = directory.signer(issuer, one.key_id)
    try:
        verify(public, signed.kind, directory.genesis, signed.content, one.signature)
    except SignatureInvalid as error:
        raise SignatureInvalid(f"{signed.kind} of '{issuer}': {error.message}") from None


def _check_outcomes(request: AccessRequest, outcomes: tuple[ReceiptOutcome, ...]) -> dict[RecordRef, Outcome]:
    found: dict[RecordRef, Outcome] = {}
    for one in outcomes:
        if not 0 <= one.item < len(request.items):
            raise FormatError(f"outcome for item {one.item} of {len(request.items)}")
        if (one.verdict is Verdict.DENIED or not one.released) != (one.reason is not None):
            raise FormatError(f"{one.verdict}, released {one.released}, with reason {one.reason}")
        if one.verdict is Verdict.DENIED and one.released:
            raise FormatError("denied and released")
        is_log = isinstance(request.items[one.item], LogItem)
        if is_log != (not one.indexes):
            raise FormatError(f"outcome for {len(one.indexes)} indexes of item {one.item}")
        for index in one.indexes or (-1,):
            ref = RecordRef(one.item, index)
            if ref in found:
                raise FormatError(f"two outcomes for record {index} of item {one.item}")
            found[ref] = Outcome(one.verdict, one.reason, one.released)
    if found.keys() != set(asked_for(request)):
        raise FormatError("outcomes do not cover exactly what was asked for")
    return found


def _check_shares(
    request: AccessRequest, outcomes: Mapping[RecordRef, Outcome], shares: tuple[ItemShares, ...]
) -> dict[RecordRef, bytes]:
    found: dict[RecordRef, bytes] = {}
    for one in shares:
        if len(one.release_shares) != SHARE_BYTES * len(one.indexes):
            raise FormatError(f"{len(one.release_shares)} bytes of shares for {len(one.indexes)} records")
        for place, index in enumerate(one.indexes):
            ref = RecordRef(one.item, index)
            if ref in found:
                raise FormatError(f"two shares for record {index} of item {one.item}")
            found[ref] = one.release_shares[place * SHARE_BYTES : (place + 1) * SHARE_BYTES]
    released = {ref for ref, outcome in outcomes.items() if outcome.released and ref.record >= 0}
    if found.keys() != released:
        raise FormatError("shares are not exactly those of what was released")
    return found


def item_shares(shares: Mapping[RecordRef, bytes]) -> tuple[ItemShares, ...]:
    """Shares as an answer carries them: one group for each item."""
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
    """What the service seals."""
    return encode(AccessAnswer(receipt=receipt, shares=item_shares(shares), entries=entries))


def entries_size(entries: Iterable[LogEntry]) -> int:
    """The bytes that an answer counts for its entries; above MAX_ENTRIES_BYTES it stopped early."""
    return sum(len(entry.manifest.content) + len(entry.entry) + len(entry.body) for entry in entries)
