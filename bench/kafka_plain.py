"""What a user would write with aiokafka alone: records as plain Avro, produced and consumed.

The producer gives what ours gives: acknowledged by all replicas in sync, and once (``acks="all"``,
idempotent). ``linger_ms`` and the rest are aiokafka's defaults, but for batches that may be as large as ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]

from broker.records.record import Record

__all__ = ["Encode", "PlainConsumer", "producer", "send", "send_batch"]

Encode = Callable[[Record], bytes]

_MAX_BATCH_BYTES = 1_000_000


@asynccontextmanager
async def producer(address: str) -> AsyncIterator[Any]:
    """A producer while the block lasts."""
    made = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=_MAX_BATCH_BYTES
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def send(made: Any, topic: str, records: Sequence[Record], encode: Encode, size: int) -> None:
    """``send()`` each record, and wait for ``size`` acknowledgements at once."""
    for start in range(0, len(records), size):
        sent = [
            await made.send(topic, encode(one), key=one.record_id, partition=0)
            for one in records[start : start + size]
        ]
        await asyncio.gather(*sent)


async def send_batch(made: Any, topic: str, records: Sequence[Record], encode: Encode, size: int) -> None:
    """Make batches of ``size`` and ``send_batch()`` them, waiting for each."""
    for start in range(0, len(records), size):
        batch = made.create_batch()
        for one in records[start : start + size]:
            if batch.append(key=one.record_id, value=encode(one), timestamp=None) is None:
                raise ValueError("a batch that is too small for its records")
        await (await made.send_batch(batch, topic, partition=0))


class PlainConsumer:
    """A consumer of one partition; connected by ``open``, it reads from the beginning in ``read``."""

    def __init__(self, address: str, topic: str) -> None:
        self._address = address
        self._place = TopicPartition(topic, 0)
        self._consumer: Any = None

    async def open(self) -> None:
        """Connect, to the partition's leader too."""
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._address, enable_auto_commit=False)
        await self._consumer.start()
        await self._consumer.end_offsets([self._place])

    async def values(self) -> AsyncGenerator[bytes, None]:
        """Every value from the beginning on, for ever."""
        self._consumer.assign([self._place])
        self._consumer.seek(self._place, 0)
        async for message in self._consumer:
            yield message.value

    async def read(self, decode: Callable[[bytes], object], count: int) -> None:
        """Decode the first records."""
        self._consumer.assign([self._place])
        self._consumer.seek(self._place, 0)
        async for message in self._consumer:  # not by values(), which would cost a generator for each
            decode(message.value)
            count -= 1
            if not count:
                return

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
