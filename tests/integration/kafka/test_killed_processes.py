"""Publishers, subscribers and key access services that are killed at each step of their work."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.coalition import BORDER, KAS, POLICE_A, POLICE_B
from support.crew import Crew, Worker
from support.kafka import Kafka
from support.worker import STEPS
from support.world import World

THOROUGH = os.environ.get("FTF_THOROUGH") == "1"
LIMIT_S = 120
Step = tuple[str, int, bool]

PLACES = (False, True)
PUBLISHER: list[Step] = [
    (step, after, behind)
    for step in ("append returns", "note acknowledged")
    for behind in PLACES
    for after in (1, 2)
]
READING = ("next window", "ask", "add receipt", "sync receipts", "save state", "rename state")
RELEASING = ("append access", "write entry", "journal", "read own entry", "release", "seal answer")
SUBSCRIBER: list[Step] = [(step, 2, behind) for step in (*READING, *RELEASING) for behind in PLACES]
TAKING_OVER = ("append keys", "hold secrets", "append access", "write entry", "journal", "read own entry")
SERVICE: list[Step] = [(step, 1, behind) for step in TAKING_OVER for behind in PLACES]


# tests/publish/test_crash.py tests the same with the SQLite log in one process.
LOGS = [pytest.param("kafka", marks=pytest.mark.kafka), *(["sqlite"] if THOROUGH else [])]


@pytest.fixture(params=LOGS)
async def crew(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Crew]:
    """A coalition on a new log of each kind."""
    if request.param == "kafka":
        broker: Kafka = request.getfixturevalue("kafka")
        crew = await Crew.found(tmp_path, broker.url(timeout_ms=6000))
    else:
        crew = await Crew.found(tmp_path, f"sqlite:{tmp_path / 'log.db'}")
    yield crew
    await crew.aclose()


async def dies(worker: Worker, step: Step) -> None:
    """Run a worker that kills itself at a step, and check that it came to it."""
    name, after, behind = step
    job, worker.job = worker.job, replace(worker.job, crash=name, after=after, behind=behind)
    await worker.start()
    code = await worker.ended()
    assert code == -signal.SIGKILL, f"{step}: exit {code}: {worker.log.read_text()}"
    worker.job, worker.process = job, None


async def test_a_publisher_killed_at_each_step(crew: Crew) -> None:
    """Every batch that a killed publisher knows to stand is there once, and the next publisher goes on."""
    publisher = crew.worker("publish", POLICE_A, count=200, batch=3)
    async with asyncio.timeout(LIMIT_S):
        for step in PUBLISHER:
            await dies(publisher, step)
        publisher.job = replace(publisher.job, count=40)
        await publisher.keep()
        subscriber = crew.worker("subscribe", POLICE_B, once=True)
        await subscriber.keep()
    assert {line["number"] for line in publisher.lines if "number" in line} == set(range(40))
    await crew.check([publisher], [subscriber])


async def test_a_subscriber_killed_at_each_step(crew: Crew) -> None:
    """After a subscriber was killed at any step, every record is in its file once, in order."""
    publisher = crew.worker("publish", POLICE_A, batch=2, count=36 * len(SUBSCRIBER))  # two windows each
    subscriber = crew.worker("subscribe", POLICE_B, commit=3)
    async with asyncio.timeout(LIMIT_S):
        await publisher.keep()
        for step in SUBSCRIBER:
            await dies(subscriber, step)
        subscriber.job = replace(subscriber.job, once=True)
        await subscriber.keep()
    await crew.check([publisher], [subscriber])


async def test_a_service_killed_at_each_step(crew: Crew) -> None:
    """After a service was killed at any step of a takeover, the next goes on and all can be read."""
    service = crew.worker("serve", KAS)
    published = 0
    async with asyncio.timeout(LIMIT_S):
        async with World.open(crew.folder, crew.url) as world:
            for step in SERVICE:
                await world.publish(4, first=published, name=BORDER, max_records=2)
                published += 4
                await dies(service, step)
        subscriber = crew.worker("subscribe", POLICE_B, once=True)
        await subscriber.keep()
    assert [line["number"] for line in subscriber.lines] == list(range(published))
    await crew.check([], [subscriber])


def test_the_table_names_every_step() -> None:
    """Each step at which a worker can end is in the table of one of the three."""
    named = {name for name, _, _ in (*PUBLISHER, *SUBSCRIBER, *SERVICE)}
    assert named - {"append returns", "append access", "append keys"} == STEPS.keys()
