"""The log on Kafka keeps the contract of logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from broker.log import CopyableLog, open_copyable, open_log
from broker.log.kafka.kafka_log import KafkaLog
from log.contract import Away, Connect, LogAway, LogContract
from support.kafka import Kafka, new_prefix
from support.kafka_proxy import KafkaProxy


@pytest.mark.kafka
class TestKafkaLog(LogContract):
    """Every test of the contract, on a real broker."""

    @pytest.fixture
    def url(self, kafka: Kafka) -> str:
        """Return the URL of a log under a prefix of the test's own."""
        return kafka.url(replication=1, min_insync=1)

    @pytest.fixture
    async def connect(self, url: str) -> AsyncIterator[Connect]:
        """Return a function that connects to the same broker anew."""
        async with AsyncExitStack() as stack:

            async def connect() -> KafkaLog:
                log = await stack.enter_async_context(open_log(url))
                assert isinstance(log, KafkaLog)
                return log

            yield connect

    @pytest.fixture
    async def again(self, url: str) -> AsyncIterator[Connect]:
        """Connect to the same log, finished or not."""
        async with AsyncExitStack() as stack:

            async def again() -> CopyableLog:
                return await stack.enter_async_context(open_copyable(url))

            yield again

    @pytest.fixture
    def away(self, kafka: Kafka) -> Away:
        """Open logs through a proxy, which can break every connection and refuse new ones."""

        @asynccontextmanager
        async def away() -> AsyncIterator[LogAway]:
            port = int(kafka.address.rpartition(":")[2])
            async with KafkaProxy(port) as proxy:
                options = f"prefix={new_prefix()}&replication=1&min_insync=1&timeout_ms=300"
                async with open_log(f"kafka://127.0.0.1:{proxy.port}?{options}") as log:
                    yield LogAway(log, proxy.away)

        return away
