"""Alarms of the key access service: told once, and removed channel by channel."""

from __future__ import annotations

from pathlib import Path

from broker.services.kas.resources import Alarms
from broker.services.kas.service import KeyAccessService
from support.coalition import POLICE_A
from support.placing import place
from support.world import World


def test_an_alarm_is_told_once() -> None:
    """The same detail of a channel is one alarm; another channel with the same detail has its own."""
    alarms = Alarms()
    assert alarms.add(0, "cut", "channel 'a': cut")
    assert not alarms.add(0, "cut", "channel 'a': cut")
    assert alarms.add(1, "cut", "channel 'b': cut")
    assert alarms.texts == ("channel 'a': cut", "channel 'b': cut")


def test_acknowledging_removes_the_alarms_of_one_channel_only() -> None:
    """A channel whose alarm's text begins like another's keeps its alarms."""
    alarms = Alarms()
    alarms.add(1, "x", "channel 1: x")
    alarms.add(1, "y", "channel 1: y")
    alarms.add(2, "x", "channel 1: x of a channel named like the first")
    alarms.add(11, "x", "channel 11: x")
    alarms.clear(1)
    assert alarms.texts == ("channel 1: x of a channel named like the first", "channel 11: x")
    alarms.clear(7)
    assert len(alarms.texts) == 2


def test_no_more_than_a_thousand_alarms_are_kept() -> None:
    """However many alarms are raised, memory stays bounded."""
    alarms = Alarms()
    for number in range(1100):
        alarms.add(number % 7, f"detail {number}", f"text {number}")
    assert len(alarms.texts) == 1000


def names(kas: KeyAccessService) -> set[str]:
    """Return how each alarm of a service names its channel."""
    return {text.partition(":")[0] for text in kas.alarms}


async def test_a_service_keeps_the_alarms_of_other_channels(tmp_path: Path) -> None:
    """An operator acknowledges one channel of two that have the same alarm: the other's stays."""
    async with World.still(tmp_path) as world, world.service(without_intake=True) as kas:
        await place(world, POLICE_A)
        await place(world, POLICE_A, channel=1)
        await kas.collect()
        assert all("the intake key of day " in text for text in kas.alarms)
        assert names(kas) == {"channel 'repatriation'", "channel 'xaa-xbb'"}
        kas.acknowledge_alarm(0)
        assert names(kas) == {"channel 'xaa-xbb'"}
        kas.acknowledge_alarm(1)
        assert not kas.alarms
