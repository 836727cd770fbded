"""Bodies under two shares: derivations against the RFCs, every check, and whose fault a failure is."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.lock import (
    MAX_BODY_BYTES,
    MAX_BODY_VALUE_BYTES,
    body_key,
    body_keys,
    check_release_share,
    context_of,
    lock_bodies,
    locked_size,
    release_share,
    release_shares,
    unlock,
    wrong_release_shares,
)
from broker.errors import BrokerError, FormatError, OpenError, UsageError

GENESIS, ID = b"\x01" * 32, b"\x02" * 16
MEMBER, SECRET = b"\x03" * 32, b"\x04" * 32
CONTEXT = context_of(GENESIS, "returns", 7, 3, "XAA:police", ID)
LOCKED = lock_bodies(CONTEXT, MEMBER, SECRET, [b"first", b"second"])
SHARES = release_shares(CONTEXT, SECRET, (0, 1))
KEYS = [body_key(CONTEXT, MEMBER, i, SHARES[i]) for i in (0, 1)]


def test_context_byte_by_byte() -> None:
    """The context is the hash of label, genesis, topic, partition, epoch, issuer and manifest_id."""
    parts = [
        b"ftf-broker/v1/context",
        GENESIS,
        sha256(b"returns").digest(),
        b"\0\0\0\x07",
        b"\0\0\0\x03",
        sha256(b"XAA:police").digest(),
        ID,
    ]
    assert sha256(b"".join(parts)).digest() == CONTEXT


@pytest.mark.parametrize("index", [0, 1, 255])
def test_derivations_byte_by_byte(index: int) -> None:
    """Share, check, key, value, digest and commitment follow the specification, step by step."""
    u32 = index.to_bytes(4, "big")
    share = HKDFExpand(SHA256(), 32, b"ftf-broker/v1/release" + CONTEXT + u32).derive(SECRET)
    prk = hmac.digest(CONTEXT, MEMBER, "sha256")
    key = HKDFExpand(SHA256(), 32, b"ftf-broker/v1/body" + u32 + share).derive(prk)
    body = b"body %d" % index
    plaintext = len(body).to_bytes(4, "big") + body + bytes(512 - 4 - len(body))
    value = b"\x02" + AESGCM(key).encrypt(bytes(12), plaintext, None)

    locked = lock_bodies(CONTEXT, MEMBER, SECRET, [b"body %d" % i for i in range(index + 1)])[index]
    assert release_share(CONTEXT, SECRET, index) == share
    assert body_key(CONTEXT, MEMBER, index, share) == key
    assert locked.value == value
    assert locked.digest == sha256(value).digest()
    assert locked.commitment == sha256(b"ftf-broker/v1/commitment" + key + plaintext).digest()
    label = b"ftf-broker/v1/release-check"
    assert locked.release_check == sha256(label + CONTEXT + u32 + share).digest()


@pytest.mark.parametrize("size", [0, 1, 507, 508, 509, 1020, 1021, MAX_BODY_BYTES - 1, MAX_BODY_BYTES])
def test_round_trip_at_every_border(size: int) -> None:
    """A body of any size comes back, in the number of blocks that it needs and no more."""
    (locked,) = lock_bodies(CONTEXT, MEMBER, SECRET, [b"x" * size])
    assert unlock(KEYS[0], 0, locked.value, locked.commitment) == b"x" * size
    assert len(locked.value) == locked_size(size) == 1 + -(-(4 + size) // 512) * 512 + 16
    assert locked_size(MAX_BODY_BYTES) == MAX_BODY_VALUE_BYTES


def test_key_is_used_once() -> None:
    """No two bodies of a batch, and no two batches, have the same key: the zero nonce is safe only so."""
    values = lock_bodies(CONTEXT, MEMBER, SECRET, [b"same"] * 256)
    assert len({body.value for body in values}) == 256
    other = context_of(GENESIS, "returns", 7, 3, "XAA:police", b"\x05" * 16)
    assert lock_bodies(other, MEMBER, SECRET, [b"same"])[0].value != values[0].value


@pytest.mark.parametrize(
    ("bodies", "member", "secret"),
    [
        ([], MEMBER, SECRET),
        ([b""] * 257, MEMBER, SECRET),
        ([b"x" * (MAX_BODY_BYTES + 1)], MEMBER, SECRET),
        ([b""], MEMBER[:-1], SECRET),
        ([b""], MEMBER, SECRET + b"\0"),
    ],
    ids=["none", "257", "large", "member-share", "release-secret"],
)
def test_lock_refuses(bodies: list[bytes], member: bytes, secret: bytes) -> None:
    """A writer cannot lock what no reader would unlock."""
    with pytest.raises(UsageError):
        lock_bodies(CONTEXT, member, secret, bodies)


class TestBlame:
    """When unlocking fails, everyone can tell who is to blame."""

    def test_wrong_release_share(self) -> None:
        """A share that the service made up, or took from another record, does not fit the issuer's check."""
        for share in (bytes(32), SHARES[1], release_share(CONTEXT, b"\x09" * 32, 0)):
            with pytest.raises(OpenError, match="does not fit its release check"):
                check_release_share(CONTEXT, 0, share, LOCKED[0].release_check)

    def test_right_release_share(self) -> None:
        """The share that the issuer's secret gives fits, so that a later failure is the issuer's fault."""
        assert check_release_share(CONTEXT, 0, SHARES[0], LOCKED[0].release_check) == SHARES[0]

    def test_wrong_member_share(self) -> None:
        """When the release share fits and the body does not unlock, the member share is wrong."""
        key = body_key(CONTEXT, b"\x09" * 32, 0, SHARES[0])
        with pytest.raises(OpenError, match="does not unlock"):
            unlock(key, 0, LOCKED[0].value, LOCKED[0].commitment)

    def test_wrong_commitment(self) -> None:
        """A body that unlocks, but not to the text that its issuer committed to, has an error of its own."""
        with pytest.raises(OpenError, match="committed"):
            unlock(KEYS[0], 0, LOCKED[0].value, LOCKED[1].commitment)


def test_copied_manifest_id_opens_nothing() -> None:
    """A member that copies another batch's manifest_id gets shares that open nothing of the victim's."""
    attacker = context_of(GENESIS, "returns", 7, 3, "XBB:police", ID)
    share = release_share(attacker, SECRET, 0)  # even with the victim's own release secret
    assert share != SHARES[0]
    with pytest.raises(OpenError):
        check_release_share(CONTEXT, 0, share, LOCKED[0].release_check)
    for context in (CONTEXT, attacker):
        with pytest.raises(OpenError):
            unlock(body_key(context, MEMBER, 0, share), 0, LOCKED[0].value, LOCKED[0].commitment)


def _forged(plaintext: bytes) -> tuple[bytes, bytes]:
    value = b"\x02" + AESGCM(KEYS[0]).encrypt(bytes(12), plaintext, None)
    return value, sha256(b"ftf-broker/v1/commitment" + KEYS[0] + plaintext).digest()


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\0\0\0\x05first" + bytes(502) + b"\x01",
        b"\0\0\0\x05first" + bytes(503 + 512),
        b"\0\0\0\x05first" + bytes(504),
        b"\0\0\x01\xfd" + bytes(508),
        b"\xff\xff\xff\xff" + bytes(508),
        (MAX_BODY_BYTES + 1).to_bytes(4, "big") + bytes(MAX_BODY_BYTES + 508),
    ],
    ids=["not-zero", "too-long", "no-block", "beyond", "huge", "body-too-large"],
)
def test_padding_is_checked(plaintext: bytes) -> None:
    """A body is refused when its padding is not all zeros or not the least that fits."""
    value, commitment = _forged(plaintext)
    with pytest.raises(FormatError, match="padding"):
        unlock(KEYS[0], 0, value, commitment)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x02",
        b"\x01" + LOCKED[0].value[1:],
        LOCKED[0].value[:528],
        b"\x02" + bytes(MAX_BODY_VALUE_BYTES),
    ],
    ids=["empty", "bare", "manifest", "short", "long"],
)
def test_what_is_no_body(value: bytes) -> None:
    """A message that cannot be a body is refused before anything is decrypted."""
    with pytest.raises(FormatError, match="is no body"):
        unlock(KEYS[0], 0, value, bytes(32))


@pytest.mark.parametrize("size", [0, 31, 33, 64, 65])
def test_share_of_another_size_is_refused(size: int) -> None:
    """A share, secret or key that has not 32 bytes is refused: HMAC takes k and k | 0x00 for the same key."""
    wrong = bytes(size)
    with pytest.raises(OpenError, match="expected 32"):
        release_share(CONTEXT, wrong, 0)
    with pytest.raises(OpenError, match="expected 32"):
        check_release_share(CONTEXT, 0, wrong, bytes(32))
    with pytest.raises(OpenError, match="expected 32"):
        body_key(CONTEXT, wrong, 0, SHARES[0])
    with pytest.raises(OpenError, match="expected 32"):
        body_key(CONTEXT, MEMBER, 0, wrong)
    with pytest.raises(OpenError, match="expected 32"):
        unlock(wrong, 0, LOCKED[0].value, LOCKED[0].commitment)


@pytest.mark.parametrize("index", [-1, -256, 256, 2**40])
def test_index_out_of_range_is_refused(index: int) -> None:
    """An index that no batch has ends in our error, and is never taken for another record's."""
    with pytest.raises(FormatError, match="is not within"):
        release_share(CONTEXT, SECRET, index)
    with pytest.raises(FormatError, match="is not within"):
        release_shares(CONTEXT, SECRET, (0, index))
    with pytest.raises(FormatError, match="is not within"):
        check_release_share(CONTEXT, index, SHARES[0], bytes(32))
    with pytest.raises(FormatError, match="is not within"):
        body_key(CONTEXT, MEMBER, index, SHARES[0])


@pytest.mark.parametrize(("partition", "epoch"), [(-1, 0), (0, -1), (2**32, 0), (0, 2**32)])
def test_place_that_does_not_fit_is_refused(partition: int, epoch: int) -> None:
    """A header whose partition or epoch does not fit four bytes has no context, and ends in our error."""
    with pytest.raises(FormatError, match="is not within"):
        context_of(GENESIS, "returns", partition, epoch, "XAA:police", ID)


@given(
    key=st.one_of(st.just(KEYS[0]), st.binary(max_size=40)),
    index=st.integers(),
    value=st.one_of(st.binary(max_size=600), st.binary(max_size=600).map(lambda rest: b"\x02" + rest)),
)
def test_any_bytes_do_not_unlock(key: bytes, index: int, value: bytes) -> None:
    """Whatever the key, the index and the value, unlocking ends in our error."""
    with pytest.raises(BrokerError):
        unlock(key, index, value, LOCKED[0].commitment)


@given(st.binary(max_size=1100))
def test_any_plaintext_unlocks_or_is_refused(plaintext: bytes) -> None:
    """Whatever an issuer locks, unlocking gives the one body that pads to it, or our error."""
    value, commitment = _forged(plaintext)
    try:
        body = unlock(KEYS[0], 0, value, commitment)
    except BrokerError:
        return
    assert lock_bodies(CONTEXT, MEMBER, SECRET, [body])[0].value == value


@given(st.integers(0, len(LOCKED[0].value) - 1), st.integers(0, 7))
def test_one_changed_bit_is_found(place: int, bit: int) -> None:
    """A body with one bit changed, anywhere, does not unlock."""
    changed = bytearray(LOCKED[0].value)
    changed[place] ^= 1 << bit
    with pytest.raises(BrokerError):
        unlock(KEYS[0], 0, bytes(changed), LOCKED[0].commitment)


class TestManyAtOnce:
    """The functions for many records give the same as those for one record."""

    INDEXES = (0, 3, 4, 255)

    def test_keys_are_those_of_each_record(self) -> None:
        """Each key is what ``body_key`` gives for that record, and opens its body."""
        shares = release_shares(CONTEXT, SECRET, self.INDEXES)
        keys = body_keys(CONTEXT, MEMBER, self.INDEXES, shares)
        locked = lock_bodies(CONTEXT, MEMBER, SECRET, [bytes([i]) for i in range(256)])
        for i, share, key in zip(self.INDEXES, shares, keys, strict=True):
            assert key == body_key(CONTEXT, MEMBER, i, share)
            assert unlock(key, i, locked[i].value, locked[i].commitment) == bytes([i])

    def test_wrong_shares_are_named(self) -> None:
        """Only the share of another record, of another length or of another batch is wrong."""
        locked = lock_bodies(CONTEXT, MEMBER, SECRET, [b""] * 256)
        checks = b"".join(body.release_check for body in locked)
        shares = release_shares(CONTEXT, SECRET, self.INDEXES)
        assert wrong_release_shares(CONTEXT, self.INDEXES, shares, checks) == frozenset()
        shares[1], shares[2] = shares[2], shares[2][:31]
        assert wrong_release_shares(CONTEXT, self.INDEXES, shares, checks) == {3, 4}
        assert wrong_release_shares(bytes(32), [0], shares[:1], checks) == {0}

    @pytest.mark.parametrize("index", [-1, 256])
    def test_no_batch_has_such_a_record(self, index: int) -> None:
        """An index that no batch has is refused: -1 is not taken for the last record."""
        with pytest.raises(FormatError):
            body_keys(CONTEXT, MEMBER, [0, index], [SHARES[0]] * 2)
        with pytest.raises(FormatError):
            wrong_release_shares(CONTEXT, [0, index], [SHARES[0]] * 2, bytes(8192))

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_a_share_has_its_length(self, size: int) -> None:
        """A share of another length is refused, though HMAC would take it."""
        with pytest.raises(OpenError, match=f"{size} bytes"):
            body_keys(CONTEXT, bytes(size), [0], [SHARES[0]])
        with pytest.raises(OpenError, match=f"{size} bytes"):
            body_keys(CONTEXT, MEMBER, [0, 1], [SHARES[0], bytes(size)])
