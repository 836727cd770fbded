"""Access requests, receipts and answers, as values.

The schemas in ``schemas/protocol`` say what each field means. The names of the fields and their order are the
bytes: neither may change. ``indexes`` has one byte for each record.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.wire.manifest import (
    Collected,
    LogItem,
    Operation,
    Positions,
    Reason,
    RecordItem,
    Signed,
    TopicHead,
    Verdict,
)
from broker.wire.terms import Purpose

__all__ = [
    "AccessAnswer",
    "AccessBody",
    "AccessDetails",
    "AccessRequest",
    "BatchRef",
    "CollectionAnswer",
    "CollectionQuery",
    "Enclosing",
    "EntryRef",
    "HeldRelease",
    "ItemShares",
    "LogEntry",
    "Receipt",
    "ReceiptOutcome",
    "ReleaseShare",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDetails:
    """The details of a reading: who reads, why, and on what legal basis. An entry's body locks them."""

    blind: bytes
    person: str | None
    role: str
    legal_basis: str
    case_reference: str | None
    justification: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessBody:
    """The body of an access entry."""

    details: AccessDetails | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """A request to read records, or a range of the access log."""

    issuer: str
    issued_at: int
    directory_size: int
    directory_root: bytes
    seen: tuple[TopicHead, ...]
    """The partitions that it asks about, as far as the requester had read them."""
    nonce: bytes
    operation: Operation
    channel: str
    items: tuple[RecordItem | LogItem, ...]
    purpose: Purpose
    mandate_ref: str | None
    passes_on: bool
    details_commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRef:
    """The place of an entry in the access log."""

    batch_id: bytes
    partition: int
    offset: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptOutcome:
    """The decision about some records of one item, and whether their shares were released."""

    item: int
    indexes: bytes
    verdict: Verdict
    reason: Reason | None
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The signed part of the answer of the key access service."""

    issuer: str
    issued_at: int
    request_digest: bytes
    entry: EntryRef | None
    positions: Positions | None
    """What the service had read when it answered; there where an entry is."""
    outcomes: tuple[ReceiptOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemShares:
    """The release shares of one item, 32 bytes for each index. The manifest's release checks prove them."""

    item: int
    indexes: bytes
    release_shares: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosing:
    """A LATE entry that holds another entry, as evidence: it proves where that one came back."""

    index: int
    manifest: Signed
    entry: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One access entry, as evidence for the agency or auditor that it concerns."""

    offset: int
    index: int
    manifest: Signed
    entry: bytes
    path: tuple[bytes, ...]
    body: bytes
    body_key: bytes | None
    within: tuple[Enclosing, ...]
    """The LATE entries in which it came back, the outermost first; empty where it stands in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAnswer:
    """The answer as it is sealed to the requester. It is never stored."""

    receipt: Signed
    shares: tuple[ItemShares, ...]
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRef:
    """A batch, and its place in the log."""

    topic: str
    offset: int
    batch_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionQuery:
    """The question of a publisher, what became of its batches."""

    issuer: str
    issued_at: int
    nonce: bytes
    channel: str
    batches: tuple[BatchRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionAnswer:
    """The signed answer to a collection query."""

    issuer: str
    issued_at: int
    query_digest: bytes
    batches: tuple[Collected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseShare:
    """The release share of a record that is still held."""

    index: int
    share: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """The secrets of a batch that the key access service still holds: all, or shares of single records."""

    release_secret: bytes | None
    shares: tuple[ReleaseShare, ...]
