"""The log as somebody looks at it who holds keys, or who operates it and holds none."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from broker.directory import Channel
from broker.log.protocol import Log, Partition, StoredMessage
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.events import Event
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.manifest import Positions, Terms
from support.coalition import KAS, POLICE_B
from support.world import CHANNEL, World

__all__ = [
    "access_batches",
    "access_positions",
    "access_terms",
    "access_violations",
    "cut",
    "held_value",
    "manifests",
    "put_back",
    "stored",
]


async def stored(log: Log, partition: Partition, start: int = 0) -> list[StoredMessage]:
    """A partition's messages."""
    return [message async for message in log.read(partition, start)]


def _channel(world: World, channel: str | int) -> Channel:
    directory = world.directory
    return directory.channels[directory.numbers[channel] if isinstance(channel, int) else channel]


async def _events(world: World, name: str, channel: str | int, topic: str) -> list[Event]:
    participant = await world.participant(name)
    found = _channel(world, channel)
    reader = participant.reader(found, topic)
    end = await participant.end_of(Partition(topic, found.number))
    events = [event async for event in participant.read(reader, end=end)]
    return [*events, *reader.flush(at_end=True)]


async def manifests(world: World, topic: str, channel: str | int = CHANNEL) -> list[VerifiedBatch]:
    """The batches of a partition as a member reads them; fails where a reader reports anything."""
    events = await _events(world, POLICE_B, channel, topic)
    assert not [event for event in events if isinstance(event, Violation)]
    return [event for event in events if isinstance(event, VerifiedBatch)]


async def access_batches(world: World, channel: str | int = CHANNEL) -> list[VerifiedBatch]:
    """The batches of entries that stand in the channel's access log, opened with the service's keys."""
    events = await _events(world, KAS, channel, ACCESS_TOPIC)
    return [event for event in events if isinstance(event, VerifiedBatch)]


async def access_terms(world: World, channel: str | int = CHANNEL) -> list[Terms]:
    """What the entries of the channel's access log say, in order."""
    return [terms for batch in await access_batches(world, channel) for terms in batch.opened.entries.terms]


async def access_positions(world: World, channel: str | int = CHANNEL) -> list[Positions]:
    """What the manifests of the channel's access log bind, in order."""
    found = [batch.opened.manifest.positions for batch in await access_batches(world, channel)]
    return [positions for positions in found if positions is not None]


async def access_violations(world: World, channel: str | int = CHANNEL) -> list[Violation]:
    """What a reader with the service's keys finds wrong in the channel's access log."""
    events = await _events(world, KAS, channel, ACCESS_TOPIC)
    return [event for event in events if isinstance(event, Violation)]


async def held_value(world: World, batch_id: bytes) -> bytes:
    """The newest value of ftf.keys for a batch."""
    values = [
        message.value for message in await stored(world.log, Partition("keys", 0)) if message.key == batch_id
    ]
    assert values[-1] is not None
    return values[-1]


# what an operator of the log may do, around it


def cut(world: World, topic: str, partition: int, offset: int) -> list[tuple[bytes, bytes]]:
    """Delete the tail of a partition from this offset on; returns the keys and values that stood there."""
    place = (f"ftf.{topic}", partition, offset)
    where = "FROM message WHERE topic = ? AND partition = ? AND offset >= ?"
    with closing(sqlite3.connect(world.path)) as db, db:
        rows = db.execute(f"SELECT key, value {where} ORDER BY offset", place).fetchall()
        db.execute(f"DELETE {where}", place)
    return rows


def put_back(
    world: World, topic: str, partition: int, offset: int, messages: Sequence[tuple[bytes, bytes]]
) -> None:
    """Write messages at an offset, around the log."""
    rows = [(f"ftf.{topic}", partition, offset + i, *pair, world.now) for i, pair in enumerate(messages)]
    with closing(sqlite3.connect(world.path)) as db, db:
        db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
