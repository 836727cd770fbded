"""Merkle trees as Certificate Transparency builds them (RFC 6962, section 2.1; RFC 9162, 2.1.3).

A leaf is H(0x00 | entry) and an inner node H(0x01 | left | right). The two prefixes keep an inner node from
being shown as a leaf, and the other way round (second preimages).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from broker.errors import OpenError

__all__ = ["inclusion_path", "leaf_hash", "root_of_leaves", "tree_hash", "verify_inclusion"]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one leaf: H(0x00 | entry)."""
    return sha256(b"\x00" + entry).digest()


def root_of_leaves(hashes: Sequence[bytes]) -> bytes:
    """Return the tree hash over leaf hashes. The hash of an empty tree is H of no bytes.

    The tree is built level by level, and an odd last node moves up as it is. That gives the same tree as the
    RFC, which splits the leaves at the largest power of two below n, and needs no recursion.
    """
    if not hashes:
        return sha256(b"").digest()
    level = list(hashes)
    digest = sha256
    while len(level) > 1:
        odd = level[-1:] if len(level) & 1 else []
        level = [digest(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level += odd
    return level[0]


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """Return the tree hash over entries."""
    return root_of_leaves([leaf_hash(entry) for entry in entries])


def inclusion_path(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the nodes that prove leaf ``index`` of these leaf hashes, from the leaf upwards.

    Raises IndexError when there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} of {len(hashes)}")
    path: list[bytes] = []
    level = list(hashes)
    while len(level) > 1:
        sibling = index ^ 1
        # An odd last node has no sibling on this level, and the path has no node for it.
        if sibling < len(level):
            path.append(level[sibling])
        odd = level[-1:] if len(level) & 1 else []
        level = [
            sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)
        ] + odd
        index >>= 1
    return tuple(path)


def verify_inclusion(entry: bytes, index: int, count: int, path: Sequence[bytes], root: bytes) -> bytes:
    """Return ``entry`` if the path proves that it is leaf ``index`` of ``count`` under ``root``.

    Raises OpenError if it does not (RFC 9162, section 2.1.3.2). ``count`` must come from a signed
    statement: whoever shows the proof could choose one that fits.
    """
    if not 0 <= index < count:
        raise OpenError(f"entry {index} is not in a tree of {count}")
    node = leaf_hash(entry)
    last = count - 1
    place = index
    steps = list(path)
    while last > 0:
        # Without a sibling (the odd last node of a level) the node moves up as it is.
        if place & 1 or place < last:
            if not steps:
                raise OpenError("inclusion path is too short")
            sibling = steps.pop(0)
            node = sha256(b"\x01" + (sibling + node if place & 1 else node + sibling)).digest()
        place >>= 1
        last >>= 1
    # A path with nodes to spare would give one fact two proofs.
    if steps:
        raise OpenError("inclusion path is too long")
    if node != root:
        raise OpenError("inclusion path does not lead to the root")
    return entry
