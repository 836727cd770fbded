"""Trees of partitions: roots and frontiers at every size are those of RFC 6962 over the same leaves."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.log_tree import EMPTY_ROOT, Frontier, LeafFile, LogTree
from broker.crypto.merkle import root_of_leaves


def _leaf(number: int) -> bytes:
    return sha256(b"leaf %d" % number).digest()


LEAVES = [_leaf(number) for number in range(1100)]


@pytest.mark.parametrize("is_on_disk", [False, True])
def test_the_root_at_every_size_is_that_of_rfc_6962(is_on_disk: bool) -> None:
    file = LeafFile() if is_on_disk else None
    tree = LogTree(leaves=file)
    for leaf in LEAVES:
        tree.add(leaf)
    for size in (*range(300), 511, 512, 513, 1023, 1024, 1025, 1100):
        assert tree.root_at(size) == root_of_leaves(LEAVES[:size])
    assert tree.root_at(1101) is None
    assert tree.root_at(-1) is None
    if file is not None:
        file.close()


def test_a_large_tree_on_disk_reads_what_was_written_and_what_waits() -> None:
    file = LeafFile()
    tree = LogTree(leaves=file)
    leaves = [_leaf(number) for number in range(5000)]
    tree.extend(leaves)
    for size in (0, 1, 63, 64, 2047, 2048, 2049, 4095, 4999, 5000):
        assert tree.root_at(size) == root_of_leaves(leaves[:size])
    file.close()


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert LogTree().root == EMPTY_ROOT == root_of_leaves([])
    assert Frontier(0).root == EMPTY_ROOT


@given(st.integers(0, 1100), st.lists(st.integers(0, 200), max_size=8), st.integers(0, 1100))
def test_a_tree_resumes_from_any_frontier(start: int, steps: list[int], asked: int) -> None:
    whole = LogTree()
    whole.extend(LEAVES[:start])
    frontier = whole.frontier_at(start)
    assert frontier is not None
    assert frontier.is_whole
    assert frontier.root == root_of_leaves(LEAVES[:start])
    assert frontier.last == (LEAVES[start - 1] if start else None)
    resumed = LogTree(frontier)
    for step in steps:
        resumed.extend(LEAVES[resumed.size : resumed.size + step])
    known = start <= asked <= resumed.size
    assert resumed.root_at(asked) == (root_of_leaves(LEAVES[:asked]) if known else None)
    assert resumed.root == root_of_leaves(LEAVES[: resumed.size])
    assert resumed.last == (LEAVES[resumed.size - 1] if resumed.size else None)


@given(st.integers(0, 200), st.integers(0, 400), st.integers(0, 100))
def test_a_run_of_equal_leaves(before: int, count: int, behind: int) -> None:
    hole = sha256(b"\x00\x00").digest()
    tree = LogTree()
    tree.extend(LEAVES[:before])
    tree.skip(hole, count)
    tree.extend(LEAVES[:behind])
    assert tree.root == root_of_leaves(LEAVES[:before] + [hole] * count + LEAVES[:behind])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 200))
def test_a_copy_knows_what_it_was_asked_to_know(since: int, more: int, later: int) -> None:
    tree = LogTree()
    tree.extend(LEAVES[: since + more])
    other = tree.copy(since)
    other.extend(LEAVES[since + more : since + more + later])
    assert tree.root == root_of_leaves(LEAVES[: since + more])
    for size in (since, since + more, since + more + later):
        assert other.root_at(size) == root_of_leaves(LEAVES[:size])
    assert other.root_at(since - 1) is None
    assert other.kept <= more + later + 64


def test_behind_a_hole_without_end_no_root_is_told() -> None:
    tree = LogTree()
    tree.extend(LEAVES[:100])
    tree.skip(bytes(32), 2**60)
    tree.extend(LEAVES[:200])
    assert tree.size == 2**60 + 300
    assert tree.root is None
    assert tree.root_at(100) == root_of_leaves(LEAVES[:100])
    assert tree.root_at(101) is None


@pytest.mark.parametrize(
    "frontier",
    [
        Frontier(-1),
        Frontier(1),
        Frontier(64),
        Frontier(65, (), (bytes(32),)),
        Frontier(1, (), (b"short",)),
        Frontier(0, (bytes(32),)),
    ],
)
def test_a_frontier_that_is_none_is_refused(frontier: Frontier) -> None:
    assert not frontier.is_whole
    with pytest.raises(ValueError, match="no frontier"):
        LogTree(frontier)
