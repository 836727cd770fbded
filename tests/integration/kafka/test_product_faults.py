"""Publishers, subscribers and services at work while brokers are killed, freeze and come back."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.log import open_log, physical
from broker.services.kas.journal import Journal
from support.coalition import BORDER, CARE, KAS, POLICE_A, POLICE_B
from support.crew import Crew
from support.kafka import Cluster

pytestmark = pytest.mark.kafka

THOROUGH = os.environ.get("FTF_THOROUGH") == "1"
TIMEOUT_MS = 6_000
STEP = 60  # records of each publisher before and after a fault


@pytest.fixture
def cluster(three_brokers: Cluster) -> Iterator[Cluster]:
    """Three brokers, all of which run before and after a test."""
    yield three_brokers
    three_brokers.heal()


@pytest.fixture
async def crew(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Crew]:
    """A coalition on a new log of the cluster: three replicas, two of them in sync."""
    crew = await Crew.found(tmp_path, cluster.url(timeout_ms=TIMEOUT_MS))
    yield crew
    await crew.aclose()


async def until(check: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    try:
        async with asyncio.timeout(90):
            while not check():  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(what) from None


async def leader(cluster: Cluster, crew: Crew, topic: str) -> int:
    """Return the broker that leads channel 0's partition of a topic."""
    async with open_log(crew.url or "") as log:
        return await cluster.leader(physical(log, topic), 0)


Fault = Callable[[Cluster, Crew], Awaitable[None]]


async def leader_of_records_killed(cluster: Cluster, crew: Crew) -> None:
    """Kill the leader of the partition that is written, and start it again."""
    number = await leader(cluster, crew, "returns")
    cluster.kill(number)
    await asyncio.to_thread(cluster.restart, number)
    await asyncio.to_thread(cluster.wait_joined)


async def leader_of_records_stands_still(cluster: Cluster, crew: Crew) -> None:
    """Freeze the leader for longer than its session lasts, and let it go on when another leads."""
    await _stands_still(cluster, crew, "returns")


async def leader_of_accesses_stands_still(cluster: Cluster, crew: Crew) -> None:
    """Freeze the leader of the access log, which every replica of the service writes and reads."""
    await _stands_still(cluster, crew, "access")


async def _stands_still(cluster: Cluster, crew: Crew, topic: str) -> None:
    frozen = await leader(cluster, crew, topic)
    cluster.freeze(frozen)
    async with open_log(crew.url or "") as log:
        name = physical(log, topic)
    await cluster.until(lambda _, leaders: leaders.get((name, 0), -1) not in (-1, frozen))
    cluster.thaw(frozen)
    await asyncio.to_thread(cluster.wait_joined)


async def disk_of_leader_full(cluster: Cluster, crew: Crew) -> None:
    """Keep the leader's file of the partition from growing: the leader gives up, and others go on."""
    number = await leader(cluster, crew, "returns")
    async with open_log(crew.url or "") as log:
        name = physical(log, "returns")
    node = cluster.nodes[number]
    written = (node.folder / "data" / f"{name}-0" / f"{0:020}.log").stat().st_size
    pid = int((node.folder / "pid").read_text())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (written + 20_000, resource.RLIM_INFINITY))
    await until(lambda: not node.running, "a broker with a full disk goes on")
    await asyncio.to_thread(cluster.restart, number)
    await asyncio.to_thread(cluster.wait_joined)


async def two_of_three_killed(cluster: Cluster, crew: Crew) -> None:
    """Leave one broker, which may acknowledge nothing, for longer than a call may take."""
    left = await leader(cluster, crew, "returns")
    for number in cluster.nodes:
        if number != left:
            cluster.kill(number)
    await cluster.until(lambda brokers, _: brokers == {left})
    await asyncio.sleep(TIMEOUT_MS / 1000 * 1.5)
    await asyncio.to_thread(cluster.heal)


FAULTS: list[Fault] = [
    leader_of_records_killed, leader_of_records_stands_still, leader_of_accesses_stands_still,
    disk_of_leader_full, two_of_three_killed,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4 if THOROUGH else 1))
async def test_the_whole_coalition_goes_on(cluster: Cluster, crew: Crew, seed: int) -> None:
    """Brokers fail in every way, one after the other: no acknowledged record is lost or comes twice.

    A process that ends does so with an error of ours, and goes on where it was when it is started again.
    """
    publishers = [
        crew.worker("publish", name, first=first, count=1_000_000, batch=5 + seed, pause_s=0.1)
        for first, name in ((0, POLICE_A), (10_000_000, BORDER))
    ]
    subscribers = [crew.worker("subscribe", name, commit=7) for name in (POLICE_B, CARE)]
    service = crew.worker("serve", KAS)

    def everybody_has(count: int) -> bool:
        return all(publisher.done >= count for publisher in publishers) and all(
            subscriber.done >= 2 * count for subscriber in subscribers
        )

    async with asyncio.TaskGroup() as group:
        keeping = [group.create_task(worker.keep()) for worker in (*publishers, *subscribers, service)]
        goal = STEP
        await until(lambda: everybody_has(goal), "nobody works")
        for fault in FAULTS:
            await fault(cluster, crew)
            goal = max(publisher.done for publisher in publishers) + STEP
            await until(lambda: everybody_has(goal), f"after {fault.__name__}: {crew.status()}")  # noqa: B023
        for task in keeping[:2]:
            task.cancel()
        for publisher in publishers:
            await publisher.stop()
        goal = sum(publisher.done for publisher in publishers)
        at_end = f"at the end: {crew.status()}"
        await until(lambda: all(subscriber.done >= goal for subscriber in subscribers), at_end)
        for task in keeping[2:]:
            task.cancel()
        for worker in (*subscribers, service):
            await worker.stop()
    for subscriber in subscribers:
        subscriber.job = replace(subscriber.job, once=True)
        await subscriber.keep()
    for publisher in publishers:
        publisher.job = replace(publisher.job, count=10_000_000)
    with Journal(crew.folder / "journal.db") as journal:
        assert journal.alarms() == []
    await crew.check(publishers, subscribers)
