"""The log that attacks are made on: a coalition at work, played once in a run of the tests, and right."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from broker.directory import HighWater
from broker.publish.publisher import Published
from broker.services.kas.service import KeyAccessService
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivered
from broker.verify.violations import Place, Violation
from broker.wire.manifest import Operation, RecordItem
from broker.wire.terms import Action, HandlingCode, Purpose
from broker.wire.terms import Target as Order
from support.coalition import (
    BORDER,
    CARE,
    JUSTICE,
    POLICE_A,
    POLICE_B,
    REHAB,
)
from support.words import details
from support.world import CHANNEL, PAIR, World, ground

__all__ = ["DELIVERED_TO", "Played", "Target", "manifest_ids", "played"]

DELIVERED_TO = {CHANNEL: POLICE_B, PAIR: POLICE_A, "xbb-xdd": REHAB}
"""Who subscribes to each channel in the simulator."""


class Target(NamedTuple):
    """A batch of the played log: its manifest's place, its name, and how many records it has."""

    place: Place
    batch_id: bytes
    records: int

    def item(self, *indexes: int) -> RecordItem:
        """These records of it, as a request names them."""
        return RecordItem(
            topic=self.place.topic, offset=self.place.offset, batch_id=self.batch_id, indexes=bytes(indexes)
        )


@dataclass(frozen=True, slots=True)
class Played:
    """The folder of the played log, what everybody is delivered from it, and its batches by name."""

    folder: Path
    delivered: frozenset[tuple[bytes, int]]
    batches: dict[str, Target]
    genesis: bytes
    high_water: HighWater


@cache
def played() -> Played:
    """The log as it was played; nothing in it is wrong."""
    return asyncio.run(_play(Path(tempfile.mkdtemp(prefix="ftf-attacks-"))))


async def _play(folder: Path) -> Played:
    batches: dict[str, Target] = {}

    def take(name: str, published: Sequence[Published]) -> None:
        first = published[0]
        place = Place(first.topic, first.partition, first.offset)
        batches[name] = Target(place, first.batch_id, len(published))

    async with World.open(folder) as world:
        kas = world.kas
        assert isinstance(kas, KeyAccessService)
        async with world.publisher(POLICE_A) as police, world.publisher(BORDER, max_records=1) as border:
            for turn in range(3):
                tickets = [await police.publish(CHANNEL, world.record(10 * turn + i)) for i in range(3)]
                await police.flush()
                take(f"family {turn}", [await one for one in tickets])
                single = await border.publish(CHANNEL, world.record(100 + turn))
                await border.flush()
                take(f"single {turn}", [await single])
            codes = {"handling.codes": [HandlingCode.H1]}
            h1 = await police.publish(CHANNEL, world.record(50, changes=codes))
            await police.flush()
            take("h1", [await h1])
        releasable = world.record(60, changes={"handling.releasable_to": [JUSTICE, POLICE_B]})
        take("releasable", await world.publish_records([releasable], CARE))
        take("justice", await world.publish_records([world.record(61, "JusticeMeasure")], JUSTICE))
        take("pair", await world.publish(2, first=70, name=POLICE_B, channel=PAIR))
        welfare = [world.record(80 + i, "RehabilitationEvent") for i in range(2)]
        take("welfare", await world.publish_records(welfare, REHAB, "xbb-xdd"))
        await kas.collect()
        withdrawn = batches["family 0"]
        order = world.order(Action.WITHDRAW, Order(batch_id=withdrawn.batch_id, index=2))
        take("order", await world.publish_records([order]))
        for channel, name in DELIVERED_TO.items():
            await world.read(name, channel)
        mandate = Ground(
            channel=CHANNEL,
            purpose=Purpose.PREVENTION,
            operation=Operation.DISCLOSURE,
            details=details,
            mandate_ref="XBB-2024-17",
        )
        await world.read(POLICE_B, ground=mandate)
        await world.read(CARE, ground=ground(CHANNEL, Purpose.PROSECUTION))  # H1 denies some
        take("last", await world.publish(1, first=90, name=BORDER))
        await kas.collect()
        everything: set[tuple[bytes, int]] = set()
        for channel, name in DELIVERED_TO.items():
            items = await world.read(name, channel)
            assert not [one for one in items if isinstance(one, Violation)], items
            everything |= {(one.batch_id, one.index) for one in items if isinstance(one, Delivered)}
        follower = await world.follower()
    return Played(folder, frozenset(everything), batches, world.coalition.genesis, follower.high_water)


@cache
def manifest_ids() -> dict[Place, bytes]:
    """The manifest id at the place of each message of the played log."""
    with closing(sqlite3.connect(played().folder / "log.db")) as db:
        found = db.execute("SELECT topic, partition, offset, key FROM message").fetchall()
    return {Place(row[0].removeprefix("ftf."), row[1], row[2]): row[3][:16] for row in found if row[3]}
