"""Attacks on what a date in the log decides: on orders, and on taking batches over."""

from __future__ import annotations

import pytest

from broker.verify.violations import Place
from broker.wire.manifest import Reason
from broker.wire.terms import Action
from support.coalition import BORDER, POLICE_B
from support.forgery import Placed
from support.simulator import Simulator


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
