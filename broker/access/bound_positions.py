"""Positions that the service signed, compared with the logs: each binds everything below it.

Every manifest of the access log says how far the service had read each partition, and the root of its tree
there. So each is a signed tree head. A log that shows another root below it was altered, cut, inserted
into, exchanged or dated anew behind the service's back, or the service read another log than we do.
Contradicting positions therefore prove a *fork* of the log, and accuse nobody.

    newest     for each topic the largest position that fits: what lies above it is bound by nobody yet
    forks      for each topic the positions that do not fit, and the largest size below them that does

A LATE entry signs which ranges the service found lacking. It explains the positions in these ranges that
were signed before it, and no others. Positions under a key that was revoked since bind nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.wire.manifest import LostRange, Positions, TopicHead

__all__ = ["Bound", "BoundPositions", "Fork", "Logs"]

_MAX_WAITING = 4096
"""Positions that wait to be compared, before they are for the first time."""
_MAX_KEPT = 4096
"""Contradicting positions, and lost ranges, that are kept of a topic. Those beyond are counted as one."""
_RECENT = 256


class Logs(Protocol):
    """The partitions of a channel, and the directory, as far as they were read."""

    def size(self, topic: str) -> int:
        """Return how many offsets of the topic's partition were read."""
        ...

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Return the root at this size; None where it is not known."""
        ...


class Bound(NamedTuple):
    """A position: the entry at ``offset`` of the access log names ``head``, and ``key_id`` signed it."""

    head: TopicHead
    offset: int
    issued_at: int
    key_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Positions of one topic that do not fit: ``first`` has the smallest size, ``last`` the largest.

    ``start`` is the largest size below ``first`` at which a position fits, 0 without one.
    """

    topic: str
    start: int
    first: Bound
    last: Bound

    @property
    def lost(self) -> LostRange:
        """The range that differs, as a LATE entry names it."""
        head = self.last.head
        return LostRange(topic=self.topic, start=self.start, end=head.size, root=head.root)


_Signed = tuple[TopicHead, bytes]
"""A position and the key that signed it: what one service signed, no other takes back by signing it too."""


class _Topic:
    """The positions of one topic, as far as they were compared."""

    def __init__(self) -> None:
        self.waiting: dict[_Signed, Bound] = {}
        self.newest: Bound | None = None
        self.fits: deque[int] = deque(maxlen=_RECENT)
        self.against: dict[_Signed, Bound] = {}
        self.lost: list[tuple[LostRange, int]] = []

    def is_explained(self, bound: Bound) -> bool:
        head = bound.head
        return any(
            lost.start < head.size <= lost.end
            and (head.size < lost.end or head.root == lost.root)
            and bound.offset < offset
            for lost, offset in self.lost
        )


class BoundPositions:
    """The positions of one channel: ``take`` each in the order of the log, then ``settle``."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._topics: dict[str, _Topic] = {}
        self._waiting = 0
        self._settle_at = _MAX_WAITING

    def _topic(self, name: str) -> _Topic:
        return self._topics.setdefault(name, _Topic())

    def take(self, positions: Positions, *, offset: int, issued_at: int, key_id: bytes) -> None:
        """Take the positions of the manifest at this offset of the access log."""
        directory = TopicHead(topic="directory", size=positions.directory_size, root=positions.directory_root)
        for head in (directory, *positions.heads):
            waiting = self._topic(head.topic).waiting
            if (head, key_id) not in waiting:
                self._waiting += 1
            # The later of two equal positions, since a LATE entry explains only those before it.
            waiting[head, key_id] = Bound(head, offset, issued_at, key_id)
        if self._waiting > self._settle_at:
            self.settle()
            # What waits for a topic that is read later still waits. It is looked at when it has doubled.
            self._settle_at = max(_MAX_WAITING, 2 * self._waiting)

    def take_late(self, lacking: tuple[LostRange, ...], offset: int) -> None:
        """Take the ranges that the LATE entry at this offset names."""
        for lost in lacking:
            ranges = self._topic(lost.topic).lost
            if len(ranges) < _MAX_KEPT:
                ranges.append((lost, offset))

    def lost_by(self, topic: str, message: int, said_at: int) -> int | None:
        """Return the offset of the LATE entry that names this message of a topic as lost; None without one.

        Only a LATE entry behind the entry at ``said_at``, which speaks of the message, explains it.
        """
        found = self._topics.get(topic)
        lost = () if found is None else found.lost
        return next((at for one, at in lost if one.start <= message < one.end and said_at < at), None)

    def settle(self, *, at_end: bool = False) -> None:
        """Compare what waits with the logs, as far as they were read; ``at_end`` says that they end here."""
        self._waiting = 0
        for name, topic in self._topics.items():
            read = self._logs.size(name)
            still: dict[_Signed, Bound] = {}
            for signed, bound in sorted(topic.waiting.items(), key=lambda item: item[0][0].size):
                head = bound.head
                if head.size > read and not at_end:
                    still[signed] = bound
                elif self._logs.root_at(name, head.size) == head.root:
                    topic.fits.append(head.size)
                    if topic.newest is None or head.size >= topic.newest.head.size:
                        topic.newest = bound
                elif len(topic.against) < _MAX_KEPT or signed in topic.against:
                    topic.against[signed] = bound
            topic.waiting = still
            self._waiting += len(still)

    def newest(self, topic: str) -> Bound | None:
        """Return the largest position of a topic that fits; None without one."""
        found = self._topics.get(topic)
        return None if found is None else found.newest

    def forks(self, is_binding: Callable[[Bound], bool], *, at_end: bool = False) -> Iterator[Fork]:
        """Yield for each topic the positions that bind and do not fit, unless a LATE entry explains them.

        ``at_end`` also yields positions beyond what was read: the log ends below them.
        """
        for name, topic in sorted(self._topics.items()):
            waiting = topic.waiting.values() if at_end else ()
            against = [
                bound
                for bound in (*topic.against.values(), *waiting)
                if is_binding(bound) and not topic.is_explained(bound)
            ]
            if against:
                against.sort(key=lambda bound: bound.head.size)
                start = max((size for size in topic.fits if size < against[0].head.size), default=0)
                yield Fork(topic=name, start=start, first=against[0], last=against[-1])
