"""The forgery of the demo: a copy of the log in which one bit of one record differs.

The copy is an SQLite file, whatever log the demo plays on.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from broker.avro.schema import default_store
from broker.cli.demo.world import AUDITOR, CHANNELS, World
from broker.cli.found.init import ensure_topics
from broker.log import Log, Partition, StoredMessage, open_log, physical
from broker.participant.follower import DIRECTORY
from broker.session import Profile
from broker.verify.violations import Place

__all__ = ["Forgery", "forge"]

# Offset 0 is the manifest of the first batch, and its bodies follow.
_PLACE = Place("returns", 0, 2)
"""The message that is altered: the second body of the first batch of returns, which is about a child."""

_INSERT = "INSERT INTO message(topic, partition, offset, key, value, appended_at) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Forgery:
    """A forged copy: the place that was altered, and a profile of the auditor for this copy."""

    place: Place
    profile: Profile


async def forge(world: World) -> Forgery:
    """Copy the log into the folder ``forged``, with one bit flipped. The real log is only read."""
    folder = world.folder / "forged"
    folder.mkdir(mode=0o700)
    copy = folder / "log.db"
    url = f"sqlite:{quote(str(copy))}"
    async with open_log(url) as forged, open_log(world.log) as real:
        # The log itself creates its file and tables. Only the messages are written behind its back.
        await forged.ensure(DIRECTORY.topic, 1)
        await ensure_topics(forged, len(CHANNELS))
        await _copy(real, physical(forged, ""), copy)
    auditor = world.profiles[AUDITOR]
    # A state of its own, so that the copy changes nothing that the auditor remembers of the real log.
    profile = replace(auditor, path=folder / auditor.path.name, log=url, state=folder / "state")
    profile.save()
    return Forgery(_PLACE, profile)


async def _copy(real: Log, prefix: str, copy: Path) -> None:
    """Copy every message, its append time included."""
    # Straight into the file: an append would stamp its own time, which would be a difference of its own.
    topics = (*default_store().topics, "access")
    partitions = [DIRECTORY, *(Partition(topic, channel.number) for topic in topics for channel in CHANNELS)]
    # Two contexts: the second commits, which the first does not, and the first closes.
    with closing(sqlite3.connect(copy)) as database, database:
        for partition in partitions:
            rows = [_row(prefix, partition, message) async for message in real.read(partition, 0)]
            database.executemany(_INSERT, rows)


def _row(prefix: str, partition: Partition, message: StoredMessage) -> tuple[object, ...]:
    value = message.value
    if value is not None and (*partition, message.offset) == _PLACE:
        # The last byte belongs to the locked body, so the message still looks like one.
        value = value[:-1] + bytes((value[-1] ^ 1,))
    topic = prefix + partition.topic
    return (topic, partition.number, message.offset, message.key, value, message.appended_at // 1000)
