"""HKDF-SHA-256, against the test cases of its RFC and against the library."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.hkdf import hkdf_sha256


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
        ),
        (b"\x0b" * 22, b"", b"", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"),
    ],
    ids=["basic", "longer", "no-salt"],
)
def test_rfc_5869(ikm: bytes, salt: bytes, info: bytes, okm: str) -> None:
    """The SHA-256 test cases of RFC 5869, appendix A, give the first 32 bytes that the RFC lists."""
    assert hkdf_sha256(ikm, salt=salt, info=info).hex() == okm


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_hkdf_agrees_with_the_library(ikm: bytes, salt: bytes, info: bytes) -> None:
    """HKDF with a kept key schedule gives the same bytes as the library, for inputs of any length."""
    expected = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(ikm)
    assert hkdf_sha256(ikm, salt=salt, info=info) == expected
