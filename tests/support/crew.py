"""Workers of one coalition (``worker.py``), and what must be true of all that they did.

crew = await Crew.found(folder, url)
publisher = crew.worker("publish", POLICE_A, count=100)
await publisher.keep()
await crew.check([publisher], subscribers)
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.audit.replay import replay
from broker.directory import History
from broker.log import Log, Partition, open_log
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from support.coalition import AUDITOR, POLICE_A, receiving_key, signing_key
from support.looking import stored
from support.worker import Job
from support.world import found

__all__ = ["Crew", "Worker"]

WORKER = Path(__file__).with_name("worker.py")


@dataclass(eq=False)
class Worker:
    """A process that works, started again with the same job when it ended in an error of ours."""

    job: Job
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    errors: list[str] = field(default_factory=list)
    """What it ended with, one line each."""

    async def start(self) -> None:
        """Start it."""
        self.starts += 1
        with open(self.log, "ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, WORKER, self.job.to_json(), stdout=said, stderr=said
            )

    @property
    def log(self) -> Path:
        """Where its stdout and stderr go."""
        return Path(self.job.folder, f"{self.job.role}-{Path(self.job.out).stem}.log")

    async def keep(self) -> None:
        """Start it again as long as it ends in an error of ours; return when it is done."""
        while True:
            if self.process is None:
                await self.start()
            code = await self.ended()
            self.process = None
            if code == 0:
                return
            said = self.log.read_text()
            self.errors.append(said.strip().rpartition("\n")[2])
            assert code == 3, f"exit {code}: {said}"
            assert self.errors[-1].startswith("error: "), said

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return await self.process.wait()

    async def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            code = await self.ended()
            assert code == 0, self.log.read_text()

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of its file."""
        path = Path(self.job.out)
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    @property
    def done(self) -> int:
        """How many records it has acknowledged, or delivered."""
        return sum("number" in line for line in self.lines)


@dataclass
class Crew:
    """Workers of a coalition on a log."""

    folder: Path
    url: str | None
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    async def found(cls, folder: Path, url: str) -> Crew:
        """Found the coalition on a new log."""
        async with open_log(url) as log:
            await found(log)
        return cls(folder, url)

    def worker(self, role: str, name: str = POLICE_A, **options: Any) -> Worker:
        """A worker with a file of its own, not yet started."""
        out = str(self.folder / f"{role}-{len(self.workers)}.out")
        job = Job(role=role, folder=str(self.folder), url=self.url, name=name, out=out, **options)
        self.workers.append(Worker(job))
        return self.workers[-1]

    def status(self) -> str:
        """What each has done, and what it ended with."""
        return "; ".join(
            f"{one.job.role} {one.job.name}: {one.done} done, {one.starts} starts, {one.errors}"
            for one in self.workers
        )

    async def aclose(self) -> None:
        """Kill whoever still runs."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            if worker.process is not None:
                await worker.process.wait()

    async def check(self, publishers: Sequence[Worker], subscribers: Sequence[Worker]) -> None:
        """Nothing acknowledged is lost, nothing delivered twice, order holds, and the replay verifies."""
        acknowledged, tried = Counter[int](), Counter[int]()
        for publisher in publishers:
            acknowledged.update(line["number"] for line in publisher.lines if "number" in line)
            tried.update(line["handed"] for line in publisher.lines if "handed" in line)
        assert set(acknowledged.values()) <= {1}
        for subscriber in subscribers:
            lines = subscriber.lines
            assert not [line for line in lines if "wrong" in line]
            places = Counter((*line["place"], line["index"]) for line in lines)
            assert places.most_common(1)[0][1] == 1
            numbers = Counter(line["number"] for line in lines)
            assert acknowledged.keys() <= numbers.keys(), sorted(acknowledged.keys() - numbers.keys())[:10]
            # What a publisher that died had handed over it may have published: once for each of its lives.
            assert all(count <= tried.get(number, 1) for number, count in numbers.items())
            for publisher in publishers:
                own = range(publisher.job.first, publisher.job.first + publisher.job.count)
                order = list(dict.fromkeys(line["number"] for line in lines if line["number"] in own))
                assert order == sorted(order)
        await self.check_replay()

    async def check_replay(self) -> None:
        """A full replay verifies."""
        async with open_log(self.url or f"sqlite:{self.folder / 'log.db'}") as log:
            follower = await DirectoryFollower.start(log, await genesis_of(log))
            keyring = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
            report = await replay(Participant(log=log, follower=follower, keyring=keyring))
        assert [one.violation for one in report.violations] == []
        assert report.verified


async def genesis_of(log: Log) -> bytes:
    """The genesis that this log's directory begins with."""
    return History.replay(await stored(log, Partition("directory", 0))).latest.genesis
