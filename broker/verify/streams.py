"""Streams: loss, replay, reordering and forks found at once, in bounded memory.

One stream for each process, topic and partition, begun anew with each epoch; ``sequence`` from 0,
``previous`` the digest of the stream's previous statement.

    what arrives                                  what follows
    new stream at 0, previous zeros               its head opens
    the next sequence, previous = head            the head advances
    a later sequence                              STREAM_GAP, and the stream goes on behind it, delivered
    the newest statement again                    counts once: nothing delivered, nothing reported
    another statement with the newest sequence    STREAM_FORK, not delivered
    the next sequence, previous is not the head   STREAM_FORK, not delivered
    a lower sequence                              STREAM_REPLAYED, not delivered
    a stream whose head was closed                STREAM_CLOSED, not delivered

At most MAX_HEADS heads are kept for each issuer; the one longest without a statement closes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from broker.verify.violations import Kind, Place
from broker.wire.manifest import Header

__all__ = ["MAX_HEADS", "Head", "Step", "StreamKey", "Streams"]

MAX_HEADS = 64
_MAX_CLOSED = 512
"""Closed streams of an issuer that are remembered: with those of 128 members a state file is not full."""
_MAX_GAPS = 8
_ZEROS = bytes(32)

StreamKey = tuple[str, int, bytes]
"""Issuer, epoch, stream."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest statement of a stream; ``gaps`` are (first, last, place of the violation)."""

    sequence: int
    digest: bytes
    offset: int
    gaps: tuple[tuple[int, int, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What a statement means for its stream: ``head`` is the new one, if it moves."""

    head: Head | None
    deliver: bool
    kind: Kind | None = None
    detail: str = ""
    caused_by: Place | None = None
    lost: tuple[int, int] | None = None


class Streams:
    """The open heads of one partition."""

    def __init__(self) -> None:
        self._heads: dict[str, OrderedDict[StreamKey, Head]] = {}
        self._closed: dict[str, OrderedDict[StreamKey, None]] = {}

    def judge(self, header: Header, digest: bytes, offset: int) -> Step:
        """What this statement means for its stream; nothing changes yet."""
        key = (header.issuer, header.epoch, header.stream)
        head = self.head(key)
        sequence, previous = header.sequence, header.previous
        if sequence < 0:
            return Step(None, False, Kind.STREAM_REPLAYED, f"sequence {sequence}")
        if head is None:
            if key in self._closed.get(header.issuer, ()):
                return Step(None, False, Kind.STREAM_CLOSED, f"sequence {sequence} of a closed stream")
            fresh = Head(sequence, digest, offset)
            if sequence == 0:
                if previous != _ZEROS:
                    return Step(None, False, Kind.STREAM_FORK, "sequence 0 with a previous statement")
                return Step(fresh, True)
            detail = f"stream begins at sequence {sequence}, expected 0"
            return Step(fresh, True, Kind.STREAM_GAP, detail, lost=(0, sequence - 1))
        if sequence == head.sequence + 1:
            if previous != head.digest:
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

    def head(self, key: StreamKey) -> Head | None:
        """The open head of a stream."""
        heads = self._heads.get(key[0])
        return None if heads is None else heads.get(key)

    def put(self, key: StreamKey, head: Head | None) -> StreamKey | None:
        """Set or remove a head; the key of the head that had to close for it, if one had to."""
        heads = self._heads.setdefault(key[0], OrderedDict())
        if head is None:
            heads.pop(key, None)
            return None
        heads[key] = head
        heads.move_to_end(key)
        if len(heads) <= MAX_HEADS:
            return None
        closed, _ = heads.popitem(last=False)
        self.close(closed)
        return closed

    def close(self, key: StreamKey) -> None:
        """Remember that this stream closed; of too many of its issuer the oldest is forgotten.

        Nobody can have the streams of others forgotten.
        """
        closed = self._closed.setdefault(key[0], OrderedDict())
        closed[key] = None
        if len(closed) > _MAX_CLOSED:
            closed.popitem(last=False)

    def closed(self) -> tuple[StreamKey, ...]:
        """The streams that closed, the oldest of each issuer first."""
        return tuple(key for closed in self._closed.values() for key in closed)

    def note_gap(self, key: StreamKey, lost: tuple[int, int], place: Place) -> None:
        """Remember which sequences a gap lost, so that a late one names its cause."""
        head = self._heads[key[0]][key]
        gaps = (*head.gaps[1 - _MAX_GAPS :], (*lost, place))
        self._heads[key[0]][key] = replace(head, gaps=gaps)

    def items(self) -> list[tuple[StreamKey, Head]]:
        """Every open head, the longest without a statement first."""
        return [item for heads in self._heads.values() for item in heads.items()]
