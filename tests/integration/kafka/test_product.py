"""The product on a real Kafka: the demo, its replay, and what others may append to its topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.log import Message, Partition, StoredMessage, open_log, physical
from broker.session.profile import Profile
from support.cli_coalition import BORDER, CARE, CHANNEL, POLICE, READING, CliCoalition, row
from support.command_line import Transcript, ftf_broker
from support.kafka import Kafka
from support.process import Process, numbers

pytestmark = pytest.mark.kafka

RETURNS = Partition("returns", 0)
ROWS = 1500  # of each of two publishers


def replayed(profile: Path) -> Transcript:
    """Replay as the auditor of this profile."""
    return ftf_broker("audit", "replay", "--json", "--profile", str(profile))


@pytest.fixture(scope="module")
def demos(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two demos say that were played one after the other on one broker."""
    said = []
    for number in range(2):
        folder = tmp_path_factory.mktemp("demos") / str(number)
        told = ftf_broker("demo", "--log", f"kafka://{kafka.address}", "--dir", str(folder), "--json")
        assert told.code == 0, told.err
        said.append(told.json)
    return said


def test_the_demo_twice_on_one_broker(demos: list[dict[str, Any]]) -> None:
    """Each demo takes a prefix of its own, writes it into the profiles, and is verified."""
    for said in demos:
        assert said["verified"] is True
        assert said["violations"] == 0
        assert said["published"]
        assert said["delivered"]
        assert Profile.load(Path(said["profiles"]["auditor"])).log == said["log"]
    assert demos[0]["log"] != demos[1]["log"]


def test_a_demo_on_kafka_is_replayed(demos: list[dict[str, Any]]) -> None:
    """``audit replay`` with the auditor's profile verifies what the demo left on the brokers."""
    told = replayed(Path(demos[0]["profiles"]["auditor"]))
    assert told.code == 0, told.err
    assert told.json["verified"] is True
    assert told.json["records"] == demos[0]["published"]
    assert told.json["access_entries"] == demos[0]["access_entries"]


Made = Callable[[Sequence[StoredMessage]], list[Message]]


def copied(stored: Sequence[StoredMessage]) -> list[Message]:
    """The log's first batch once more."""
    manifest = stored[0].key
    assert manifest is not None
    return [
        Message(one.key, one.value)
        for one in stored[:257]
        if one.key is not None and one.key.startswith(manifest)
    ]


def half_a_batch(stored: Sequence[StoredMessage]) -> list[Message]:
    """The manifest of the first batch without its bodies."""
    return copied(stored)[:1]


def garbage(_: Sequence[StoredMessage]) -> list[Message]:
    """Bytes that are nothing."""
    return [Message(b"key", b"garbage")] * 3


def nothing(_: Sequence[StoredMessage]) -> list[Message]:
    """Neither key nor value, as Kafka allows on a topic that is not compacted."""
    return [Message(None, None)]


@pytest.mark.parametrize(
    ("topic", "made", "kind"),
    [
        ("justice", copied, "unaccounted"),
        ("returns", half_a_batch, "manifest-copied"),
        ("relocation", garbage, "unaccounted"),
        ("emergence", nothing, "unaccounted"),
    ],
)
async def test_what_a_member_appends_is_found_and_named(
    demos: list[dict[str, Any]], topic: str, made: Made, kind: str
) -> None:
    """Whatever a member may append by Kafka's rules, the replay names its place."""
    profile = Profile.load(Path(demos[1]["profiles"]["XAA:police"]))
    async with open_log(profile.log) as log:
        stored = [one async for one in log.read(RETURNS, 0)]
        offset = await log.append(Partition(topic, 0), made(stored))
        shown = physical(log, topic)
    told = await asyncio.to_thread(replayed, Path(demos[1]["profiles"]["auditor"]))
    assert told.code == 1, told.err
    found = {(one["topic"], one["offset"]): one["kind"] for one in told.json["violations"]}
    assert found[shown, offset] == kind


async def test_a_copy_of_a_streams_newest_batch_counts_once(demos: list[dict[str, Any]]) -> None:
    """What a network or a member repeats changes nothing: it is verified, and counted once."""
    auditor = Path(demos[0]["profiles"]["auditor"])
    before = await asyncio.to_thread(replayed, auditor)
    async with open_log(Profile.load(auditor).log) as log:
        stored = [one async for one in log.read(RETURNS, 0)]
        await log.append(RETURNS, copied(stored))
    told = await asyncio.to_thread(replayed, auditor)
    assert told.code == 0, told.out
    assert told.json["records"] == before.json["records"]


# Processes of the command line, side by side


def test_publishers_subscribers_and_a_service_side_by_side(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two publishers, three subscribers and a service in processes of their own: all of it once, in order."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    place = CliCoalition.found(tmp_path / "coalition", kafka.url())
    why = ("--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING)
    readers = {name: tmp_path / f"{name[:3]}.jsonl" for name in (POLICE, BORDER, CARE)}
    running: list[Process] = []
    try:
        running.append(Process(place, "kas", "kas", "run"))
        running += [
            Process(place, name, "subscribe", *why, "--follow", "--out", out) for name, out in readers.items()
        ]
        publishing = []
        for first, name in ((0, POLICE), (ROWS, BORDER)):
            file = place.lines([row(first + i) for i in range(ROWS)], f"rows-{first}.jsonl")
            publish = ("publish", "--channel", CHANNEL, "--type", "ReturnEvent", file)
            publishing.append(Process(place, name, *publish))
        running += publishing
        for process in publishing:
            assert process.ended() == 0, process.said.read_text()
        deadline = time.monotonic() + 120
        while any(len(numbers(out)) < 2 * ROWS for out in readers.values()):
            assert time.monotonic() < deadline, [len(numbers(out)) for out in readers.values()]
            time.sleep(0.2)
        for process in running[:4]:
            assert process.stop() in (0, 130), process.said.read_text()
    finally:
        for process in running:
            process.kill()
    for out in readers.values():
        delivered = numbers(out)
        assert sorted(delivered) == list(range(2 * ROWS))
        for first in (0, ROWS):
            own = [number for number in delivered if first <= number < first + ROWS]
            assert own == sorted(own)
    told = replayed(place.profile("auditor"))
    assert told.code == 0, told.err
    assert told.json["verified"] is True
    assert told.json["records"] == 2 * ROWS
    assert told.json["violations"] == []
