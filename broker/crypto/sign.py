"""Signatures: Ed25519 over kind, coalition and content (RFC 8032).

    signed over   "ftf-broker/v1/" | kind | "\\n" | genesis | content
    key_id        H("ed25519" | 0x0A | public key)

The genesis hash binds each signature to one coalition, and the kind binds it to one use: a signature made
for an exercise or for another statement does not verify here. Public keys of small order are refused, since
under them one signature fits every message; RFC 8032 does not ask for that check. Keys that are not
canonical are refused too, so that a key has one id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.errors import SignatureInvalid

__all__ = ["NO_GENESIS", "SigningKey", "check_public_key", "signing_key_id", "verify"]

NO_GENESIS = bytes(32)
"""What stands for the genesis hash inside the genesis statement itself."""

_KIND = re.compile(r"[a-z-]+", re.ASCII)
_P = 2**255 - 19
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
# The y of every point whose order divides 8: eight points, since three of these y have two x each.
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})


def signing_key_id(public: bytes) -> bytes:
    """Return the id of an Ed25519 public key: 32 bytes, never shortened."""
    return sha256(b"ed25519\n" + public).digest()


@lru_cache(maxsize=4096)
def check_public_key(public: bytes) -> bytes:
    """Return the key if it is canonical, on the curve and not of small order.

    Raises SignatureInvalid for any other key.
    """
    if len(public) != 32:
        raise SignatureInvalid(f"Ed25519 public key of {len(public)} bytes, expected 32")
    number = int.from_bytes(public, "little")
    y = number & (2**255 - 1)
    sign = number >> 255
    if y >= _P:
        raise SignatureInvalid("non-canonical Ed25519 public key")
    if y in _SMALL_ORDER_Y:
        raise SignatureInvalid("Ed25519 public key of small order")
    # The curve is -x^2 + y^2 = 1 + d x^2 y^2. A point exists for y where this x^2 is a square (Euler).
    x2 = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    if pow(x2, (_P - 1) // 2, _P) != 1 or (x2 == 0 and sign):
        raise SignatureInvalid("Ed25519 public key is no point of the curve")
    return public


# The check takes two powers modulo p, and a log has few keys. The cache is bounded, since a hostile log can
# name any number of keys.
@lru_cache(maxsize=4096)
def _load(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(check_public_key(public))


def _preimage(kind: str, genesis: bytes, content: bytes) -> bytes:
    # A line break inside the kind would let one signature stand for two readings of the same bytes.
    if not _KIND.fullmatch(kind):
        raise SignatureInvalid(f"kind {kind[:40]!r} is not of small letters and hyphens")
    return b"".join((b"ftf-broker/v1/", kind.encode("ascii"), b"\n", genesis, content))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key that signs statements."""

    private: Ed25519PrivateKey
    public: bytes
    key_id: bytes

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> SigningKey:
        """Make the signing key of a private key."""
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(private, public, signing_key_id(public))

    @classmethod
    def generate(cls) -> SigningKey:
        """Draw a new key."""
        return cls.of(Ed25519PrivateKey.generate())

    def sign(self, kind: str, genesis: bytes, content: bytes) -> bytes:
        """Sign this content as a statement of this kind in this coalition; returns 64 bytes."""
        return self.private.sign(_preimage(kind, genesis, content))


def verify(public: bytes, kind: str, genesis: bytes, content: bytes, signature: bytes) -> None:
    """Raise SignatureInvalid unless this key signed this content as this kind in this coalition."""
    try:
        _load(public).verify(signature, _preimage(kind, genesis, content))
    except InvalidSignature:
        raise SignatureInvalid(f"signature on '{kind}' does not verify") from None
