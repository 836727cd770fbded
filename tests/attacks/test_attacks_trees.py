"""Attacks of the log's operator against what the key access service had read: positions bind all below."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.clock import MINUTE_US, system_clock
from broker.directory import drafts
from broker.errors import KasStopped
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Kind, Place
from broker.wire.manifest import AccessTerms, Reason, RecordOutcome, Verdict
from broker.wire.terms import Action
from support.asking import hostile_request
from support.coalition import BORDER, CARE, JUSTICE, POLICE_B
from support.forgery import positions_of
from support.simulator import Simulator
from support.world import World


def _readings(world: Simulator) -> list[int]:
    """Three readings, each by a service of its own, as each command with ``local:`` is one; their entries."""
    target = world["single 0"]
    offsets = []
    for name in (POLICE_B, JUSTICE, CARE):
        entry = world.ask(name, target.item(0)).entry
        assert entry is not None
        offsets.append(entry.offset)
    return offsets


def _copy_over(world: Simulator, source: int, target: int) -> None:
    for i in (0, 1):
        row = world.row(Place("access", 0, source + i))
        world.overwrite(Place("access", 0, target + i), row.key, column="key")
        world.overwrite(Place("access", 0, target + i), row.value)


def _forked_in(world: Simulator, topic: str) -> Sequence[Place]:
    report = world.replay()
    assert not report.verified
    return [
        one.violation.place
        for one in report.violations
        if one.violation.kind is Kind.LOG_FORKED and one.violation.place.topic == topic
    ]


def test_a_reading_is_cut_out_of_the_middle(world: Simulator) -> None:
    """38: A reading that is the only entry of its stream is cut out, and the offsets are closed up."""
    _, victim, _ = _readings(world)
    world.drop(Place("access", 0, victim), 2, close_up=True)
    (place,) = _forked_in(world, "access")
    assert place.offset <= victim


def test_a_reading_is_overwritten_by_its_neighbour(world: Simulator) -> None:
    """38: A reading is overwritten by a copy of the one before, which alone would count as a repeat."""
    first, victim, _ = _readings(world)
    _copy_over(world, first, victim)
    (place,) = _forked_in(world, "access")
    assert place.offset <= victim


def test_two_readings_are_exchanged(world: Simulator) -> None:
    """38: Two readings change their places."""
    first, second, _ = _readings(world)
    for i in (0, 1):
        world.swap(Place("access", 0, first + i), Place("access", 0, second + i))
    assert _forked_in(world, "access")


@pytest.mark.parametrize("by_ms", [-60_000, -1, 1, 60_000])
@pytest.mark.parametrize("topic", ["returns", "access", "directory"])
def test_a_message_is_dated_anew(world: Simulator, topic: str, by_ms: int) -> None:
    """38: An append time that is bound is changed by a millisecond, or by a minute."""
    _readings(world)
    place = Place(topic, 0, 0)
    world.overwrite(place, world.row(place).appended_at + by_ms, column="appended_at")
    assert not world.replay().verified


def test_a_suspension_under_a_null_key(world: Simulator) -> None:
    """38: The key of a suspension's message is made null, so that later readers void it."""
    world.suspend(BORDER)
    suspension = Place("directory", 0, world.end("directory", 0).offset - 1)
    _readings(world)
    assert world.replay().verified
    world.overwrite(suspension, None, column="key")
    assert not world.replay().verified


def test_a_running_service_notices_an_overwritten_reading(world: Simulator) -> None:
    """38: A service that is restarted compares what it had signed, and stops until an operator has looked."""
    first, victim, _ = _readings(world)
    _copy_over(world, first, victim)
    with pytest.raises(KasStopped, match=r"are gone or differ|was cut"):
        world.ask(POLICE_B, world["single 0"].item(0))


def test_an_erasure_that_was_taken_over_is_not_forgotten(world: Simulator) -> None:
    """39: An order that a COLLECTION lists is cut from its topic; a service that starts anew stops."""
    target = world["single 0"]
    order = world.order(BORDER, Action.ERASE, target.batch_id)
    world.must_be_denied(world.ask(POLICE_B, target.item(0)), Reason.ERASED)
    world.cut_tail(order.place)
    world.must_stop(lambda: world.ask(POLICE_B, target.item(0)), "are gone or differ")


def test_an_acknowledged_cut_does_not_hide_the_next_one(world: Simulator) -> None:
    """39: An operator acknowledges one cut, and the cut of another topic stops the service again."""
    target = world["single 0"]
    order = world.order(BORDER, Action.ERASE, target.batch_id)
    world.must_be_denied(world.ask(POLICE_B, target.item(0)), Reason.ERASED)
    world.cut_tail(world["justice"].place)
    world.must_stop(lambda: world.ask(POLICE_B, target.item(0)), "justice/0")

    async def acknowledge(w: World) -> None:
        assert isinstance(w.kas, KeyAccessService)
        w.kas.acknowledge_alarm(0)

    world.run(acknowledge)
    answer = world.ask(POLICE_B, target.item(0))
    assert {(one.reason, one.released) for one in answer.outcomes.values()} == {(Reason.ERASED, False)}
    world.cut_tail(order.place)
    world.must_stop(lambda: world.ask(POLICE_B, target.item(0)), f"{order.topic}/0")


def test_a_late_entry_explains_nothing_that_is_signed_behind_it(world: Simulator) -> None:
    """39: Behind an acknowledged loss the log is bound again, and a second change there is found."""
    _readings(world)
    world.cut_tail(world["order"].place)
    world.read_all()
    known = world.replay()
    assert known.by_kind[Kind.LATE_ENTRY] == 1
    assert not [one for one in known.violations if one.violation.kind is Kind.LOG_FORKED]
    place = world["single 0"].place
    world.overwrite(place, world.row(place).appended_at + 1, column="appended_at")
    assert _forked_in(world, "returns")


def test_a_decision_on_an_old_state_in_a_new_stream(world: Simulator) -> None:
    """23b: A service begins a new stream and names positions from before an erasure, ten minutes later."""
    target = world["single 0"]

    async def now(w: World) -> object:
        return await positions_of(w)

    old = world.run(now)
    world.order(BORDER, Action.ERASE, target.batch_id)
    world.must_be_denied(world.ask(POLICE_B, target.item(0)), Reason.ERASED)

    async def enter(w: World) -> AccessTerms:
        later = system_clock() + 11 * MINUTE_US
        prepared = hostile_request(w, POLICE_B, [target.item(0)], issued_at=later)
        outcome = RecordOutcome(item=0, indexes=b"\0", verdict=Verdict.ALLOWED, reason=None)
        return AccessTerms(request=prepared.signed, outcomes=(outcome,))

    terms = world.run(enter)
    place = world.enter(terms, positions=old, issued_at=system_clock() + 11 * MINUTE_US)
    world.must_report(Kind.ACCESS_POSITIONS, place, delivers=False)


def test_a_requester_who_was_shown_another_log_is_refused(world: Simulator) -> None:
    """38: Two participants who are shown two logs notice it as soon as one asks the other."""
    target = world["single 0"]

    async def ask(w: World) -> None:
        positions = await positions_of(w)
        head = next(one for one in positions.topics if one.topic == "returns")
        forged = type(head)(topic=head.topic, size=head.size, root=bytes(32))
        request = hostile_request(w, POLICE_B, [target.item(0)], seen=(forged,))
        await w.kas.access(request.request_bytes, request.details_bytes)

    world.must_be_refused(lambda: world.run(ask), "you have read another returns/0")


def test_what_no_position_binds_is_told(world: Simulator) -> None:
    """40: A replay says how many messages stand above the newest positions, and how old these are."""
    before = world.replay()
    assert before.unbound_channels(0) == ()
    world.forge(issuer=BORDER, count=2)
    report = world.replay()
    assert report.verified
    (tail,) = [one for one in report.bound if one.topic == "returns" and one.partition == 0]
    assert (tail.messages, tail.news) == (3, 3)
    assert report.unbound_channels(0) == (0,)
    assert report.position_age_us is not None


def test_a_directory_statement_is_still_valid_behind_garbage(world: Simulator) -> None:
    """41: Garbage in the directory makes no view, and a statement behind it counts as before."""
    world.append("directory", 0, (b"", b"garbage"), (None, None))
    world.say(lambda d, now: drafts.suspend_agency(d, agency=BORDER, reason="exercise", issued_at=now))
    assert [one.violation.kind for one in world.replay().violations] == [Kind.DIRECTORY_STATEMENT] * 2
