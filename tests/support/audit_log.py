"""A coalition's log with every kind of message on it, played once, to be copied and manipulated with SQL."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from broker.audit.causes import Known
from broker.audit.replay import ReplayReport, replay
from broker.directory import HighWater
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.wire.manifest import LogItem
from broker.wire.terms import Action, Purpose
from support.asking import ask
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    POLICE_A,
    POLICE_B,
    REHAB,
    receiving_key,
    signing_key,
)
from support.placing import place, place_order
from support.world import World

__all__ = ["Played", "Row", "alter", "auditor", "copy_of", "played", "replayed_file", "rows"]


@dataclass(frozen=True, slots=True)
class Played:
    """The log's file, what pins it, and what was published and read."""

    path: Path
    genesis: bytes
    high_water: HighWater
    records: int
    manifests: int
    accesses: int


@dataclass(frozen=True, slots=True)
class Row:
    """A message as the table holds it, physical topic included."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    appended_at: int


async def _play(folder: Path) -> Played:
    async with World.still(folder) as world, world.service() as kas:
        first = await place(world, POLICE_A, 3)
        second = await place(world, BORDER, 1)
        other = await place(world, JUSTICE, 2, topic="justice")
        pair = await place(world, POLICE_B, 2, channel=1)
        await kas.collect()
        await ask(world, kas, POLICE_B, [first.item(0, 1, 2)])
        await ask(world, kas, POLICE_B, [other.item(1)])
        await ask(world, kas, POLICE_A, [pair.item(0)], channel="xaa-xbb")
        await place_order(world, Action.RESTRICT, first.target(0))
        await place_order(world, Action.WITHDRAW, first.target(1))
        await place(world, BORDER, 2)
        world.advance(2)
        await ask(world, kas, POLICE_B, [first.item(0, 1, 2)])
        await ask(world, kas, POLICE_B, [second.item(0)])
        await ask(world, kas, CARE, [second.item(0)], purpose=Purpose.CHILD_PROTECTION)
        await ask(world, kas, AUDITOR, [LogItem(start=0, end=50)], purpose=Purpose.LAWFULNESS)
        last = await place(world, POLICE_A, 1)
        await place(world, BORDER, 1)
        await place(world, REHAB, 1, channel=2, topic="rehabilitation")
        world.advance(2)
        await kas.collect()
        await ask(world, kas, JUSTICE, [last.item(0)])
        follower = await DirectoryFollower.start(world.log, world.coalition.genesis)
        return Played(
            path=folder / "log.db",
            genesis=world.coalition.genesis,
            high_water=follower.high_water,
            records=15,
            manifests=25,
            accesses=8,
        )


@cache
def played() -> Played:
    """The log that every test copies; nothing in it is wrong. Played in a thread: a test has its own loop."""
    folder = Path(tempfile.mkdtemp(prefix="ftf-audit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _play(folder)).result()


def copy_of(source: Path, folder: Path) -> Path:
    """A copy of a log to be manipulated."""
    target = folder / "forged.db"
    shutil.copyfile(source, target)  # whole: the log was closed, so nothing is left in a write-ahead log
    target.chmod(0o600)
    return target


def alter(path: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    """Manipulate a log's file behind the log's back."""
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA synchronous = OFF")  # a copy that lives for one test
        with db:
            change(db)
    finally:
        db.close()


def rows(path: Path) -> list[Row]:
    """Every message of a log but those of the service's own topic."""
    db = sqlite3.connect(path)
    try:
        found = db.execute(
            "SELECT topic, partition, offset, key, value, appended_at FROM message"
            " WHERE topic != 'ftf.keys' ORDER BY topic, partition, offset"
        ).fetchall()
    finally:
        db.close()
    return [Row(*row) for row in found]


def auditor(name: str = AUDITOR) -> Keyring:
    """The keys of an auditor: metadata and access, never content."""
    return Keyring.of(name, signing_key(name), [receiving_key(name)])


async def replayed_file(
    path: Path,
    *,
    genesis: bytes | None = None,
    channels: Sequence[str] | None = None,
    known: Sequence[Known] = (),
    high_water: HighWater | None = None,
) -> ReplayReport:
    """What an auditor's replay finds in this file."""
    async with await SqliteLog.open(path) as log:
        follower = await DirectoryFollower.start(log, genesis or played().genesis)
        participant = Participant(log=log, follower=follower, keyring=auditor())
        return await replay(participant, channels=channels, known=known, high_water=high_water)
