"""The seed of an epoch, byte by byte as the specification has it, and what follows from it."""

from __future__ import annotations

import hmac
import time
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto.epoch import EpochKeys, ManifestPlace, epoch_seed, half_commitment
from broker.errors import FormatError, OpenError

GENESIS, MEMBER, SERVICE = b"\x01" * 32, b"\x0a" * 32, b"\x0b" * 32
LABEL = b"ftf-broker/v1/"
PLACE = ManifestPlace("returns", 7, 3, b"\x31" * 16)
KEYS = EpochKeys.of(b"\x05" * 32, GENESIS)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def key_of(label: bytes) -> bytes:
    """RFC 5869 by hand: extraction with the genesis as salt, and one block of expansion."""
    return mac(mac(GENESIS, b"\x05" * 32), LABEL + label + b"\x01")


def test_a_commitment_names_no_place() -> None:
    """Equal halves have one commitment, whatever they are used for."""
    assert half_commitment(GENESIS, MEMBER) == sha256(LABEL + b"half" + GENESIS + MEMBER).digest()
    assert half_commitment(GENESIS, MEMBER) != half_commitment(bytes(32), MEMBER)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_half_of_another_size_is_refused(size: int) -> None:
    """A half has 32 bytes."""
    with pytest.raises(OpenError, match=f"half of {size} bytes"):
        half_commitment(GENESIS, bytes(size))


def test_a_seed_needs_both_halves_in_their_order() -> None:
    """The seed is bound to channel, epoch and use, and neither half alone nor their exchange gives it."""
    place = sha256(b"xaa-xbb").digest() + b"\0\0\0\x03" + sha256(b"content").digest()
    expected = mac(mac(GENESIS, MEMBER + SERVICE), LABEL + b"seed" + place + b"\x01")
    assert epoch_seed(GENESIS, "xaa-xbb", 3, "content", (MEMBER, SERVICE)) == expected
    others = {
        epoch_seed(GENESIS, "xaa-xbb", 3, "content", (SERVICE, MEMBER)),
        epoch_seed(GENESIS, "xaa-xbb", 3, "content", (MEMBER,)),
        epoch_seed(GENESIS, "xaa-xbb", 3, "content", (SERVICE,)),
        epoch_seed(GENESIS, "xaa-xbb", 3, "metadata", (MEMBER, SERVICE)),
        epoch_seed(GENESIS, "xaa-xbb", 4, "content", (MEMBER, SERVICE)),
        epoch_seed(GENESIS, "xaa-xcc", 3, "content", (MEMBER, SERVICE)),
        epoch_seed(bytes(32), "xaa-xbb", 3, "content", (MEMBER, SERVICE)),
    }
    assert len(others - {expected}) == 7


def test_keys_byte_by_byte() -> None:
    """Each key has its own label, and each use of it is as the specification says."""
    fresh, plaintexts, context = b"\x44" * 32, [b"one", b"two"], b"\x55" * 32
    assert KEYS.manifest_id(fresh, plaintexts) == mac(key_of(b"manifest-id"), fresh + b"onetwo")[:16]
    assert KEYS.member_share(context) == mac(key_of(b"member-share"), context + b"\x01")
    sealed = KEYS.seal_manifest(PLACE, b"plaintext")
    nonce = mac(key_of(b"manifest-nonce"), b"plaintext")[:12]
    place = sha256(b"returns").digest() + b"\0\0\0\x07" + b"\0\0\0\x03" + b"\x31" * 16
    key = mac(key_of(b"manifest"), place + b"\x01")
    assert sealed == nonce + AESGCM(key).encrypt(nonce, b"plaintext", None)
    assert KEYS.open_manifest(PLACE, sealed) == b"plaintext"


@pytest.mark.parametrize(
    "place",
    [
        ManifestPlace("access", 7, 3, b"\x31" * 16),
        ManifestPlace("returns", 8, 3, b"\x31" * 16),
        ManifestPlace("returns", 7, 4, b"\x31" * 16),
        ManifestPlace("returns", 7, 3, b"\x32" * 16),
    ],
    ids=["topic", "partition", "epoch", "manifest_id"],
)
def test_a_manifest_opens_in_its_place_only(place: ManifestPlace) -> None:
    """What is sealed for one place does not open in another, nor under another seed."""
    sealed = KEYS.seal_manifest(PLACE, b"plaintext")
    assert KEYS.open_manifest(place, sealed) is None
    assert EpochKeys.of(b"\x06" * 32, GENESIS).open_manifest(PLACE, sealed) is None
    assert EpochKeys.of(b"\x05" * 32, bytes(32)).open_manifest(PLACE, sealed) is None


@pytest.mark.parametrize(("partition", "epoch"), [(-1, 0), (0, -1), (2**32, 0)])
def test_a_number_that_does_not_fit_is_refused(partition: int, epoch: int) -> None:
    """A place that does not fit four bytes ends in our error."""
    with pytest.raises(FormatError, match="is not within"):
        KEYS.seal_manifest(ManifestPlace("returns", partition, epoch, bytes(16)), b"")


def test_keys_are_not_shown() -> None:
    """Printing the keys shows none of them: a repr ends up in tracebacks and logs."""
    assert "x05" not in repr(KEYS)
    assert repr(KEYS.nonce) not in repr(KEYS)


def test_garbage_costs_microseconds() -> None:
    """What an outsider writes costs one derivation and one attempt of AES-GCM."""
    garbage = bytes(12) + bytes(2048)
    begun = time.perf_counter()
    for _ in range(1000):
        assert KEYS.open_manifest(PLACE, garbage) is None
    assert time.perf_counter() - begun < 0.5
