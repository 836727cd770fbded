"""The log on Kafka keeps the contract of logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from broker.log import Log, open_log
from log.contract import Connect, LogContract
from support.kafka import Kafka


@pytest.mark.kafka
class TestKafkaLog(LogContract):
    """Every test of the contract, on a real broker."""

    @pytest.fixture
    async def connect(self, kafka: Kafka) -> AsyncIterator[Connect]:
        """Connect to the same broker anew each time, under a prefix that no other test has."""
        url = kafka.url(replication=1, min_insync=1)
        async with AsyncExitStack() as stack:

            async def connect() -> Log:
                return await stack.enter_async_context(open_log(url))

            yield connect
