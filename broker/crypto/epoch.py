"""The seed of an epoch, and the keys that follow from it; all of them are symmetric.

A seed is made of two halves, of which a member of the channel draws one and the key access service the other.
So neither of them chooses the seed, and a stolen key of one of them learns nothing from what it published.
The access seed has one half only, which is the service's.

    commitment     H("ftf-broker/v1/half" | genesis | half)
    seed           HKDF-Expand(HKDF-Extract(genesis, the member's half | the service's half),
                     "ftf-broker/v1/seed" | H(channel) | u32(epoch) | H(use), 32)
    prk            HKDF-Extract(genesis, seed)
    key of a label HKDF-Expand(prk, "ftf-broker/v1/" | label, 32)

    manifest         HKDF-Expand(manifest key, H(topic) | u32(partition) | u32(epoch) | manifest_id, 32)
    manifest-nonce   the first 12 bytes of HMAC(manifest-nonce key, plaintext)
    manifest-id      the first 16 bytes of HMAC(manifest-id key, 32 fresh bytes | plaintexts)
    member-share     HKDF-Expand(member-share key, context, 32)

The nonce and the manifest's id depend on what they are used for. A virtual machine that is resumed twice
from one snapshot draws the same random bytes twice, and still seals no two texts under one key and nonce.
Both are keyed, so that who holds the machine's image cannot test what was sealed.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto.hkdf import Expand, extract, hkdf_sha256
from broker.errors import FormatError, OpenError

__all__ = [
    "FRESH_BYTES",
    "HALF_BYTES",
    "MANIFEST_NONCE_BYTES",
    "MANIFEST_OVERHEAD",
    "EpochKeys",
    "ManifestPlace",
    "epoch_seed",
    "half_commitment",
]

HALF_BYTES = 32
"""The length of a half of a seed, and of a seed."""
FRESH_BYTES = 32
"""The random bytes that go into a manifest's id."""
MANIFEST_NONCE_BYTES = 12
MANIFEST_OVERHEAD = MANIFEST_NONCE_BYTES + 16
"""The bytes that the seal of a manifest adds: its nonce, and the tag of AES-GCM."""

_PREFIX = b"ftf-broker/v1/"
_ID_BYTES = 16


def _u32(number: int) -> bytes:
    if not 0 <= number < 2**32:  # a statement signed by an adversary may say -1
        raise FormatError(f"{number} is not within 0 to 4294967295")
    return number.to_bytes(4, "big")


def half_commitment(genesis: bytes, half: bytes) -> bytes:
    """Return the commitment to a half of a seed. Raises OpenError for a half of another length.

    It names neither channel nor epoch nor use, so that equal halves have equal commitments everywhere.
    """
    if len(half) != HALF_BYTES:
        raise OpenError(f"half of {len(half)} bytes, expected {HALF_BYTES}")
    return sha256(_PREFIX + b"half" + genesis + half).digest()


def epoch_seed(genesis: bytes, channel: str, epoch: int, use: str, halves: Sequence[bytes]) -> bytes:
    """Return the seed that these halves give, the member's half first.

    The use is ``metadata``, ``content`` or ``access``.
    """
    place = sha256(channel.encode()).digest() + _u32(epoch) + sha256(use.encode()).digest()
    return hkdf_sha256(b"".join(halves), salt=genesis, info=_PREFIX + b"seed" + place)


@dataclass(frozen=True, slots=True)
class ManifestPlace:
    """Where a manifest stands: the key that seals it belongs to this place alone."""

    topic: str
    partition: int
    epoch: int
    manifest_id: bytes

    def __bytes__(self) -> bytes:
        topic = sha256(self.topic.encode()).digest()
        return b"".join((topic, _u32(self.partition), _u32(self.epoch), self.manifest_id))


@dataclass(frozen=True, slots=True, repr=False)
class EpochKeys:
    """The keys that follow from the seed of one use of an epoch."""

    manifest: Expand
    nonce: bytes
    ident: bytes
    share: Expand

    @classmethod
    def of(cls, seed: bytes, genesis: bytes) -> EpochKeys:
        """Derive the keys of a seed in the coalition with this genesis hash."""
        key_of = Expand(extract(genesis, seed)).block
        return cls(
            manifest=Expand(key_of(_PREFIX + b"manifest")),
            nonce=key_of(_PREFIX + b"manifest-nonce"),
            ident=key_of(_PREFIX + b"manifest-id"),
            share=Expand(key_of(_PREFIX + b"member-share")),
        )

    def manifest_id(self, fresh: bytes, plaintexts: Iterable[bytes]) -> bytes:
        """Return the id of a manifest whose bodies have these padded plaintexts.

        The seed is that of content, and in topic ``access`` that of access.
        """
        mac = hmac.new(self.ident, fresh, sha256)
        for plaintext in plaintexts:
            mac.update(plaintext)
        return mac.digest()[:_ID_BYTES]

    def member_share(self, context: bytes) -> bytes:
        """Return the member share of the batch with this context; the seed is as for ``manifest_id``."""
        return self.share.block(context)

    def seal_manifest(self, place: ManifestPlace, plaintext: bytes) -> bytes:
        """Seal a manifest, and return its nonce and ciphertext. Equal plaintexts give equal bytes."""
        nonce = self._nonce(plaintext)
        return nonce + AESGCM(self.manifest.block(bytes(place))).encrypt(nonce, plaintext, None)

    def open_manifest(self, place: ManifestPlace, sealed: bytes) -> bytes | None:
        """Open a manifest; None where no holder of the seed has sealed it for this place.

        Raises FormatError where a holder sealed it under another nonce than its plaintext gives: two texts
        under one key and nonce would give both away.
        """
        nonce, ciphertext = sealed[:MANIFEST_NONCE_BYTES], sealed[MANIFEST_NONCE_BYTES:]
        try:
            plaintext = AESGCM(self.manifest.block(bytes(place))).decrypt(nonce, ciphertext, None)
        except InvalidTag:
            return None
        if self._nonce(plaintext) != nonce:
            raise FormatError("nonce of the manifest is not that of its plaintext")
        return plaintext

    def _nonce(self, plaintext: bytes) -> bytes:
        return hmac.digest(self.nonce, plaintext, "sha256")[:MANIFEST_NONCE_BYTES]
