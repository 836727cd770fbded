"""An append to Kafka lands once, whatever happens between us and the broker."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import cast

import pytest

from broker.errors import LogUnavailable, OutcomeUnknown
from broker.log import Message, Partition, open_log, physical
from broker.log.kafka import admin
from broker.log.kafka.kafka_log import KafkaLog
from log.contract import RETURNS, held, messages
from support.kafka import Kafka, new_prefix
from support.kafka_proxy import APPEND, KafkaProxy

pytestmark = pytest.mark.kafka

INVALID_PRODUCER_EPOCH = 47
COUNT = 3  # attempts within a time-out: each may take a third of it


@pytest.fixture
async def proxy(kafka: Kafka) -> AsyncIterator[KafkaProxy]:
    """Run a proxy between a client and the broker."""
    async with KafkaProxy(int(kafka.address.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
async def log(proxy: KafkaProxy) -> AsyncIterator[KafkaLog]:
    """Open a log through the proxy; its calls give up after one and a half seconds."""
    url = f"kafka://127.0.0.1:{proxy.port}?prefix={new_prefix()}&replication=1&min_insync=1&timeout_ms=1500"
    async with open_log(url) as log:
        await log.ensure("returns", 1)
        yield cast(KafkaLog, log)


def code_of(answer: bytes) -> int:
    """Read the error code in the answer to an append to one partition (Produce, version 7)."""
    (size,) = struct.unpack_from(">h", answer, 8)
    (code,) = struct.unpack_from(">h", answer, 10 + size + 8)
    return int(code)


async def values(log: KafkaLog) -> list[bytes | None]:
    """Read the values that the partition holds."""
    return [message.value for message in await held(log, RETURNS)]


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_lost_acknowledgement(log: KafkaLog, proxy: KafkaProxy, lost: int) -> None:
    """When answers are lost the same batch is sent again and stands once, and the next one follows it."""
    await log.append(RETURNS, messages(b"before"))
    proxy.lose_answers(APPEND, lost)
    assert await log.append(RETURNS, messages(b"one", b"two")) == 1
    assert await log.append(RETURNS, messages(b"after")) == 3
    assert await values(log) == [b"before", b"one", b"two", b"after"]
    assert proxy.seen[APPEND] == 3 + lost


async def test_an_append_without_any_answer_is_of_unknown_outcome(log: KafkaLog, proxy: KafkaProxy) -> None:
    """When no answer comes in time the outcome is unknown; the same messages again land once."""
    proxy.lose_answers(APPEND, 10_000)
    with pytest.raises(OutcomeUnknown) as caught:
        await log.append(RETURNS, messages(b"one", b"two"))
    assert f"partition 0 of {physical(log, 'returns')}" in caught.value.message
    assert caught.value.hint
    assert await log.ends([RETURNS]) == {RETURNS: 2}
    proxy.lose_answers(APPEND, -proxy._losing[APPEND])
    assert await log.append(RETURNS, messages(b"one", b"two")) == 0
    assert await log.append(RETURNS, messages(b"three")) == 2
    assert await values(log) == [b"one", b"two", b"three"]


async def test_a_batch_that_arrives_late_behind_its_retry(log: KafkaLog, proxy: KafkaProxy) -> None:
    """A broker recognizes a batch that arrives late, after its retry, and stores it only once."""
    proxy.holding.add(APPEND)
    with pytest.raises(OutcomeUnknown):
        await log.append(RETURNS, messages(b"one", b"two"))
    assert await values(log) == []
    proxy.holding.clear()
    assert await log.append(RETURNS, messages(b"one", b"two")) == 0
    assert len(proxy.held) == COUNT
    assert [code_of(answer) for answer in await proxy.release()] == [0] * COUNT
    assert await values(log) == [b"one", b"two"]


async def test_a_batch_that_arrives_late_behind_another(log: KafkaLog, proxy: KafkaProxy) -> None:
    """A batch whose outcome was unknown can no longer arrive once another batch stands."""
    await log.append(RETURNS, messages(b"before"))
    proxy.holding.add(APPEND)
    with pytest.raises(OutcomeUnknown):
        await log.append(RETURNS, messages(b"one", b"two"))
    proxy.holding.clear()
    assert await log.append(RETURNS, messages(b"other")) == 1
    assert [code_of(answer) for answer in await proxy.release()] == [INVALID_PRODUCER_EPOCH] * COUNT
    assert await log.append(RETURNS, messages(b"after")) == 2
    assert await values(log) == [b"before", b"other", b"after"]


async def test_other_partitions_go_on_while_one_is_in_doubt(log: KafkaLog, proxy: KafkaProxy) -> None:
    """A batch in doubt on one partition changes nothing on the others."""
    await log.ensure("justice", 1)
    justice = Partition("justice", 0)
    await log.append(justice, messages(b"one"))
    proxy.holding.add(APPEND)
    with pytest.raises(OutcomeUnknown):
        await log.append(RETURNS, messages(b"lost"))
    proxy.holding.clear()
    assert await log.append(justice, messages(b"two")) == 1


async def test_a_cancelled_append_waits_for_its_answer(log: KafkaLog, proxy: KafkaProxy) -> None:
    """A cancelled append ends with the request that is under way, and sends nothing more."""
    proxy.holding.add(APPEND)
    appending = asyncio.create_task(log.append(RETURNS, messages(b"one")))
    await proxy.holds.wait()
    appending.cancel()
    await asyncio.wait([appending])
    assert appending.cancelled()
    assert proxy.seen[APPEND] == 1
    proxy.holding.clear()
    assert await log.append(RETURNS, messages(b"two")) == 0
    await proxy.release()
    assert await values(log) == [b"two"]


async def test_a_batch_that_the_broker_refuses(log: KafkaLog) -> None:
    """The error for a refused batch says who must act, and the next batch stands: no number was used up."""
    topic = physical(log, "small")
    deadline = log._brokers.deadline()
    made = await log._brokers.ask(
        lambda connection, left_s: admin.create_topic(
            connection, topic, 1, 1, {"max.message.bytes": "1000"}, left_s
        ),
        deadline,
    )
    assert made.code == 0
    small = Partition("small", 0)
    assert await log.append(small, messages(b"one")) == 0
    with pytest.raises(LogUnavailable, match="whole batch") as caught:
        await log.append(small, messages(bytes(2_000)))
    assert "max.message.bytes" in (caught.value.hint or "")
    assert await log.append(small, messages(b"two")) == 1


async def test_numbers_begin_again(log: KafkaLog) -> None:
    """The largest sequence number is followed by 0, and the last epoch by a new producer."""
    await log.append(RETURNS, messages(b"0"))
    lane = log._appends._lanes[physical(log, "returns"), 0]
    # A producer that the broker does not know may begin anywhere.
    lane.producer, lane.sequence = 1_000_000 + lane.producer, 2**31 - 3
    log._appends._producer = (lane.producer, 0)
    assert await log.append(RETURNS, messages(*[b"%d" % i for i in range(5)])) == 1
    assert lane.sequence == 2
    assert await log.append(RETURNS, messages(b"6")) == 6
    lane.epoch = 2**15 - 1
    await log._appends._renew(lane, physical(log, "returns"), log._brokers.deadline())
    assert (lane.epoch, lane.producer < 1_000_000) == (0, True)
    assert await log.append(RETURNS, messages(b"7")) == 7


async def test_a_broker_that_has_lost_count(log: KafkaLog) -> None:
    """A batch that the broker calls out of order is sent again under a new epoch."""
    await log.append(RETURNS, messages(b"0"))
    log._appends._lanes[physical(log, "returns"), 0].sequence += 7
    assert await log.append(RETURNS, [Message(None, b"1")]) == 1
    assert await log.append(RETURNS, [Message(None, b"2")]) == 2
