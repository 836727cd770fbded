"""The leaf of a message in the Merkle tree of its partition (schemas/README.md, "Trees of partitions").

    0x00                                                       where the log holds no message at this offset
    0x01 | i64(appended_at in ms) | key | value                otherwise
    key      0x00 (null)  or  0x01 | u32(length) | bytes
    value    0x00 (null)  or  0x01 | H(value)

The value stands as its digest. A reader needs the digest of a body anyway, so that a body costs two short
hashes more. A null key and an empty one have different leaves: with one leaf for both, whoever runs the log
could make a key null, and later readers would void the statement at an equal root.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import repeat

__all__ = ["HOLE", "MAX_APPENDED_MS", "leaf_bytes", "message_leaf", "message_leaves"]

MAX_APPENDED_MS = 2**53
"""The latest append time that counts, in milliseconds. A later or a negative one counts as 0."""

_MESSAGE = b"\x01"
_NULL = b"\x00"
_PRESENT = b"\x01"


def leaf_bytes(appended_at: int, key: bytes | None, digest: bytes | None) -> bytes:
    """Return the bytes of a message's leaf, before they are hashed.

    ``appended_at`` is in microseconds, as logs give it; ``digest`` is the SHA-256 of the value, None for a
    null value.
    """
    milliseconds = appended_at // 1000
    if not 0 <= milliseconds <= MAX_APPENDED_MS:
        milliseconds = 0
    named = _NULL if key is None else _PRESENT + len(key).to_bytes(4, "big") + key
    held = _NULL if digest is None else _PRESENT + digest
    return b"".join((_MESSAGE, milliseconds.to_bytes(8, "big"), named, held))


def message_leaves(times: Sequence[int], keys: Sequence[bytes], digests: bytes) -> list[bytes]:
    """Return the leaf hashes of the bodies of a batch; ``digests`` are those of their values, joined.

    The bodies of a batch were appended at once, and their keys have one length. So what stands before the
    key is made once for all of them.
    """
    first = times[0]
    if times.count(first) != len(times):
        return [
            message_leaf(time, key, digests[at : at + 32])
            for time, key, at in zip(times, keys, range(0, len(digests), 32), strict=True)
        ]
    head = b"\x00" + leaf_bytes(first, keys[0], None)[: -len(keys[0]) - 1]
    split = [digests[at : at + 32] for at in range(0, len(digests), 32)]
    # map() makes the bytes of all leaves without a step of the interpreter for each.
    leaves = map(b"".join, zip(repeat(head), keys, repeat(_PRESENT), split, strict=False))
    return [sha256(leaf).digest() for leaf in leaves]


def message_leaf(appended_at: int, key: bytes | None, digest: bytes | None) -> bytes:
    """Return the leaf hash of a message: RFC 6962 hashing of ``leaf_bytes``."""
    return sha256(b"\x00" + leaf_bytes(appended_at, key, digest)).digest()


HOLE = sha256(b"\x00\x00").digest()
"""The leaf hash of an offset at which the log holds no message."""
