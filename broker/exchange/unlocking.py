"""The lock of a whole batch at once: shares checked and keys made with one key schedule for all.

The formulas are those of ``broker.crypto.lock``, which does the same for one record.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from broker.crypto.lock import SHARE_BYTES
from broker.errors import OpenError

__all__ = ["body_keys", "wrong_release_shares"]

_U32 = tuple(i.to_bytes(4, "big") for i in range(256))


def wrong_release_shares(
    context: bytes, indexes: Sequence[int], shares: Sequence[bytes], checks: bytes
) -> frozenset[int]:
    """The indexes whose share is not the one that the issuer signed for.

    release_check_i = H("ftf-broker/v1/release-check" | context | u32(i) | release_share_i); ``checks`` is
    the manifest's column of them.
    """
    label, digest = b"ftf-broker/v1/release-check" + context, sha256
    return frozenset(
        i
        for i, share in zip(indexes, shares, strict=True)
        if len(share) != SHARE_BYTES
        or digest(label + _U32[i] + share).digest() != checks[i * 32 : i * 32 + 32]
    )


def body_keys(
    context: bytes, member_share: bytes, indexes: Sequence[int], shares: Sequence[bytes]
) -> list[bytes]:
    """key_i = HKDF-Expand(HKDF-Extract(context, member_share), "ftf-broker/v1/body" | u32(i) | share, 32).

    RFC 5869: with SHA-256 the extraction, and an expansion to 32 bytes, are one HMAC each.
    """
    if len(member_share) != SHARE_BYTES:
        raise OpenError(f"member share of {len(member_share)} bytes, expected {SHARE_BYTES}")
    prk, one = hmac.digest(context, member_share, "sha256"), hmac.digest
    return [
        one(prk, b"".join((b"ftf-broker/v1/body", _U32[i], share, b"\x01")), "sha256")
        for i, share in zip(indexes, shares, strict=True)
    ]
