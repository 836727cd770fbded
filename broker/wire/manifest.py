"""Signed statements, the manifests of batches, and the terms of their entries, as values.

The schemas in ``schemas/protocol`` say what each field means. The names of the fields and their order are the
bytes: neither may change. Times are microseconds since 1970-01-01, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from broker.wire.terms import RecordTerms, Target

__all__ = [
    "ACCESS_TOPIC",
    "AccessTerms",
    "Collected",
    "CollectionStatus",
    "CollectionTerms",
    "DenialTerms",
    "Entries",
    "ErasureTerms",
    "Header",
    "KeySignature",
    "LateTerms",
    "LogItem",
    "LostMessage",
    "LostRange",
    "ManifestPlaintext",
    "Operation",
    "PositionTerms",
    "Positions",
    "Reason",
    "RecordItem",
    "RecordManifest",
    "RecordOutcome",
    "Sealed",
    "Signed",
    "Terms",
    "TermsLeaf",
    "TopicHead",
    "Verdict",
]


ACCESS_TOPIC = "access"
"""The logical topic of the access log."""


class Operation(StrEnum):
    """The operations that the law wants logged (LED art. 25(1))."""

    COLLECTION = "COLLECTION"
    ALTERATION = "ALTERATION"
    CONSULTATION = "CONSULTATION"
    DISCLOSURE = "DISCLOSURE"
    COMBINATION = "COMBINATION"
    ERASURE = "ERASURE"


class Verdict(StrEnum):
    """The decision about a record."""

    ALLOWED = "ALLOWED"
    DENIED = "DENIED"


class Reason(StrEnum):
    """The reason why access was denied, or why nothing was released although it was allowed.

    NOT_HELD stands in receipts only: the record was taken over, and its share is lost since.
    """

    NOT_MEMBER = "NOT_MEMBER"
    SUSPENDED = "SUSPENDED"
    CHANNEL_CLOSED = "CHANNEL_CLOSED"
    UNKNOWN_RECORD = "UNKNOWN_RECORD"
    NOT_COLLECTED = "NOT_COLLECTED"
    EPOCH_NOT_GRANTED = "EPOCH_NOT_GRANTED"
    RECORD_TYPE = "RECORD_TYPE"
    PURPOSE_CHANNEL = "PURPOSE_CHANNEL"
    PURPOSE_RECORD = "PURPOSE_RECORD"
    MANDATE = "MANDATE"
    HANDLING = "HANDLING"
    NOT_RELEASABLE = "NOT_RELEASABLE"
    RESTRICTED = "RESTRICTED"
    WITHDRAWN = "WITHDRAWN"
    ERASED = "ERASED"
    EXPIRED = "EXPIRED"
    NOT_AUDITOR = "NOT_AUDITOR"
    NOT_HELD = "NOT_HELD"


class CollectionStatus(StrEnum):
    """The outcome for a batch at its take-over by the key access service.

    STALE is a batch that came too late: its publisher publishes it anew. UNKNOWN and VOID are no outcomes,
    and stand in answers only: not known yet, and void for every reader.
    """

    COLLECTED = "COLLECTED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    STALE = "STALE"
    VOID = "VOID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The place of a statement, its issuer, and how much of the directory the issuer had applied."""

    topic: str
    """The logical topic, without the log's prefix."""
    partition: int
    epoch: int
    """The epoch of the channel; -1 in the directory, which has none."""
    issuer: str
    issued_at: int
    """The time by the issuer's own clock."""
    directory_size: int
    """The size of the directory behind the last message that changed it, as the issuer had read it."""
    directory_root: bytes
    """The root of the tree over these messages."""
    stream: bytes
    """16 random bytes, new for each process, topic and partition; zeros in the directory."""
    sequence: int
    """The number of the statement in its stream, from 0."""
    previous: bytes
    """The digest of the stream's (in the directory: the authority's) previous statement, or zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySignature:
    """A signature, and the id of the key that made it."""

    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed statement; ``content`` is the encoded value of its kind."""

    kind: str
    content: bytes
    signatures: tuple[KeySignature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Bytes sealed to one key."""

    key_id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A batch that the key access service has taken over, or refused."""

    topic: str
    offset: int
    batch_id: bytes
    count: int
    status: CollectionStatus
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionTerms:
    """The batches of one take-over, at most 256, in the order in which the service took them."""

    batches: tuple[Collected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialTerms:
    """The number of denials of one agency on this channel, between two times."""

    agency: str
    count: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMessage:
    """A message that was durable and is gone from the log."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRange:
    """Messages that the service had read and that the log no longer holds as they were.

    ``root`` is that of the tree up to ``end``, as it was read. ``start`` is the largest size that still fits.
    """

    topic: str
    start: int
    end: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LateTerms:
    """What the log had lost: a batch of the access log, and ranges that differ from what was read.

    Without messages ``offset`` is -1 and ``batch_id`` zeros.
    """

    offset: int
    batch_id: bytes
    messages: tuple[LostMessage, ...]
    lacking: tuple[LostRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureTerms:
    """The records whose release shares were shredded, and the record that ordered it (None for expiry)."""

    targets: tuple[Target, ...]
    order: Target | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordItem:
    """The records of one batch that a request asks for; an index is one byte."""

    topic: str
    offset: int
    batch_id: bytes
    indexes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogItem:
    """The range of the channel's access log that a request asks for; ``end`` is behind the last offset."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOutcome:
    """The decision about some records of one item of a request."""

    item: int
    indexes: bytes
    verdict: Verdict
    reason: Reason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicHead:
    """How far a partition of a topic was read, and the root of its tree there."""

    topic: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How far the service had read each log, and the root there; ``topics`` has every record topic.

    The manifest that carries them is a signed tree head of each partition: what lies below can be neither
    altered, cut, inserted, exchanged nor dated anew without contradicting its signature.
    """

    directory_size: int
    directory_root: bytes
    access_size: int
    access_root: bytes
    topics: tuple[TopicHead, ...]

    @property
    def heads(self) -> Iterator[TopicHead]:
        """The head of each partition of the channel, that of the access log first."""
        yield TopicHead(topic=ACCESS_TOPIC, size=self.access_size, root=self.access_root)
        yield from self.topics


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTerms:
    """An access: the whole signed request, and the decisions, made at the positions of the manifest."""

    request: Signed
    outcomes: tuple[RecordOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionTerms:
    """Nothing but the positions of the manifest: an entry that binds what was read since the one before."""


Terms = RecordTerms | AccessTerms | CollectionTerms | DenialTerms | LateTerms | ErasureTerms | PositionTerms
"""What an entry may say. The order is that of the schema's union: it is part of the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordManifest:
    """The signed head of a batch."""

    header: Header
    manifest_id: bytes
    record_type: str
    schema: bytes
    member_seals: tuple[Sealed, ...]
    intake_key_id: bytes
    release_seal: bytes
    release_root: bytes | None
    """Reserved for a root of the stream's release secrets. A manifest in which it is not None is void."""
    count: int
    entries_root: bytes
    instead_of: bytes | None = None
    """The id of the stale batch that this one replaces; null in the access log."""
    positions: Positions | None = None
    """What its issuer had read: on the access log only, and always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The entries of a batch as columns: cells of 16 bytes (salts, record ids) or of 32 bytes."""

    salts: bytes
    record_ids: bytes
    digests: bytes
    commitments: bytes
    release_checks: bytes
    terms: tuple[Terms, ...]
    term_of: bytes

    def record_id(self, index: int) -> bytes:
        """Return the id of one record."""
        return self.record_ids[index * 16 : index * 16 + 16]

    def commitment(self, index: int) -> bytes:
        """Return the commitment to one record's body."""
        return self.commitments[index * 32 : index * 32 + 32]

    def indexes_of(self, record_id: bytes) -> list[int]:
        """Return the indexes of all records with this id: it is not unique, since anyone may repeat it."""
        found: list[int] = []
        # One search through the column: most batches of a log do not have the id that somebody looks for.
        at = self.record_ids.find(record_id)
        while at >= 0:
            # What spans two neighbouring ids is not an id.
            if at % 16 == 0:
                found.append(at // 16)
            at = self.record_ids.find(record_id, at + 1)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPlaintext:
    """The plaintext that a manifest message seals."""

    signed: Signed
    entries: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsLeaf:
    """The terms of one entry in the form in which they are hashed."""

    terms: Terms
