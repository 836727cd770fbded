"""Each row of the streams module's table: what a statement means for its stream."""

from __future__ import annotations

from hashlib import sha256

import pytest

from broker.verify.streams import MAX_HEADS, Head, StreamKey, Streams
from broker.verify.violations import Kind, Place
from broker.wire.manifest import Header

ISSUER = "XAA:police"
ZEROS = bytes(32)


def _digest(sequence: int, stream: int = 0) -> bytes:
    return sha256(b"%d %d" % (stream, sequence)).digest()


def _header(sequence: int, *, stream: int = 0, previous: bytes | None = None) -> Header:
    expected = _digest(sequence - 1, stream) if sequence > 0 else ZEROS
    return Header(
        topic="returns",
        partition=0,
        epoch=0,
        issuer=ISSUER,
        issued_at=0,
        directory_size=1,
        directory_root=ZEROS,
        stream=stream.to_bytes(16, "big"),
        sequence=sequence,
        previous=expected if previous is None else previous,
    )


def _key(stream: int = 0) -> StreamKey:
    return (ISSUER, 0, stream.to_bytes(16, "big"))


def _at(sequence: int) -> Streams:
    streams = Streams()
    streams.put(_key(), Head(sequence, _digest(sequence), 10))
    return streams


@pytest.mark.parametrize(
    ("header", "digest", "kind", "deliver", "moves"),
    [
        (_header(5), _digest(5), None, True, True),
        (_header(7), _digest(7), Kind.STREAM_GAP, True, True),
        (_header(4), _digest(4), None, False, False),
        (_header(4), _digest(99), Kind.STREAM_FORK, False, False),
        (_header(5, previous=ZEROS), _digest(5), Kind.STREAM_FORK, False, False),
        (_header(3), _digest(3), Kind.STREAM_REPLAYED, False, False),
        (_header(0), _digest(0), Kind.STREAM_REPLAYED, False, False),
        (_header(-1), _digest(4), Kind.STREAM_REPLAYED, False, False),
        (_header(0, stream=1), _digest(0, 1), None, True, True),
        (_header(0, stream=1, previous=_digest(4)), _digest(0, 1), Kind.STREAM_FORK, False, False),
        (_header(2, stream=1), _digest(2, 1), Kind.STREAM_GAP, True, True),
    ],
)
def test_the_table(header: Header, digest: bytes, kind: Kind | None, deliver: bool, moves: bool) -> None:
    """Each row says whether the statement is delivered, whether the head moves, and what is reported."""
    step = _at(4).judge(header, digest, 20)
    assert (step.kind, step.deliver, step.head is not None) == (kind, deliver, moves)


def test_a_gap_says_what_was_lost_and_a_late_statement_names_it() -> None:
    """A statement that turns up behind its gap has the gap as its cause."""
    streams = _at(4)
    step = streams.judge(_header(8), _digest(8), 20)
    assert step.lost == (5, 7)
    assert step.head is not None
    streams.put(_key(), step.head)
    place = Place("returns", 0, 20)
    streams.note_gap(_key(), (5, 7), place)
    late = streams.judge(_header(6), _digest(6), 30)
    assert (late.kind, late.caused_by) == (Kind.STREAM_REPLAYED, place)


def test_the_head_longest_without_a_statement_closes() -> None:
    """Each issuer has at most 64 heads, and a closed stream delivers nothing any more."""
    streams = Streams()
    for stream in range(MAX_HEADS):
        assert streams.put(_key(stream), Head(0, _digest(0, stream), stream)) is None
    streams.put(_key(0), Head(1, _digest(1, 0), 100))
    assert streams.put(_key(MAX_HEADS), Head(0, _digest(0, MAX_HEADS), 101)) == _key(1)
    step = streams.judge(_header(1, stream=1), _digest(1, 1), 102)
    assert (step.kind, step.deliver) == (Kind.STREAM_CLOSED, False)
    assert streams.closed() == (_key(1),)
    assert len(streams.items()) == MAX_HEADS


def test_heads_stay_bounded_whatever_a_member_publishes() -> None:
    """A new stream each time does not exhaust a reader, nor close the streams of others."""
    streams = Streams()
    streams.put(("XBB:police", 0, b"s"), Head(0, ZEROS, 0))
    for stream in range(10_000):
        streams.put(_key(stream), Head(0, ZEROS, stream))
    assert len(streams.items()) == MAX_HEADS + 1
    assert len(streams.closed()) <= 1024
    assert streams.head(("XBB:police", 0, b"s")) is not None


def test_an_agency_cannot_make_the_closed_streams_of_another_forgotten() -> None:
    """However many streams one agency opens and lets close, those of another stay closed."""
    streams = Streams()
    streams.close(_key())
    for i in range(5000):
        streams.close(("XBB:justice", 0, i.to_bytes(16, "big")))
    assert streams.judge(_header(0), _digest(0), 1).kind is Kind.STREAM_CLOSED
    assert len(streams.closed()) < 2000
