"""The long log: a coalition at work for a while, with everything in it that a log can hold, and right.

Two key access services on one key store and journal take turns. There are several streams in each topic,
four epochs, orders, consultations, a disclosure, denials one by one and counted, and an entry that stands
there late because the operator once cut it off and the service put it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.directory import drafts
from broker.errors import KasStopped
from broker.log.protocol import Partition
from broker.publish.publisher import Published
from broker.services.kas.service import KeyAccessService
from broker.subscribe.asking import Ground
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import Operation, RecordItem
from broker.wire.terms import Action, HandlingCode, Purpose
from broker.wire.terms import Target as Order
from support.asking import ask
from support.coalition import AUDITOR, BORDER, CARE, JUSTICE, POLICE_A, POLICE_B, REHAB
from support.looking import cut, stored
from support.words import details
from support.world import CHANNEL, PAIR, World

__all__ = ["READERS", "Batch", "LongLog", "play"]

READERS = {CHANNEL: POLICE_B, PAIR: POLICE_A, "xbb-xdd": REHAB}
"""Who reads everything of each channel."""
_PUBLISHED = (
    (CHANNEL, POLICE_A, "ReturnEvent"),
    (CHANNEL, BORDER, "ReturnEvent"),
    (CHANNEL, CARE, "RelocationEvent"),
    (CHANNEL, JUSTICE, "JusticeMeasure"),
    (PAIR, POLICE_B, "EmergenceReport"),
    (PAIR, POLICE_A, "ReturnEvent"),
    ("xbb-xdd", REHAB, "RehabilitationEvent"),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, or a message that stands alone; then ``stream`` is empty."""

    topic: str
    partition: int
    offset: int
    messages: int
    stream: bytes = b""


@dataclass(frozen=True, slots=True)
class LongLog:
    """The folder of the log, its batches in their order, and the newest epoch of each channel's number."""

    folder: Path
    genesis: bytes
    batches: tuple[Batch, ...]
    epochs: dict[int, int]


def play(folder: Path) -> LongLog:
    """Play the long log in a folder."""
    return asyncio.run(_play(folder))


async def _play(folder: Path) -> LongLog:
    async with World.open(folder) as world:
        first = world.kas
        assert isinstance(first, KeyAccessService)
        await _cut_and_put_back(world, first)
        async with world.service() as second:
            for turn, kas in enumerate((first, second, first)):
                published = await _turn(world, kas, turn)
                await _ask(world, second if kas is first else first, published)
                await _new_epoch(world)
            await _order(world, published)
            await _deny(world, second, published)
            await first.collect()
            for channel, name in READERS.items():
                await world.read(name, channel, kas=second)
            await world.read(POLICE_B, ground=_mandate())
    async with World.open(folder) as world:
        epochs = {one.number: one.newest_confirmed for one in world.directory.channels.values()}
        return LongLog(folder, world.coalition.genesis, tuple(await _batches(world)), epochs)


async def _cut_and_put_back(world: World, kas: KeyAccessService) -> None:
    """In the second channel the operator cuts the first access off; the service stops, and puts it back."""
    await world.publish(1, first=900, name=POLICE_B, channel=PAIR)
    await kas.collect()
    end = (await world.log.ends([Partition("access", 1)]))[Partition("access", 1)]
    await world.read(POLICE_A, PAIR)
    cut(world, "access", 1, end)
    with suppress(KasStopped):
        await world.read(POLICE_A, PAIR)
    assert kas.alarms
    kas.acknowledge_alarm(1)
    await world.read(POLICE_A, PAIR)


async def _turn(world: World, kas: KeyAccessService, turn: int) -> list[Published]:
    """Several agencies publish in every topic, in streams of two batches and of one."""
    published: list[Published] = []
    for place, (channel, name, record_type) in enumerate(_PUBLISHED):
        async with world.publisher(name) as publisher:
            for batch in range(2 if turn < 2 and place < 3 else 1):
                first = 100 * turn + 10 * place + 3 * batch
                records = [world.record(first + i, record_type) for i in range(1 + (place + batch) % 3)]
                tickets = [await publisher.publish(channel, record) for record in records]
                await publisher.flush()
                published += [await ticket for ticket in tickets]
        if place % 3 == 0:
            await kas.collect()
    await kas.collect()
    return published


async def _ask(world: World, kas: KeyAccessService, published: Sequence[Published]) -> None:
    """One member asks for single records of each channel."""
    for channel, name in READERS.items():
        one = next(record for record in published if record.channel == channel)
        await ask(world, kas, name, [_item(one)], channel=channel)


def _item(one: Published) -> RecordItem:
    return RecordItem(topic=one.topic, offset=one.offset, batch_id=one.batch_id, indexes=bytes([one.index]))


async def _new_epoch(world: World) -> None:
    """A suspension and its end force new keys."""
    await world.suspend(CARE)
    await world.say(drafts.reinstate_agency(world.directory, agency=CARE, issued_at=world.coalition.now))
    await world.next_epoch(CHANNEL, POLICE_A)


async def _order(world: World, published: Sequence[Published]) -> None:
    """Originators order on records of theirs."""
    own = [one for one in published if one.channel == CHANNEL and one.topic == "returns"]
    for one, action in zip(own, (Action.WITHDRAW, Action.RESTRICT, Action.ERASE), strict=False):
        order = world.order(action, Order(batch_id=one.batch_id, index=one.index))
        await world.publish_records([order], POLICE_A)
    codes = {"handling.codes": [HandlingCode.H1]}
    await world.publish_records([world.record(950, changes=codes)], BORDER)
    await world.publish_records([world.record(960, changes={"handling.releasable_to": [JUSTICE]})], BORDER)


async def _deny(world: World, kas: KeyAccessService, published: Sequence[Published]) -> None:
    """One denial is an entry of its own, and those that follow at once are counted."""
    one = next(record for record in published if record.channel == CHANNEL)
    for _ in range(3):
        await ask(world, kas, CARE, [_item(one)], purpose=Purpose.REHAB_REINTEGRATION)
    await kas.channel_service(world.directory.channels[CHANNEL]).log_denials(all=True)


def _mandate() -> Ground:
    return Ground(
        channel=CHANNEL,
        purpose=Purpose.PREVENTION,
        operation=Operation.DISCLOSURE,
        details=details,
        mandate_ref="XBB-2024-17",
    )


async def _batches(world: World) -> list[Batch]:
    """Every batch as an auditor reads it, and the messages of the directory and of the service's topic."""
    batches: list[Batch] = []
    auditor = await world.participant(AUDITOR)
    for channel in sorted(world.directory.channels.values(), key=lambda one: one.number):
        for topic in (*sorted(auditor.store.topics), "access"):
            reader = auditor.reader(channel, topic)
            end = await auditor.end_of(Partition(topic, channel.number))
            events = [event async for event in auditor.read(reader, end=end)]
            for event in (*events, *reader.flush(at_end=True)):
                assert isinstance(event, VerifiedBatch), event
                stream, count = event.header.stream, event.opened.manifest.count
                batches.append(Batch(topic, channel.number, event.offset, count + 1, stream))
    for topic in ("directory", "keys"):
        batches += [Batch(topic, 0, one.offset, 1) for one in await stored(world.log, Partition(topic, 0))]
    return batches
