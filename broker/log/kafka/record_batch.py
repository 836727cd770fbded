"""Record batches of Kafka (magic 2, KIP-98): from the messages of an append to bytes, and back.

Whatever a producer with other software wrote, or a broker that was tampered with gives, ends here in messages
or in a LogUnavailable that names the partition and the offset: one member must not be able to stop the
readers of the others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.record.default_records import (  # type: ignore[import-untyped]
    DefaultRecordBatch,
    DefaultRecordBatchBuilder,
)
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]

from broker.errors import LogUnavailable, UsageError
from broker.log.append_times import microseconds, now_ms
from broker.log.kafka.cluster_policy import MAX_RECORD_BATCH_BYTES
from broker.log.protocol import Message, StoredMessage

__all__ = ["Chunk", "Identity", "decode_chunk", "encode_batch"]

_MAGIC = 2
_HEADER = struct.Struct(">qiibIhiqqqhii")  # KIP-98, RecordBatch: base offset to number of records
_UNCOMPRESSED = 0


class Identity(NamedTuple):
    """The numbers by which a broker recognizes a batch that comes again, so that it stands once (KIP-98)."""

    producer: int
    epoch: int
    sequence: int


class Chunk(NamedTuple):
    """Messages that were read at once, and the offset behind them, from which to read next."""

    messages: list[StoredMessage]
    next_offset: int


def encode_batch(
    messages: Sequence[Message], identity: Identity, times_ms: Sequence[int] | None = None
) -> bytes:
    """Return the bytes of a batch.

    The broker fills in its offsets and, with LogAppendTime (KIP-32), its time. Without LogAppendTime each
    record keeps its time of ``times_ms``, which a copy of a log needs.
    """
    builder = DefaultRecordBatchBuilder(_MAGIC, _UNCOMPRESSED, 0, *identity, MAX_RECORD_BATCH_BYTES)
    at = [now_ms()] * len(messages) if times_ms is None else times_ms
    for index, message in enumerate(messages):
        if builder.append(index, at[index], message.key, message.value, []) is None:
            raise UsageError("the messages do not fit one record batch")
    return bytes(builder.build())


def decode_chunk(data: bytes, start: int, where: str) -> Chunk:
    """Decode the whole batches of a fetch, from offset ``start`` on. ``where`` names the partition in errors.

    Control records (the marks of transactions, KIP-98) are not messages: their offsets are a gap. Raises
    LogUnavailable when a batch is damaged or compressed.
    """
    messages: list[StoredMessage] = []
    next_offset = start
    batches = MemoryRecords(data)
    while batches.has_next():
        try:
            batch = batches.next_batch()
        except (CorruptRecordException, ValueError) as error:
            raise _damaged(where, next_offset, str(error)) from error
        if not isinstance(batch, DefaultRecordBatch) or not batch.validate_crc():
            raise _damaged(where, next_offset, "the checksum of a batch differs")
        # A broker gives whole batches, and may give some that lie before the offset.
        if batch.next_offset <= start:
            continue
        if not batch.is_control_batch:
            messages += _messages(batch, data, start, where)
        next_offset = batch.next_offset
    return Chunk(messages, next_offset)


def _messages(batch: DefaultRecordBatch, data: bytes, start: int, where: str) -> list[StoredMessage]:
    # Refused against a batch of a megabyte that unfolds to gigabytes in the memory of every reader.
    if batch.compression_type != _UNCOMPRESSED:
        raise LogUnavailable(
            f"{where} holds a compressed batch at offset {batch.base_offset}",
            hint="compression.type=uncompressed keeps such batches out of a topic: see log check",
        )
    appended_at = microseconds(batch.max_timestamp)
    base, end = batch.base_offset, batch.next_offset
    found: list[StoredMessage]
    try:
        # With LogAppendTime (KIP-32) a batch has one time, the broker's. Otherwise, in a topic without our
        # policy, each record has the time that its producer claims.
        if batch.timestamp_type:
            found = [StoredMessage(record.offset, record.key, record.value, appended_at) for record in batch]
        else:
            found = [
                StoredMessage(record.offset, record.key, record.value, microseconds(record.timestamp))
                for record in batch
            ]
    except (CorruptRecordException, ValueError, IndexError, MemoryError):
        # To aiokafka the name of a header is text, to the broker it is bytes. Without this, any principal
        # that may append could stop every reader with a name that is not UTF-8.
        found = list(_without_headers(batch, data, where))
    last = base - 1
    for message in found:
        if not last < message.offset < end:
            # A broker assigns rising offsets; only one that was tampered with gives others. Readers rely on
            # the order: an offset that falls would make them read in a circle.
            raise _damaged(where, base, "the offsets within a batch do not rise")
        last = message.offset
    return found if base >= start else [message for message in found if message.offset >= start]


def _without_headers(batch: DefaultRecordBatch, data: bytes, where: str) -> Iterator[StoredMessage]:
    """Yield the records of a batch and pass over their headers, whatever these contain."""
    base = batch.base_offset
    at = 0
    # Find the batch in the data. It was decoded from there, so the loop ends.
    while True:
        found_base, length, *_ = _HEADER.unpack_from(data, at)
        if found_base == base:
            break
        at += 12 + length
    body = memoryview(data)[at + _HEADER.size : at + 12 + length]
    position = 0
    try:
        while position < len(body):
            size, position = _varint(body, position)
            end = position + size
            later, inside = _varint(body, position + 1)  # behind the attributes stands the producer's time
            delta, inside = _varint(body, inside)
            key, inside = _bytes(body, inside, end)
            value, inside = _bytes(body, inside, end)
            if not inside <= end <= len(body):
                raise ValueError("a record that is longer than it says")
            at_ms = batch.max_timestamp if batch.timestamp_type else _wrapped(batch.first_timestamp + later)
            yield StoredMessage(base + delta, key, value, microseconds(at_ms))
            position = end
    except (ValueError, IndexError) as error:
        raise _damaged(where, base, str(error)) from error


def _wrapped(number: int) -> int:
    """Return a sum as a signed integer of 64 bits, as Kafka and aiokafka add times."""
    return (number + 2**63) % 2**64 - 2**63


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number in ZigZag encoding, as protocol buffers have it; return it and the position behind it."""
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (result >> 1) ^ -(result & 1), position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _bytes(data: memoryview, position: int, end: int) -> tuple[bytes | None, int]:
    size, position = _varint(data, position)
    if size < 0:
        return None, position
    if position + size > end:
        raise ValueError("a field that is longer than its record")
    return bytes(data[position : position + size]), position + size


def _damaged(where: str, offset: int, reason: str) -> LogUnavailable:
    return LogUnavailable(
        f"{where} is damaged at offset {offset}: {reason}",
        hint="the operator of the brokers must restore this partition from a replica that is whole",
    )
