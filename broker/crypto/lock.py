"""The lock: each body is encrypted under a key made of a member share and a release share.

    context          H("ftf-broker/v1/context" | genesis | H(topic) | u32(partition) | u32(epoch)
                       | H(issuer) | manifest_id)
    prk              HKDF-Extract(salt = context, ikm = member_share)
    release_share_i  HKDF-Expand(release_secret, "ftf-broker/v1/release" | context | u32(i), 32)
    release_check_i  H("ftf-broker/v1/release-check" | context | u32(i) | release_share_i)
    key_i            HKDF-Expand(prk, "ftf-broker/v1/body" | u32(i) | release_share_i, 32)
    value_i          0x02 | AES-256-GCM(key_i, nonce = 12 zero bytes, plaintext_i)
    plaintext_i      u32(length) | body | zeros to the next multiple of 512
    digest_i         H(value_i)
    commitment_i     H("ftf-broker/v1/commitment" | key_i | plaintext_i)

Members hold the member share and the key access service holds the release shares, so neither of them reads
alone. Three choices need their reasons:

- ``context`` stands in both derivations. Without it a member could carry another batch's manifest_id into a
  batch of its own, and the service would log the wrong record.
- The nonce is zero. That is safe because a key locks one body, once: a batch that is built anew draws its
  release secret anew, and its manifest_id, which stands in the context, depends on all its bodies too.
- There is a commitment and a check value. AES-GCM does not bind a ciphertext to one key, so an issuer could
  show two texts to two readers; the commitment prevents that. The check value tells a wrong release share
  from a wrong body, so that everybody can see whether the service or the issuer is to blame.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto.hkdf import Expand, extract
from broker.errors import FormatError, OpenError, UsageError

__all__ = [
    "BODY_BLOCK",
    "BODY_KIND",
    "MAX_BODY_BYTES",
    "MAX_BODY_VALUE_BYTES",
    "SHARE_BYTES",
    "LockedBody",
    "body_key",
    "body_keys",
    "check_release_share",
    "context_of",
    "lock_bodies",
    "locked_size",
    "padded_body",
    "release_share",
    "release_shares",
    "unlock",
    "wrong_release_shares",
]

BODY_KIND = b"\x02"
BODY_BLOCK = 512
MAX_BODY_BYTES = 32 * 1024
"""The largest body before padding, in bytes."""
MAX_BODY_VALUE_BYTES = 1 + 4 + MAX_BODY_BYTES + -(4 + MAX_BODY_BYTES) % BODY_BLOCK + 16
"""The largest value of a body message, in bytes."""
SHARE_BYTES = 32
"""The length of a member share, a release secret, a release share and a body's key."""

# Zeros are safe, since a key locks one body once; the docstring says why.
_NONCE = bytes(12)
_RELEASE = b"ftf-broker/v1/release"
_CHECK = b"ftf-broker/v1/release-check"
_BODY = b"ftf-broker/v1/body"
_COMMITMENT = b"ftf-broker/v1/commitment"
# A batch has at most 256 records, so their numbers are encoded once.
_U32 = tuple(i.to_bytes(4, "big") for i in range(256))


def _share(share: bytes, what: str) -> bytes:
    # HMAC takes a key of any length and pads it: without this check k and k | 0x00 would be the same key.
    if len(share) != SHARE_BYTES:
        raise OpenError(f"{what} of {len(share)} bytes, expected {SHARE_BYTES}")
    return share


def _place(index: int) -> bytes:
    if not 0 <= index < len(_U32):  # Python would take _U32[-1] for the last record
        raise FormatError(f"record {index} is not within 0 to {len(_U32) - 1}")
    return _U32[index]


def _places(indexes: Sequence[int]) -> list[bytes]:
    if indexes and not 0 <= min(indexes) <= max(indexes) < len(_U32):
        return [_place(i) for i in indexes]  # raises, and names the wrong index
    return [_U32[i] for i in indexes]


def _u32(number: int) -> bytes:
    if not 0 <= number < 2**32:  # a header signed by an adversary may say -1
        raise FormatError(f"{number} is not within 0 to 4294967295")
    return number.to_bytes(4, "big")


def context_of(
    genesis: bytes, topic: str, partition: int, epoch: int, issuer: str, manifest_id: bytes
) -> bytes:
    """Return what a batch's shares are bound to: coalition, topic, partition, epoch, issuer and manifest.

    Raises FormatError for a partition or epoch that is not within 0 to 4294967295.
    """
    parts = (
        b"ftf-broker/v1/context",
        genesis,
        sha256(topic.encode()).digest(),
        _u32(partition),
        _u32(epoch),
        sha256(issuer.encode()).digest(),
        manifest_id,
    )
    return sha256(b"".join(parts)).digest()


def release_share(context: bytes, release_secret: bytes, index: int) -> bytes:
    """Derive the release share of one record. Raises OpenError when the secret has the wrong length."""
    return release_shares(context, release_secret, (index,))[0]


def release_shares(context: bytes, release_secret: bytes, indexes: Sequence[int]) -> list[bytes]:
    """Derive the release shares of some records. Raises OpenError when the secret has the wrong length."""
    block = Expand(_share(release_secret, "release secret")).block
    label = _RELEASE + context
    return [block(label + _place(i)) for i in indexes]


def check_release_share(context: bytes, index: int, share: bytes, release_check: bytes) -> bytes:
    """Return the share if it is the one that the issuer signed for. Raises OpenError if it is not."""
    if sha256(_CHECK + context + _place(index) + _share(share, "release share")).digest() != release_check:
        raise OpenError(f"release share of record {index} does not fit its release check")
    return share


def wrong_release_shares(
    context: bytes, indexes: Sequence[int], shares: Sequence[bytes], checks: bytes
) -> frozenset[int]:
    """Return the indexes whose share is not the one that the issuer signed for, or has another length.

    ``checks`` is the manifest's whole column of release checks, 32 bytes for each record.
    """
    label = _CHECK + context
    digest = sha256
    return frozenset(
        i
        for i, place, share in zip(indexes, _places(indexes), shares, strict=True)
        if len(share) != SHARE_BYTES or digest(label + place + share).digest() != checks[i * 32 : i * 32 + 32]
    )


def padded_body(body: bytes) -> bytes:
    """Return the plaintext that a body's message locks: its length, the body and zeros."""
    size = 4 + len(body)
    return len(body).to_bytes(4, "big") + body + bytes(-size % BODY_BLOCK)


def _unpad(plaintext: bytes) -> bytes:
    length = int.from_bytes(plaintext[:4], "big")
    size = 4 + length
    zeros = -size % BODY_BLOCK
    # A body has one padding, all zeros: other bytes there would be a hidden channel that no reader sees.
    if length > MAX_BODY_BYTES or size + zeros != len(plaintext) or plaintext[size:] != bytes(zeros):
        raise FormatError("padding of the body is wrong")
    return plaintext[4:size]


def locked_size(body_bytes: int) -> int:
    """The size of a body message's value for a body of this size, in bytes."""
    return 1 + 4 + body_bytes + -(4 + body_bytes) % BODY_BLOCK + 16


class LockedBody(NamedTuple):
    """A locked body, and the three values that its entry in the manifest holds about it."""

    value: bytes
    digest: bytes
    commitment: bytes
    release_check: bytes


_locked = partial(tuple.__new__, LockedBody)  # takes a third of the time of LockedBody(...)


def lock_bodies(
    context: bytes, member_share: bytes, release_secret: bytes, bodies: Sequence[bytes]
) -> list[LockedBody]:
    """Lock the bodies of one batch: 1 to 256 of them, each of at most MAX_BODY_BYTES.

    Raises UsageError for another number, a larger body, or a share of another length.
    """
    if not 1 <= len(bodies) <= 256:
        raise UsageError(f"batch of {len(bodies)} bodies, expected 1 to 256")
    if not len(member_share) == len(release_secret) == SHARE_BYTES:
        raise UsageError(f"member share and release secret are {SHARE_BYTES} bytes each")
    share_of = Expand(release_secret)
    key_of = Expand(extract(context, member_share))
    release_label = _RELEASE + context
    check_label = _CHECK + context
    longest = max(map(len, bodies))
    if longest > MAX_BODY_BYTES:
        raise UsageError(f"body of {longest} bytes, at most {MAX_BODY_BYTES}")
    # Names of this function are found faster than those of objects and modules, and the loop below is half
    # of what publishing costs.
    share_inner = share_of.inner
    share_outer = share_of.outer
    key_inner = key_of.inner
    key_outer = key_of.outer
    digest_of = sha256
    aead = AESGCM
    nonce = _NONCE
    locked: list[LockedBody] = []
    add = locked.append
    for number, body in zip(_U32, bodies, strict=False):
        # This is Expand.block for the release share and for the key, and padded_body, without the calls.
        inner = share_inner()
        outer = share_outer()
        inner.update(release_label + number + b"\x01")
        outer.update(inner.digest())
        share = outer.digest()
        inner = key_inner()
        outer = key_outer()
        inner.update(_BODY + number + share + b"\x01")
        outer.update(inner.digest())
        key = outer.digest()
        size = len(body)
        plaintext = size.to_bytes(4, "big") + body + bytes(-(4 + size) % BODY_BLOCK)
        value = BODY_KIND + aead(key).encrypt(nonce, plaintext, None)
        add(
            _locked(
                (
                    value,
                    digest_of(value).digest(),
                    digest_of(_COMMITMENT + key + plaintext).digest(),
                    digest_of(check_label + number + share).digest(),
                )
            )
        )
    return locked


def body_key(context: bytes, member_share: bytes, index: int, share: bytes) -> bytes:
    """Derive the key of one body from both shares. Raises OpenError when a share has the wrong length."""
    return body_keys(context, member_share, (index,), (share,))[0]


def body_keys(
    context: bytes, member_share: bytes, indexes: Sequence[int], shares: Sequence[bytes]
) -> list[bytes]:
    """Derive the keys of some records of a batch. Raises OpenError when a share has the wrong length."""
    # RFC 5869: with SHA-256 the extraction is one HMAC, and so is an expansion to 32 bytes.
    hmac_once = hmac.digest
    prk = hmac_once(context, _share(member_share, "member share"), "sha256")
    for share in shares:
        _share(share, "release share")
    return [
        hmac_once(prk, b"".join((_BODY, place, share, b"\x01")), "sha256")
        for place, share in zip(_places(indexes), shares, strict=True)
    ]


def unlock(key: bytes, index: int, value: bytes, commitment: bytes) -> bytes:
    """Return the body that a message's value holds under key_i.

    (1) The value has the form of a body message. (2) AES-GCM opens it. (3) The commitment fits. (4) The
    padding is the shortest that is possible. Raises FormatError or OpenError. The blame is the issuer's: it
    signed an entry whose promise its body does not keep.
    """
    # (1)
    size = len(value)
    if value[:1] != BODY_KIND or not 1 + BODY_BLOCK + 16 <= size <= MAX_BODY_VALUE_BYTES:
        raise FormatError(f"message of record {index} is no body")
    # (2)
    try:
        plaintext = AESGCM(_share(key, "key of the body")).decrypt(_NONCE, value[1:], None)
    except InvalidTag:
        raise OpenError(f"record {index} does not unlock with its two shares") from None
    # (3) With AES-GCM alone, an issuer could make one value that opens to two texts under two keys.
    if sha256(_COMMITMENT + key + plaintext).digest() != commitment:
        raise OpenError(f"record {index} is not what its issuer committed to")
    # (4)
    return _unpad(plaintext)
