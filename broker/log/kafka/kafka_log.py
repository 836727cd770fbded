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

from broker.errors import LogUnavailable, UsageError
from broker.log.append_times import AppendTimes
from broker.log.copyable import TopicShape, unfinished
from broker.log.kafka.acl import COPY_TOPIC
from broker.log.kafka.appends import Appends
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.reads import Reads
from broker.log.kafka.topics import (
    all_topics,
    check_policy,
    ensure_topic,
    is_marked,
    remove_mark,
    set_times,
)
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
        self._mark = f"{self._prefix}.{COPY_TOPIC}"
        # The topics of the copy that this log is being made as.
        self._copying: dict[str, TopicShape] = {}
        self._appends = Appends(brokers)
        self._reads = Reads(brokers)
        self._times = AppendTimes(f"kafka://{brokers.options.shown_hosts}")
        # The appends under way. aclose() waits for them, since each may be waiting for its acknowledgement.
        self._appending: set[asyncio.Task[int]] = set()

    @classmethod
    async def open(cls, options: KafkaOptions, *, may_be_unfinished: bool = False) -> Self:
        """Reach the cluster; raise LogUnavailable when no broker answers in time, or accepts us.

        A copy that is not finished is refused unless it ``may_be_unfinished``.
        """
        log = cls(await Brokers.open(options))
        try:
            if not may_be_unfinished and await log.is_unfinished():
                raise unfinished(f"kafka://{options.shown_hosts} with the prefix {options.prefix}")
        except BaseException:
            await log.aclose()
            raise
        return log

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
        return await self._append(place, messages, None)

    async def _append(
        self, place: Place, messages: Sequence[Message], times_ms: tuple[int, ...] | None
    ) -> int:
        stop = asyncio.Event()
        # A task of its own, which a cancellation of the caller does not touch: an append that was sent and is
        # then forgotten could stand without anybody's knowledge.
        task = asyncio.get_running_loop().create_task(
            self._appends.append(*place, messages, stop, times_ms), name=f"kafka append {place}"
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

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has: see :class:`Log`."""
        name, _ = self._place(Partition(topic, 0))
        await self._brokers.learn([name])
        return len(self._brokers.topic(name) or {})

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

    # Copies

    @property
    def keeps_gaps(self) -> bool:
        """A broker gives each message the next offset."""
        return False

    async def topics(self) -> Mapping[str, TopicShape]:
        """Return every topic of the log that this principal may see: see :class:`CopyableLog`."""
        self._brokers.check_open()
        return await all_topics(self._brokers, self._prefix)

    async def begins(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset of each partition's first message: see :class:`CopyableLog`."""
        places = {partition: self._place(partition) for partition in partitions}
        begins = await self._reads.begins(list(dict.fromkeys(places.values())))
        return {partition: begins[place] for partition, place in places.items()}

    async def is_unfinished(self) -> bool:
        """Tell whether this log is a copy that is not finished: see :class:`CopyableLog`."""
        self._brokers.check_open()
        return await is_marked(self._brokers, self._mark)

    async def begin_copy(self, topics: Mapping[str, TopicShape]) -> None:
        """Mark the log as an unfinished copy, and create topics: see :class:`CopyableLog`."""
        there = await self.topics()
        if not await self.is_unfinished():
            if there:
                raise UsageError(
                    f"the cluster has topics with the prefix {self._prefix}, and no unfinished copy",
                    hint="copy to another prefix: a copy creates its topics itself",
                )
            # The mark comes first: a copy that is killed in the next moment is seen as what it is.
            await ensure_topic(self._brokers, self._mark, 1, self._brokers.deadline(), compacted=False)
        for topic, shape in topics.items():
            name, _ = self._place(Partition(topic, 0))
            deadline = self._brokers.deadline(longer_s=shape.partitions * _MORE_FOR_A_PARTITION_S)
            await ensure_topic(
                self._brokers, name, shape.partitions, deadline, compacted=shape.compacted, copying=True
            )
            await self._reads.until_ready(name, shape.partitions, deadline)
            if topic in there:
                # A copy that was killed while it was finished has switched some topics back.
                await set_times(self._brokers, name, compacted=shape.compacted, copying=True)
        self._copying = dict(topics)

    async def put(self, partition: Partition, messages: Sequence[StoredMessage]) -> None:
        """Add messages of another log: see :class:`CopyableLog`."""
        place = self._place(partition)
        times = tuple(message.appended_at // 1000 for message in messages)
        first = await self._append(place, [Message(m.key, m.value) for m in messages], times)
        if first != messages[0].offset and not self._copying[partition.topic].compacted:
            raise LogUnavailable(
                f"partition {partition.number} of {place[0]} grew while it was copied to",
                hint="stop whatever writes to the copy, delete its topics, and begin again",
            )

    async def finish_copy(self) -> None:
        """Have the brokers tell the time, and take the mark away: see :class:`CopyableLog`."""
        for topic, shape in self._copying.items():
            name, _ = self._place(Partition(topic, 0))
            await set_times(self._brokers, name, compacted=shape.compacted, copying=False)
        await remove_mark(self._brokers, self._mark)

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
