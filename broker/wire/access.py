"""Access requests, receipts and answers, as values.

The schemas in ``schemas/protocol`` say what each field means.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.wire.manifest import Collected, LogItem, Operation, Reason, RecordItem, Signed, Verdict
from broker.wire.terms import Purpose

__all__ = [
    "AccessAnswer",
    "AccessBody",
    "AccessDetails",
    "AccessRequest",
    "BatchRef",
    "CollectionAnswer",
    "CollectionQuery",
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
    """Who reads, why and on what legal basis; locked in the access entry's body."""

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
    """A request to read."""

    issuer: str
    issued_at: int
    directory_size: int
    directory_head: bytes
    nonce: bytes
    operation: Operation
    channel: str
    items: tuple[RecordItem | LogItem, ...]
    purpose: Purpose
    mandate_ref: str | None
    details_commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRef:
    """Where an access entry stands."""

    batch_id: bytes
    partition: int
    offset: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptOutcome:
    """What was decided and done for some records of one item."""

    item: int
    indexes: bytes
    verdict: Verdict
    reason: Reason | None
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The signed answer of the key access service."""

    issuer: str
    issued_at: int
    request_digest: bytes
    entry: EntryRef | None
    outcomes: tuple[ReceiptOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemShares:
    """Release shares of one item."""

    item: int
    indexes: bytes
    release_shares: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One access entry, as evidence for whom it concerns."""

    offset: int
    index: int
    manifest: Signed
    entry: bytes
    path: tuple[bytes, ...]
    body: bytes
    body_key: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAnswer:
    """What is sealed to the requester; never stored."""

    receipt: Signed
    shares: tuple[ItemShares, ...]
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRef:
    """A batch and where it stands."""

    topic: str
    offset: int
    batch_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionQuery:
    """A publisher asks what became of its batches."""

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
    """One share that remains."""

    index: int
    share: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """What the key access service still holds of a batch."""

    release_secret: bytes | None
    shares: tuple[ReleaseShare, ...]
