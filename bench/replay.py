"""Replay: everything verified and nothing read, against one Ed25519 verification for each record.

By batches of each size; with the accesses of one reader who read everything; and in two processes,
each of which replays one of two channels.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from bench.coalition import AUDITOR, CHANNELS, READER, WRITER, Coalition, key_access
from bench.filling import fill
from bench.quiet import quiet
from bench.read import ground
from bench.records import MEASURED, body_of, records
from bench.timing import Comparison, Job, Timing, compare, plain
from broker.audit.replay import ReplayReport, replay
from broker.avro.schema import default_store
from broker.crypto.sign import verify
from broker.directory import EpochKey
from broker.log.protocol import Partition
from broker.subscribe.subscriber import Delivered, Subscriber
from broker.verify.partition import PartitionReader, VerifiedBatch

__all__ = ["against_verifying", "measure_replay", "replayed"]

_AGAINST = "one Ed25519 verification per record"
_RECORDS = {256: 51_200, 16: 8192, 1: 1024}
_VERIFICATIONS = 1024


async def replayed(coalition: Coalition, channels: Sequence[str] | None = None) -> ReplayReport:
    """An auditor's replay, from opening the log to the report; it must find nothing wrong."""
    async with coalition.participant(AUDITOR) as auditor:
        report = await replay(auditor, channels=channels)
    assert report.verified, report.violations[:3]
    return report


def _verifications(coalition: Coalition) -> Callable[[], None]:
    key = coalition.keyring(WRITER).signing
    bodies = [body_of(one) for one in records(_VERIFICATIONS)]
    signed = [(body, key.sign("manifest", coalition.genesis, body)) for body in bodies]

    def run() -> None:
        for body, signature in signed:
            verify(key.public, "manifest", coalition.genesis, body, signature)

    return run


async def against_verifying(coalition: Coalition, total: int, repeat: int) -> tuple[Timing, Timing]:
    """A replay of so many records, and as many single verifications."""

    async def run() -> None:
        report = await replayed(coalition)
        assert report.counts.records == total

    jobs = {
        "replay": Job(records=total, run=run),
        "verify": plain(_VERIFICATIONS, _verifications(coalition)),
    }
    timed = await compare(jobs, repeat)
    return timed["replay"], timed["verify"]


async def _in_memory(coalition: Coalition, total: int, repeat: int) -> tuple[Timing, Timing]:
    """The verifying alone: every message of the record topic is in memory, and nothing is looked up."""
    async with coalition.log() as (log, follower):
        topic = default_store().current(MEASURED).topic
        messages = [message async for message in log.read(Partition(topic, 0), 0)]
        keyring, directory = coalition.keyring(AUDITOR), follower.history.latest

        def key(epoch: int) -> EpochKey | None:
            return keyring.epoch_key(directory, CHANNELS[0], epoch, "metadata")

        def run() -> None:
            reader = PartitionReader(
                topic=topic, partition=0, history=follower.history, keys=key, keep_bodies=False
            )
            at, verified = 0, 0
            while at < len(messages):
                wanted = reader.awaited
                events = (
                    reader.feed_bodies(messages[at : at + wanted]) if wanted else reader.feed(messages[at])
                )
                verified += sum(e.opened.manifest.count for e in events or () if isinstance(e, VerifiedBatch))
                at += wanted or 1
            assert verified == total

        jobs = {
            "replay": plain(total, run),
            "verify": plain(_VERIFICATIONS, _verifications(coalition)),
        }
        timed = await compare(jobs, repeat)
    return timed["replay"], timed["verify"]


async def measure_replay(
    folder: Path, *, sizes: Sequence[int], repeat: int, scale: float = 1.0
) -> list[Comparison]:
    """A comparison for each size of batches, one with accesses, and one of two processes with one."""
    found: list[Comparison] = []
    for size in sizes:
        coalition = await Coalition.found(folder / str(size))
        total = max(size, round(_RECORDS.get(size, 8 * size) * scale))
        await fill(coalition, total, size)
        for work, measure in (("replay", against_verifying), ("replay, verifying alone", _in_memory)):
            ours, theirs = await measure(coalition, total, repeat)
            found.append(
                Comparison(
                    work=work,
                    against=_AGAINST,
                    batch=size,
                    ours=ours,
                    baseline=theirs,
                    clock="cpu",
                    reach=20.0 if size == 256 else None,
                    then=30.0 if size == 256 else 1.0,
                )
            )
    size = max(sizes)
    total = max(size, round(_RECORDS.get(size, 8 * size) * scale))
    coalition = await Coalition.found(folder / "read")
    await fill(coalition, total, size)
    await _read_all(coalition, total)
    ours, theirs = await against_verifying(coalition, total, repeat)
    found.append(
        Comparison(
            work="replay of a channel that one reader read whole",
            against=_AGAINST,
            batch=size,
            ours=ours,
            baseline=theirs,
            clock="cpu",
        )
    )
    found.append(await _two_processes(folder / "two", size, total, repeat))
    return found


async def _read_all(coalition: Coalition, total: int) -> None:
    async with coalition.participant(READER) as participant, key_access(coalition) as kas:
        subscriber = Subscriber(
            participant,
            kas,
            ground=ground(),
        )
        async with subscriber:
            items = [item async for item in subscriber.deliveries()]
    assert sum(isinstance(item, Delivered) for item in items) == total


# two processes


async def _answer_replays(coalition: Coalition, channels: Sequence[str], pipe: Connection) -> None:
    await replayed(coalition, channels)
    pipe.send(0.0)
    while pipe.recv():
        begin = time.process_time()
        await replayed(coalition, channels)
        pipe.send(time.process_time() - begin)


def _replay_when_told(coalition: Coalition, channels: Sequence[str], pipe: Connection) -> None:
    quiet()
    asyncio.run(_answer_replays(coalition, channels, pipe))


class _Workers:
    """Processes that replay some channels each, all at once, whenever they are told to."""

    def __init__(self, coalition: Coalition, shares: Sequence[Sequence[str]]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        for channels in shares:
            ours, theirs = spawn.Pipe()
            spawn.Process(target=_replay_when_told, args=(coalition, channels, theirs), daemon=True).start()
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def run(self) -> None:
        for pipe in self._pipes:
            pipe.send(True)
        for pipe in self._pipes:
            pipe.recv()

    def stop(self) -> None:
        for pipe in self._pipes:
            pipe.send(False)


async def _two_processes(folder: Path, size: int, each: int, repeat: int) -> Comparison:
    coalition = await Coalition.found(folder)
    for channel in range(len(CHANNELS)):
        await fill(coalition, each, size, channel=channel)
    one, two = _Workers(coalition, [CHANNELS]), _Workers(coalition, [[name] for name in CHANNELS])
    total = each * len(CHANNELS)
    timed = await compare({"two": plain(total, two.run), "one": plain(total, one.run)}, repeat)
    one.stop()
    two.stop()
    return Comparison(
        work="replay of two channels in two processes",
        against="the same in one process",
        batch=size,
        ours=timed["two"],
        baseline=timed["one"],
        clock="wall",
        then=1.75,
        by_others=True,
    )
