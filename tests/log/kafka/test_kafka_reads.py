"""Reads from Kafka: gaps, cuts, servers that do not answer, and many followers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]

from broker.errors import LogUnavailable, UsageError
from broker.log import Message, Partition, open_log, physical
from broker.log.kafka import waiting_room
from broker.log.kafka.kafka_log import KafkaLog
from log.contract import RETURNS, held, messages, take, until_waiting
from support.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.fixture
async def log(kafka: Kafka) -> AsyncIterator[KafkaLog]:
    """Open a log with an empty topic."""
    async with open_log(kafka.url(replication=1, min_insync=1, timeout_ms=5000)) as log:
        await log.ensure("returns", 2)
        yield cast(KafkaLog, log)


@pytest.fixture
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect as the operator of the brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    yield admin
    await admin.close()


async def until_end(log: KafkaLog, end: int) -> None:
    """Wait until the partition ends there, since the mark of a transaction comes after its answer."""
    async with asyncio.timeout(20):
        found = -1
        while found != end:
            found = (await log.ends([RETURNS]))[RETURNS]


async def until_gone(log: KafkaLog) -> None:
    """Wait until the broker has heard that the topic was deleted."""
    topic = physical(log, "returns")
    async with asyncio.timeout(20):
        await log._brokers.learn([topic])
        while log._brokers.topic(topic) is not None:
            await log._brokers.learn([topic])


async def test_what_was_deleted_is_a_gap(log: KafkaLog, admin: AIOKafkaAdminClient) -> None:
    """When the operator deletes the beginning of a partition, its readers see offsets that begin later."""
    for value in (b"0", b"1", b"2"):
        await log.append(RETURNS, messages(value))
    place = TopicPartition(physical(log, "returns"), 0)
    await admin.delete_records({place: RecordsToDelete(before_offset=2)})
    assert [message.offset for message in await held(log, RETURNS)] == [2]
    assert [message.offset for message in await take(log, RETURNS, 1, 1)] == [2]
    assert await log.ends([RETURNS]) == {RETURNS: 3}
    await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    assert await held(log, RETURNS) == []


async def test_transactions_are_gaps_and_aborted_messages_are_there(log: KafkaLog, kafka: Kafka) -> None:
    """A transaction's mark is a gap of one offset; the messages of an aborted transaction are read."""
    topic = physical(log, "returns")
    await log.append(RETURNS, messages(b"0"))
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address, transactional_id=f"{topic}-attack")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"1", partition=0)
    await producer.abort_transaction()
    await producer.stop()
    await until_end(log, 3)
    await log.append(RETURNS, messages(b"3"))
    stored = await held(log, RETURNS)
    assert [(message.offset, message.value) for message in stored] == [(0, b"0"), (1, b"1"), (3, b"3")]
    assert [message.offset for message in await take(log, RETURNS, 2, 1)] == [3]


async def test_a_mark_at_the_end_is_passed_over(log: KafkaLog, kafka: Kafka) -> None:
    """A partition that ends with the mark of a transaction is read to its end, and then followed."""
    topic = physical(log, "returns")
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address, transactional_id=f"{topic}-attack")
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"0", partition=0)
    await producer.stop()
    await until_end(log, 2)
    assert [message.offset for message in await held(log, RETURNS)] == [0]
    following = asyncio.create_task(take(log, RETURNS, 0, 2))
    await until_waiting(following)
    await log.append(RETURNS, messages(b"2"))
    assert [message.offset for message in await following] == [0, 2]


@pytest.mark.parametrize("compression", ["gzip", None])
async def test_what_others_write_comes_as_it_is(log: KafkaLog, kafka: Kafka, compression: str | None) -> None:
    """Headers are passed over, and the topic stores uncompressed what a producer compressed."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address, compression_type=compression)
    await producer.start()
    topic = physical(log, "returns")
    await producer.send_and_wait(topic, b"value" * 1000, b"key", partition=0, headers=[("name", b"x")])
    await producer.stop()
    [stored] = await held(log, RETURNS)
    assert (stored.key, stored.value) == (b"key", b"value" * 1000)


async def test_a_topic_that_is_made_anew_is_a_cut(log: KafkaLog, admin: AIOKafkaAdminClient) -> None:
    """A reader that has come further than the partition's end now raises LogUnavailable."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    reading = log.read(RETURNS, 0, follow=True)
    async with aclosing(reading):  # type: ignore[type-var]
        assert [(await anext(reading)).offset for _ in range(3)] == [0, 1, 2]
        going_on = asyncio.ensure_future(anext(reading))
        await until_waiting(going_on)
        await admin.delete_topics([physical(log, "returns")])
        with pytest.raises(LogUnavailable, match="no topic"):
            await going_on
    async with aclosing(log.read(RETURNS, 3, follow=True)) as later:  # type: ignore[type-var]
        await until_gone(log)
        await log.ensure("returns", 2)
        waiting = asyncio.ensure_future(anext(later))
        await log.append(RETURNS, messages(b"new"))
        await until_waiting(waiting)
        await log.append(RETURNS, messages(b"1", b"2", b"3"))
        assert (await waiting).offset == 3  # it began beyond the end, so it waits for that offset


async def test_a_partition_that_was_cut_is_noticed(log: KafkaLog, admin: AIOKafkaAdminClient) -> None:
    """A follower whose position is beyond the end gets an error, and does not wait for ever."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    reading = log.read(RETURNS, 0, follow=True)
    async with aclosing(reading):  # type: ignore[type-var]
        assert [(await anext(reading)).offset for _ in range(3)] == [0, 1, 2]
        await admin.delete_topics([physical(log, "returns")])
        await until_gone(log)
        await log.ensure("returns", 2)
        await log.append(RETURNS, messages(b"new"))
        with pytest.raises(LogUnavailable, match="ends before offset 3, up to where it was read") as caught:
            await anext(reading)
        assert caught.value.hint


async def test_a_follower_at_the_end_is_told_of_a_cut(log: KafkaLog, admin: AIOKafkaAdminClient) -> None:
    """A follower that waits at the end, and has read nothing yet, does not pass over what is new."""
    await log.append(RETURNS, messages(b"0", b"1", b"2"))
    reading = log.read(RETURNS, 3, follow=True)
    async with aclosing(reading):  # type: ignore[type-var]
        waiting = asyncio.ensure_future(anext(reading))
        await until_waiting(waiting)
        await asyncio.sleep(0.5)
        await admin.delete_topics([physical(log, "returns")])
        with pytest.raises(LogUnavailable, match=r"no topic|ends before offset 3"):
            await waiting


async def test_a_follower_is_told_at_once_beside_others_that_wait(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followers of many partitions get each append, though no request that waits ever ends by itself."""
    # A follower that depended on the end of a request would wait for ten minutes, on a machine of any speed.
    monkeypatch.setattr(waiting_room, "_SHORTEST_WAIT_MS", 600_000)
    monkeypatch.setattr(waiting_room, "_LONGEST_WAIT_MS", 600_000)
    await log.ensure("returns", 40)
    partitions = [Partition("returns", number) for number in range(40)]
    heard: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    async def follow(partition: Partition) -> None:
        async for message in log.read(partition, 0, follow=True):
            await heard.put((partition.number, message.offset))

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        following = []
        for partition in partitions:  # one by one, so that most of them find every connection taken
            following.append(group.create_task(follow(partition)))
            await log.append(partition, [Message(None, b"x")])
            assert await heard.get() == (partition.number, 0)
        for turn in range(1, 5):
            for partition in partitions[::4]:
                await log.append(partition, [Message(None, b"x")])
                assert await heard.get() == (partition.number, turn)
        for task in following:
            task.cancel()


async def test_reading_goes_on_when_connections_break(log: KafkaLog) -> None:
    """A connection that breaks under a follower is replaced, and nothing is lost or doubled."""
    following = asyncio.create_task(take(log, RETURNS, 0, 20))
    for number in range(20):
        await log.append(RETURNS, messages(b"%d" % number))
        for connection in list(log._brokers._connections._open.values()):
            connection.abort()
    assert [message.offset for message in await following] == list(range(20))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:9092"])
async def test_a_cluster_that_is_not_there(address: str) -> None:
    """An address where no broker answers is a LogUnavailable within the time-out."""
    with pytest.raises(LogUnavailable, match="cannot be reached") as caught:
        await open_log(f"kafka://{address}?timeout_ms=300")
    assert address in caught.value.message
    assert caught.value.hint


async def test_a_server_that_is_no_broker() -> None:
    """A server that answers in another protocol is a LogUnavailable within the time-out."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LogUnavailable, match="cannot be reached"):
            await open_log(f"kafka://127.0.0.1:{port}?timeout_ms=600")


async def test_a_server_that_says_nothing() -> None:
    """A server that takes connections and never answers is a LogUnavailable within the time-out."""
    is_over = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LogUnavailable, match="does not answer"):
            await open_log(f"kafka://127.0.0.1:{port}?timeout_ms=300")
        is_over.set()


async def test_replication_that_the_cluster_cannot_give(kafka: Kafka) -> None:
    """A demand for more replicas than brokers is a LogUnavailable that says so, and creates no topic."""
    async with open_log(kafka.url(replication=3, min_insync=2, timeout_ms=2000)) as log:
        with pytest.raises(LogUnavailable, match="too few brokers") as caught:
            await log.ensure("returns", 1)
        assert "replication=1" in (caught.value.hint or "")
        with pytest.raises(LogUnavailable, match="no topic"):
            await log.ends([RETURNS])


async def test_a_topic_with_fewer_replicas_than_demanded(kafka: Kafka, log: KafkaLog) -> None:
    """A topic that has fewer replicas than the URL demands is a LogUnavailable."""
    async with open_log(kafka.url(prefix=log.prefix, replication=2, min_insync=1)) as other:
        with pytest.raises(LogUnavailable, match="is kept on 1 brokers, expected 2"):
            await other.ensure("returns", 1)


async def test_one_broker_alone_needs_no_options(kafka: Kafka) -> None:
    """Without options a cluster of one broker gets topics of one replica."""
    async with open_log(kafka.url()) as log:
        await log.ensure("returns", 1)
        assert await log.append(RETURNS, messages(b"0")) == 0


async def test_a_reader_left_open_is_told_of_the_closing(log: KafkaLog) -> None:
    """A reader in the middle of a partition when the log is closed gets a UsageError."""
    await log.append(RETURNS, messages(b"0", b"1"))
    reading = log.read(RETURNS, 0)
    async with aclosing(reading):  # type: ignore[type-var]
        await anext(reading)
        await log.aclose()
        await anext(reading)
        with pytest.raises(UsageError, match="closed"):
            await anext(reading)
