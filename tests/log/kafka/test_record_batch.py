"""Record batches: from messages to bytes and back, also those of a hostile producer or broker."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import suppress

import pytest
from aiokafka.record._crc32c import crc  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import LogUnavailable, UsageError
from broker.log.append_times import NO_TIME
from broker.log.kafka.record_batch import Identity, decode_chunk, encode_batch
from broker.log.protocol import MAX_APPEND_BYTES, MESSAGE_OVERHEAD_BYTES, Message

WHERE = "partition 3 of ftf.returns"
IDENTITY = Identity(1, 0, 0)
LAST_DELTA, ATTRIBUTES, CRC, LENGTH = 23, 21, 17, 8

some_bytes = st.none() | st.binary(max_size=300)
some_messages = st.lists(st.builds(Message, some_bytes, some_bytes), min_size=1, max_size=20)


def batch(*values: bytes, at: int = 0) -> bytes:
    """Build the batch of these values as it stands at an offset."""
    made = encode_batch([Message(None, value) for value in values], IDENTITY)
    return struct.pack(">q", at) + made[8:]


def with_attributes(data: bytes, attributes: int) -> bytes:
    """Set the attributes of a batch and its checksum."""
    changed = data[:ATTRIBUTES] + struct.pack(">h", attributes) + data[ATTRIBUTES + 2 :]
    return changed[:CRC] + struct.pack(">I", _checksum(changed[ATTRIBUTES:])) + changed[ATTRIBUTES:]


def _checksum(data: bytes) -> int:
    return int(crc(data)) & 0xFFFFFFFF


def values(data: bytes, start: int = 0) -> list[tuple[int, bytes | None]]:
    """Decode offsets and values."""
    return [(message.offset, message.value) for message in decode_chunk(data, start, WHERE).messages]


@given(some_messages, st.integers(0, 2**62))
def test_messages_come_back(messages: list[Message], at: int) -> None:
    """Keys and values come back as they were, None and empty told apart, at rising offsets."""
    data = struct.pack(">q", at) + encode_batch(messages, IDENTITY)[8:]
    chunk = decode_chunk(data, at, WHERE)
    assert [(m.key, m.value) for m in chunk.messages] == [(m.key, m.value) for m in messages]
    assert [m.offset for m in chunk.messages] == list(range(at, at + len(messages)))
    assert chunk.next_offset == at + len(messages)


@pytest.mark.parametrize("count", [1, 2, 257, 12_500])
def test_any_append_fits_a_record_batch(count: int) -> None:
    """The largest append that the log takes is smaller as a record batch than the log counts it."""
    room = MAX_APPEND_BYTES - count * MESSAGE_OVERHEAD_BYTES
    data = encode_batch([Message(bytes(room), None), *[Message(b"", b"")] * (count - 1)], IDENTITY)
    assert len(data) <= MAX_APPEND_BYTES


def test_what_cannot_fit_is_refused() -> None:
    """More than a record batch holds is a UsageError."""
    with pytest.raises(UsageError, match="do not fit"):
        encode_batch([Message(bytes(600_000), None), Message(bytes(600_000), None)], IDENTITY)


def test_reading_begins_within_a_batch() -> None:
    """Brokers give whole batches; messages before the offset that was asked for are left out."""
    data = batch(b"0", b"1", b"2") + batch(b"3", b"4", at=3)
    assert values(data, 2) == [(2, b"2"), (3, b"3"), (4, b"4")]
    assert values(data, 3) == [(3, b"3"), (4, b"4")]
    assert decode_chunk(data, 5, WHERE) == ([], 5)


def test_a_piece_of_a_batch_is_left_for_the_next_time() -> None:
    """Brokers cut an answer anywhere; the batch that is not whole is not read."""
    whole, cut = batch(b"0"), batch(b"1", at=1)
    for end in range(len(cut)):
        assert decode_chunk(whole + cut[:end], 0, WHERE).next_offset == 1


def test_marks_of_transactions_are_gaps() -> None:
    """A control batch holds no messages, and its offset is passed over."""
    data = batch(b"0") + with_attributes(batch(b"mark", at=1), 0x30) + batch(b"2", at=2)
    chunk = decode_chunk(data, 0, WHERE)
    assert [m.offset for m in chunk.messages] == [0, 2]
    assert chunk.next_offset == 3
    assert decode_chunk(data, 1, WHERE).messages[0].offset == 2


def test_the_brokers_clock_counts() -> None:
    """With LogAppendTime every message has the batch's largest time, in microseconds."""
    data = with_attributes(batch(b"0", b"1"), 0x08)
    times = {message.appended_at for message in decode_chunk(data, 0, WHERE).messages}
    (largest,) = struct.unpack_from(">q", data, 35)
    assert times == {largest * 1000}


def with_headers(names: Iterable[bytes], times: tuple[int, int] = (0, 0), attributes: int = 0x08) -> bytes:
    """Build a batch of two messages whose headers have these names, which need not be text."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, 1, 0, 0, 1_000_000)
    headers = [("x" * len(name), b"value") for name in names]
    builder.append(0, times[0], b"key", b"value", headers)
    builder.append(1, times[1], None, b"", [])
    data = bytes(builder.build())
    for name in names:
        data = data.replace(b"x" * len(name), name, 1)
    return with_attributes(data, attributes)


def test_headers_are_passed_over() -> None:
    """Header names that are not UTF-8, which any producer can write, do not stop a reader."""
    for names in ([], [b"name"], [b"\xff\xfe\xfd"], [b"ok", b"\xc3("]):
        chunk = decode_chunk(with_headers(names), 0, WHERE)
        assert [(m.offset, m.key, m.value) for m in chunk.messages] == [(0, b"key", b"value"), (1, None, b"")]


@pytest.mark.parametrize("names", [[], [b"name"], [b"\xff\xfe\xfd"]])
def test_the_time_of_a_message_does_not_depend_on_its_headers(names: list[bytes]) -> None:
    """Each record has its own time unless the broker set the batch's, whatever its headers contain."""
    times = (1_700_000_000_000, 1_600_000_000_000)
    for attributes, expected in ((0x00, times), (0x08, (times[0], times[0]))):
        chunk = decode_chunk(with_headers(names, times, attributes), 0, WHERE)
        assert [m.appended_at for m in chunk.messages] == [at * 1000 for at in expected]


def with_times(first: int, largest: int, attributes: int, names: Iterable[bytes]) -> bytes:
    """Build a batch that claims these two times; the second record says that it is 5 ms later."""
    data = bytearray(with_headers(names, (0, 5), attributes))
    struct.pack_into(">qq", data, 27, first, largest)
    return with_attributes(bytes(data), attributes)


@pytest.mark.parametrize("names", [[], [b"\xff\xfe\xfd"]])
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (2**53 - 5, [2**53 - 5, 2**53]),
        (2**53 - 4, [2**53 - 4, None]),
        (-1, [None, 4]),
        (2**63 - 1, [None, None]),
        (-(2**63), [None, None]),
    ],
)
def test_a_time_that_no_clock_gives_is_none(
    first: int, expected: list[int | None], names: list[bytes]
) -> None:
    """A time below 0 or above 2^53 ms is no time, in a record and in a batch."""
    wanted = [NO_TIME if at is None else at * 1000 for at in expected]
    chunk = decode_chunk(with_times(first, 0, 0x00, names), 0, WHERE)
    assert [m.appended_at for m in chunk.messages] == wanted
    chunk = decode_chunk(with_times(0, first, 0x08, names), 0, WHERE)
    assert [m.appended_at for m in chunk.messages] == [wanted[0]] * 2


def test_a_compressed_batch_names_the_setting() -> None:
    """A compressed batch, which the topic's settings keep out, is not decompressed."""
    with pytest.raises(LogUnavailable, match="compressed batch at offset 0") as caught:
        decode_chunk(with_attributes(batch(b"0"), 0x01), 0, WHERE)
    assert "compression.type" in (caught.value.hint or "")


def test_a_damaged_batch_is_named() -> None:
    """The checksum finds a changed byte, and the error names the offset."""
    good = batch(b"0") + batch(b"1", at=1)
    for position in range(len(batch(b"0")) + ATTRIBUTES, len(good)):
        bad = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(LogUnavailable, match="damaged at offset 1") as caught:
            decode_chunk(bad, 0, WHERE)
        assert WHERE in caught.value.message
        assert caught.value.hint


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_record_is_read_or_refused(noise: bytes, count: int) -> None:
    """Any bytes in a batch whose checksum fits end in messages or in a LogUnavailable."""
    header = struct.pack(">qiibIhiqqqhii", 0, 49 + len(noise), 0, 2, 0, 8, 299, 0, 0, 1, 0, 0, count)
    data = with_attributes(header + noise, 0x08)
    try:
        chunk = decode_chunk(data, 0, WHERE)
    except LogUnavailable:
        return
    assert [m.offset for m in chunk.messages] == sorted({m.offset for m in chunk.messages})


@given(st.binary(max_size=300))
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    """Any bytes in place of batches end in a chunk or in a LogUnavailable."""
    with suppress(LogUnavailable):
        assert decode_chunk(data, 7, WHERE).next_offset >= 7
