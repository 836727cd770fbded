"""A broker that is away for longer than any time-out: followers wait, readers to an end get an error."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import kafka_jvm
from broker.errors import LogUnreachable
from broker.log import Log, Message, Partition, open_log
from support.cli_coalition import BORDER, CARE, CHANNEL, READING, CliCoalition, row
from support.kafka import Cluster, none_there
from support.process import Process, numbers

pytestmark = pytest.mark.kafka

RETURNS = Partition("returns", 0)
TIMEOUT_MS = 1_000
LIMIT_S = 120
WHY = ("--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One broker, which the tests kill."""
    if (obstacle := kafka_jvm.missing()) is not None:
        none_there(f"this test kills a broker of its own; {obstacle}")
    cluster = Cluster(tmp_path / "brokers", 1)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def until(check: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait until processes have done something."""
    deadline = time.monotonic() + LIMIT_S
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def events(process: Process) -> list[dict[str, Any]]:
    """The lines of a process's log."""
    lines = process.said.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def waits(process: Process) -> bool:
    """Tell whether a process has written that it waits for the log, or for a service that waits for it."""
    told = {line["event"] for line in events(process)}
    return bool(told & {"log is away, waiting for it", "key access retried"})


def says_that_it_is_back(process: Process) -> bool:
    """Tell whether a process has written that the log is back."""
    return any(line["event"] == "log is back" for line in events(process))


async def test_readers(cluster: Cluster) -> None:
    """A follower goes on where it was; a reader to an end gets an error within its time-out, each time."""
    heard: list[bytes | None] = []

    async def follow(log: Log, start: int) -> None:
        async for message in log.read(RETURNS, start, follow=True):
            heard.append(message.value)

    async with open_log(cluster.url(timeout_ms=TIMEOUT_MS)) as log:
        await log.ensure("returns", 1)
        await log.append(RETURNS, [Message(b"k", b"0")])
        with capture_logs() as lines:
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                following = [group.create_task(follow(log, 1)) for _ in range(3)]
                cluster.kill(0)
                for _ in range(4):
                    with pytest.raises(LogUnreachable):
                        assert [message async for message in log.read(RETURNS, 0)] == []
                following.append(group.create_task(follow(log, 1)))
                with pytest.raises(LogUnreachable):
                    await log.ends([RETURNS])
                assert heard == []
                following.pop(0).cancel()
                await asyncio.to_thread(cluster.restart, 0)
                async with open_log(cluster.url(prefix=log.prefix, timeout_ms=30_000)) as other:
                    await other.append(RETURNS, [Message(b"k", b"1")])
                while len(heard) < 3:  # noqa: ASYNC110 - the readers say nothing when they have heard
                    await asyncio.sleep(0.01)
                for task in following:
                    task.cancel()
    assert heard == [b"1"] * 3
    said = [line["event"] for line in lines if line["event"].startswith("log is")]
    assert said == ["log is away, waiting for it", "log is back"]


def test_feeds_a_service_and_a_replay(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``subscribe --follow`` and ``kas run`` wait, Ctrl-C ends a waiting feed, and a replay gets an error."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    place = CliCoalition.found(tmp_path / "coalition", cluster.url(timeout_ms=TIMEOUT_MS))
    place.publish([row(0), row(1)])
    feeds = {name: tmp_path / f"{name[:3]}.jsonl" for name in (BORDER, CARE)}
    running: list[Process] = []
    try:
        service = Process(place, "kas", "kas", "run")
        border, care = (
            Process(place, name, "subscribe", *WHY, "--follow", "--out", out) for name, out in feeds.items()
        )
        running += [service, border, care]
        until(lambda: "follows every channel" in service.said.read_text(), service.said.read_text)
        until(lambda: all(numbers(out) == [0, 1] for out in feeds.values()), lambda: feeds)
        cluster.kill(0)

        for process in running:
            until(lambda: waits(process), process.said.read_text)  # noqa: B023
        for _ in range(2):  # long enough for several time-outs of the others
            replay = Process(place, "auditor", "audit", "replay")
            running.append(replay)
            assert replay.ended() == 3
            assert "error: the log kafka://" in replay.said.read_text()
            assert "hint: " in replay.said.read_text()
        for process in running[:3]:
            assert process.is_running, process.said.read_text()
        # Ctrl-C while it waits leads to an orderly end, and the position is kept.
        assert care.stop() == 130
        assert "delivered 2 records" in care.said.read_text()

        cluster.restart(0)
        place.publish([row(2), row(3)])
        until(lambda: numbers(feeds[BORDER]) == [0, 1, 2, 3], border.said.read_text)
        for process in (service, border):
            # The line comes when the last reader has ended its pause, which may be after the records.
            until(lambda: says_that_it_is_back(process), process.said.read_text)  # noqa: B023
            assert process.is_running, process.said.read_text()
            assert process.stop() == 130
        rest = place.run(CARE, "subscribe", *WHY, "--out", feeds[CARE])
        assert rest.code == 0, rest.err
        assert "delivered 2 records" in rest.err
        assert numbers(feeds[CARE]) == [0, 1, 2, 3]
    finally:
        for process in running:
            process.kill()
    told = place.run("auditor", "audit", "replay", "--json")
    assert told.code == 0, told.err
    assert told.json["records"] == 4
