"""The trees of a channel's partitions in a replay, and where the log is another than the service had read.

Every manifest of the access log names sizes and roots (``access.bound_positions``). Where a root differs
from that of the log, everything between the last position that fits and the first that does not may have been
altered, cut, inserted, exchanged or dated anew. That is one violation for each topic, LOG_FORKED. It names
nobody: whoever ran the log, or an unclean election of its brokers, may be the reason. If a check of the
messages or of the collections has found what is wrong there, LOG_FORKED follows from it. Where a log merely
ends below a position, LOG_FORKED is what the collections behind its end follow from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from broker.access.bound_positions import BoundPositions, Fork
from broker.audit.index import Index
from broker.crypto.log_tree import LeafFile, LogTree
from broker.directory import History
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.violations import Kind, Place, Violation
from broker.wire.manifest import TopicHead

__all__ = ["BoundAt", "ChannelTrees", "report_forks"]

_DIRECTORY = "directory"


class BoundAt(NamedTuple):
    """The newest position that binds a partition: ``entry`` is the offset of the entry that names it.

    ``messages`` of the partition stand above it, bound by nobody yet, and ``news`` of them say more than
    positions. ``head`` is None where no position binds anything of it.
    """

    topic: str
    partition: int
    head: TopicHead | None
    entry: int
    issued_at: int
    messages: int
    news: int


class ChannelTrees:
    """The trees of one channel's partitions; ``with ChannelTrees(...) as trees``.

    Leaves lie in temporary files, so that memory stays flat.
    """

    def __init__(self, history: History, topics: Iterable[str]) -> None:
        self._history = history
        self._files = {topic: LeafFile() for topic in (*topics, ACCESS_TOPIC)}
        self._trees = {topic: LogTree(leaves=file) for topic, file in self._files.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def tree(self, topic: str) -> LogTree:
        """Return the tree of the channel's partition of a topic."""
        return self._trees[topic]

    def size(self, topic: str) -> int:
        """Return how many offsets of a log were read."""
        if topic == _DIRECTORY:
            return self._history.size
        return self._trees[topic].size if topic in self._trees else 0

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Return the root of a log at this size; None where it is not known."""
        if topic == _DIRECTORY:
            return self._history.root_at(size)
        return self._trees[topic].root_at(size) if topic in self._trees else None

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether the directory revokes this key."""
        return self._history.latest.is_revoked(key_id)

    def newest(self, bound: BoundPositions, number: int, news_end: int) -> list[BoundAt]:
        """Return for each partition of the channel the newest position that binds it.

        ``news_end`` is where the last batch of the access log ends that says more than positions.
        """
        found = []
        for topic, tree in sorted(self._trees.items()):
            newest = bound.newest(topic)
            head, entry, issued_at = (
                (None, -1, 0) if newest is None else (newest.head, newest.offset, newest.issued_at)
            )
            size = 0 if head is None else head.size
            end = min(news_end, tree.size) if topic == ACCESS_TOPIC else tree.size
            found.append(BoundAt(topic, number, head, entry, issued_at, tree.size - size, max(end - size, 0)))
        return found


def report_forks(
    bound: BoundPositions,
    trees: ChannelTrees,
    *,
    is_cut: bool,
    index: Index,
    report: Callable[[Violation], Place],
    directory_fault: Callable[[int], Place | None],
) -> None:
    """Report for each topic where the log differs from what the key access service had signed.

    With ``is_cut`` those are reported that merely end too early, and otherwise those that differ before.
    """
    bound.settle(at_end=True)
    for fork in bound.forks(lambda _: True, at_end=True):
        number = 0 if fork.topic == _DIRECTORY else index.partition
        size = fork.first.head.size
        end = trees.size(fork.topic)
        if (size > end) != is_cut:
            continue
        start = end if is_cut else fork.start
        if fork.topic == _DIRECTORY:
            cause = directory_fault(size)
        else:
            # A batch that was cut out shows itself in its stream, when the next batch of the stream is read.
            cause = index.root_within(fork.topic, fork.start, size - 1)
            cause = cause or index.gap_behind(fork.topic, fork.start)
        place = Place(fork.topic, number, start)
        count = max(fork.last.head.size - start, 1)
        detail = _words(fork, end)
        report(Violation(kind=Kind.LOG_FORKED, place=place, detail=detail, count=count, caused_by=cause))


def _words(fork: Fork, end: int) -> str:
    head = fork.first.head
    if head.size > end:
        return f"the log ends at {end}, and access@{fork.first.offset} saw {head.size} messages of it"
    fits = f"up to {fork.start} the log is as it was signed" if fork.start else "nothing before it is signed"
    return f"access@{fork.first.offset} signed another root of the first {head.size} messages; {fits}"
