"""aiokafka's producer on a real broker: the behaviour for which this package does not use it.

docs/adr/0002-kafka-client.md rests on these tests. When one of them fails after an upgrade, that is good
news: the decision can be looked at again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber  # type: ignore[import-untyped]

from support.kafka import Kafka, new_prefix
from support.kafka_proxy import APPEND, KafkaProxy

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """Create a topic that takes batches of at most 2,000 bytes."""
    name = f"{new_prefix()}.aiokafka"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    await admin.close()
    return name


@pytest.fixture
async def proxy(kafka: Kafka) -> AsyncIterator[KafkaProxy]:
    """Run a proxy between the producer and the broker."""
    async with KafkaProxy(int(kafka.address.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
async def producer(proxy: KafkaProxy) -> AsyncIterator[AIOKafkaProducer]:
    """Start a producer with the usual settings for durable batches."""
    producer = AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{proxy.port}", acks="all", enable_idempotence=True,
        request_timeout_ms=500, retry_backoff_ms=20, max_batch_size=1_000_000,
    )  # fmt: skip
    await producer.start()
    yield producer
    producer._sender.sender_task.cancel()
    await asyncio.wait([producer._sender.sender_task])
    await producer.stop()


async def send(producer: AIOKafkaProducer, topic: str, values: Sequence[bytes]) -> asyncio.Future[object]:
    """Send a batch, and return the future of its acknowledgement."""
    batch = producer.create_batch()
    for value in values:
        batch.append(key=None, value=value, timestamp=None)
    batch.close()
    future: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=0)
    return future


async def test_a_lost_acknowledgement_is_made_good(
    producer: AIOKafkaProducer, proxy: KafkaProxy, topic: str
) -> None:
    """After a lost acknowledgement the same batch goes out under the same number, and stands once."""
    proxy.lose_answers(APPEND, 1)
    first = await (await send(producer, topic, [b"one", b"two"]))
    second = await (await send(producer, topic, [b"three"]))
    assert [done.offset for done in (first, second)] == [0, 2]  # type: ignore[attr-defined]


async def test_a_refused_batch_spoils_the_partition(producer: AIOKafkaProducer, topic: str) -> None:
    """A batch that the broker refuses uses up sequence numbers, and every later batch is out of order."""
    await (await send(producer, topic, [b"one"]))
    with pytest.raises(MessageSizeTooLargeError):
        await (await send(producer, topic, [bytes(3_000)]))
    for _ in range(2):
        with pytest.raises(OutOfOrderSequenceNumber):
            await (await send(producer, topic, [b"two"]))


async def test_a_batch_never_expires(producer: AIOKafkaProducer, proxy: KafkaProxy, topic: str) -> None:
    """Without an answer a batch is sent for ever, even with a short time-out and after a cancellation."""
    await (await send(producer, topic, [b"one"]))
    proxy.lose_answers(APPEND, 1_000)
    waiting = await send(producer, topic, [b"two"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.2):  # more than two of its time-outs
            await waiting
    assert waiting.cancelled()
    sent = proxy.seen[APPEND]
    async with asyncio.timeout(10):
        while proxy.seen[APPEND] < sent + 3:  # noqa: ASYNC110 - nobody waits for it, and on it goes
            await asyncio.sleep(0.01)
