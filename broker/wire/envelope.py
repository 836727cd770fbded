"""The envelope: the manifest of a batch as a message, sealed and padded.

    key         manifest_id
    value       0x01 | u32(epoch) | nonce (12) | ciphertext
    plaintext   u32(length) | Avro{Signed, Entries} | zeros to a multiple of 256
    ciphertext  AES-256-GCM under a key of the epoch's seed for this place and manifest_id
    nonce       follows from the plaintext (``broker.crypto.epoch``)
    batch_id    H(content of the manifest)

A reader goes from cheap to dear: the form of the message, then the seal. An outsider's garbage costs it one
attempt of AES-GCM.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from broker.crypto.epoch import MANIFEST_OVERHEAD, EpochKeys, ManifestPlace
from broker.crypto.merkle import root_of_leaves
from broker.errors import FormatError
from broker.wire.encoding import decode, encode
from broker.wire.entry import check_entries, leaf_hashes
from broker.wire.limits import MAX_BATCH_BYTES, MAX_MEMBER_SEALS, MAX_RECORDS
from broker.wire.manifest import ACCESS_TOPIC, Entries, ManifestPlaintext, RecordManifest, Signed

__all__ = [
    "MANIFEST_BLOCK",
    "Envelope",
    "OpenedManifest",
    "open_manifest",
    "parse_envelope",
    "seal_manifest",
]

MANIFEST_BLOCK = 256
"""The plaintext is padded to a multiple of this many bytes."""

_KIND = b"\x01"
_HEAD_BYTES = 1 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The parts of a manifest message, before anything of it is opened."""

    manifest_id: bytes
    epoch: int
    sealed: bytes
    """The nonce and the ciphertext."""

    @property
    def fingerprint(self) -> bytes:
        """The hash of the whole message, which tells its copies from every other message."""
        head = self.manifest_id + self.epoch.to_bytes(4, "big")
        return sha256(head + self.sealed).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedManifest:
    """A manifest whose form is right and whose entries it binds. Its signature is not judged yet."""

    batch_id: bytes
    signed: Signed
    manifest: RecordManifest
    entries: Entries

    @property
    def key_id(self) -> bytes:
        """The key that it names as the one that signed it."""
        return self.signed.signatures[0].key_id


def seal_manifest(manifest: RecordManifest, signed: Signed, entries: Entries, *, keys: EpochKeys) -> bytes:
    """Pad and seal a signed manifest, and return the value of its message.

    ``keys`` are those of the epoch's metadata seed; in topic ``access`` of its access seed.
    """
    avro = encode(ManifestPlaintext(signed=signed, entries=entries))
    size = 4 + len(avro)
    padded = b"".join((len(avro).to_bytes(4, "big"), avro, bytes(-size % MANIFEST_BLOCK)))
    header = manifest.header
    place = ManifestPlace(header.topic, header.partition, header.epoch, manifest.manifest_id)
    return b"".join((_KIND, header.epoch.to_bytes(4, "big"), keys.seal_manifest(place, padded)))


def parse_envelope(key: bytes | None, value: bytes | None) -> Envelope | None:
    """Take a manifest message apart; None where the message cannot be a manifest."""
    # None is not an error here: anybody whom the log lets write can append anything.
    if key is None or value is None or len(key) != 16 or value[:1] != _KIND:
        return None
    if not _HEAD_BYTES + MANIFEST_OVERHEAD + MANIFEST_BLOCK <= len(value) <= MAX_BATCH_BYTES:
        return None
    return Envelope(
        manifest_id=key, epoch=int.from_bytes(value[1:_HEAD_BYTES], "big"), sealed=value[_HEAD_BYTES:]
    )


def open_manifest(
    envelope: Envelope, *, topic: str, partition: int, keys: EpochKeys
) -> OpenedManifest | None:
    """Open a manifest and check its form. The signature is judged later, by ``verify``.

    (1) The seal opens for this place, under the nonce of its plaintext. (2) The padding is the least that
    fits. (3) The Avro is strict. (4) It is a manifest with one signature. (5) Its header names this place,
    and its id is the message's key: so a manifest that was moved or copied is found. (6) Counts and columns
    agree, and what is reserved is empty. (7) The entries hash to the root.

    None where no holder of the seed sealed it for this place: then it is garbage, or was moved here. Raises
    FormatError, which says what failed, where a holder did.
    """
    # (1)
    place = ManifestPlace(topic, partition, envelope.epoch, envelope.manifest_id)
    padded = keys.open_manifest(place, envelope.sealed)
    if padded is None:
        return None
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
    if topic == ACCESS_TOPIC and (manifest.member_seals or manifest.release_seal):
        raise FormatError("a batch of the access log seals no share to anybody")
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
    if seals > MAX_MEMBER_SEALS:
        raise FormatError(f"{seals} member seals, at most {MAX_MEMBER_SEALS}")
    if manifest.release_root is not None:
        raise FormatError("a root of release secrets is reserved for a later version")
