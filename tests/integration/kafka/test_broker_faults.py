"""Three brokers, some killed or frozen: no acknowledged batch is lost, doubled or torn."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from broker.errors import LogUnavailable, OutcomeUnknown
from broker.log import Log, Message, Partition, StoredMessage, open_log, physical
from broker.participant.settle import append_settled
from support.kafka import Cluster, new_prefix

pytestmark = pytest.mark.kafka

THOROUGH = os.environ.get("FTF_THOROUGH") == "1"
TIMEOUT_MS = 6_000
PARTITIONS = 3
BEFORE = 20  # batches that are acknowledged before a fault
AFTER = 40  # batches that are acknowledged in all


@pytest.fixture
def cluster(three_brokers: Cluster) -> Iterator[Cluster]:
    """Three brokers, all of which run before and after a test."""
    yield three_brokers
    three_brokers.heal()


@pytest.fixture
async def connect(cluster: Cluster) -> AsyncIterator[Callable[[], Awaitable[Log]]]:
    """Return a function that connects to the cluster anew, under a prefix of the test."""
    url = cluster.url(prefix=new_prefix(), timeout_ms=TIMEOUT_MS)
    async with AsyncExitStack() as stack:

        async def connect() -> Log:
            return await stack.enter_async_context(open_log(url))

        yield connect


@dataclass
class Writers:
    """Writers that append batches to each partition, one after another, until they are stopped."""

    log: Log
    random: random.Random
    acknowledged: dict[Partition, list[tuple[int, int, int]]] = field(default_factory=dict)
    tries: int = 0
    enough: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, partition: Partition) -> None:
        """Append numbered batches, and note the offset, the number and the size of each."""
        done = self.acknowledged.setdefault(partition, [])
        while not self.enough:
            number, size = len(done), self.random.randint(1, 9)
            batch = [Message(b"%d" % number, b"%d of %d" % (i, size)) for i in range(size)]
            offset = await append_settled(self.log, partition, batch, attempts=20)
            done.append((offset, number, size))
            async with self.changed:
                self.changed.notify_all()

    async def until(self, count: int) -> None:
        """Wait until each partition has so many batches more than now."""
        goal = {partition: len(done) + count for partition, done in self.acknowledged.items()}
        async with self.changed:
            await self.changed.wait_for(
                lambda: all(len(self.acknowledged[partition]) >= least for partition, least in goal.items())
            )

    def check(self, partition: Partition, stored: list[StoredMessage]) -> None:
        """Check that a partition holds the acknowledged batches, in order, each once."""
        expected = [
            (offset + i, b"%d" % number, b"%d of %d" % (i, size))
            for offset, number, size in self.acknowledged[partition]
            for i in range(size)
        ]
        assert [(m.offset, m.key, m.value) for m in stored] == expected
        assert [m.offset for m in stored] == list(range(len(stored)))


async def run(
    connect: Callable[[], Awaitable[Log]],
    fault: Callable[[Log], Awaitable[None]],
    *,
    seed: int,
    meanwhile: Callable[[Log], Awaitable[None]] | None = None,
) -> None:
    """Write and follow, let the fault happen, write on, and compare every partition with the answers."""
    log, other = await connect(), await connect()
    await log.ensure("returns", PARTITIONS)
    partitions = [Partition("returns", number) for number in range(PARTITIONS)]
    writers = Writers(log, random.Random(seed))
    followed: dict[Partition, list[StoredMessage]] = {partition: [] for partition in partitions}

    async def follow(partition: Partition) -> None:
        async for message in other.read(partition, 0, follow=True):
            followed[partition].append(message)
            async with writers.changed:
                writers.changed.notify_all()

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        following = [group.create_task(follow(partition)) for partition in partitions]
        writing = [group.create_task(writers.write(partition)) for partition in partitions]
        await asyncio.sleep(0)
        await writers.until(BEFORE)
        await fault(log)
        if meanwhile is not None:
            await meanwhile(log)
        await writers.until(AFTER)
        writers.enough = True
        await asyncio.wait(writing)
        ends = await log.ends(partitions)
        async with writers.changed:
            await writers.changed.wait_for(
                lambda: all(len(followed[partition]) >= ends[partition] for partition in partitions)
            )
        for task in following:
            task.cancel()
    fresh = await connect()
    for partition in partitions:
        writers.check(partition, [message async for message in fresh.read(partition, 0)])
        writers.check(partition, followed[partition])


async def leader_of_first(cluster: Cluster, log: Log) -> int:
    """Return the broker that leads partition 0."""
    return await cluster.leader(physical(log, "returns"), 0)


@pytest.mark.parametrize("seed", range(6 if THOROUGH else 1))
async def test_the_leader_is_killed(
    cluster: Cluster, connect: Callable[[], Awaitable[Log]], seed: int
) -> None:
    """When the leader of a partition is killed during appends, nothing is lost or doubled."""

    async def fault(log: Log) -> None:
        cluster.kill(await leader_of_first(cluster, log))

    await run(connect, fault, seed=seed)


@pytest.mark.parametrize("seed", range(6 if THOROUGH else 1))
async def test_the_leader_stands_still(
    cluster: Cluster, connect: Callable[[], Awaitable[Log]], seed: int
) -> None:
    """A leader that is frozen for longer than its session adds nothing of what it had received before."""
    frozen: list[int] = []

    async def fault(log: Log) -> None:
        frozen.append(await leader_of_first(cluster, log))
        cluster.freeze(frozen[0])

    async def meanwhile(log: Log) -> None:
        # Another broker leads, so the session of the frozen one is over.
        topic = physical(log, "returns")
        await cluster.until(lambda _, leaders: leaders.get((topic, 0), -1) not in (-1, frozen[0]))
        cluster.thaw(frozen[0])

    await run(connect, fault, seed=seed, meanwhile=meanwhile)


@pytest.mark.parametrize("seed", range(6 if THOROUGH else 1))
async def test_a_broker_is_killed_and_started_again(
    cluster: Cluster, connect: Callable[[], Awaitable[Log]], seed: int
) -> None:
    """Each broker in turn dies and comes back while batches are appended."""

    async def fault(log: Log) -> None:
        for number in sorted(cluster.nodes) if THOROUGH else [await leader_of_first(cluster, log)]:
            cluster.kill(number)
            await asyncio.to_thread(cluster.restart, number)
            await asyncio.to_thread(cluster.wait_joined)

    await run(connect, fault, seed=seed)


async def test_two_of_three_are_down(cluster: Cluster, connect: Callable[[], Awaitable[Log]]) -> None:
    """With one broker left no append is acknowledged or half done; with two again everything goes on."""
    log = await connect()
    await log.ensure("returns", 1)
    partition = Partition("returns", 0)
    batches = [[Message(b"%d" % number, b"%d" % i) for i in range(5)] for number in range(4)]
    assert await log.append(partition, batches[0]) == 0
    leader = await leader_of_first(cluster, log)
    for number in cluster.nodes:
        if number != leader:
            cluster.kill(number)
    with pytest.raises((LogUnavailable, OutcomeUnknown)) as caught:
        await log.append(partition, batches[1])
    assert caught.value.hint
    # By now the cluster misses the two, so that min.insync.replicas refuses an append before it is written.
    topic = physical(log, "returns")
    await cluster.until(lambda brokers, _: brokers == {leader})
    async with asyncio.timeout(30):
        said = ""
        while "in sync" not in said:
            with pytest.raises((LogUnavailable, OutcomeUnknown)) as refused:
                await log.append(partition, batches[1])
            said = refused.value.message
    assert topic in said
    stored = [message async for message in (await connect()).read(partition, 0)]
    assert len(stored) % 5 == 0
    await asyncio.to_thread(cluster.heal)
    await append_settled(log, partition, batches[1], start=5)
    await append_settled(log, partition, batches[2])
    stored = [message async for message in log.read(partition, 0)]
    assert [(m.offset, m.key, m.value) for m in stored] == [
        (number * 5 + i, b"%d" % number, b"%d" % i) for number in range(3) for i in range(5)
    ]


async def test_all_brokers_are_down(cluster: Cluster, connect: Callable[[], Awaitable[Log]]) -> None:
    """With no broker left every call ends in time and a follower waits; later the same log goes on."""
    log = await connect()
    await log.ensure("returns", 1)
    partition = Partition("returns", 0)
    await log.append(partition, [Message(b"0", b"0")])
    for number in cluster.nodes:
        cluster.kill(number)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: log.append(partition, [Message(b"1", b"1")]),
        lambda: log.ends([partition]),
        lambda: anext(log.read(partition, 0)),
        lambda: log.ensure("justice", 1),
    ]
    following = asyncio.ensure_future(anext(log.read(partition, 1, follow=True)))
    async with asyncio.timeout(25):  # below the 30 seconds of a URL without a time-out
        ended = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    for error in ended:
        assert isinstance(error, LogUnavailable | OutcomeUnknown)
        assert error.hint
    assert not following.done()
    await asyncio.to_thread(cluster.heal)
    await append_settled(log, partition, [Message(b"1", b"1")], start=1)
    assert (await following).key == b"1"
    assert [message.key async for message in log.read(partition, 0)] == [b"0", b"1"]
