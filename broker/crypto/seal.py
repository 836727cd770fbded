"""The seal: HPKE to a post-quantum hybrid key (RFC 9180 base mode, ML-KEM-768 with X25519).

The one-shot interface of HPKE that we use has no additional data. So ``info`` binds each seal to the place
where it belongs, and a seal that somebody moved or copied to another place does not open:

    info = "ftf-broker/v1/" | use | "\\n" | fields

    use           fields
    member-share  context
    release       context, intake key_id
    seed          genesis, H(channel name), u32(epoch), H("metadata" | "content" | "access"), recipient key_id
    answer        digest of the request, H(plaintext)
    storage       genesis, H(label)                     (the KAS's own key store, never on a log)

Sealed bytes are enc (1120 bytes), then the ciphertext. Before those of an answer stands the hash of its
plaintext (32 bytes). A machine that is resumed twice from one snapshot draws the same bytes twice. It would
otherwise seal two answers to one request under one key and nonce. The other uses seal a fresh secret, or a
value that their info determines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from broker.errors import FormatError, OpenError

__all__ = [
    "PUBLIC_BYTES",
    "SEALED_OVERHEAD",
    "ReceivingKey",
    "answer_info",
    "check_receiving_public",
    "member_share_info",
    "open_sealed",
    "open_sealed_answer",
    "receiving_key_id",
    "release_info",
    "seal",
    "seal_answer",
    "seed_info",
    "storage_info",
]

PUBLIC_BYTES = 1184 + 32
"""The length of a hybrid public key: its ML-KEM-768 half, then its X25519 half."""
SEALED_OVERHEAD = 1120 + 16
"""The bytes that sealing adds: enc, then the tag of AES-GCM."""

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PREFIX = b"ftf-broker/v1/"


def _u32(number: int) -> bytes:
    if not 0 <= number < 2**32:  # a statement signed by an adversary may say -1
        raise FormatError(f"{number} is not within 0 to 4294967295")
    return number.to_bytes(4, "big")


def member_share_info(context: bytes) -> bytes:
    """The info that binds a member share to its batch."""
    return _PREFIX + b"member-share\n" + context


def release_info(context: bytes, intake_key_id: bytes) -> bytes:
    """The info that binds a release secret to its batch and intake key."""
    return _PREFIX + b"release\n" + context + intake_key_id


def seed_info(genesis: bytes, channel: str, epoch: int, use: str, recipient_key_id: bytes) -> bytes:
    """The info that binds halves of an epoch's seed to their channel, epoch, use and recipient.

    The use is ``metadata``, ``content`` or ``access``.
    """
    return b"".join(
        (
            _PREFIX,
            b"seed\n",
            genesis,
            sha256(channel.encode()).digest(),
            _u32(epoch),
            sha256(use.encode()).digest(),
            recipient_key_id,
        )
    )


def answer_info(request_digest: bytes, answer_digest: bytes) -> bytes:
    """The info that binds an answer to its request, and to its own text."""
    return _PREFIX + b"answer\n" + request_digest + answer_digest


def storage_info(genesis: bytes, label: str) -> bytes:
    """The info that binds a key which the key access service keeps for itself to its label."""
    return _PREFIX + b"storage\n" + genesis + sha256(label.encode()).digest()


def receiving_key_id(public: bytes) -> bytes:
    """Return the id of a hybrid public key: 32 bytes, never shortened."""
    return sha256(b"mlkem768-x25519\n" + public).digest()


# Bounded, since a hostile log can name any number of keys.
@lru_cache(maxsize=4096)
def _load(public: bytes) -> MLKEM768X25519PublicKey:
    if len(public) != PUBLIC_BYTES:
        raise OpenError(f"hybrid public key of {len(public)} bytes, expected {PUBLIC_BYTES}")
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]),
            X25519PublicKey.from_public_bytes(public[1184:]),
        )
    except ValueError:
        raise OpenError("hybrid public key is malformed") from None


def check_receiving_public(public: bytes) -> bytes:
    """Return the hybrid public key if something can be sealed to it. Raises OpenError if not.

    A trial seal finds faults that loading does not find, such as an X25519 half of small order, with which
    the shared secret would be zero for everybody (RFC 7748, 6.1).
    """
    seal(public, b"", b"ftf-broker/v1/check\n")
    return public


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal to a hybrid public key. Raises OpenError where the key cannot be used."""
    try:
        return _SUITE.encrypt(plaintext, _load(public), info=info)
    except (ValueError, InvalidTag):
        raise OpenError("cannot seal to this hybrid public key") from None


@dataclass(frozen=True, slots=True, eq=False)
class ReceivingKey:
    """A private hybrid key, ML-KEM-768 and X25519, that opens what was sealed to it."""

    mlkem: MLKEM768PrivateKey
    x25519: X25519PrivateKey
    hybrid: MLKEM768X25519PrivateKey
    public: bytes
    key_id: bytes

    @classmethod
    def of(cls, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> ReceivingKey:
        """Make a receiving key of its two halves."""
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        hybrid = MLKEM768X25519PrivateKey(mlkem, x25519)
        return cls(mlkem, x25519, hybrid, public, receiving_key_id(public))

    @classmethod
    def generate(cls) -> ReceivingKey:
        """Draw a new key."""
        return cls.of(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())


def open_sealed(key: ReceivingKey, sealed: bytes, info: bytes) -> bytes:
    """Open what was sealed to this key with this info. Raises OpenError for anything else."""
    if len(sealed) < SEALED_OVERHEAD:
        raise OpenError(f"sealed bytes are too short: {len(sealed)}")
    try:
        return _SUITE.decrypt(sealed, key.hybrid, info=info)
    except (InvalidTag, ValueError):
        raise OpenError("seal does not open with this key for this place") from None


def seal_answer(public: bytes, answer: bytes, request_digest: bytes) -> bytes:
    """Seal an answer to the request with this digest. Raises OpenError where the key cannot be used."""
    # The hash is no help to who would guess the answer: a signature stands in it, which only its reader sees.
    digest = sha256(answer).digest()
    return digest + seal(public, answer, answer_info(request_digest, digest))


def open_sealed_answer(key: ReceivingKey, sealed: bytes, request_digest: bytes) -> bytes:
    """Open an answer to the request with this digest. Raises OpenError for anything else."""
    digest, rest = sealed[:32], sealed[32:]
    answer = open_sealed(key, rest, answer_info(request_digest, digest))
    if sha256(answer).digest() != digest:
        raise OpenError("the answer has another hash than the one before its seal")
    return answer
