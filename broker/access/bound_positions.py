"""Positions that the service signed, compared with the logs: each binds everything below it.

Every manifest of the access log says how far the service had read each partition, and the root of its tree
there. So each is a signed tree head. A log that shows another root below it was altered, cut, inserted
into, exchanged or dated anew behind the service's back, or the service read another log than we do.
Contradicting positions therefore prove a *fork* of the log, and accuse nobody.

    newest     for each topic the largest position that fits: what lies above it is bound by nobody yet
    forks      for each topic the positions that do not fit, and the largest size below them that does

A LATE entry signs which ranges the service found lacking. It explains the positions in these ranges that
were signed before it, and no others.

What each key signed is kept by itself. A key that is revoked, whenever we learn of it, takes with it all
that it signed, positions and LATE entries, and nothing of what other keys signed.

Memory stays flat, and nothing that decides is dropped for it. Where too many positions do not fit,
neighbours are joined into one ``_Run``, which is explained only as a whole.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.wire.manifest import LostRange, Positions, TopicHead

__all__ = ["KEPT", "Bound", "BoundPositions", "Fork", "Logs"]

KEPT = b""
"""Stands for the key of positions that a receipt or a journal holds. They are compared like those of
entries, and are no entries of the log."""

_MAX_WAITING = 4096
"""Positions that wait to be compared, before they are for the first time."""
_MAX_RUNS = 1024
"""Runs of one key in one topic, before they are joined for the first time."""
_MAX_RANGES = 256
"""Lost ranges of one key in one topic. Those before the next one are forgotten, and what they explained is a
fork again: the service stops once more, and its next LATE entry names all of it as one range."""
_RECENT = 256


class Logs(Protocol):
    """The partitions of a channel, and the directory, as far as they were read."""

    def size(self, topic: str) -> int:
        """Return how many offsets of the topic's partition were read."""
        ...

    def root_at(self, topic: str, size: int) -> bytes | None:
        """Return the root at this size; None where it is not known."""
        ...

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether the directory, as far as it was read, revokes this key."""
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


class _Late(NamedTuple):
    """A range that the LATE entry at ``offset`` names as lost."""

    lost: LostRange
    offset: int

    def covers(self, other: _Late) -> bool:
        """Whether it explains all that the other one does."""
        mine, its = self.lost, other.lost
        reaches = mine.end > its.end or (mine.end, mine.root) == (its.end, its.root)
        return self.offset >= other.offset and mine.start <= its.start and reaches


class _Run(NamedTuple):
    """Positions of one key that do not fit, from the ``first`` to the ``last`` by size.

    ``offset`` is the newest of theirs. ``root`` is that of the largest size, None where they name several.
    """

    first: Bound
    last: Bound
    offset: int
    root: bytes | None

    def is_explained_by(self, late: _Late) -> bool:
        """Whether a LATE entry explains each of the positions."""
        lost, size = late.lost, self.last.head.size
        ends_within = size < lost.end or (size, self.root) == (lost.end, lost.root)
        return lost.start < self.first.head.size and ends_within and self.offset < late.offset


def _run_of(bound: Bound) -> _Run:
    return _Run(bound, bound, bound.offset, bound.head.root)


def _joined(runs: Iterable[_Run]) -> _Run:
    """Return one run of several; of equal positions it names the newest."""
    joined = list(runs)
    last = max((run.last for run in joined), key=lambda bound: (bound.head.size, bound.offset))
    roots = {run.root for run in joined if run.last.head.size == last.head.size}
    return _Run(
        first=min((run.first for run in joined), key=lambda bound: (bound.head.size, -bound.offset)),
        last=last,
        offset=max(run.offset for run in joined),
        root=last.head.root if roots == {last.head.root} else None,
    )


class _Signed:
    """What one key signed of one topic, as far as it was compared. ``BoundPositions`` writes the fields."""

    def __init__(self) -> None:
        self.waiting: dict[TopicHead, Bound] = {}
        self.newest: Bound | None = None
        self.fits: deque[int] = deque(maxlen=_RECENT)
        self.against: dict[TopicHead, _Run] = {}
        """By their last position. Only ``add`` and ``_join`` write it."""
        self.lost: list[_Late] = []
        self._join_at = _MAX_RUNS

    def add(self, bound: Bound, lost: Iterable[_Late]) -> None:
        """Take a position that does not fit. ``lost`` are the ranges that are known of the topic."""
        same = self.against.get(bound.head)
        added = _run_of(bound)
        self.against[bound.head] = added if same is None else _joined((same, added))
        if len(self.against) > self._join_at:
            self._join(tuple(lost))
            self._join_at = max(_MAX_RUNS, 2 * len(self.against))

    def _join(self, lost: tuple[_Late, ...]) -> None:
        """Join what one LATE entry explains, which it still explains then, and neighbours of the rest."""
        explained: dict[_Late, list[_Run]] = {}
        rest = []
        for run in sorted(self.against.values(), key=lambda run: run.last.head.size):
            late = next((late for late in lost if run.is_explained_by(late)), None)
            if late is None:
                rest.append(run)
            else:
                explained.setdefault(late, []).append(run)
        groups = [*explained.values(), *(rest[at : at + 2] for at in range(0, len(rest), 2))]
        self.against = {}
        for run in map(_joined, groups):
            same = self.against.get(run.last.head)
            self.against[run.last.head] = run if same is None else _joined((same, run))

    def add_lost(self, late: _Late) -> None:
        """Take a range that a LATE entry names."""
        if not any(known.covers(late) for known in self.lost):
            kept = [known for known in self.lost if not late.covers(known)]
            self.lost = [*kept, late] if len(kept) < _MAX_RANGES else [late]


class BoundPositions:
    """The positions of one channel: ``take`` each in the order of the log, then ``settle``."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._topics: defaultdict[str, defaultdict[bytes, _Signed]]
        self._topics = defaultdict(lambda: defaultdict(_Signed))
        """What was signed of each topic, by the id of the key."""
        self._waiting = 0
        self._settle_at = _MAX_WAITING

    def _binding(self, topic: str) -> list[_Signed]:
        """Return what binds a topic, and forget what was signed with a key that is revoked by now.

        Its thief could otherwise sign positions that no log fits, or explain those that we must not lose.
        """
        by_key: dict[bytes, _Signed] = self._topics.get(topic, defaultdict(_Signed))
        for key_id in [key_id for key_id in by_key if self._logs.is_revoked(key_id)]:
            del by_key[key_id]
        return list(by_key.values())

    def take(self, positions: Positions, *, offset: int, issued_at: int, key_id: bytes) -> None:
        """Take the positions of the manifest at this offset of the access log."""
        directory = TopicHead(topic="directory", size=positions.directory_size, root=positions.directory_root)
        for head in (directory, *positions.heads):
            waiting = self._topics[head.topic][key_id].waiting
            if head not in waiting:
                self._waiting += 1
            # The later of two equal positions, since a LATE entry explains only those before it.
            waiting[head] = Bound(head, offset, issued_at, key_id)
        if self._waiting > self._settle_at:
            self.settle()
            # What waits for a topic that is read later still waits. It is looked at when it has doubled.
            self._settle_at = max(_MAX_WAITING, 2 * self._waiting)

    def take_late(self, lacking: tuple[LostRange, ...], *, offset: int, key_id: bytes) -> None:
        """Take the ranges that the LATE entry at this offset names; ``key_id`` signed them."""
        for lost in lacking:
            self._topics[lost.topic][key_id].add_lost(_Late(lost, offset))

    def lost_by(self, topic: str, message: int, said_at: int) -> int | None:
        """Return the offset of the LATE entry that names this message of a topic as lost; None without one.

        Only a LATE entry behind the entry at ``said_at``, which speaks of the message, explains it.
        """
        lates = (late for signed in self._binding(topic) for late in signed.lost)
        found = (
            late.offset
            for late in lates
            if late.lost.start <= message < late.lost.end and said_at < late.offset
        )
        return min(found, default=None)

    def settle(self, *, at_end: bool = False) -> None:
        """Compare what waits with the logs, as far as they were read; ``at_end`` says that they end here."""
        self._waiting = 0
        for topic in self._topics:
            binding = self._binding(topic)
            lost = [late for signed in binding for late in signed.lost]
            for signed in binding:
                self._compare(topic, signed, lost, at_end=at_end)
                self._waiting += len(signed.waiting)

    def _compare(self, topic: str, signed: _Signed, lost: list[_Late], *, at_end: bool) -> None:
        read = self._logs.size(topic)
        still: dict[TopicHead, Bound] = {}
        for head, bound in sorted(signed.waiting.items(), key=lambda item: item[0].size):
            if head.size > read and not at_end:
                still[head] = bound
            elif self._logs.root_at(topic, head.size) == head.root:
                signed.fits.append(head.size)
                if signed.newest is None or head.size >= signed.newest.head.size:
                    signed.newest = bound
            else:
                signed.add(bound, lost)
        signed.waiting = still

    def newest(self, topic: str) -> Bound | None:
        """Return the largest position in the access log that fits, of a topic; None without one."""
        found = [
            signed.newest
            for signed in self._binding(topic)
            if signed.newest is not None and signed.newest.key_id != KEPT
        ]
        return max(found, key=lambda bound: (bound.head.size, bound.offset), default=None)

    def forks(self, is_asked: Callable[[Bound], bool], *, at_end: bool = False) -> Iterator[Fork]:
        """Yield for each topic the asked positions that do not fit, unless a LATE entry explains them.

        ``at_end`` also yields positions beyond what was read: the log ends below them.
        """
        for topic in sorted(self._topics):
            binding = self._binding(topic)
            lost = [late for signed in binding for late in signed.lost]
            runs = [run for signed in binding for run in signed.against.values()]
            if at_end:
                runs += [_run_of(bound) for signed in binding for bound in signed.waiting.values()]
            found = [
                run
                for run in runs
                if is_asked(run.last) and not any(run.is_explained_by(late) for late in lost)
            ]
            if found:
                whole = _joined(found)
                below = whole.first.head.size
                fits = (size for signed in binding for size in signed.fits if size < below)
                yield Fork(topic=topic, start=max(fits, default=0), first=whole.first, last=whole.last)
