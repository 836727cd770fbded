"""HKDF-SHA-256 (RFC 5869), written for many short derivations under one key.

The library's HKDF makes a new HMAC for each derivation. ``Expand`` hashes the key once and copies the two
hash states that result, which halves the time of the loop in which every record is locked.
"""

from __future__ import annotations

from hashlib import sha256

__all__ = ["Expand", "extract", "hkdf_sha256"]

_BLOCK_BYTES = 64
_IPAD = bytes(x ^ 0x36 for x in range(256))
_OPAD = bytes(x ^ 0x5C for x in range(256))


def _block_key(key: bytes) -> bytes:
    # RFC 2104, section 2: a key longer than the hash's block is hashed first, a shorter one is padded.
    return (sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")


class Expand:
    """HKDF-Expand to one block of 32 bytes (RFC 5869, 2.3), under one key.

    ``inner`` and ``outer`` give copies of HMAC's two hash states after the key. ``lock_bodies`` calls them
    directly, to save a function call for each record.
    """

    __slots__ = ("inner", "outer")

    def __init__(self, key: bytes) -> None:
        padded = _block_key(key)
        self.inner = sha256(padded.translate(_IPAD)).copy
        self.outer = sha256(padded.translate(_OPAD)).copy

    def block(self, info: bytes) -> bytes:
        """Derive 32 bytes for this info."""
        inner = self.inner()
        outer = self.outer()
        # The RFC numbers the blocks of its output from 1. There is only one block here.
        inner.update(info + b"\x01")
        outer.update(inner.digest())
        return outer.digest()


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract, which is HMAC(salt, ikm) (RFC 5869, 2.2)."""
    padded = _block_key(salt)
    inner = sha256(padded.translate(_IPAD) + ikm).digest()
    return sha256(padded.translate(_OPAD) + inner).digest()


def hkdf_sha256(ikm: bytes, *, salt: bytes, info: bytes) -> bytes:
    """Derive 32 bytes by HKDF-SHA-256 (RFC 5869)."""
    return Expand(extract(salt, ikm)).block(info)
