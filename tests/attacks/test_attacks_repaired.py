"""The log is altered, somebody reads it so, and it is repaired: everybody is told, and nothing is skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from broker.errors import KasStopped, OtherLogRead
from broker.log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.participant import Participant
from broker.services.kas import channel_service
from broker.services.kas.service import KeyAccessService
from broker.subscribe import progress
from broker.subscribe.subscriber import Delivered, Delivery, Subscriber
from broker.verify.violations import Kind, Place, Violation
from support.coalition import BORDER, POLICE_B
from support.log_file import Row, behind
from support.simulator import Simulator
from support.world import CHANNEL, World, ground


@pytest.fixture(autouse=True)
def looks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that finds the log cut needs not wait for a slow broker."""
    monkeypatch.setattr(channel_service, "LOOK_AGAIN_S", (0.0,))


def acknowledge(world: Simulator) -> None:
    """The service notices what became of the log, and its operator has looked into it."""

    async def acknowledged(opened: World) -> None:
        assert isinstance(opened.kas, KeyAccessService)
        opened.kas.acknowledge_alarm(0)

    with pytest.raises(KasStopped):
        world.ask(POLICE_B, world["single 0"].item(0))
    world.run(acknowledged)


def records(given: Sequence[Delivery]) -> Counter[tuple[bytes, int]]:
    """How often each record was delivered."""
    return Counter((one.batch_id, one.index) for one in given if isinstance(one, Delivered))


def forks(given: Sequence[Delivery]) -> list[Place]:
    """Where the log is said to be another one."""
    return [one.place for one in given if isinstance(one, Violation) and one.kind is Kind.LOG_FORKED]


def altered(world: Simulator, place: Place) -> Row:
    """A message is altered; what it was before."""
    before = world.row(place)
    world.flip(place)
    return before


def repair(world: Simulator, before: Row) -> None:
    """The message is put back."""
    world.overwrite(before.place, before.value)


def test_the_last_body_is_repaired(world: Simulator, tmp_path: Path) -> None:
    """The batch was void when it was read. Only its last message is another one, and all of it comes."""
    state = tmp_path / "state.json"
    batch = world.forge(issuer=BORDER, count=3)
    body = altered(world, behind(batch.place, 3))
    first = world.read(state=state)
    assert batch.batch_id not in {name for name, _ in records(first)}
    repair(world, body)
    acknowledge(world)
    second = world.read(state=state)
    assert forks(second) == [body.place]
    assert records(second) == {(batch.batch_id, i): 1 for i in range(3)}
    assert records(world.read(state=state)) == {}


def test_a_reader_that_stops_within_the_repaired_batch(world: Simulator, tmp_path: Path) -> None:
    """It goes on with the next record, although reading began anew behind that batch's manifest."""
    state = tmp_path / "state.json"
    batch = world.forge(issuer=BORDER, count=3)
    body = altered(world, behind(batch.place, 3))
    world.read(state=state)
    repair(world, body)
    acknowledge(world)

    async def first_record(opened: World) -> list[Delivery]:
        given: list[Delivery] = []
        subscriber = await opened.subscriber(POLICE_B, state_path=state, autocommit=False)
        async with subscriber, aclosing(subscriber.deliveries()) as items:
            async for item in items:
                given.append(item)
                if isinstance(item, Delivered):
                    await subscriber.commit(sink="one")
                    break
        return given

    async def the_rest(opened: World) -> list[Delivery]:
        return await opened.read(POLICE_B, state_path=state, autocommit=False)

    first = world.run(first_record)
    assert forks(first) == [body.place]
    rest = world.run(the_rest)
    assert not forks(rest)
    assert records(first) + records(rest) == {(batch.batch_id, i): 1 for i in range(3)}


@pytest.mark.parametrize("harm", ["body", "manifest", "hole"])
def test_a_message_in_the_middle_is_repaired(world: Simulator, tmp_path: Path, harm: str) -> None:
    """Nothing new has come and the last message is the same: what was at fault is looked at again."""
    state = tmp_path / "state.json"
    batch, other = (world.forge(issuer=BORDER, count=2) for _ in range(2))
    before = world.row(behind(batch.place, 0 if harm == "manifest" else 1))
    if harm == "hole":
        world.drop(before.place)
    else:
        world.flip(before.place)
    first = records(world.read(state=state))
    assert (other.batch_id, 0) in first
    assert (batch.batch_id, 0) not in first
    assert records(world.read(state=state)) == {}
    if harm == "hole":
        world.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", f"ftf.{before.topic}", *before[1:])
    else:
        repair(world, before)
    acknowledge(world)
    given = world.read(state=state)
    assert forks(given) == [before.place]
    assert records(given) == {(one.batch_id, i): 1 for one in (batch, other) for i in range(2)}
    assert (forks(again := world.read(state=state)), records(again)) == ([], {})


def test_faults_that_stay_are_told_once_and_change_nothing(world: Simulator, tmp_path: Path) -> None:
    """Garbage of anybody is looked at again at each start, a bounded part of it, and nothing begins anew."""
    state = tmp_path / "state.json"
    for number in range(40):
        world.append("returns", 0, (b"garbage", b"%d" % number))
        world.forge(issuer=BORDER, count=1)
    assert len([one for one in world.read(state=state) if isinstance(one, Violation)]) == 40
    assert state.read_text().count('"leaf"') == 16
    assert world.read(state=state) == []


def test_a_refused_reader_compares_all_that_it_has_read(
    world: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader had found no fault that it remembers, so that the service's refusal tells it to look."""
    monkeypatch.setattr(progress, "_MAX_FAULTS", 1)
    state = tmp_path / "state.json"
    batch, other = (world.forge(issuer=BORDER, count=1) for _ in range(2))
    body = altered(world, behind(batch.place, 1))
    world.append("returns", 0, (b"garbage", b"garbage"))
    third = world.forge(issuer=BORDER, count=1)
    assert (other.batch_id, 0) in records(world.read(state=state))
    repair(world, body)
    acknowledge(world)
    newest = world.forge(issuer=BORDER, count=1)
    given = world.read(state=state)
    assert forks(given) == [body.place]
    # What stands behind the repaired message comes a second time.
    assert records(given) == {(one.batch_id, 0): 1 for one in (batch, other, third, newest)}
    last = world.forge(issuer=BORDER, count=1)
    assert records(world.read(state=state)) == {(last.batch_id, 0): 1}


def test_what_stands_below_the_repaired_message_is_not_delivered_again(
    world: Simulator, tmp_path: Path
) -> None:
    """Reading anew passes over what is done, through however many windows."""
    state = tmp_path / "state.json"
    world.many(40, issuer=BORDER, count=1)
    batch = world.forge(issuer=BORDER, count=1)
    body = altered(world, behind(batch.place, 1))
    assert len(records(world.read(state=state))) > 40
    repair(world, body)
    acknowledge(world)
    given = world.read(state=state)
    assert (forks(given), records(given)) == ([body.place], {(batch.batch_id, 0): 1})
    assert records(world.read(state=state)) == {}


def test_who_is_shown_another_log_stays_refused(world: Simulator, tmp_path: Path) -> None:
    """While its log differs from the service's, a reader begins nothing anew, and is refused by name."""
    batch = world.forge(issuer=BORDER, count=1)
    world.forge(issuer=BORDER, count=1)
    shown = Simulator(tmp_path / "shown")
    shown.folder.mkdir()
    shown.path.write_bytes(world.path.read_bytes())
    shown.flip(behind(batch.place, 1))
    state = tmp_path / "state.json"

    given: list[Delivery] = []

    async def read(opened: World) -> None:
        async with await SqliteLog.open(shown.path) as log:
            follower = await DirectoryFollower.start(log, opened.coalition.genesis)
            reader = Participant(log=log, follower=follower, keyring=opened.keyring(POLICE_B))
            subscriber = Subscriber(
                reader, opened.kas, ground=ground(CHANNEL), state_path=state, kas_timeout_s=0.0
            )
            async with subscriber:
                async for item in subscriber.deliveries():
                    given.append(item)

    for _ in range(2):
        with pytest.raises(OtherLogRead, match="you have read another returns/0"):
            world.run(read)
    assert not forks(given)
    assert batch.batch_id not in {name for name, _ in records(given)}


def test_altered_and_repaired_again_and_again(world: Simulator, tmp_path: Path) -> None:
    """Each time the reader is told, and in the end it has everything."""
    state = tmp_path / "state.json"
    batches, given = [], []
    for _ in range(3):
        batches += [world.forge(issuer=BORDER, count=2) for _ in range(2)]
        body = altered(world, behind(batches[-2].place, 1))
        given += world.read(state=state)
        repair(world, body)
        acknowledge(world)
        batches.append(world.forge(issuer=BORDER, count=2))
        given += world.read(state=state)
    assert set(records(given)) >= {(batch.batch_id, i) for batch in batches for i in range(2)}
    assert len(forks(given)) == 3
