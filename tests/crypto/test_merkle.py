"""Tree hashes and inclusion proofs as RFC 6962 and RFC 9162 define them."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.merkle import inclusion_path, leaf_hash, root_of_leaves, tree_hash, verify_inclusion
from broker.errors import OpenError

# The leaves and roots of the reference tests of Certificate Transparency.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def _mth(entries: list[bytes]) -> bytes:
    """The tree hash of RFC 6962, 2.1, written word for word."""
    n = len(entries)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < n:
        k *= 2
    return sha256(b"\x01" + _mth(entries[:k]) + _mth(entries[k:])).digest()


def _path(m: int, entries: list[bytes]) -> list[bytes]:
    """The audit path of RFC 6962, 2.1.1, written word for word."""
    n = len(entries)
    if n == 1:
        return []
    k = 1
    while k * 2 < n:
        k *= 2
    if m < k:
        return [*_path(m, entries[:k]), _mth(entries[k:])]
    return [*_path(m - k, entries[k:]), _mth(entries[:k])]


@pytest.mark.parametrize("size", range(9))
def test_reference_roots(size: int) -> None:
    """The tree hash of the reference leaves is the reference root, at every size."""
    assert tree_hash(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 255, 256])
def test_every_leaf_is_proved(size: int) -> None:
    """Root and paths equal those of the RFC's recursion, and every path proves its leaf."""
    entries = [i.to_bytes(2, "big") for i in range(size)]
    hashes = [leaf_hash(entry) for entry in entries]
    root = tree_hash(entries)
    assert root == root_of_leaves(hashes) == _mth(entries)
    for index, entry in enumerate(entries):
        path = inclusion_path(hashes, index)
        assert list(path) == _path(index, entries)
        assert verify_inclusion(entry, index, size, path, root) == entry


@given(st.integers(1, 40), st.data())
def test_no_other_place_is_proved(size: int, data: st.DataObject) -> None:
    """A path proves its own leaf, at its place, in a tree of its size, and nothing else."""
    entries = [bytes([i]) for i in range(size)]
    hashes, root = [leaf_hash(entry) for entry in entries], tree_hash(entries)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(hashes, index)
    other = data.draw(st.integers(-2, size + 2).filter(lambda i: i != index))
    with pytest.raises(OpenError):
        verify_inclusion(entries[index], other, size, path, root)
    with pytest.raises(OpenError):
        verify_inclusion(b"other", index, size, path, root)
    with pytest.raises(OpenError):
        verify_inclusion(entries[index], index, size, (*path, root), root)


def test_inner_node_is_no_entry() -> None:
    """An inner node passed off as an entry of a smaller tree is refused."""
    hashes = [leaf_hash(entry) for entry in LEAVES[:4]]
    right = sha256(b"\x01" + hashes[2] + hashes[3]).digest()
    with pytest.raises(OpenError, match="does not lead"):
        verify_inclusion(hashes[0] + hashes[1], 0, 2, [right], tree_hash(LEAVES[:4]))


@given(
    st.binary(max_size=8),
    st.integers(-5, 2**70),
    st.integers(-5, 2**70),
    st.lists(st.binary(max_size=40), max_size=80),
    st.binary(max_size=40),
)
def test_any_proof_is_refused_by_name(
    entry: bytes, index: int, count: int, path: list[bytes], root: bytes
) -> None:
    """Whatever the proof, checking it ends in our error."""
    with pytest.raises(OpenError):
        verify_inclusion(entry, index, count, path, root)


def test_path_of_a_leaf_that_is_not_there() -> None:
    """Asking for the path of a leaf beyond the tree is a mistake of the caller."""
    with pytest.raises(IndexError):
        inclusion_path([leaf_hash(b"")], 1)
