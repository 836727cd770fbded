"""Watching that the log stays the one that was read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.log_tree import LogTree
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.reading import leaf_of
from broker.subscribe.log_watch import SignedHeads, common_size, is_as_it_was
from broker.verify.violations import Kind, Violation
from broker.wire.manifest import Positions, TopicHead

RETURNS = Partition("returns", 0)


class Held:
    """A log of one partition that holds these values, one a message."""

    def __init__(self, values: Sequence[int]) -> None:
        self.messages = [
            StoredMessage(offset=offset, key=b"k", value=b"%d" % value, appended_at=0)
            for offset, value in enumerate(values)
        ]

    async def read(self, partition: Partition, start: int) -> AsyncIterator[StoredMessage]:
        """The messages from there."""
        for message in self.messages[start:]:
            yield message

    def tree(self, size: int) -> LogTree:
        """The tree of the first messages."""
        tree = LogTree()
        for message in self.messages[:size]:
            tree.add(leaf_of(message))
        return tree


VALUES = list(range(700))


@given(read=st.integers(0, 700), same=st.integers(0, 700), now=st.integers(0, 700))
def test_what_is_common_is_never_too_much(read: int, same: int, now: int) -> None:
    """Messages that are the same are found whole chunks at a time before the last 64; never one too many."""
    frontier = Held(VALUES).tree(read).frontier_at(read)
    assert frontier is not None
    log = cast(Log, Held([value if at < same else -1 - value for at, value in enumerate(VALUES[:now])]))
    common = asyncio.run(common_size(log, RETURNS, frontier))
    truly = min(read, same, now)
    assert common <= truly
    if truly == read:
        assert common == read
    is_same = asyncio.run(is_as_it_was(log, RETURNS, frontier, now))
    assert is_same is (truly == read or read == 0)


@given(read=st.integers(1, 64), same=st.integers(0, 64))
def test_what_is_common_among_the_last_is_exact(read: int, same: int) -> None:
    """A log of one chunk is told message by message."""
    frontier = Held(VALUES).tree(read).frontier_at(read)
    assert frontier is not None
    log = cast(Log, Held([value if at < same else -1 for at, value in enumerate(VALUES[:100])]))
    assert asyncio.run(common_size(log, RETURNS, frontier)) == min(read, same)


def heads(size: int, root: bytes, *, directory_root: bytes = b"d" * 32) -> Positions:
    """The positions of a receipt."""
    return Positions(
        directory_size=3,
        directory_root=directory_root,
        access_size=0,
        access_root=bytes(32),
        topics=(TopicHead(topic="returns", size=size, root=root),),
    )


def watch() -> SignedHeads:
    """A reader whose directory has one root."""
    return SignedHeads(lambda size: b"d" * 32 if size == 3 else None)


def found(signed: SignedHeads, tree: LogTree) -> list[Violation]:
    """What the tree contradicts."""
    return list(signed.check({RETURNS: tree}))


def test_a_receipt_ahead_of_us_waits_until_we_are_there() -> None:
    """And is then compared, once."""
    log = Held(VALUES[:6])
    signed = watch()
    root = log.tree(6).root
    assert root is not None
    assert list(signed.take(heads(6, root), 0, 3)) == []
    assert found(signed, log.tree(5)) == []
    assert found(signed, log.tree(6)) == []
    list(signed.take(heads(6, b"x" * 32), 0, 3))
    (violation,) = found(signed, log.tree(6))
    assert (violation.kind, violation.place.topic, violation.place.offset) == (Kind.LOG_FORKED, "returns", 6)
    list(signed.take(heads(5, b"x" * 32), 0, 3))
    assert found(signed, log.tree(6)) == []


def test_another_directory_is_told_as_far_as_we_have_read_it() -> None:
    """A receipt of a directory that we have not read yet says nothing."""
    signed = watch()
    other = heads(0, bytes(32), directory_root=b"o" * 32)
    assert list(signed.take(other, 0, 2)) == []
    (violation,) = signed.take(other, 0, 3)
    assert (violation.kind, violation.place.topic) == (Kind.LOG_FORKED, "directory")
    assert list(signed.take(other, 0, 3)) == []


def test_receipts_that_wait_are_bounded() -> None:
    """A service that lies about the future fills no memory."""
    signed = watch()
    for size in range(1000, 3000):
        list(signed.take(heads(size, bytes(32)), 0, 3))
    assert sum(map(len, signed._waiting.values())) <= 256
