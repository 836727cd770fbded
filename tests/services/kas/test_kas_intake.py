"""Intake keys: a batch is taken over while its key exists, and keys that are over are destroyed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.clock import DAY_US
from broker.errors import KasStopped
from broker.services.kas.custody import KeyMissing, intake_over_at, take_over
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.wire.manifest import CollectionStatus, CollectionTerms
from support.coalition import KAS, POLICE_A, Coalition
from support.looking import access_terms, access_violations
from support.partition_log import PartitionLog, batches, scan
from support.placing import place
from support.world import World

COLLECTED = CollectionStatus.COLLECTED
REFUSED = CollectionStatus.REFUSED


def _is_kept(world: World, day: int) -> bool:
    return day in world.keystore().intake_days()


async def _listed(world: World) -> list[tuple[bytes, CollectionStatus, str]]:
    """What the access log says of each batch, in its order."""
    entries = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
    return [(one.batch_id, one.status, one.detail) for entry in entries for one in entry.batches]


def _until_over(world: World, day: int) -> float:
    return (intake_over_at(day) - world.now) / 1_000_000


async def test_no_date_of_the_log_refuses_a_batch(tmp_path: Path) -> None:
    """A batch is taken over whatever append time the log gives it, and refused once its key is destroyed."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    written.publish(POLICE_A)
    (batch,) = batches(scan(coalition, written.messages))
    store = KeyStore(tmp_path / "kas", coalition.genesis, coalition.keys_of(KAS), b"passphrase")
    for day, key in coalition.intake.items():
        store.add_intake_key(day, key)
    for at in (0, batch.appended_at, (coalition.day + 3) * DAY_US, (coalition.day + 90_000) * DAY_US):
        dated = replace(batch, appended_at=at)
        assert take_over(dated, coalition.directory, store).listed.status is COLLECTED
    store.destroy_intake_key(coalition.day)
    taken = take_over(batch, coalition.directory, store)
    assert (taken.listed.status, taken.secret, taken.is_too_late) == (REFUSED, None, True)
    assert taken.listed.detail == f"the intake key of day {coalition.day} is destroyed"
    lost = KeyStore(tmp_path / "lost", coalition.genesis, coalition.keys_of(KAS), b"passphrase")
    with pytest.raises(KeyMissing):
        take_over(batch, coalition.directory, lost)


async def test_a_key_is_destroyed_two_days_after_its_day(tmp_path: Path) -> None:
    """By the service's own clock; what comes under it afterwards is refused, and the log verifies."""
    async with World.still(tmp_path) as world, world.service() as kas:
        day = world.day
        first = await place(world)
        await kas.collect()
        world.advance(_until_over(world, day) - 1)
        late = await place(world, intake_day=day)
        await kas.collect()
        assert _is_kept(world, day)
        world.advance(3)
        await kas.collect()
        assert not _is_kept(world, day)
        assert _is_kept(world, day + 1)
        too_late = await place(world, intake_day=day)
        world.advance(2)
        await kas.collect()
        detail = f"the intake key of day {day} is destroyed"
        assert await _listed(world) == [
            (first.batch_id, COLLECTED, ""),
            (late.batch_id, COLLECTED, ""),
            (too_late.batch_id, REFUSED, detail),
        ]
        assert await access_violations(world) == []
        assert kas.alarms == ()


async def test_a_service_that_slept_takes_over_before_it_destroys(tmp_path: Path) -> None:
    """A service that starts weeks later takes over what was published meanwhile, and destroys keys then."""
    async with World.still(tmp_path) as world:
        day = world.day
        batches = [await place(world, topic=topic) for topic in ("returns", "justice")]
        world.advance(20 * 86_400)
        async with world.service() as kas:
            await kas.collect()
            assert [status for _, status, _ in await _listed(world)] == [COLLECTED] * len(batches)
            assert not _is_kept(world, day)


async def test_a_stopped_channel_keeps_the_keys(tmp_path: Path) -> None:
    """While one channel is stopped by an alarm, no intake key is destroyed."""
    async with World.still(tmp_path) as world, world.service() as kas:
        day = world.day
        await place(world)
        await kas.collect()
        channel = world.directory.channel_at(0)
        assert channel is not None
        with pytest.raises(KasStopped):
            await kas.channel_service(channel)._sound_alarm("the access log was cut")
        world.advance(_until_over(world, day) + 2)
        await kas.collect()
        assert _is_kept(world, day)
        kas.acknowledge_alarm(0)
        await place(world, intake_day=day, topic="justice")
        await kas.collect()
        assert [status for _, status, _ in await _listed(world)] == [COLLECTED, COLLECTED]
        assert not _is_kept(world, day)


async def test_one_process_destroys_what_another_has_not_read(tmp_path: Path) -> None:
    """A process that lags behind reads on, before it refuses a batch because another destroyed its key."""
    async with World.still(tmp_path) as world, world.service() as slow, world.service() as fast:
        day = world.day
        first = await place(world)
        await slow.collect()
        second = await place(world)
        await slow.collect()  # within a second of its last entry, so the batch waits
        await fast.collect()
        world.advance(_until_over(world, day) + 2)
        await fast.collect()
        assert not _is_kept(world, day)
        await _collect_anyway(world, slow)
        assert await _listed(world) == [(first.batch_id, COLLECTED, ""), (second.batch_id, COLLECTED, "")]
        assert await access_violations(world) == []


async def _collect_anyway(world: World, kas: KeyAccessService) -> None:
    """Have a service list what waits for it, without reading the logs first."""
    channel = world.directory.channel_at(0)
    assert channel is not None
    service = kas.channel_service(channel)
    async with service.turn:
        state = service._state
        assert state is not None
        assert len(state.pending) == 1
        await service._collect_once(state)
