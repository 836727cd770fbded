"""The log that agencies share: a Kafka cluster, where each channel is a partition of each topic.

``async with await KafkaLog.open(options) as log``. One append is one record batch, idempotent and
acknowledged by all replicas in sync (KIP-98). A topic's name begins with the prefix: ``ftf.returns``.
``appended_at`` is the broker's clock, to the millisecond (LogAppendTime, KIP-32). Where a batch does not say
that a broker set its time, it is the time that its producer gave each record. Headers are no part of a
message.
docs/adr/0002-kafka-client.md says which parts of aiokafka this package uses.

Its parts, each of which may use those above it:

==================  ============================================================================
``options``         the options in the log's URL
``error_codes``     the error codes of brokers, and what each means for a caller
``acl``             roles on the brokers, as ACLs and quotas
``cluster_policy``  the settings that the log needs, and the differences of a cluster from them
``wire``            requests to one broker, with types
``record_batch``    the bytes of an append
``deadline``        the time-out of a call, and its pauses
``cluster_map``     the brokers that are up, and the leader of each partition
``connections``     the connections to the brokers, and the brokers that are silent
``brokers``         questions to any broker or to one
``appends``         appends that land once
``waiting_room``    followers that wait at the ends of partitions together
``reads``           reading, following, and the ends of partitions
``admin``           requests about settings, topics, ACLs and quotas
``topics``          topics that are created by the policy, and clusters that are compared with it
==================  ============================================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from broker.log.append_times import AppendTimes
from broker.log.kafka.appends import Appends
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.reads import Reads
from broker.log.kafka.topics import check_policy, ensure_topic
from broker.log.kafka.wire import Place
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

    It keeps one promise beyond the contract: when the outcome of an append was unknown and the next append on
    the partition has the same messages, they land once, whatever happened to the first.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._prefix = brokers.options.prefix
        self._appends = Appends(brokers)
        self._reads = Reads(brokers)
        self._times = AppendTimes(f"kafka://{brokers.options.shown_hosts}")
        # The appends under way. aclose() waits for them, since each may be waiting for its acknowledgement.
        self._appending: set[asyncio.Task[int]] = set()

    @classmethod
    async def open(cls, options: KafkaOptions) -> Self:
        """Reach the cluster; raise LogUnavailable when no broker answers in time, or accepts us."""
        return cls(await Brokers.open(options))

    @property
    def prefix(self) -> str:
        """The beginning of the names of this log's topics."""
        return self._prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Add messages, all or none, and return the offset of the first: see :class:`Log`.

        When it is cancelled, it waits for the answer to the request under way, at most until its time-out.
        """
        place = self._place(partition)
        check_batch(messages)
        stop = asyncio.Event()
        # A task of its own, which a cancellation of the caller does not touch: an append that was sent and is
        # then forgotten could stand without anybody's knowledge.
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
        """Yield the messages from ``start`` on, in the order of their offsets: see :class:`Log`."""
        place = self._place(partition)
        check_start(start)
        end = None if follow else (await self._reads.ends([place]))[place]
        async for message in self._reads.read(place, start, end):
            yield message if message.appended_at >= 0 else self._times.counted(message, *place)

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset behind each partition's last message.

        Every leader gets one request, and all of them at the same time.
        """
        places = {partition: self._place(partition) for partition in partitions}
        ends = await self._reads.ends(list(dict.fromkeys(places.values())))
        return {partition: ends[place] for partition, place in places.items()}

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic by the policy, or grow it: see :class:`Log`.

        A principal that may not create topics may still ensure one that exists and is large enough.
        """
        name, _ = self._place(Partition(topic, 0))
        check_partitions(partitions)
        deadline = self._brokers.deadline(longer_s=partitions * _MORE_FOR_A_PARTITION_S)
        if await ensure_topic(self._brokers, name, partitions, deadline, compacted=compacted):
            await self._reads.until_ready(name, partitions, deadline)

    async def check_policy(self, topics: Iterable[str]) -> list[str]:
        """Return each difference between the cluster and the policy for these topics, as a sentence."""
        self._brokers.check_open()
        return await check_policy(self._brokers, topics)

    async def aclose(self) -> None:
        """Close the log after the appends that are under way; readers that wait get a UsageError."""
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
    """Wait for a task through further cancellations, and retrieve its error."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # a second cancellation; the caller raises the first one
    if not task.cancelled():
        task.exception()  # retrieved, or asyncio would report that it never was
