"""What the service holds in ftf.keys is lost: it says so, by name, and puts back what it still has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from broker.access.answers import Outcome
from broker.log.protocol import Message, Partition
from broker.services.kas.custody import SHARES_GONE
from broker.wire.manifest import Reason, Verdict
from support.asking import ask
from support.coalition import POLICE_A, POLICE_B
from support.log_file import LogFile
from support.looking import stored
from support.placing import place
from support.world import World

KEYS = Partition("keys", 0)
NOT_HELD = Outcome(Verdict.ALLOWED, Reason.NOT_HELD, False)
RELEASED = Outcome(Verdict.ALLOWED, None, True)


def empty_keys(world: World) -> None:
    """The operator deletes the topic and makes it anew."""
    LogFile(world.folder).sql("DELETE FROM message WHERE topic = 'ftf.keys'")


def named(lines: list[Any], event: str) -> list[Any]:
    """The log lines about an event."""
    return [line for line in lines if line["event"] == event]


async def test_a_service_that_starts_names_the_shares_that_are_gone(tmp_path: Path) -> None:
    """K11: Once, with the place and the originator of each batch; what is taken over later is released."""
    async with World.still(tmp_path) as world:
        lost = await place(world, POLICE_A)
        async with world.service() as kas:
            await kas.collect()
        empty_keys(world)
        new = await place(world, POLICE_A)
        world.advance(2)
        async with world.service() as kas:
            with capture_logs() as lines:
                await kas.collect()
                await kas.collect()
            (line,) = named(lines, "shares are gone")
            assert (line["batches"], line["log_level"]) == (1, "error")
            assert line["first"] == [f"returns@{lost.offset} of {POLICE_A}"]
            assert not kas.alarms
            answer = await ask(world, kas, POLICE_B, [lost.item(0), new.item(0)])
            assert list(answer.outcomes.values()) == [NOT_HELD, RELEASED]
            assert kas.alarms == (f"channel 'repatriation': {SHARES_GONE}",)
            await ask(world, kas, POLICE_B, [new.item(0)])  # the channel is not stopped


async def test_one_value_is_lost(tmp_path: Path) -> None:
    """Whoever writes a null for a batch takes its shares away, and the alarm says so."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
        await world.log.append(KEYS, [Message(batch.batch_id, None)])
        async with world.service() as kas:
            with capture_logs() as lines:
                answer = await ask(world, kas, POLICE_B, [batch.item(0)])
            assert list(answer.outcomes.values()) == [NOT_HELD]
            (line,) = named(lines, "held release unusable")
            assert line["batch"] == batch.batch_id.hex()
            assert kas.alarms == (f"channel 'repatriation': {SHARES_GONE}",)


async def test_a_running_service_writes_again_what_it_holds(tmp_path: Path) -> None:
    """The topic is emptied under a service that has read it: it notices, and nothing is lost."""
    async with World.still(tmp_path) as world:
        first, second = await place(world, POLICE_A), await place(world, POLICE_A)
        async with world.service() as kas:
            await kas.collect()
            empty_keys(world)
            other = await place(world, POLICE_A)
            async with world.service() as replica:  # which holds nothing of the first two
                await ask(world, replica, POLICE_B, [other.item(0)])
            with capture_logs() as lines:
                await kas.collect()
            assert named(lines, "ftf.keys was cut or made anew")
            assert [line["count"] for line in named(lines, "values of ftf.keys were written again")] == [2]
            assert not named(lines, "shares are gone")
        assert {one.key for one in await stored(world.log, KEYS)} == {
            batch.batch_id for batch in (first, second, other)
        }
        async with world.service() as kas:
            answer = await ask(world, kas, POLICE_B, [batch.item(0) for batch in (first, second, other)])
            assert list(answer.outcomes.values()) == [RELEASED] * 3
            assert not kas.alarms
