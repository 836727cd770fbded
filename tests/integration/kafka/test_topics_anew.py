"""Topics that the operator of the brokers deletes, and makes anew, under a coalition on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from broker.log import open_log, physical
from broker.services.kas import channel_service
from broker.session.profile import Profile
from support.cli_coalition import POLICE, CliCoalition
from support.kafka import Kafka
from support.process import Process
from support.sessions import Sessions

pytestmark = pytest.mark.kafka


@pytest.fixture
def people(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """A coalition with a prefix of its own, whose service looks again at once."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    monkeypatch.setattr(channel_service, "LOOK_AGAIN_S", (0.0,))
    url = kafka.url(replication=1, min_insync=1, timeout_ms=5000)
    return Sessions(CliCoalition.found(tmp_path / "coalition", url))


async def _operate(people: Sessions, topic: str, partitions: int | None, **settings: str) -> None:
    async with open_log(Profile.load(people.place.profile(POLICE)).log) as log:
        name = physical(log, topic)
        address = Profile.load(people.place.profile(POLICE)).log.removeprefix("kafka://").partition("?")[0]
    admin = AIOKafkaAdminClient(bootstrap_servers=address.rstrip("/"))
    await admin.start()
    try:
        await admin.delete_topics([name])
        async with asyncio.timeout(30):
            while name in await admin.list_topics():  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.1)
        if partitions is not None:
            await asyncio.sleep(1)  # the broker deletes the old files behind its answer
            new = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=settings)
            await admin.create_topics([new])
    finally:
        await admin.close()


def delete(people: Sessions, topic: str) -> None:
    """The operator deletes a topic."""
    asyncio.run(_operate(people, topic, None))


def make_anew(people: Sessions, topic: str, partitions: int = 2, **settings: str) -> None:
    """The operator deletes a topic and makes it anew."""
    asyncio.run(_operate(people, topic, partitions, **settings))


def until(is_done: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("records", [0, 1, 2, 3])
def test_records_made_anew(people: Sessions, records: int) -> None:
    """K01, K12: Everybody is told, and what is new is delivered, however much it is."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    make_anew(people, "returns")
    new = list(range(2, 2 + records))
    if new:
        people.publish(*new, waits=False)
    told = people.subscribe()
    assert "violation: log-forked at returns/0@0 (3 in a row)" in told.err
    assert people.replay()[0] == 1
    assert people.serve().code == 1
    assert people.acknowledge().code == 0
    people.subscribe()
    people.publish(8, 9)
    assert people.subscribe().code == 0
    assert people.delivered == [0, 1, *new, 8, 9]


def test_records_made_anew_under_a_feed_and_a_service(people: Sessions) -> None:
    """The feed ends by name, the service stops the channel; at the next start everything new is delivered."""
    people.publish(0, 1)
    feed, service = people.follow(), Process(people.place, "kas", "kas", "run")
    try:
        until(lambda: people.delivered == [0, 1] and b"follows every channel" in service.said.read_bytes())
        make_anew(people, "returns")
        assert feed.ended() == 3
        said = feed.said.read_text()
        assert "the cluster has no topic" in said or "up to where it was read" in said, said
        # The line behind the alarm: what is lost stands in a LATE entry by then.
        until(lambda: b"releasing is stopped on channel" in service.said.read_bytes())
    finally:
        feed.kill()
        service.kill()
    people.publish(2, waits=False)
    assert people.acknowledge().code == 0
    assert people.serve().code == 0
    told = people.subscribe()
    assert told.code == 1
    assert "violation: log-forked at returns/0@0" in told.err
    assert people.delivered == [0, 1, 2]


def test_keys_made_anew(people: Sessions) -> None:
    """K11: The service names what it has lost, and the reader is told by whom it is mended."""
    people.publish(0, 1)
    make_anew(people, "keys", 1, **{"cleanup.policy": "compact"})
    people.publish(2, 3)
    served = people.serve()
    assert '"event": "shares are gone"' in served.err, served.err
    told = people.subscribe()
    assert told.err.count(": NOT_HELD") == 2, told.err
    assert people.delivered == [2, 3]


def test_the_directory_is_gone_and_made_anew(people: Sessions) -> None:
    """Every participant that starts on it says so by name."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    delete(people, "directory")
    for told in (people.serve(), people.subscribe(), people.try_to_publish(2, waits=False)):
        assert (told.code, "directory" in told.err) == (3, True), told.err
    asyncio.run(_create(people, "directory", 1))
    for told in (people.serve(), people.subscribe(), people.try_to_publish(3, waits=False)):
        assert told.code == 1, told.err
        assert "messages of it were seen before" in told.err
    assert people.place.run("auditor", "audit", "replay").code == 1


async def _create(people: Sessions, topic: str, partitions: int) -> None:
    async with open_log(Profile.load(people.place.profile(POLICE)).log) as log:
        await log.ensure(topic, partitions)
