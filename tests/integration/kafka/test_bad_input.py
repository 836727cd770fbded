"""Faults of a cluster: each gets an error in time, with a hint, and the process goes on."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import kafka_jvm
from broker.errors import LogUnavailable, OutcomeUnknown
from broker.log import Message, Partition, open_log
from broker.participant.settle import append_settled
from broker.session.profile import Profile
from broker.subscribe.subscriber import Delivered
from support.certificates import Authority
from support.cli_coalition import CHANNEL, POLICE, READING, CliCoalition, row
from support.coalition import POLICE_A
from support.command_line import Transcript, ftf_broker
from support.deliveries import only
from support.kafka import Cluster, Kafka, free_ports, new_prefix
from support.world import PAIR, World, found

pytestmark = pytest.mark.kafka

WHY = ("--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING)
TIMEOUT_MS = 1_500
LIMIT_S = 25
"""Below the 30 seconds of a URL without a time-out, and far above what a slow machine takes for 1.5."""


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")


@pytest.fixture(scope="module")
def place(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> CliCoalition:
    """A coalition on the broker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTF_PASSPHRASE", "an exercise")
        return CliCoalition.found(tmp_path_factory.mktemp("bad") / "coalition", kafka.url())


def elsewhere(place: CliCoalition, name: str, url: str) -> Path:
    """A participant's profile with another log URL."""
    profile = Profile.load(place.profile(name))
    other = profile.path.with_name("elsewhere.toml")
    other.unlink(missing_ok=True)
    replace(profile, path=other, log=url).save()
    return other


def commands(place: CliCoalition) -> list[tuple[str, Sequence[str]]]:
    """Commands of participants that use the log."""
    file = place.lines([row(0)], "one.jsonl")
    return [
        (POLICE, ("publish", "--channel", CHANNEL, "--type", "ReturnEvent", str(file))),
        (POLICE, ("subscribe", *WHY, "--json")),
        ("kas", ("kas", "run", "--once")),
        ("auditor", ("audit", "replay", "--json")),
    ]


def refusals(place: CliCoalition, url: str) -> Iterator[tuple[str, Transcript]]:
    """Run each command against a log; it ends in time, with an error, a hint, and nothing on stdout."""
    for name, arguments in commands(place):
        started = time.monotonic()
        told = ftf_broker("--profile", str(elsewhere(place, name, url)), *arguments)
        assert time.monotonic() - started < LIMIT_S, (arguments, told)
        assert told.code in (2, 3), (arguments, told)
        assert "internal error" not in told.err
        assert "error: " in told.err
        assert "hint: " in told.err
        yield arguments[0], told


def test_a_cluster_that_cannot_be_reached(place: CliCoalition) -> None:
    """When nothing listens at an address, every command names it and ends within the time-out."""
    [port] = free_ports(1)
    for command, told in refusals(place, f"kafka://127.0.0.1:{port}?timeout_ms={TIMEOUT_MS}"):
        assert told.code == 3, command
        assert f"kafka://127.0.0.1:{port} cannot be reached" in told.err


def test_a_broker_that_speaks_no_tls(place: CliCoalition, kafka: Kafka, tmp_path: Path) -> None:
    """When a broker speaks no TLS, the error says so, and its hint what to do."""
    Authority.make(tmp_path / "ca.pem")
    url = f"kafka://{kafka.address}?ca={tmp_path / 'ca.pem'}&timeout_ms={TIMEOUT_MS}"
    for command, told in refusals(place, url):
        assert told.code == 3, command
        assert kafka.address in told.err
        assert "this port may not have TLS" in told.err
        assert "leave ca out" in told.err


def test_a_log_that_is_not_the_coalitions(place: CliCoalition, kafka: Kafka) -> None:
    """With a prefix under which there are no topics, each command names a missing topic."""
    prefix = new_prefix()
    url = f"kafka://{kafka.address}?prefix={prefix}&timeout_ms={TIMEOUT_MS}"
    for command, told in refusals(place, url):
        assert f"{prefix}.directory" in told.err, (command, told)
    told = ftf_broker("--profile", str(elsewhere(place, "auditor", url)), "log", "check")
    assert told.code == 1
    assert f"topic {prefix}.directory does not exist" in told.out


def test_after_all_of_it_the_right_log_goes_on(place: CliCoalition) -> None:
    """After these failures the same profiles publish, read and verify on the right log."""
    place.publish([row(1)])
    read = place.run(POLICE, "subscribe", *WHY, "--json")
    assert read.code == 0, read.err
    assert len(read.out.splitlines()) == 1
    assert place.run("auditor", "audit", "replay", "--json").json["verified"] is True


def test_more_replicas_than_brokers(kafka: Kafka, tmp_path: Path) -> None:
    """Founding with more replicas than there are brokers creates nothing, and says what to do."""
    url = f"kafka://{kafka.address}?prefix={new_prefix()}&replication=3&min_insync=2"
    keys = ("--keys", "1", "--threshold", "1")
    told = ftf_broker("init", "Exercise", str(tmp_path / "authority"), "--log", url, *keys)
    assert told.code == 3
    assert "too few brokers" in told.err
    assert "replication=1" in told.err


async def test_a_topic_with_too_few_partitions(kafka: Kafka, tmp_path: Path) -> None:
    """A publisher names the partition that a channel lacks, and goes on once it is there."""
    url = kafka.url(timeout_ms=4000)
    async with open_log(url) as log:
        await found(log, partitions=1)
    async with World.open(tmp_path, url) as world:
        async with world.publisher(POLICE_A) as publisher:
            first = await publisher.publish(PAIR, world.record(1))
            with pytest.raises(LogUnavailable, match="has 1 partitions, and no partition 1") as caught:
                await publisher.flush()
            assert "grown" in (caught.value.hint or "")
            with pytest.raises(LogUnavailable):
                await first
            for topic in ("returns", "access", "relocation", "rehabilitation", "emergence", "justice"):
                await world.log.ensure(topic, 4)
            second = await publisher.publish(PAIR, world.record(2))
            await publisher.flush()
            assert (await second).offset == 0
        assert len(only(await world.read(channel=PAIR), Delivered)) == 1


async def test_a_full_disk(tmp_path: Path) -> None:
    """A broker with a full disk ends; the records that it acknowledged are there when it has room again."""
    if (obstacle := kafka_jvm.missing()) is not None:
        pytest.skip(f"this test fills a broker of its own: {obstacle}")
    cluster, partition = Cluster(tmp_path / "brokers", 1), Partition("returns", 0)
    try:
        await asyncio.to_thread(cluster.start)
        async with open_log(cluster.url(timeout_ms=4000)) as log:
            await log.ensure("returns", 1)
            batches = [[Message(b"%d" % i, bytes([i]) * 300_000)] for i in range(4)]
            assert [await log.append(partition, batch) for batch in batches[:2]] == [0, 1]
            pid = int((cluster.nodes[0].folder / "pid").read_text())
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY))
            with pytest.raises((LogUnavailable, OutcomeUnknown)) as caught:
                async with asyncio.timeout(10):
                    await log.append(partition, batches[2])
            assert caught.value.hint
            cluster.kill(0)
            await asyncio.to_thread(cluster.restart, 0)
            await append_settled(log, partition, batches[2], start=2, attempts=20)
            await append_settled(log, partition, batches[3])
            stored = [message async for message in log.read(partition, 0)]
    finally:
        cluster.close()
    assert [(m.offset, m.key) for m in stored] == [(i, b"%d" % i) for i in range(4)]
