"""The lock of a whole batch at once is the lock of each record."""

from __future__ import annotations

from random import Random

import pytest

from broker.crypto.lock import body_key, lock_bodies, release_shares, unlock
from broker.errors import OpenError
from broker.exchange.unlocking import body_keys, wrong_release_shares

RNG = Random(7)
CONTEXT, MEMBER_SHARE, SECRET = (RNG.randbytes(32) for _ in range(3))
INDEXES = [0, 3, 4, 255]


def test_keys_are_those_of_the_lock() -> None:
    """Each key is what ``broker.crypto.lock`` makes for that record, and opens its body."""
    shares = release_shares(CONTEXT, SECRET, INDEXES)
    keys = body_keys(CONTEXT, MEMBER_SHARE, INDEXES, shares)
    expected = [body_key(CONTEXT, MEMBER_SHARE, i, s) for i, s in zip(INDEXES, shares, strict=True)]
    assert keys == expected
    locked = lock_bodies(CONTEXT, MEMBER_SHARE, SECRET, [bytes([i]) for i in range(256)])
    for i, key in zip(INDEXES, keys, strict=True):
        assert unlock(key, i, locked[i].value, locked[i].commitment) == bytes([i])


def test_wrong_shares_are_named() -> None:
    """A share is wrong if it is another's, of another length, or of another batch; the rest is right."""
    checks = b"".join(body.release_check for body in lock_bodies(CONTEXT, MEMBER_SHARE, SECRET, [b""] * 256))
    shares = release_shares(CONTEXT, SECRET, INDEXES)
    assert wrong_release_shares(CONTEXT, INDEXES, shares, checks) == frozenset()
    shares[1], shares[2] = shares[2], shares[2][:31]
    assert wrong_release_shares(CONTEXT, INDEXES, shares, checks) == {3, 4}
    assert wrong_release_shares(bytes(32), [0], shares[:1], checks) == {0}


def test_a_member_share_has_its_length() -> None:
    """HMAC pads its key: a share of another length is none."""
    with pytest.raises(OpenError, match="31 bytes"):
        body_keys(CONTEXT, bytes(31), [0], [bytes(32)])
