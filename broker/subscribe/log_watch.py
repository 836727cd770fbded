"""Watching that the log stays the one that was read: against its own past, and against the service's view.

A subscriber keeps the frontier of each partition's tree with its position. These are compared with it:

    at the start     the message before the position. If another one stands there, or none, somebody cut,
                     restored or replaced the log. And the messages that were not as they must be: somebody
                     may have altered them, and repaired them since.
    when refused     everything that was read. The service refuses who has read another log than it has.
    in each receipt  the positions that the key access service signed. Where its root of a partition is not
                     ours, the two of us are shown different logs.

Where the log is another one than was read, it is read again from its beginning. Every batch that does not
wholly stand below the first message that is not the same is delivered: nothing that is new is skipped.

Each is a violation of kind LOG_FORKED. They accuse nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

from broker.crypto.log_tree import Frontier, LogTree
from broker.log.protocol import Log, Partition
from broker.participant.reading import leaf_of
from broker.verify.violations import Kind, Place, Violation
from broker.wire.log_leaf import HOLE
from broker.wire.manifest import Positions, TopicHead

__all__ = ["SignedHeads", "common_size", "is_as_it_was", "is_repaired"]

_MAX_HOLE = 1 << 20
_MAX_HEADS = 256


async def is_as_it_was(log: Log, partition: Partition, frontier: Frontier, end: int) -> bool:
    """Whether the log, which ends at ``end``, still has the message before the frontier at its place."""
    if frontier.size == 0:
        return True
    if end < frontier.size:
        return False
    async for message in log.read(partition, frontier.size - 1):
        return message.offset == frontier.size - 1 and leaf_of(message) == frontier.last
    return False


async def is_repaired(log: Log, partition: Partition, faults: Iterable[tuple[int, bytes]]) -> bool:
    """Whether at one of these offsets the log holds another message now than the one with this leaf."""
    for offset, leaf in faults:
        now = HOLE
        async for message in log.read(partition, offset):
            now = leaf_of(message) if message.offset == offset else HOLE
            break
        if now != leaf:
            return True
    return False


async def common_size(log: Log, partition: Partition, frontier: Frontier) -> int:
    """Return how many messages from the beginning are certainly the same as when the frontier was taken.

    A frontier tells of its last 64 leaves one by one, and of those before in whole subtrees. So the answer
    may be too small, and is never too large.
    """
    leaves = _leaves(log, partition)
    size = 0
    chunks = (max(frontier.size - 1, 0)) >> 6
    widths = [64 << level for level in range(chunks.bit_length() - 1, -1, -1) if chunks >> level & 1]
    for width, peak in zip(widths, frontier.peaks, strict=True):
        tree = LogTree()
        async for leaf in leaves:
            tree.add(leaf)
            if tree.size == width:
                break
        if tree.size < width or tree.root != peak:
            return size
        size += width
    known = iter(frontier.leaves)
    async for leaf in leaves:
        if leaf != next(known, None):
            break
        size += 1
    return size


async def _leaves(log: Log, partition: Partition) -> AsyncIterator[bytes]:
    """Yield the leaf of each offset; ends at a hole that is too large to be told leaf by leaf."""
    at = 0
    async for message in log.read(partition, 0):
        if message.offset - at > _MAX_HOLE:
            return
        for _ in range(message.offset - at):
            yield HOLE
        yield leaf_of(message)
        at = message.offset + 1


class SignedHeads:
    """The positions in receipts, compared with what we read: ``take`` each, then ``check``.

    A position is usually ahead of us, so it waits until our tree has reached it. ``directory_root`` returns
    the root of our view of the directory with this size, or None.
    """

    def __init__(self, directory_root: Callable[[int], bytes | None]) -> None:
        self._directory_root = directory_root
        self._waiting: dict[str, dict[int, bytes]] = {}
        self._reported: set[str] = set()

    def take(self, positions: Positions, number: int, directory_size: int) -> Iterator[Violation]:
        """Take the positions of a receipt about channel ``number``; yields what contradicts our directory.

        ``directory_size`` is the size of the newest view that we have read.
        """
        for head in positions.topics:
            waiting = self._waiting.setdefault(head.topic, {})
            if len(waiting) < _MAX_HEADS:
                waiting.setdefault(head.size, head.root)
        size = positions.directory_size
        if size <= directory_size and self._directory_root(size) != positions.directory_root:
            yield from self._report(TopicHead(topic="directory", size=size, root=b""), 0)

    def check(self, trees: Mapping[Partition, LogTree]) -> Iterator[Violation]:
        """Yield a violation for each partition whose root a receipt contradicts; each is reported once."""
        for partition, tree in trees.items():
            waiting = self._waiting.get(partition.topic, {})
            for size in [size for size in waiting if size <= tree.size]:
                root = waiting.pop(size)
                ours = tree.root_at(size)
                if ours is not None and ours != root:
                    head = TopicHead(topic=partition.topic, size=size, root=root)
                    yield from self._report(head, partition.number)

    def _report(self, head: TopicHead, number: int) -> Iterator[Violation]:
        if head.topic not in self._reported:
            self._reported.add(head.topic)
            detail = f"the key access service has read another log than we have, up to {head.size}"
            place = Place(head.topic, number, head.size)
            yield Violation(kind=Kind.LOG_FORKED, place=place, detail=detail)
