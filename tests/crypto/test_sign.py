"""Signatures over (kind, coalition, content), and the public keys that are refused."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.sign import NO_GENESIS, SigningKey, check_public_key, signing_key_id, verify
from broker.errors import BrokerError, SignatureInvalid

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
KEY = SigningKey.of(Ed25519PrivateKey.from_private_bytes(SECRET))
GENESIS = b"\x07" * 32


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """The addition of RFC 8032, 5.1.4, in affine coordinates: it shares no code with what it checks."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def _small_order_points() -> set[tuple[int, int]]:
    """All points of order 1, 2, 4 and 8: the multiples of a point of order 8, found as L times some point."""
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 1000):
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
        if (x * x - square) % P:
            continue
        found, power, rest = (0, 1), (x, y), order
        while rest:
            if rest & 1:
                found = _add(found, power)
            power, rest = _add(power, power), rest >> 1
        points, point = {(0, 1)}, found
        while point not in points:
            points.add(point)
            point = _add(point, found)
        if len(points) == 8:
            return points
    raise AssertionError("no point of order 8")


SMALL_ORDER = sorted((y | (x & 1) << 255).to_bytes(32, "little") for x, y in _small_order_points())


def test_rfc_8032_key() -> None:
    """The first key of RFC 8032, 7.1, has the public key that the RFC says."""
    assert KEY.public == PUBLIC
    assert check_public_key(PUBLIC) == PUBLIC


def test_key_id_is_over_algorithm_and_key() -> None:
    """A key's id is the whole of H("ed25519" | 0x0A | public)."""
    assert KEY.key_id == signing_key_id(PUBLIC) == sha256(b"ed25519\x0a" + PUBLIC).digest()


def test_preimage_byte_by_byte() -> None:
    """A signature covers the domain, the kind, a line break, the genesis and the content, and no more."""
    signature = KEY.sign("access-request", GENESIS, b"content")
    preimage = b"ftf-broker/v1/access-request\n" + b"\x07" * 32 + b"content"
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(signature, preimage)
    assert signature == Ed25519PrivateKey.from_private_bytes(SECRET).sign(preimage)


@pytest.mark.parametrize(
    ("kind", "genesis", "content"),
    [
        ("receipt", GENESIS, b"content"),
        ("manifest", NO_GENESIS, b"content"),
        ("manifest", GENESIS, b"other"),
    ],
)
def test_signature_is_bound(kind: str, genesis: bytes, content: bytes) -> None:
    """A signature holds for its kind, its coalition and its content, and for no other."""
    signature = KEY.sign("manifest", GENESIS, b"content")
    verify(PUBLIC, "manifest", GENESIS, b"content", signature)
    with pytest.raises(SignatureInvalid):
        verify(PUBLIC, kind, genesis, content, signature)


def test_fresh_keys_differ() -> None:
    """Two generated keys are two keys, and each verifies its own signatures."""
    first = SigningKey.generate()
    other = SigningKey.generate()
    assert first.key_id != other.key_id
    verify(first.public, "receipt", GENESIS, b"x", first.sign("receipt", GENESIS, b"x"))
    with pytest.raises(SignatureInvalid, match="does not verify"):
        verify(other.public, "receipt", GENESIS, b"x", first.sign("receipt", GENESIS, b"x"))


@pytest.mark.parametrize("public", SMALL_ORDER, ids=[key.hex()[:8] for key in SMALL_ORDER])
def test_small_order_is_refused(public: bytes) -> None:
    """Each of the eight points of small order is refused: under it one signature would fit every message."""
    assert len(SMALL_ORDER) == 8
    with pytest.raises(SignatureInvalid, match="small order"):
        verify(public, "receipt", GENESIS, b"x", (1).to_bytes(32, "little") + bytes(32))


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_non_canonical_is_refused(y: int, sign: int) -> None:
    """Each encoding of a y beyond the field is refused, whatever point it would decode to."""
    with pytest.raises(SignatureInvalid, match="non-canonical"):
        check_public_key((y | sign << 255).to_bytes(32, "little"))


def test_off_the_curve_is_refused() -> None:
    """A y without an x is refused."""
    with pytest.raises(SignatureInvalid, match="no point"):
        check_public_key((2).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33, 1216])
def test_key_of_another_size_is_refused(size: int) -> None:
    """A public key has 32 bytes."""
    with pytest.raises(SignatureInvalid, match="expected 32"):
        check_public_key(bytes(size))


@pytest.mark.parametrize("kind", ["", "manifest\n", "Manifest", "mänifest", "m\u0430nifest", "a b", "\ud800"])
def test_kind_outside_its_letters_is_refused(kind: str) -> None:
    """A kind of other characters than small letters and hyphens is refused, in signing and in verifying."""
    with pytest.raises(SignatureInvalid, match="small letters"):
        KEY.sign(kind, GENESIS, b"")
    with pytest.raises(SignatureInvalid, match="small letters"):
        verify(PUBLIC, kind, GENESIS, b"", bytes(64))


@given(public=st.binary(max_size=40), kind=st.text(max_size=20), content=st.binary(), signature=st.binary())
def test_any_bytes_are_refused_by_name(public: bytes, kind: str, content: bytes, signature: bytes) -> None:
    """Whatever the bytes, verifying ends in our error."""
    with pytest.raises(BrokerError):
        verify(public, kind, GENESIS, content, signature)


@given(st.binary(min_size=32, max_size=32))
def test_key_check_agrees_with_the_library(public: bytes) -> None:
    """A key that passes the check is on the curve, by independent arithmetic, and the library can load it."""
    number = int.from_bytes(public, "little")
    y = number & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    on_curve = y < P and pow(square, (P - 1) // 2, P) in (0, 1)
    try:
        check_public_key(public)
    except SignatureInvalid:
        assert not on_curve or public in SMALL_ORDER or (square == 0 and number >> 255)
    else:
        assert on_curve
        Ed25519PublicKey.from_public_bytes(public)
