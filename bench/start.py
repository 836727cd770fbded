"""The start of a command on a flooded directory: from a snapshot of it, against reading it whole."""

from __future__ import annotations

from pathlib import Path

from bench.coalition import Coalition
from bench.timing import Comparison, Job, compare
from broker.log.protocol import Message
from broker.participant.follower import DIRECTORY, DirectoryFollower
from broker.participant.snapshot import Snapshot

__all__ = ["measure_start"]

_GARBAGE = 100_000
_AT_ONCE = 10_000


async def measure_start(folder: Path, *, repeat: int, scale: float) -> list[Comparison]:
    """Compare the two ways to the same directory; what is counted is one message of it."""
    count = max(_AT_ONCE, round(scale * _GARBAGE))
    coalition = await Coalition.found(folder)
    async with coalition.open() as log:
        for first in range(0, count, _AT_ONCE):
            await log.append(DIRECTORY, [Message(b"", b"x")] * min(_AT_ONCE, count - first))
        read = (await DirectoryFollower.start(log, coalition.genesis)).snapshot()
        assert read is not None
        kept = read.to_bytes()

        async def from_the_beginning() -> None:
            await DirectoryFollower.start(log, coalition.genesis)

        async def from_the_snapshot() -> None:
            snapshot = Snapshot.from_bytes(kept, coalition.genesis)
            await DirectoryFollower.start(log, coalition.genesis, snapshot=snapshot)

        size = read.frontier.size
        jobs = {
            "snapshot": Job(records=size, run=from_the_snapshot),
            "beginning": Job(records=size, run=from_the_beginning),
        }
        timed = await compare(jobs, min(repeat, 3))
    return [
        Comparison(
            work=f"start on a directory with {count:,} messages of garbage, from a snapshot",
            against="reading the directory from its beginning",
            batch=None,
            ours=timed["snapshot"],
            baseline=timed["beginning"],
            clock="cpu",
        )
    ]
