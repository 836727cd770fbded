"""A topic with a partition for each of 3,000 channels."""

from __future__ import annotations

import asyncio

import pytest

from broker.log import Message, Partition, open_log
from support.kafka import Kafka

pytestmark = pytest.mark.kafka

CHANNELS = 3_000


async def test_three_thousand_channels(kafka: Kafka) -> None:
    """3,000 partitions are created, appended to, read back and followed over a handful of connections."""
    async with open_log(kafka.url(replication=1, min_insync=1)) as log:
        await log.ensure("returns", CHANNELS)
        partitions = [Partition("returns", number) for number in range(CHANNELS)]
        assert set((await log.ends(partitions)).values()) == {0}

        async def follow(partition: Partition) -> tuple[int, bytes | None]:
            async for message in log.read(partition, 0, follow=True):
                return message.offset, message.value
            raise AssertionError("a follower never stops by itself")

        following = [asyncio.create_task(follow(partition)) for partition in partitions]
        for begin in range(0, CHANNELS, 100):
            await asyncio.gather(
                *(
                    log.append(partition, [Message(None, b"%d" % partition.number)])
                    for partition in partitions[begin : begin + 100]
                )
            )
        async with asyncio.timeout(60):
            heard = await asyncio.gather(*following)
        assert heard == [(0, b"%d" % number) for number in range(CHANNELS)]
        assert set((await log.ends(partitions)).values()) == {1}
        for partition in partitions[::100]:
            assert [message.value async for message in log.read(partition, 0)] == [b"%d" % partition.number]
        assert len(log._brokers._connections._open) <= 8  # type: ignore[attr-defined]
