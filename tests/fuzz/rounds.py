"""One round: a copy of the played log, a few hostile deeds, and everybody who must bear them.

A finding is an exception that is not ours, or a call that takes longer than ten seconds.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from broker.errors import BrokerError
from broker.log.sqlite.sqlite_log import SqliteLog
from fuzz.feeds import FEEDS, WITHOUT_SERVICE
from fuzz.hostile import DEEDS, fill
from fuzz.mutate import Pool
from support.coalition import Coalition
from support.played import played
from support.world import World

__all__ = ["MAX_CALL_S", "Fault", "play_round"]

MAX_CALL_S = 10.0
"""The longest that one call may take, in seconds."""
_HANGS_S = 60
"""After this many seconds a call is broken off."""

Deed = Callable[[World, random.Random, Pool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What must not happen: the seed that shows it, who was fed, and what came of it."""

    seed: int
    fed: str
    words: str


class _Hangs(BaseException):
    """The call does not end."""


def play_round(seed: int) -> list[Fault]:
    """Play the round of one seed."""
    played()
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ftf-fuzz-", dir=shm if shm.is_dir() else None))
    try:
        shutil.copytree(played().folder, folder, dirs_exist_ok=True)
        return asyncio.run(_play(seed, folder))
    finally:
        shutil.rmtree(folder)


async def _play(seed: int, folder: Path) -> list[Fault]:
    rng, pool, faults = random.Random(seed), Pool(), list[Fault]()
    async with World.open(folder) as world:
        await fill(world, pool)
        for name in rng.choices(list(DEEDS), k=rng.choice((1, 3, 6, 10))):
            # A deed that cannot be encoded or signed is none; what it has appended stays.
            await _call(seed, f"writing a {name}", DEEDS[name], (world, rng, pool), faults)
    try:
        async with World.open(folder) as world:
            for name, feed in FEEDS.items():
                await _call(seed, name, feed, (world, rng, pool), faults)
    except BrokerError:
        # The service does not start on this log, and says so; whoever needs none goes on.
        async with await SqliteLog.open(folder / "log.db") as log:
            world = World(folder, log, Coalition.live())
            for name in WITHOUT_SERVICE:
                await _call(seed, name, FEEDS[name], (world, rng, pool), faults)
    return faults


async def _call(
    seed: int, name: str, deed: Deed, arguments: tuple[World, random.Random, Pool], faults: list[Fault]
) -> None:
    begun = time.monotonic()
    try:
        with _broken_off():
            await deed(*arguments)
    except BrokerError:
        pass
    except (Exception, _Hangs):  # noqa: BLE001  # whatever it is, it is what is looked for
        faults.append(Fault(seed, name, traceback.format_exc(limit=-6)))
    took = time.monotonic() - begun
    if took > MAX_CALL_S:
        faults.append(Fault(seed, name, f"took {took:.0f} s"))


@contextmanager
def _broken_off() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_HANGS_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
