"""Leaves of messages: every part of a message changes its leaf, and no two messages share one."""

from __future__ import annotations

from hashlib import sha256

import pytest

from broker.wire.log_leaf import HOLE, leaf_bytes, message_leaf

_DIGEST = sha256(b"value").digest()


def test_the_bytes_of_a_leaf() -> None:
    assert (
        leaf_bytes(1_000, b"k", _DIGEST)
        == b"\x01" + bytes(7) + b"\x01" + b"\x01\x00\x00\x00\x01k\x01" + _DIGEST
    )
    assert leaf_bytes(0, None, None) == b"\x01" + bytes(8) + b"\x00\x00"
    assert message_leaf(0, None, None) == sha256(b"\x00\x01" + bytes(8) + b"\x00\x00").digest()
    assert sha256(b"\x00" + b"\x00").digest() == HOLE


def test_each_part_changes_the_leaf() -> None:
    leaves = [
        HOLE,
        message_leaf(1_000, b"k", _DIGEST),
        message_leaf(2_000, b"k", _DIGEST),
        message_leaf(1_000, None, _DIGEST),
        message_leaf(1_000, b"", _DIGEST),
        message_leaf(1_000, b"k", None),
        message_leaf(1_000, b"k", sha256(b"").digest()),
        message_leaf(1_000, b"k\x01", _DIGEST),
    ]
    assert len(set(leaves)) == len(leaves)


@pytest.mark.parametrize("appended_at", [-1, -(2**63), (2**53 + 1) * 1000, 2**63 - 1])
def test_a_time_that_no_log_has_counts_as_zero(appended_at: int) -> None:
    assert message_leaf(appended_at, b"k", _DIGEST) == message_leaf(0, b"k", _DIGEST)
