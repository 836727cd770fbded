"""A subscriber that is killed, and publishers in processes of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from random import Random

from broker.subscribe.subscriber import Delivered
from support.coalition import POLICE_A
from support.deliveries import delivered_refs, numbered, only
from support.looking import manifests
from support.world import World

SUPPORT = Path(__file__).parents[1] / "support"


async def killed_after(folder: Path, lines: int) -> None:
    """Run the sink until it has written so many records, then kill -9 it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SUPPORT / "jsonl_sink.py",
        folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            seen = 0
            while seen < lines:
                line = await process.stdout.readline()
                if not line:
                    assert process.stderr is not None
                    raise AssertionError((await process.stderr.read()).decode())
                seen += line.strip().isdigit()
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()


async def test_killed_at_any_moment_nothing_is_lost_and_nothing_twice(world: World, tmp_path: Path) -> None:
    """However often the process is killed, the file ends with every record once, in order."""
    await world.publish(40, max_records=7)
    rng, out = Random(9), tmp_path / "out.jsonl"
    while True:
        left = 40 - len(out.read_bytes().splitlines()) if out.exists() else 40
        # Killed with up to two records written and not committed, which come again.
        if left <= 1:
            break
        await killed_after(tmp_path, min(left, rng.randint(1, 17)))
    async with await world.subscriber(state_path=tmp_path / "state.json", autocommit=False) as subscriber:
        length = subscriber.sink
        assert isinstance(length, int)
        lines = [json.loads(line)["number"] for line in out.read_bytes()[:length].splitlines()]
        rest = [numbered(item) async for item in subscriber.deliveries()]
    assert lines + rest == list(range(40))


PUBLISH = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.world import CHANNEL, World

async def main():
    async with World.open(Path(sys.argv[2])) as world:
        await world.publish(20, first=int(sys.argv[3]), max_records=3)

asyncio.run(main())
"""


async def test_publishers_in_processes_of_their_own(world: World, tmp_path: Path) -> None:
    """Processes of one agency publish side by side, in streams of their own; every record arrives once."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PUBLISH,
            SUPPORT.parent,
            tmp_path,
            str(first),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        for first in (0, 100, 200)
    ]
    async with asyncio.timeout(60):
        for process in processes:
            _, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
    batches = await manifests(world, "returns")
    assert len({batch.header.stream for batch in batches}) == 3
    assert {batch.header.issuer for batch in batches} == {POLICE_A}
    found = await world.read()
    assert len(only(found, Delivered)) == len(found) == 60
    numbers = delivered_refs(found)
    for first in (0, 100, 200):
        assert [n for n in numbers if first <= n < first + 100] == list(range(first, first + 20))
