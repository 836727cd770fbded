"""Attacks on what a date in the log decides: on orders, and on taking batches over."""

from __future__ import annotations

from functools import partial

import pytest

from broker.access.decisions import decide_request
from broker.clock import DAY_US, system_clock
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Place
from broker.wire.manifest import Reason
from broker.wire.terms import Action
from support.asking import hostile_request
from support.coalition import BORDER, POLICE_B
from support.forgery import Forged, Placed, publish
from support.simulator import Simulator
from support.world import CHANNEL, World


def _date(world: Simulator, order: Placed, appended_at: int) -> None:
    """Give the messages of an order another append time, as the operator of the log can on arrival."""
    for offset in (order.offset, order.offset + 1):
        where = "topic = ? AND partition = ? AND offset = ?"
        sql = f"UPDATE message SET appended_at = ? WHERE {where}"
        world.sql(sql, appended_at, f"ftf.{order.topic}", order.partition, offset)


@pytest.mark.parametrize("actions", [(Action.RECTIFY, Action.RESTRICT), (Action.RESTRICT, Action.RECTIFY)])
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_restriction_by_the_dates_of_the_log(
    world: Simulator, actions: tuple[Action, Action], earlier: int
) -> None:
    """29: The operator dates one order before the other, and the record stays restricted whichever it is."""
    target = world["single 0"]
    orders = [world.order(BORDER, action, target.batch_id) for action in actions]
    placed = orders[earlier]
    at = world.row(Place(placed.topic, placed.partition, orders[1 - earlier].offset)).appended_at
    _date(world, placed, at - 1000)
    world.must_be_denied(world.ask(POLICE_B, target.item(0)), Reason.RESTRICTED)


@pytest.mark.parametrize("years", [-30, 30])
def test_a_batch_dated_decades_ahead(world: Simulator, years: int) -> None:
    """29: A batch that the log dates decades before or ahead is taken over and released like any other."""
    placed = world.forge(issuer=BORDER, count=1)
    at = world.row(placed.place).appended_at
    _date(world, placed, at + years * 365 * 86_400_000_000)
    answer = world.ask(POLICE_B, placed.item(0))
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    assert world.replay().verified


_CEILING_DAYS = 3650


async def _kept_for_centuries(world: World) -> Placed:
    """A batch whose issuer dates it two hundred years ahead, and so keeps it for as long."""
    ahead = system_clock() + 200 * 365 * DAY_US
    day = ahead // DAY_US
    terms = {"review_by": day + 1, "erase_by": day + 3000}
    placed = await publish(world, Forged(issuer=BORDER, count=1, header={"issued_at": ahead}, terms=terms))
    assert isinstance(world.kas, KeyAccessService)
    await world.kas.collect()
    return placed


def test_a_manifest_dated_centuries_ahead(world: Simulator) -> None:
    """32: The ceiling counts from the COLLECTION entry too, so that the record expires in time."""
    placed = world.run(_kept_for_centuries)
    answer = world.ask(POLICE_B, placed.item(0))
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    assert world.replay().verified
    for days, reason in ((_CEILING_DAYS - 1, None), (_CEILING_DAYS + 1, Reason.EXPIRED)):
        assert world.run(partial(_decided_later, placed, days)) is reason


async def _decided_later(placed: Placed, days: int, world: World) -> Reason | None:
    """What the service would decide so many days from now."""
    assert isinstance(world.kas, KeyAccessService)
    request = hostile_request(world, POLICE_B, [placed.item(0)]).request
    state = await world.kas.channel_service(world.directory.channels[CHANNEL]).apply()
    now = world.clock() + days * DAY_US
    (decision,) = decide_request(request, world.directory, state.records, placed.partition, now).values()
    return decision.reason
