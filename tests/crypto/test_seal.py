"""Seals bound to their place, and the hybrid keys that they are made to."""

from __future__ import annotations

from hashlib import sha256, shake_256

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.seal import (
    PUBLIC_BYTES,
    SEALED_OVERHEAD,
    ReceivingKey,
    answer_info,
    check_receiving_public,
    member_share_info,
    open_sealed,
    open_sealed_answer,
    receiving_key_id,
    release_info,
    seal,
    seal_answer,
    seed_info,
    storage_info,
)
from broker.errors import BrokerError, FormatError, OpenError

GENESIS, A, B = b"\x01" * 32, b"\x0a" * 32, b"\x0b" * 32


def expanded_key(seed: bytes) -> ReceivingKey:
    """The key of a seed as the X-Wing draft expands it."""
    private = shake_256(seed).digest(96)
    return ReceivingKey.of(
        MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    )


KEY = expanded_key(b"\x05" * 32)
SEALED = seal(KEY.public, b"plaintext", b"info")


def h(text: str) -> bytes:
    return sha256(text.encode()).digest()


def test_info_byte_by_byte() -> None:
    """Each use of a seal has the info of the specification, byte by byte."""
    u3 = b"\0\0\0\x03"
    tag = b"ftf-broker/v1/"
    assert member_share_info(A) == tag + b"member-share\n" + A
    assert release_info(A, B) == tag + b"release\n" + A + B
    expected = tag + b"seed\n" + GENESIS + h("xaa-xbb") + u3 + h("content") + B
    assert seed_info(GENESIS, "xaa-xbb", 3, "content", B) == expected
    assert answer_info(A, B) == tag + b"answer\n" + A + B
    assert storage_info(GENESIS, "2026-05-01") == tag + b"storage\n" + GENESIS + h("2026-05-01")


@pytest.mark.parametrize("epoch", [-1, 2**32])
def test_number_that_does_not_fit_is_refused(epoch: int) -> None:
    """A number from a hostile statement that does not fit four bytes ends in our error."""
    with pytest.raises(FormatError, match="is not within"):
        seed_info(GENESIS, "xaa-xbb", epoch, "content", B)


def test_x_wing_known_answer() -> None:
    """The halves have the order of the X-Wing draft (its first test vector)."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    key = expanded_key(seed)
    assert key.public[:32].hex() == "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"
    assert key.public[-32:].hex() == "859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534"


def test_key_id_is_over_algorithm_and_both_halves() -> None:
    """A key's id is the whole of H("mlkem768-x25519" | 0x0A | ML-KEM half | X25519 half)."""
    halves = KEY.mlkem.public_key().public_bytes_raw() + KEY.x25519.public_key().public_bytes_raw()
    assert KEY.public == halves
    assert KEY.key_id == receiving_key_id(halves) == sha256(b"mlkem768-x25519\x0a" + halves).digest()


def test_sealed_is_plain_hpke() -> None:
    """A seal is plain HPKE with nothing around it, and is 1136 bytes longer than the plaintext."""
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    private = hpke.MLKEM768X25519PrivateKey(KEY.mlkem, KEY.x25519)
    assert suite.decrypt(SEALED, private, info=b"info") == b"plaintext"
    assert len(SEALED) == len(b"plaintext") + SEALED_OVERHEAD == len(b"plaintext") + 1120 + 16


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_round_trip(plaintext: bytes, info: bytes) -> None:
    """A seal for a place opens there, and not elsewhere."""
    sealed = seal(KEY.public, plaintext, info)
    assert open_sealed(KEY, sealed, info) == plaintext
    with pytest.raises(OpenError):
        open_sealed(KEY, sealed, info + b"\0")


def test_another_key_opens_nothing() -> None:
    """A seal opens only with the key that it was made to."""
    with pytest.raises(OpenError, match="does not open"):
        open_sealed(ReceivingKey.generate(), SEALED, b"info")


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
def test_one_changed_bit_is_found(place: int, bit: int) -> None:
    """A seal with one bit changed, anywhere, does not open."""
    changed = bytearray(SEALED)
    changed[place] ^= 1 << bit
    with pytest.raises(OpenError):
        open_sealed(KEY, bytes(changed), b"info")


@given(st.one_of(st.binary(max_size=64), st.binary(min_size=1100, max_size=1300)))
def test_any_bytes_do_not_open(sealed: bytes) -> None:
    """Whatever the bytes, opening ends in our error."""
    with pytest.raises(OpenError):
        open_sealed(KEY, sealed, b"info")


# RFC 7748, 6.1: every X25519 public key that leads to the all-zero secret, canonical or not.
SMALL_ORDER_X25519 = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    2**255 - 20,
    2**255 - 19,
    2**255 - 18,
]


@pytest.mark.parametrize("number", SMALL_ORDER_X25519, ids=range(len(SMALL_ORDER_X25519)))
def test_x25519_half_of_small_order_is_refused(number: int) -> None:
    """A hybrid key whose X25519 half has small order is refused, though its ML-KEM half is sound."""
    public = KEY.public[:1184] + number.to_bytes(32, "little")
    with pytest.raises(OpenError):
        check_receiving_public(public)


@pytest.mark.parametrize("size", [0, 32, PUBLIC_BYTES - 1, PUBLIC_BYTES + 1])
def test_public_key_of_another_size_is_refused(size: int) -> None:
    """A hybrid public key has 1216 bytes."""
    with pytest.raises(OpenError, match="expected 1216"):
        check_receiving_public(bytes(size))


def test_unreduced_mlkem_half_is_refused() -> None:
    """An ML-KEM half with coefficients that are not reduced fails the check of FIPS 203, 7.2."""
    with pytest.raises(OpenError, match="malformed"):
        check_receiving_public(b"\xff" * 1152 + KEY.public[1152:])


def test_sound_public_key_is_returned() -> None:
    """A key that things can be sealed to is returned as it is."""
    assert check_receiving_public(KEY.public) == KEY.public


@given(st.binary(min_size=PUBLIC_BYTES, max_size=PUBLIC_BYTES))
def test_any_public_key_is_used_or_refused(public: bytes) -> None:
    """Whatever the bytes of a public key, sealing to it ends in sealed bytes or in our error."""
    try:
        sealed = seal(public, b"x", b"")
    except BrokerError:
        return
    MLKEM768PublicKey.from_public_bytes(public[:1184])
    X25519PublicKey.from_public_bytes(public[1184:])
    assert len(sealed) == SEALED_OVERHEAD + 1


def test_halves_make_one_key() -> None:
    """A key is made of its halves, and opens what was sealed to both."""
    key = ReceivingKey.of(
        MLKEM768PrivateKey.from_seed_bytes(b"\x09" * 64), X25519PrivateKey.from_private_bytes(b"\x09" * 32)
    )
    assert open_sealed(key, seal(key.public, b"x", b""), b"") == b"x"


def test_private_key_does_not_show() -> None:
    """Printing a receiving key shows no private byte."""
    shown = repr(KEY)
    assert KEY.x25519.private_bytes_raw().hex() not in shown
    assert repr(KEY.x25519.private_bytes_raw())[2:-1] not in shown


def test_an_answer_opens_with_its_own_hash() -> None:
    """An answer is bound to its text, so that a machine resumed twice seals no two answers under one key."""
    key = ReceivingKey.generate()
    sealed = seal_answer(key.public, b"an answer", A)
    assert open_sealed_answer(key, sealed, A) == b"an answer"
    other = sha256(b"another").digest()
    lying = other + seal(key.public, b"an answer", answer_info(A, other))
    for wrong, digest in ((other + sealed[32:], A), (sealed, B), (sealed[:40], A), (b"", A), (lying, A)):
        with pytest.raises(OpenError):
            open_sealed_answer(key, wrong, digest)
