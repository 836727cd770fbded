"""A batch as it stands in the log: one signed, sealed manifest, and its locked bodies behind it.

    manifest message   key manifest_id            value 0x01 | u32(epoch) | tag (16) | sealed
    sealed plaintext   u32(length) | Avro{Signed, Entries} | zeros to a multiple of 256
    tag                first 16 bytes of HMAC-SHA-256(admit, H(topic) | u32(partition) | u32(epoch)
                       | manifest_id | sealed)
    body message       key manifest_id | u32(i)   value 0x02 | ciphertext
    entry i            salt | record_id | digest | commitment | release_check | Avro(terms)
    entries_root       RFC 6962 tree hash over the entries
    batch_id           H(content of the manifest)

The functions are pure, except that ``Secrets.draw`` and the salts of ``build_batch`` are random. A retry
appends the same bytes; whoever builds a batch anew draws new secrets.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import repeat
from struct import Struct

from broker.crypto.lock import context_of, lock_bodies, locked_size
from broker.crypto.merkle import root_of_leaves
from broker.crypto.seal import (
    SEALED_OVERHEAD,
    ReceivingKey,
    member_share_info,
    open_sealed,
    release_info,
    seal,
    statement_info,
)
from broker.crypto.sign import SigningKey
from broker.errors import FormatError, UsageError
from broker.wire.encoding import decode, encode
from broker.wire.manifest import (
    Entries,
    Header,
    KeySignature,
    ManifestPlaintext,
    RecordManifest,
    Sealed,
    Signed,
    Terms,
    TermsLeaf,
)
from broker.wire.terms import RecordTerms

__all__ = [
    "MANIFEST_KIND",
    "MAX_BATCH_BYTES",
    "MAX_RECORDS",
    "MAX_TARGETS",
    "Batch",
    "Envelope",
    "EpochAccess",
    "Intake",
    "Item",
    "OpenedManifest",
    "Secrets",
    "batch_bytes_bound",
    "body_message_key",
    "build_batch",
    "entry_bytes",
    "leaf_hashes",
    "manifest_tag",
    "open_manifest",
    "parse_envelope",
    "sign_content",
]

MAX_RECORDS = 256
"""The most records in a batch."""
MAX_BATCH_BYTES = 1_000_000
"""The largest batch that the format allows: keys, values, and MESSAGE_OVERHEAD for each message, in bytes.

A batch must fit one append, so this is never more than the log's own limit, ``MAX_APPEND_BYTES`` of
broker/log/protocol.py. They are two numbers on purpose: the format's is fixed for as long as old batches are
read, the log's may grow. A test in tests/wire holds them together.
"""
MAX_MEMBER_SEALS = 128
"""The most keys that a member share is sealed to."""
MAX_TARGETS = 256
MESSAGE_OVERHEAD = 80
"""The bytes that the format counts for each message beside its key and value, as the log does.

No log adds more to a message; Kafka adds fewer.
"""

MANIFEST_KIND = 0x01
_MANIFEST_BLOCK = 256
_TAG_BYTES = 16
_HEAD_BYTES = 1 + 4 + _TAG_BYTES
_COLUMNS = (("salts", 16), ("record_ids", 16), ("digests", 32), ("commitments", 32), ("release_checks", 32))
_ENTRY_FIXED_BYTES = 16 + 16 + 32 + 32 + 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochAccess:
    """What a publisher knows of an epoch: the public key for manifests, and the key of their tags."""

    public: bytes
    admit: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The intake key of the day, to which the release secret is sealed."""

    key_id: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One record on its way into a batch: its id, its terms and its encoded body."""

    record_id: bytes
    terms: Terms
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    """The random values of one batch; the publisher forgets them when the append is settled."""

    manifest_id: bytes
    member_share: bytes
    release_secret: bytes

    @classmethod
    def draw(cls) -> Secrets:
        """Draw new values. Each batch that is built needs its own: the lock's nonce is constant."""
        return cls(
            manifest_id=secrets.token_bytes(16),
            member_share=secrets.token_bytes(32),
            release_secret=secrets.token_bytes(32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that is ready to append; ``messages`` are (key, value) pairs with the manifest first."""

    batch_id: bytes
    manifest: RecordManifest
    messages: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The parts of a manifest message, before anything of it is opened."""

    manifest_id: bytes
    epoch: int
    tag: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedManifest:
    """A manifest whose form is right and whose entries it binds. Its signature is not judged yet."""

    batch_id: bytes
    signed: Signed
    manifest: RecordManifest
    entries: Entries


def sign_content(key: SigningKey, kind: str, genesis: bytes, content: bytes) -> Signed:
    """Sign content with one key, as a statement of this kind."""
    return Signed(
        kind=kind,
        content=content,
        signatures=(KeySignature(key_id=key.key_id, signature=key.sign(kind, genesis, content)),),
    )


def body_message_key(manifest_id: bytes, index: int) -> bytes:
    """Return the key of the message that holds body ``index``."""
    return manifest_id + index.to_bytes(4, "big")


def manifest_tag(
    admit: bytes, topic: str, partition: int, epoch: int, manifest_id: bytes, sealed: bytes
) -> bytes:
    """Compute the tag of a manifest message.

    Only members, auditors and the service know ``admit``. So a reader drops an outsider's garbage for the
    price of one HMAC, and need not open it.
    """
    place = sha256(topic.encode()).digest() + partition.to_bytes(4, "big") + epoch.to_bytes(4, "big")
    return hmac.digest(admit, b"".join((place, manifest_id, sealed)), "sha256")[:_TAG_BYTES]


def batch_bytes_bound(body_sizes: Sequence[int], terms_bytes: int, member_seals: int) -> int:
    """Return an upper bound of a batch's size as the log counts it; it decides when a batch is full."""
    count = len(body_sizes)
    manifest = 1024 + member_seals * (SEALED_OVERHEAD + 96) + 2 * SEALED_OVERHEAD
    manifest += count * (_ENTRY_FIXED_BYTES + 1) + terms_bytes + _MANIFEST_BLOCK
    return manifest + (count + 1) * (MESSAGE_OVERHEAD + 20) + sum(locked_size(size) for size in body_sizes)


def entry_bytes(entries: Entries, index: int) -> bytes:
    """Return entry ``index`` as it is hashed into the entries root."""
    columns = [getattr(entries, name)[index * size : (index + 1) * size] for name, size in _COLUMNS]
    return b"".join(columns) + encode(TermsLeaf(terms=entries.terms[entries.term_of[index]]))


def leaf_hashes(entries: Entries) -> list[bytes]:
    """Return the leaf hashes of the entries, whose columns must have been checked before."""
    encoded = [encode(TermsLeaf(terms=terms)) for terms in entries.terms]
    count = len(entries.term_of)
    columns = (_cells(size, count)(getattr(entries, name)) for name, size in _COLUMNS)
    terms_column = [encoded[term] for term in entries.term_of]
    # unpack, zip and join run in C. This line is a fifth of what replaying a record costs.
    leaves = map(b"".join, zip(repeat(b"\0"), *columns, terms_column, strict=False))
    return [sha256(leaf).digest() for leaf in leaves]


@lru_cache(maxsize=64)
def _cells(size: int, count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return a function that cuts a column into its cells, at a third of the cost of slices."""
    return Struct(f"{size}s" * count).unpack


def _targets(terms: Terms) -> int:
    return len(terms.targets) if isinstance(terms, RecordTerms) else 0


def _all_targets(terms: Sequence[Terms], term_of: bytes) -> int:
    """Return how many targets the records of a batch have in all."""
    targets = [_targets(each) for each in terms]
    return sum(targets[term] for term in term_of) if any(targets) else 0


def _columns(items: Sequence[Item]) -> tuple[tuple[Terms, ...], bytes]:
    places: dict[Terms, int] = {}
    # Most records of a batch share one object of terms, and hashing terms costs more than locking a body. So
    # they are looked up by identity first. The items keep the objects alive, so an id is not used twice.
    known: dict[int, int] = {}
    term_of = bytearray()
    for terms in [item.terms for item in items]:
        place = known.get(id(terms))
        if place is None:
            place = places.setdefault(terms, len(places))
            known[id(terms)] = place
        term_of.append(place)
    return tuple(places), bytes(term_of)


def build_batch(
    *,
    genesis: bytes,
    header: Header,
    record_type: str,
    schema: bytes,
    items: Sequence[Item],
    key: SigningKey,
    epoch: EpochAccess,
    members: Sequence[tuple[bytes, bytes]],
    intake: Intake | None,
    draw: Secrets,
) -> Batch:
    """Lock, sign and seal a batch.

    ``members`` are (key_id, public) of the epoch's content key, or of each agency that releasable_to
    names. On the access log there is no ``intake``: its release secret is derived and sealed to nobody.
    ``draw`` must be new for each call. Raises UsageError for a batch that is too large or malformed.
    """
    if not 1 <= len(items) <= MAX_RECORDS:
        raise UsageError(f"batch of {len(items)} records, expected 1 to {MAX_RECORDS}")
    if not 1 <= len(members) <= MAX_MEMBER_SEALS:
        raise UsageError(f"batch sealed to {len(members)} keys, expected 1 to {MAX_MEMBER_SEALS}")
    record_ids = [item.record_id for item in items]
    if any(map((16).__ne__, map(len, record_ids))):
        raise UsageError("a record id is 16 bytes")
    terms, term_of = _columns(items)
    targets = _all_targets(terms, term_of)
    if targets > MAX_TARGETS:
        raise UsageError(f"batch with {targets} targets, at most {MAX_TARGETS}")
    context = context_of(
        genesis, header.topic, header.partition, header.epoch, header.issuer, draw.manifest_id
    )
    locked = lock_bodies(context, draw.member_share, draw.release_secret, [item.body for item in items])
    values, digests, commitments, release_checks = zip(*locked, strict=True)
    entries = Entries(
        salts=secrets.token_bytes(16 * len(items)),
        record_ids=b"".join(record_ids),
        digests=b"".join(digests),
        commitments=b"".join(commitments),
        release_checks=b"".join(release_checks),
        terms=terms,
        term_of=term_of,
    )
    info = member_share_info(context)
    release_seal = b""
    if intake is not None:
        release_seal = seal(intake.public, draw.release_secret, release_info(context, intake.key_id))
    manifest = RecordManifest(
        header=header,
        manifest_id=draw.manifest_id,
        record_type=record_type,
        schema=schema,
        member_seals=tuple(
            Sealed(key_id=key_id, sealed=seal(public, draw.member_share, info)) for key_id, public in members
        ),
        intake_key_id=intake.key_id if intake else bytes(32),
        release_seal=release_seal,
        count=len(items),
        entries_root=root_of_leaves(leaf_hashes(entries)),
    )
    content = encode(manifest)
    signed = sign_content(key, "manifest", genesis, content)
    value = _seal_manifest(ManifestPlaintext(signed=signed, entries=entries), genesis, header, draw, epoch)
    keys = [body_message_key(draw.manifest_id, i) for i in range(len(items))]
    messages = ((draw.manifest_id, value), *zip(keys, values, strict=True))
    size = sum(map(len, (draw.manifest_id, value, *keys, *values))) + MESSAGE_OVERHEAD * len(messages)
    if size > MAX_BATCH_BYTES:
        raise UsageError(f"batch of {size} bytes, at most {MAX_BATCH_BYTES}")
    return Batch(batch_id=sha256(content).digest(), manifest=manifest, messages=messages)


def _seal_manifest(
    plain: ManifestPlaintext, genesis: bytes, header: Header, draw: Secrets, epoch: EpochAccess
) -> bytes:
    avro = encode(plain)
    size = 4 + len(avro)
    padded = b"".join((len(avro).to_bytes(4, "big"), avro, bytes(-size % _MANIFEST_BLOCK)))
    place = (header.topic, header.partition, header.epoch)
    sealed = seal(epoch.public, padded, statement_info(genesis, *place))
    tag = manifest_tag(epoch.admit, *place, draw.manifest_id, sealed)
    return b"".join((bytes((MANIFEST_KIND,)), header.epoch.to_bytes(4, "big"), tag, sealed))


def parse_envelope(key: bytes | None, value: bytes | None) -> Envelope | None:
    """Take a manifest message apart; None where the message cannot be a manifest."""
    if key is None or value is None or len(key) != 16 or value[:1] != b"\x01":
        return None
    if not _HEAD_BYTES + SEALED_OVERHEAD + _MANIFEST_BLOCK <= len(value) <= MAX_BATCH_BYTES:
        return None
    return Envelope(
        manifest_id=key,
        epoch=int.from_bytes(value[1:5], "big"),
        tag=value[5:_HEAD_BYTES],
        sealed=value[_HEAD_BYTES:],
    )


def open_manifest(
    envelope: Envelope, *, genesis: bytes, topic: str, partition: int, key: ReceivingKey
) -> OpenedManifest:
    """Open a manifest whose tag fits, and check its form. The signature is judged later, by ``verify``.

    (1) The seal opens for this place. (2) The padding is the least that fits. (3) The Avro is strict.
    (4) It is a manifest with one signature. (5) Its header names this place, and its id is the message's
    key: so a manifest that was moved or copied is found. (6) Counts and columns agree. (7) The entries
    hash to the root. Raises OpenError or FormatError, which says what failed.
    """
    info = statement_info(genesis, topic, partition, envelope.epoch)
    padded = open_sealed(key, envelope.sealed, info)  # (1)
    length = int.from_bytes(padded[:4], "big")
    size = 4 + length
    zeros = -size % _MANIFEST_BLOCK
    if size + zeros != len(padded) or padded[size:] != bytes(zeros):
        raise FormatError("padding of the manifest is wrong")  # (2)
    plain = decode(ManifestPlaintext, padded[4:size])  # (3)
    if plain.signed.kind != "manifest":
        raise FormatError(f"kind {plain.signed.kind[:40]!r}, expected 'manifest'")  # (4)
    if len(plain.signed.signatures) != 1:
        raise FormatError(f"manifest with {len(plain.signed.signatures)} signatures, expected 1")
    manifest = decode(RecordManifest, plain.signed.content)
    header = manifest.header
    if (header.topic, header.partition, header.epoch) != (topic, partition, envelope.epoch):
        raise FormatError("header names another place")  # (5)
    if manifest.manifest_id != envelope.manifest_id:
        raise FormatError("manifest_id differs from the message's key")
    _check_columns(manifest, plain.entries)  # (6)
    if root_of_leaves(leaf_hashes(plain.entries)) != manifest.entries_root:
        raise FormatError("entries do not hash to the entries root")  # (7)
    return OpenedManifest(
        batch_id=sha256(plain.signed.content).digest(),
        signed=plain.signed,
        manifest=manifest,
        entries=plain.entries,
    )


def _check_columns(manifest: RecordManifest, entries: Entries) -> None:
    count = manifest.count
    if not 1 <= count <= MAX_RECORDS:
        raise FormatError(f"{count} records, expected 1 to {MAX_RECORDS}")
    if not 1 <= len(manifest.member_seals) <= MAX_MEMBER_SEALS:
        raise FormatError(f"{len(manifest.member_seals)} member seals, expected 1 to {MAX_MEMBER_SEALS}")
    for name, size in _COLUMNS:
        if len(getattr(entries, name)) != count * size:
            raise FormatError(f"column '{name}' does not hold {count} entries")
    if len(entries.term_of) != count:
        raise FormatError(f"column 'term_of' does not hold {count} entries")
    # Each distinct term stands once, in order of first use: so one meaning has one encoding and one digest.
    first_use = tuple(dict.fromkeys(entries.term_of))
    if first_use != tuple(range(len(entries.terms))) or len(set(entries.terms)) != len(entries.terms):
        raise FormatError("terms are not each distinct one once, in order of first use")
    if _all_targets(entries.terms, entries.term_of) > MAX_TARGETS:
        raise FormatError(f"more than {MAX_TARGETS} targets")
