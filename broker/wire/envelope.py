"""The envelope: the manifest of a batch as a message, tagged, sealed and padded.

    key         manifest_id
    value       0x01 | u32(epoch) | tag (16) | sealed
    plaintext   u32(length) | Avro{Signed, Entries} | zeros to a multiple of 256
    tag         first 16 bytes of HMAC-SHA-256(admit, H(topic) | u32(partition) | u32(epoch)
                | manifest_id | sealed)
    batch_id    H(content of the manifest)

A reader goes from cheap to dear: the form of the message, then the tag, then the seal. So an outsider's
garbage costs it little.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from broker.crypto.merkle import root_of_leaves
from broker.crypto.seal import SEALED_OVERHEAD, ReceivingKey, open_sealed, seal, statement_info
from broker.errors import FormatError
from broker.wire.encoding import decode, encode
from broker.wire.entry import check_entries, leaf_hashes
from broker.wire.limits import MAX_BATCH_BYTES, MAX_MEMBER_SEALS, MAX_RECORDS
from broker.wire.manifest import ACCESS_TOPIC, Entries, ManifestPlaintext, RecordManifest, Signed

__all__ = [
    "MANIFEST_BLOCK",
    "Envelope",
    "EpochAccess",
    "OpenedManifest",
    "manifest_tag",
    "open_manifest",
    "parse_envelope",
    "seal_manifest",
]

MANIFEST_BLOCK = 256
"""The plaintext is padded to a multiple of this many bytes."""

_KIND = b"\x01"
_TAG_BYTES = 16
_HEAD_BYTES = 1 + 4 + _TAG_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochAccess:
    """What a publisher knows of an epoch: the public key for manifests, and the key of their tags."""

    public: bytes
    admit: bytes


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


def manifest_tag(
    admit: bytes, topic: str, partition: int, epoch: int, manifest_id: bytes, sealed: bytes
) -> bytes:
    """Compute the tag of a manifest message.

    Only members, auditors and the service know ``admit``. So a reader drops an outsider's garbage for the
    price of one HMAC, and need not open it.
    """
    place = sha256(topic.encode()).digest() + partition.to_bytes(4, "big") + epoch.to_bytes(4, "big")
    return hmac.digest(admit, b"".join((place, manifest_id, sealed)), "sha256")[:_TAG_BYTES]


def seal_manifest(
    manifest: RecordManifest, signed: Signed, entries: Entries, *, genesis: bytes, epoch: EpochAccess
) -> bytes:
    """Pad, seal and tag a signed manifest, and return the value of its message."""
    avro = encode(ManifestPlaintext(signed=signed, entries=entries))
    size = 4 + len(avro)
    padded = b"".join((len(avro).to_bytes(4, "big"), avro, bytes(-size % MANIFEST_BLOCK)))
    header = manifest.header
    place = (header.topic, header.partition, header.epoch)
    sealed = seal(epoch.public, padded, statement_info(genesis, *place))
    # The tag is made last, since it covers the sealed bytes: a reader checks it before it opens anything.
    tag = manifest_tag(epoch.admit, *place, manifest.manifest_id, sealed)
    return b"".join((_KIND, header.epoch.to_bytes(4, "big"), tag, sealed))


def parse_envelope(key: bytes | None, value: bytes | None) -> Envelope | None:
    """Take a manifest message apart; None where the message cannot be a manifest."""
    # None is not an error here: anybody whom the log lets write can append anything.
    if key is None or value is None or len(key) != 16 or value[:1] != _KIND:
        return None
    if not _HEAD_BYTES + SEALED_OVERHEAD + MANIFEST_BLOCK <= len(value) <= MAX_BATCH_BYTES:
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
    # (1)
    info = statement_info(genesis, topic, partition, envelope.epoch)
    padded = open_sealed(key, envelope.sealed, info)
    # (2) Other padding would be a hidden channel, and a second form of the same manifest.
    length = int.from_bytes(padded[:4], "big")
    size = 4 + length
    zeros = -size % MANIFEST_BLOCK
    if size + zeros != len(padded) or padded[size:] != bytes(zeros):
        raise FormatError("padding of the manifest is wrong")
    # (3)
    plain = decode(ManifestPlaintext, padded[4:size])
    # (4) A signature covers the kind that is named beside it. Without this check a statement of another kind
    # could pass for a manifest, where its bytes happen to decode as one.
    if plain.signed.kind != "manifest":
        raise FormatError(f"kind {plain.signed.kind[:40]!r}, expected 'manifest'")
    if len(plain.signed.signatures) != 1:
        raise FormatError(f"manifest with {len(plain.signed.signatures)} signatures, expected 1")
    manifest = decode(RecordManifest, plain.signed.content)
    # (5) The seal is bound to the place too, but a member can open it and seal it anew for another place. No
    # member can change what the issuer signed.
    header = manifest.header
    if (header.topic, header.partition, header.epoch) != (topic, partition, envelope.epoch):
        raise FormatError("header names another place")
    if manifest.manifest_id != envelope.manifest_id:
        raise FormatError("manifest_id differs from the message's key")
    if topic == ACCESS_TOPIC and manifest.instead_of is not None:
        raise FormatError("a batch of the access log replaces no other")
    if (manifest.positions is not None) != (topic == ACCESS_TOPIC):
        raise FormatError("positions belong to manifests of the access log, and to each of them")
    # (6)
    _check_counts(manifest)
    check_entries(plain.entries, manifest.count)
    # (7) The signature covers the root alone, so this check is what binds the entries to the issuer.
    if root_of_leaves(leaf_hashes(plain.entries)) != manifest.entries_root:
        raise FormatError("entries do not hash to the entries root")
    return OpenedManifest(
        batch_id=sha256(plain.signed.content).digest(),
        signed=plain.signed,
        manifest=manifest,
        entries=plain.entries,
    )


def _check_counts(manifest: RecordManifest) -> None:
    if not 1 <= manifest.count <= MAX_RECORDS:
        raise FormatError(f"{manifest.count} records, expected 1 to {MAX_RECORDS}")
    seals = len(manifest.member_seals)
    if not 1 <= seals <= MAX_MEMBER_SEALS:
        raise FormatError(f"{seals} member seals, expected 1 to {MAX_MEMBER_SEALS}")
