"""The log that agencies share: a Kafka cluster, where a channel is a partition.

``async with await KafkaLog.open(options) as log``. One append is one record batch, idempotent and
acknowledged by all replicas in sync; a topic is called ``ftf.returns``, after the prefix; ``appended_at``
is the broker's clock, to the millisecond. docs/adr/0002-kafka-client.md says what is taken of aiokafka.

=================  ===========================================================================
options            what the URL says
wire               requests to one broker, typed; with record_batch and admin all of aiokafka
record_batch       record batches
brokers            connections, who leads what
appends            appending once
reads              reading, following, ends
topics             creating topics by the policy (cluster_policy.py), comparing a cluster with it
=================  ===========================================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from broker.log.kafka.appends import Appends
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.reads import Place, Reads
from broker.log.kafka.topics import check_policy, ensure_topic
from broker.log.protocol import (
    Message,
    Partition,
    StoredMessage,
    check_batch,
    check_partitions,
    check_start,
    check_topic,
)

__all__ = ["KafkaLog"]

_MORE_FOR_A_PARTITION_S = 0.02  # a broker makes some hundred partitions in a second


class KafkaLog:
    """An open log on Kafka; it belongs to the event loop that opened it.

    Beyond the contract: an append that is made again with the same messages, right after one whose
    outcome was unknown, lands once, whatever happened to the first.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._prefix = brokers.options.prefix
        self._appends = Appends(brokers)
        self._reads = Reads(brokers)
        self._appending: set[asyncio.Task[int]] = set()

    @classmethod
    async def open(cls, options: KafkaOptions) -> Self:
        """Reach the cluster; LogUnavailable when no broker answers in time, or none accepts us."""
        return cls(await Brokers.open(options))

    @property
    def prefix(self) -> str:
        """What the names of this log's topics begin with."""
        return self._prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Add messages, all or none, and return the offset of the first: see :class:`Log`.

        Cancelled, it waits for the answer to what it has sent, for the time-out at most.
        """
        place = self._place(partition)
        check_batch(messages)
        stop = asyncio.Event()
        task = asyncio.get_running_loop().create_task(
            self._appends.append(*place, messages, stop), name=f"kafka append {place}"
        )
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            await _finished(task)
            raise

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """Give the messages from ``start`` on, their offsets rising: see :class:`Log`."""
        place = self._place(partition)
        check_start(start)
        end = None if follow else (await self._reads.ends([place]))[place]
        async for message in self._reads.read(place, start, end):
            yield message

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Tell the offset behind each partition's last message; each leader is asked once, all at once."""
        places = {partition: self._place(partition) for partition in partitions}
        ends = await self._reads.ends(list(dict.fromkeys(places.values())))
        return {partition: ends[place] for partition, place in places.items()}

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic by the policy, or grow it: see :class:`Log`.

        Whoever may not create topics may still ensure one that is there and large enough.
        """
        name, _ = self._place(Partition(topic, 0))
        check_partitions(partitions)
        deadline = self._brokers.deadline(longer_s=partitions * _MORE_FOR_A_PARTITION_S)
        if await ensure_topic(self._brokers, name, partitions, deadline, compacted=compacted):
            await self._reads.until_ready(name, partitions, deadline)

    async def check_policy(self, topics: Iterable[str]) -> list[str]:
        """Say each difference between the cluster and the policy (cluster_policy.py) for these topics."""
        self._brokers.check_open()
        return await check_policy(self._brokers, topics)

    async def aclose(self) -> None:
        """Let go of everything, after the appends that are under way; readers get a UsageError."""
        self._reads.close()
        while self._appending and not self._brokers.closed:
            await asyncio.wait(self._appending)
        await self._brokers.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _place(self, partition: Partition) -> Place:
        self._brokers.check_open()
        check_topic(partition.topic)
        return f"{self._prefix}.{partition.topic}", partition.number


async def _finished(task: asyncio.Task[Any]) -> None:
    """Wait for a task through further cancellations, and look at how it ended."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # cancelled already; whoever waits for this raises it
    if not task.cancelled():
        task.exception()  # looked at, or asyncio would report it as never retrieved
