"""Attacks on what positions bind: tables that fill up, and a thief who signs with a key of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.access import bound_positions
from broker.clock import MINUTE_US, system_clock
from broker.directory import drafts
from broker.errors import KasStopped
from broker.participant.keyring import Keyring
from broker.services.kas import channel_service
from broker.services.kas.journal import Journal
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Kind, Place
from broker.wire.manifest import AccessTerms, LateTerms, LostRange, PositionTerms, RecordOutcome, Verdict
from broker.wire.statements import KeyUse, ServiceRole
from support.asking import ask, hostile_request
from support.coalition import CARE, JUSTICE, KAS, POLICE_B, receiving_key, signing_key
from support.forgery import enter, positions_of
from support.simulator import Simulator
from support.world import World

DAY_US = 86_400_000_000


@pytest.fixture(autouse=True)
def looks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that finds the log cut needs not wait for a slow broker."""
    monkeypatch.setattr(channel_service, "LOOK_AGAIN_S", (0.0,))


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four positions that do not fit are many."""
    monkeypatch.setattr(bound_positions, "_MAX_RUNS", 4)


def date_anew(world: Simulator, place: Place) -> None:
    """The operator of the log moves a message by a day."""
    world.overwrite(place, world.row(place).appended_at + DAY_US, column="appended_at")


def forks(world: Simulator) -> list[str]:
    """The topics of channel 0 that are said to be another log."""
    return [
        one.violation.place.topic
        for one in world.replay().violations
        if one.violation.kind is Kind.LOG_FORKED
    ]


async def acknowledge(world: World) -> None:
    """An operator has looked into the alarm of channel 0."""
    assert isinstance(world.kas, KeyAccessService)
    world.kas.acknowledge_alarm(0)


async def announce(world: World) -> None:
    """The service announces a second signing key."""
    statement = drafts.announce_service_key(
        world.directory,
        service=KAS,
        role=ServiceRole.KAS,
        use=KeyUse.SIGNING,
        public_key=signing_key("new").public,
        issued_at=world.now,
    )
    keys = (*world.coalition.authority_keys, signing_key(KAS), signing_key("new"))
    await world.coalition.add_to(world.log, statement, *keys)


async def revoke(world: World) -> None:
    """The authority revokes the first one, which was stolen."""
    key_id = signing_key(KAS).key_id
    since = world.directory.size
    await world.say(
        drafts.revoke_key(
            world.directory, party=KAS, key_id=key_id, since=since, issued_at=world.now, by_authority=True
        )
    )


async def under_the_new_key(
    world: World, act: Callable[[KeyAccessService], Awaitable[object]], journal: str = "journal.db"
) -> tuple[str, ...]:
    """The service runs with its second key; its alarms."""
    keyring = Keyring.of(KAS, signing_key("new"), [receiving_key(KAS)])
    with Journal(world.folder / journal) as opened:
        participant = replace(await world.participant(KAS), keyring=keyring)
        async with KeyAccessService(participant, world.keystore(), opened) as kas:
            await act(kas)
            return kas.alarms


@pytest.mark.usefixtures("little_room")
def test_an_acknowledged_loss_leaves_room_for_the_next(world: Simulator) -> None:
    """38: Behind a change that many positions contradict, and that was acknowledged, comes a second one."""
    target = world["single 0"]
    for name in (POLICE_B, JUSTICE, CARE, POLICE_B, JUSTICE):
        world.ask(name, target.item(0))
    date_anew(world, Place("access", 0, 0))
    world.must_stop(lambda: world.ask(POLICE_B, target.item(0)), "are gone or differ")
    world.run(acknowledge)
    victim = world.ask(CARE, target.item(0)).entry
    assert victim is not None
    for name in (POLICE_B, JUSTICE, CARE):
        world.ask(name, target.item(0))
    assert forks(world) == []
    date_anew(world, Place("access", 0, victim.offset))
    assert forks(world) == ["access"]
    world.must_stop(lambda: world.ask(POLICE_B, target.item(0)), "are gone or differ")


@pytest.mark.usefixtures("little_room")
def test_false_roots_without_end(world: Simulator) -> None:
    """38: A thief signs false roots; his key is revoked, and the operator alters what a good key bound."""

    async def flood(w: World) -> None:
        await announce(w)
        await under_the_new_key(w, lambda kas: ask(w, kas, POLICE_B, [world["single 0"].item(0)]))
        true = await positions_of(w)
        for number in range(8):
            false = [replace(head, root=bytes([number]) * 32) for head in true.topics]
            await enter(w, PositionTerms(), positions=replace(true, topics=tuple(false)))
        await revoke(w)

    world.write(flood)
    assert forks(world) == []
    date_anew(world, Place("returns", 0, 0))
    assert forks(world) == ["returns"]


def test_an_equal_position_under_a_key_that_falls(world: Simulator) -> None:
    """38: The key that is revoked signed the same as a good one, and takes nothing with it."""

    async def sign_the_same(w: World) -> None:
        await announce(w)
        await under_the_new_key(w, lambda kas: ask(w, kas, POLICE_B, [world["single 0"].item(0)]))
        await enter(w, PositionTerms())
        await revoke(w)

    world.write(sign_the_same)
    assert world.replay().verified
    date_anew(world, Place("returns", 0, 0))
    assert forks(world) == ["returns"]


def test_what_only_a_revoked_key_bound_is_bound_anew(world: Simulator) -> None:
    """40: A replay counts it to the unbound tail, until the service with its next key has bound it."""
    world.ask(POLICE_B, world["single 0"].item(0))

    async def revoked(w: World) -> None:
        await announce(w)
        await revoke(w)

    async def goes_on(w: World) -> tuple[str, ...]:
        return await under_the_new_key(w, lambda kas: kas.collect())

    world.write(revoked)
    report = world.replay()
    assert report.verified
    assert 0 in report.unbound_channels(0)
    assert world.write(goes_on) == ()
    report = world.replay()
    assert report.verified
    assert report.unbound_channels(0) == ()
    date_anew(world, Place("returns", 0, 0))
    assert forks(world) == ["returns"]


def test_a_thief_explains_what_a_good_key_bound(world: Simulator) -> None:
    """39: The operator alters a message, and a thief signs that it is lost, before his key is revoked."""

    async def bind(w: World) -> None:
        await announce(w)
        await under_the_new_key(w, lambda kas: ask(w, kas, POLICE_B, [world["single 0"].item(0)]))

    async def explain(w: World) -> None:
        head = next(one for one in read.topics if one.topic == "returns")
        lost = LostRange(topic="returns", start=0, end=head.size, root=head.root)
        late = LateTerms(offset=-1, batch_id=bytes(32), messages=(), lacking=(lost,))
        await enter(w, late)
        await revoke(w)

    async def start(w: World) -> tuple[str, ...]:
        return await under_the_new_key(
            w, lambda kas: ask(w, kas, POLICE_B, [world["single 0"].item(0)]), journal="anew.db"
        )

    world.write(bind)
    read = world.write(positions_of)
    date_anew(world, Place("returns", 0, 0))
    world.write(explain)
    assert forks(world) == ["returns"]
    with pytest.raises(KasStopped, match=r"returns/0: messages 0 to \d+ are gone or differ"):
        world.write(start)


def test_nobody_is_measured_by_a_thief(world: Simulator) -> None:
    """23b: A thief's entry claims more than there is. The service, ten minutes later, has not fallen back."""
    target = world["single 0"]

    def access(w: World, at: int) -> AccessTerms:
        prepared = hostile_request(w, POLICE_B, [target.item(0)], issued_at=at)
        outcome = RecordOutcome(item=0, indexes=b"\0", verdict=Verdict.ALLOWED, reason=None)
        return AccessTerms(request=prepared.signed, outcomes=(outcome,))

    async def claim(w: World) -> None:
        await announce(w)
        true = await positions_of(w)
        more = tuple(replace(head, size=head.size + 1000) for head in true.topics)
        now = system_clock()
        await enter(w, access(w, now), positions=replace(true, topics=more), issued_at=now)
        await revoke(w)
        later = now + 11 * MINUTE_US
        await enter(w, access(w, later), key=signing_key("new"), issued_at=later)

    world.write(claim)
    assert world.replay().by_kind == {}
