"""A publisher, a subscriber or a key access service in a process of its own, to be killed at any moment.

python worker.py '{"role": "publish", "folder": …, "url": …, …}'     see :class:`Job`

Exit 0: done, or told to stop (SIGTERM). Exit 3: an error of ours, which stands on stderr with its hint.
With ``crash`` it kills itself at the named step: the table of steps is ``STEPS``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.errors import BrokerError
from broker.log import Log
from broker.services.kas import channel_service, custody, entries, release, steps
from broker.services.kas.journal import Journal
from broker.services.kas.service import KeyAccessService
from broker.subscribe import receipts, state
from broker.subscribe.asking import Asker
from broker.subscribe.reader_set import ReaderSet
from broker.subscribe.subscriber import Delivered
from support.append_hook import AppendHook
from support.deliveries import numbered
from support.world import CHANNEL, World

__all__ = ["STEPS", "Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker does. ``out`` is the file of a publisher's acknowledgements, a subscriber's records.

    A publisher hands over ``count`` numbers from ``first`` on, ``batch`` at a time with a pause behind each;
    started again, it goes on behind the last that was acknowledged. ``crash`` is a step of ``STEPS``, or
    ``append <topic>``: the process dies when it comes there for the ``after``-th time, before or ``behind``.
    """

    role: str
    folder: str
    url: str | None
    name: str
    out: str = ""
    first: int = 0
    count: int = 0
    batch: int = 10
    pause_s: float = 0.0
    commit: int = 5
    crash: str = ""
    after: int = 1
    behind: bool = False
    once: bool = False

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))


def note_acknowledged(file: Any, lines: list[dict[str, object]]) -> None:
    """Remember durably what was acknowledged."""
    for line in lines:
        file.write(json.dumps(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


STEPS: dict[str, tuple[Any, str]] = {
    "note acknowledged": (sys.modules[__name__], "note_acknowledged"),
    "next window": (ReaderSet, "next_window"),
    "ask": (Asker, "ask"),
    "add receipt": (receipts.ReceiptFile, "add"),
    "sync receipts": (receipts.ReceiptFile, "sync"),
    "save state": (state.StateFile, "save"),
    "rename state": (os, "replace"),
    "hold secrets": (custody.Custody, "keep"),
    "write entry": (entries.AccessWriter, "write"),
    "journal": (Journal, "record"),
    "read own entry": (channel_service.ChannelService, "read_own"),
    "release": (release, "released_at"),
    "seal answer": (steps, "seal_answer"),
}
"""Where a worker can end, by name: the function, before or behind which it is killed."""


def die() -> None:
    """End as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def crashing(real: Callable[..., Any], after: int, is_behind: bool) -> Callable[..., Any]:
    """``real``, but the process dies at the call with this number, before or behind what it does."""
    calls = [0]

    def count() -> bool:
        calls[0] += 1
        return calls[0] == after

    if inspect.iscoroutinefunction(real):

        async def waits(*args: Any, **options: Any) -> Any:
            ends_here = count()
            if ends_here and not is_behind:
                die()
            result = await real(*args, **options)
            if ends_here:
                die()
            return result

        return waits

    def runs(*args: Any, **options: Any) -> Any:
        ends_here = count()
        if ends_here and not is_behind:
            die()
        result = real(*args, **options)
        if ends_here:
            die()
        return result

    return runs


def planned(job: Job) -> Callable[[Log], Log]:
    """Set the crash up; gives what to make of the log."""
    kind, _, topic = job.crash.partition(" ")
    if kind == "append":
        return lambda log: AppendHook(log, topic, job.after, is_behind=job.behind, then=die)
    if job.crash:
        owner, name = STEPS[job.crash]
        setattr(owner, name, crashing(getattr(owner, name), job.after, job.behind))
    return lambda log: log


async def publish(world: World, job: Job) -> None:
    """Publish numbered records, and note each that is acknowledged."""
    path = Path(job.out)
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
    next_number = max((line["number"] for line in lines if "batch" in line), default=job.first - 1) + 1
    with open(path, "ab") as out:
        async with world.publisher(job.name) as publisher:
            while next_number < job.first + job.count:
                numbers = range(next_number, min(next_number + job.batch, job.first + job.count))
                out.write(b"".join(b'{"handed": %d}\n' % number for number in numbers))
                out.flush()
                tickets = [await publisher.publish(CHANNEL, world.record(number)) for number in numbers]
                await publisher.flush()
                published = [await ticket for ticket in tickets]
                done = [
                    {"number": number, "batch": one.batch_id.hex(), "index": one.index, "offset": one.offset}
                    for number, one in zip(numbers, published, strict=True)
                ]
                note_acknowledged(out, [*done])
                next_number = numbers[-1] + 1
                await asyncio.sleep(job.pause_s)


async def subscribe(world: World, job: Job) -> None:
    """Write each record as a line; the file's length is committed with the position."""
    path = Path(job.out)
    subscriber = await world.subscriber(
        job.name, state_path=path.with_suffix(".state"), autocommit=False, record_types=["ReturnEvent"]
    )
    async with subscriber:
        with open(path, "ab") as out:
            length = subscriber.sink if isinstance(subscriber.sink, int) else 0
            out.truncate(length)
            out.seek(length)
            await subscriber.commit(sink=length)
            count = 0
            try:
                async with aclosing(subscriber.deliveries(follow=not job.once)) as items:
                    async for item in items:
                        line: dict[str, object] = {"wrong": repr(item)}
                        if isinstance(item, Delivered):
                            line = {"number": numbered(item), "place": list(item.place), "index": item.index}
                        out.write(json.dumps(line).encode() + b"\n")
                        out.flush()
                        count += 1
                        if count % job.commit == 0:
                            os.fsync(out.fileno())
                            await subscriber.commit(sink=out.tell())
            finally:
                if out.tell() >= length:
                    os.fsync(out.fileno())
                    await subscriber.commit(sink=out.tell())


async def serve(world: World, job: Job) -> None:
    """Follow all channels, as ``kas run`` does."""
    assert isinstance(world.kas, KeyAccessService)
    if job.once:
        await world.kas.collect()
    else:
        await world.kas.run()


async def main(job: Job) -> None:
    """Do the job until it is done, or SIGTERM comes."""
    work = {"publish": publish, "subscribe": subscribe, "serve": serve}[job.role]
    wrap = planned(job)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with World.open(Path(job.folder), job.url, wrap) as world:
        print("ready", flush=True)
        await work(world, job)


if __name__ == "__main__":
    try:
        asyncio.run(main(Job(**json.loads(sys.argv[1]))))
    except asyncio.CancelledError:
        sys.exit(0)
    except BrokerError as error:
        print(f"error: {type(error).__name__}: {error.message}; hint: {error.hint}", file=sys.stderr)
        sys.exit(3)
