"""Streams of statements: loss, replay, reordering and forks are found at once, in bounded memory.

Each process of an issuer begins one stream for each topic and partition, and a new one with each epoch.
``sequence`` counts its statements from 0; ``previous`` is the digest of the statement before.

    what arrives                                  what follows
    new stream at 0, previous zeros               its head opens
    the next sequence, previous = head            the head advances
    a later sequence                              STREAM_GAP, and the stream goes on behind it, delivered
    the newest statement again                    it counts once: not delivered again, not reported
    another statement with the newest sequence    STREAM_FORK, not delivered
    the next sequence, previous is not the head   STREAM_FORK, not delivered
    a lower sequence                              STREAM_REPLAYED, not delivered
    a stream whose head was closed                STREAM_CLOSED, not delivered

At most MAX_HEADS heads are kept for each issuer. One more closes the head that was longest without a
statement, so no issuer can fill a reader's memory or close the streams of another.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from broker.verify.violations import Kind, Place
from broker.wire.manifest import Header

__all__ = ["MAX_HEADS", "Head", "Step", "StreamKey", "Streams"]

MAX_HEADS = 64
"""Open streams of one issuer."""

_MAX_CLOSED = 512
"""Closed streams of one issuer that are remembered; those of 128 members fit into one state file."""

_MAX_GAPS = 8
"""Gaps of one stream that late statements find their cause in."""

_ZEROS = bytes(32)

StreamKey = tuple[str, int, bytes]
"""Issuer, epoch, stream."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest statement of a stream; ``gaps`` are the last ones, as (first, last, place of violation)."""

    sequence: int
    digest: bytes
    offset: int
    gaps: tuple[tuple[int, int, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """The meaning of a statement for its stream.

    ``head`` is the stream's new head, None if the stream does not move. ``deliver`` says whether the
    batch may be delivered, ``kind`` which violation it is, ``lost`` the (first, last) sequence of a gap.
    """

    head: Head | None
    deliver: bool
    kind: Kind | None = None
    detail: str = ""
    caused_by: Place | None = None
    lost: tuple[int, int] | None = None


class Streams:
    """The open and closed streams of one partition; only ``put``, ``close`` and ``note_gap`` change them."""

    def __init__(self) -> None:
        self._heads: dict[str, OrderedDict[StreamKey, Head]] = {}
        self._closed: dict[str, OrderedDict[StreamKey, None]] = {}

    def judge(self, header: Header, digest: bytes, offset: int) -> Step:
        """Return the meaning of this statement for its stream; nothing changes yet."""
        key = (header.issuer, header.epoch, header.stream)
        head = self.head(key)
        sequence = header.sequence
        if sequence < 0:
            return Step(None, False, Kind.STREAM_REPLAYED, f"sequence {sequence}")
        if head is None:
            return self._judge_first(key, header, digest, offset)
        if sequence == head.sequence + 1:
            if header.previous != head.digest:
                detail = f"sequence {sequence} follows another statement than the one at offset {head.offset}"
                return Step(None, False, Kind.STREAM_FORK, detail)
            return Step(Head(sequence, digest, offset, head.gaps), True)
        if sequence > head.sequence:
            detail = f"sequence {sequence}, expected {head.sequence + 1}"
            fresh = Head(sequence, digest, offset, head.gaps)
            return Step(fresh, True, Kind.STREAM_GAP, detail, lost=(head.sequence + 1, sequence - 1))
        if sequence == head.sequence:
            if digest == head.digest:
                return Step(None, False)
            detail = f"two statements with sequence {sequence}, the other at offset {head.offset}"
            return Step(None, False, Kind.STREAM_FORK, detail)
        cause = next((place for first, last, place in head.gaps if first <= sequence <= last), None)
        detail = f"sequence {sequence} again or out of order, the stream is at {head.sequence}"
        return Step(None, False, Kind.STREAM_REPLAYED, detail, cause)

    def _judge_first(self, key: StreamKey, header: Header, digest: bytes, offset: int) -> Step:
        """Judge a statement of a stream that has no open head."""
        sequence = header.sequence
        if key in self._closed.get(header.issuer, ()):
            return Step(None, False, Kind.STREAM_CLOSED, f"sequence {sequence} of a closed stream")
        fresh = Head(sequence, digest, offset)
        if sequence > 0:
            detail = f"stream begins at sequence {sequence}, expected 0"
            return Step(fresh, True, Kind.STREAM_GAP, detail, lost=(0, sequence - 1))
        if header.previous != _ZEROS:
            return Step(None, False, Kind.STREAM_FORK, "sequence 0 with a previous statement")
        return Step(fresh, True)

    def head(self, key: StreamKey) -> Head | None:
        """Return the open head of a stream, None if it has none."""
        heads = self._heads.get(key[0])
        return None if heads is None else heads.get(key)

    def put(self, key: StreamKey, head: Head) -> StreamKey | None:
        """Set the head of a stream; returns the stream that had to close for it, if one had to."""
        heads = self._heads.setdefault(key[0], OrderedDict())
        heads[key] = head
        heads.move_to_end(key)
        if len(heads) <= MAX_HEADS:
            return None
        closed, _ = heads.popitem(last=False)
        self.close(closed)
        return closed

    def close(self, key: StreamKey) -> None:
        """Remember that this stream closed; if its issuer has too many, its oldest is forgotten.

        The limit is one for each issuer: otherwise an issuer could open streams until the closed streams
        of another are forgotten, and then replay those.
        """
        closed = self._closed.setdefault(key[0], OrderedDict())
        closed[key] = None
        if len(closed) > _MAX_CLOSED:
            closed.popitem(last=False)

    def closed(self) -> tuple[StreamKey, ...]:
        """Return the streams that closed, the oldest of each issuer first."""
        return tuple(key for closed in self._closed.values() for key in closed)

    def note_gap(self, key: StreamKey, lost: tuple[int, int], place: Place) -> None:
        """Remember which sequences a gap lost, so that a late statement names the gap as its cause."""
        head = self._heads[key[0]][key]
        gaps = (*head.gaps[1 - _MAX_GAPS :], (*lost, place))
        self._heads[key[0]][key] = replace(head, gaps=gaps)

    def items(self) -> list[tuple[StreamKey, Head]]:
        """Return every open head, by issuer, the one longest without a statement first."""
        return [item for heads in self._heads.values() for item in heads.items()]
