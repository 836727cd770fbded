"""The product on a real Kafka: the demo, its replay, and hostile messages in its topics."""

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
    """The output of two demos that ran one after the other on one broker."""
    said = []
    for number in range(2):
        folder = tmp_path_factory.mktemp("demos") / str(number)
        told = ftf_broker("demo", "--log", f"kafka://{kafka.address}", "--dir", str(folder), "--json")
        assert told.code == 0, told.err
        said.append(told.json)
    return said


def test_the_demo_twice_on_one_broker(demos: list[dict[str, Any]]) -> None:
    """Each demo takes a prefix of its own, writes it into its profiles, and verifies."""
    for said in demos:
        assert said["verified"] is True
        assert said["violations"] == 0
        assert said["published"]
        assert said["delivered"]
        assert Profile.load(Path(said["profiles"]["auditor"])).log == said["log"]
    assert demos[0]["log"] != demos[1]["log"]


def test_a_demo_on_kafka_is_replayed(demos: list[dict[str, Any]]) -> None:
    """``audit replay`` with the auditor's profile verifies the logs that a demo left on the brokers."""
    told = replayed(Path(demos[0]["profiles"]["auditor"]))
    assert told.code == 0, told.err
    assert told.json["verified"] is True
    assert told.json["records"] == demos[0]["published"]
    assert told.json["access_entries"] == demos[0]["access_entries"]


Made = Callable[[Sequence[StoredMessage]], list[Message]]


def copied(stored: Sequence[StoredMessage]) -> list[Message]:
    """Copy the first batch of the log."""
    manifest = stored[0].key
    assert manifest is not None
    return [
        Message(message.key, message.value)
        for message in stored[:257]
        if message.key is not None and message.key.startswith(manifest)
    ]


def half_a_batch(stored: Sequence[StoredMessage]) -> list[Message]:
    """Copy the manifest of the first batch without its bodies."""
    return copied(stored)[:1]


def garbage(_: Sequence[StoredMessage]) -> list[Message]:
    """Build messages that are neither a manifest nor a body."""
    return [Message(b"key", b"garbage")] * 3


def nothing(_: Sequence[StoredMessage]) -> list[Message]:
    """Build a message without key and value, which Kafka takes on a topic that is not compacted."""
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
    """The replay names the place of any message that Kafka lets a member append and our rules forbid."""
    profile = Profile.load(Path(demos[1]["profiles"]["XAA:police"]))
    async with open_log(profile.log) as log:
        stored = [message async for message in log.read(RETURNS, 0)]
        offset = await log.append(Partition(topic, 0), made(stored))
        shown = physical(log, topic)
    told = await asyncio.to_thread(replayed, Path(demos[1]["profiles"]["auditor"]))
    assert told.code == 1, told.err
    violations = told.json["violations"]
    found = {(violation["topic"], violation["offset"]): violation["kind"] for violation in violations}
    assert found[shown, offset] == kind


async def test_a_copy_of_a_streams_newest_batch_counts_once(demos: list[dict[str, Any]]) -> None:
    """A batch that a network or a member repeats is verified, and counted once."""
    auditor = Path(demos[0]["profiles"]["auditor"])
    before = await asyncio.to_thread(replayed, auditor)
    async with open_log(Profile.load(auditor).log) as log:
        stored = [message async for message in log.read(RETURNS, 0)]
        await log.append(RETURNS, copied(stored))
    told = await asyncio.to_thread(replayed, auditor)
    assert told.code == 0, told.out
    assert told.json["records"] == before.json["records"]


# Processes of the command line, side by side


def test_publishers_subscribers_and_a_service_side_by_side(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two publishers, three subscribers and a service, each a process, deliver all records once, in order."""
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
