"""Attacks that would have an honest party accused: by bytes that it did not sign, or for being late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from broker.access.answers import open_collection_answer
from broker.access.requests import make_query
from broker.audit.replay import ReplayReport, replay
from broker.clock import DAY_US, HOUR_US, MINUTE_US, system_clock
from broker.crypto.sign import SigningKey
from broker.directory import Directory, confirm_channel_keys, drafts, header_for, make_channel_keys
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.publish.publisher import Published
from broker.subscribe.subscriber import Delivered, Violation
from broker.verify.violations import Kind
from broker.wire.access import BatchRef
from broker.wire.manifest import (
    AccessTerms,
    Collected,
    CollectionStatus,
    CollectionTerms,
    PositionTerms,
    RecordItem,
    RecordOutcome,
    Verdict,
)
from broker.wire.statements import AgencySuspended, KeyUse
from broker.wire.terms import Action, Target
from support.asking import hostile_request
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    KAS,
    POLICE_A,
    POLICE_B,
    REHAB,
    receiving_key,
    signing_key,
)
from support.forgery import Forged, Placed, publish
from support.played import played
from support.simulator import Simulator
from support.world import CHANNEL, World


def must_name_nobody(world: Simulator, name: str = POLICE_A) -> None:
    """Neither the auditor nor a subscriber says anything of this party."""
    report, given = world.observe()
    details = [entry.violation.detail for entry in report.violations]
    details += [item.detail for item in given if isinstance(item, Violation)]
    assert details
    assert not [detail for detail in details if name in detail], details


# bytes that somebody else wrote


@pytest.mark.parametrize(
    "header",
    [{}, {"directory_root": b"\x07" * 32}, {"directory_size": 10_000}, {"sequence": 7}, {"issued_at": 1}],
    ids=["nothing", "another directory", "a larger directory", "a gap", "its time"],
)
def test_a_member_forges_a_colleague_s_manifest(world: Simulator, header: dict[str, object]) -> None:
    """v: A member seals what a colleague never signed; it is unaccounted and names nobody."""
    place = world.publish(issuer=POLICE_A, key=signing_key(CARE), header=header)
    world.must_be_void(Kind.UNACCOUNTED, place)
    must_name_nobody(world)


@dataclass(frozen=True)
class _NoKey:
    """The public half of a key, and a signature that it did not make."""

    public: bytes
    key_id: bytes

    def sign(self, kind: str, genesis: bytes, content: bytes) -> bytes:
        return b"\1" * 64


def test_a_manifest_under_a_revoked_key_that_nobody_signed(world: Simulator) -> None:
    """v: The id of a revoked key is public, and a manifest that only names it accuses nobody."""
    old = signing_key("police old")

    async def revoke(w: World) -> None:
        added = drafts.add_key(
            w.directory, party=POLICE_A, use=KeyUse.SIGNING, public_key=old.public, issued_at=w.coalition.now
        )
        await w.coalition.add_to(w.log, added, signing_key(POLICE_A), old)
        revoked = drafts.revoke_key(
            w.directory,
            party=POLICE_A,
            key_id=old.key_id,
            since=w.directory.size,
            issued_at=w.coalition.now,
        )
        header = header_for(w.directory, POLICE_A, issued_at=w.coalition.now)
        await w.coalition.add_to(w.log, replace(revoked, header=header), signing_key(POLICE_A))

    world.write(revoke)
    unsigned: SigningKey = _NoKey(old.public, old.key_id)  # type: ignore[assignment]
    place = world.publish(issuer=POLICE_A, key=unsigned)
    world.must_be_void(Kind.UNACCOUNTED, place)
    must_name_nobody(world)


def test_more_than_one_forgery_in_a_row(world: Simulator) -> None:
    """v: Two forgeries, one behind the other, are one run of unaccounted messages."""
    first = world.publish(issuer=POLICE_A, key=signing_key(CARE))
    world.publish(issuer=POLICE_A, key=signing_key(CARE))
    world.must_be_void(Kind.UNACCOUNTED, first)
    must_name_nobody(world)


def test_a_claimed_view_of_the_directory_is_nobody_s_fault(world: Simulator) -> None:
    """v: What claims another view in the authority's name, unsigned, is the root of no other statement."""

    def suspension(directory: Directory, now: int) -> AgencySuspended:
        return drafts.suspend_agency(directory, agency=POLICE_A, reason="x", issued_at=now)

    def elsewhere(directory: Directory, now: int) -> AgencySuspended:
        made = suspension(directory, now)
        return replace(made, header=replace(made.header, directory_root=b"\x07" * 32))

    forged = world.say_anyway(elsewhere, signing_key(CARE))
    other = world.say_anyway(suspension, signing_key(CARE))
    world.must_report(Kind.DIRECTORY_STATEMENT, forged, other, delivers=True)


# races


async def answers(w: World, name: str, *batches: Placed) -> tuple[Collected, ...]:
    """What the service answers to the publisher of these batches."""
    directory = (await w.follower()).history.latest
    refs = [BatchRef(topic=one.topic, offset=one.offset, batch_id=one.batch_id) for one in batches]
    query, query_bytes = make_query(
        name, signing_key(name), directory, channel=CHANNEL, batches=refs, now=system_clock()
    )
    return open_collection_answer(await w.kas.collections(query_bytes), query, directory)


async def raced(w: World, issuer: str = REHAB, **how: object) -> Placed:
    """An honest batch that another one overtook, which had read of the issuer's suspension."""
    before = w.directory
    await w.suspend(issuer)
    await w.publish(1, first=800, name=BORDER)
    forged = Forged(issuer=issuer, view=before, **{"count": 1, **how})  # type: ignore[arg-type]
    return await publish(w, forged)


def test_an_honest_batch_that_a_race_made_late(world: Simulator) -> None:
    """w: Nobody is accused by a race, and the publisher learns that its batch came too late."""

    async def race(w: World) -> tuple[Placed, tuple[Collected, ...]]:
        placed = await raced(w)
        return placed, await answers(w, REHAB, placed)

    placed, (answer,) = world.run(race)
    assert answer.status is CollectionStatus.STALE
    world.must_be_stale(placed.place, REHAB)


def test_a_late_order_is_told(world: Simulator) -> None:
    """w: An order that came too late does not count, so that the replay says so at once."""
    terms = {"action": Action.WITHDRAW, "targets": (Target(batch_id=bytes(32), index=0),)}
    placed = world.run(lambda w: raced(w, bodies=[b""], terms=terms))
    world.must_report(Kind.STALE_BATCH, placed.place, delivers=False)


def test_a_batch_that_only_names_a_late_order_does_not_replace_it(world: Simulator) -> None:
    """w: Whoever stands in for a stale batch repeats its records and orders, or it counts as not repeated."""
    terms = {"action": Action.WITHDRAW, "targets": (Target(batch_id=bytes(32), index=0),)}

    async def run(w: World) -> Placed:
        before = w.directory
        late = await raced(w, bodies=[b""], terms=terms)
        other = Forged(issuer=REHAB, view=before, count=1, manifest={"instead_of": late.batch_id})
        await publish(w, other)
        return late

    late = world.run(run)
    world.must_report(Kind.STALE_BATCH, late.place, delivers=False)


def test_what_nobody_publishes_anew_is_told_after_a_day(world: Simulator) -> None:
    """w: A stale batch without a successor is a violation once it is older than a day."""
    placed = world.run(lambda w: raced(w, header={"issued_at": system_clock() - DAY_US - HOUR_US}))
    world.ask(POLICE_B, world["family 1"].item(0))
    world.must_report(Kind.STALE_BATCH, placed.place, delivers=False)


def test_late_without_end(world: Simulator) -> None:
    """w: Five minutes after a change is known in the access log, nothing is excused by it any more."""
    before = world.directory()
    world.suspend(CARE)
    world.forge(issuer=BORDER)
    known_at = system_clock()
    in_time = world.publish(issuer=CARE, view=before)
    world.enter(PositionTerms(), issued_at=known_at)
    in_grace = world.publish(issuer=CARE, view=before)
    world.enter(PositionTerms(), issued_at=known_at + 5 * MINUTE_US)
    too_late = world.publish(issuer=CARE, view=before)
    report = world.replay()
    assert [batch.offset for _, batch in report.stale] == [in_time.offset, in_grace.offset]
    found = [(one.violation.kind, one.violation.place) for one in report.violations]
    assert found == [(Kind.NOT_ENTITLED, too_late)]


def test_a_publisher_publishes_anew_what_came_too_late(world: Simulator) -> None:
    """w: The record arrives once, in a batch that names the stale one; nothing is reported."""

    async def race(w: World) -> tuple[Published, Published, Collected]:
        async with w.publisher(CARE) as publisher:
            ticket = await publisher.publish(CHANNEL, w.record(900))
            publisher._admission._refreshed_at = float("inf")  # It reads nothing more of the directory,
            for agency in (JUSTICE, REHAB):
                await w.suspend(agency)
                await w.next_epoch(CHANNEL, POLICE_A)
            await w.publish(1, first=801, name=BORDER)
            await publisher.flush()
            publisher._admission._refreshed_at = float("-inf")  # and now it does again.
            first = await ticket
            (answer,) = await publisher.collected([first], w.kas)
            return first, await ticket, answer

    first, second, answer = world.run(race)
    assert answer.status is CollectionStatus.COLLECTED
    assert (answer.batch_id, answer.offset) == (second.batch_id, second.offset)
    assert second.batch_id != first.batch_id
    assert second.record_id == first.record_id
    report, given = world.observe()
    assert report.verified, report.violations
    assert (report.counts.stale, report.stale) == (1, ())
    assert [one.batch_id for one in given if isinstance(one, Delivered)].count(second.batch_id) == 1
    assert not [one for one in given if isinstance(one, Violation)]


def test_a_batch_that_every_reader_voids(world: Simulator) -> None:
    """w: Its publisher is told VOID and why, and so waits for nothing."""

    async def run(w: World) -> tuple[Collected, ...]:
        void = await publish(w, Forged(issuer=CARE, header={"directory_root": b"\x07" * 32}))
        good = await publish(w, Forged(issuer=CARE))
        ahead = replace(good, place=good.place._replace(offset=good.offset + 50))
        return await answers(w, CARE, void, good, ahead)

    void, good, ahead = world.run(run)
    assert (void.status, good.status) == (CollectionStatus.VOID, CollectionStatus.COLLECTED)
    assert "saw another directory" in void.detail
    assert ahead.status is CollectionStatus.UNKNOWN


# late auditors


def replay_as(world: Simulator, name: str) -> ReplayReport:
    """What an auditor of this name finds."""

    async def run() -> ReplayReport:
        async with await SqliteLog.open(world.path) as log:
            follower = await DirectoryFollower.start(log, played().genesis)
            keyring = Keyring.of(name, signing_key(name), [receiving_key(name)])
            return await replay(Participant(log=log, follower=follower, keyring=keyring))

    return asyncio.run(run())


def appoint(world: Simulator, name: str = "auditor-two") -> str:
    """A second auditor, who holds no key of what was written before."""

    async def run(w: World) -> None:
        statement = drafts.appoint_auditor(
            w.directory,
            auditor=name,
            title="second",
            signing_key=signing_key(name).public,
            receiving_key=receiving_key(name).public,
            channels=[CHANNEL],
            issued_at=w.coalition.now,
        )
        await w.coalition.add_to(w.log, statement, *w.coalition.authority_keys, signing_key(name))
        await w.next_epoch(CHANNEL, POLICE_A)

    world.write(run)
    return name


def test_an_auditor_who_came_late_accuses_nobody(world: Simulator) -> None:
    """e3: An access to a record that it cannot open is not judged, and neither is its listing."""
    late = appoint(world)
    assert replay_as(world, late).verified
    world.ask(POLICE_B, world["single 0"].item(0))
    world.ask(POLICE_B, world["family 0"].item(2))
    report = replay_as(world, late)
    assert report.verified, report.violations
    assert report.counts.not_judged == 2
    first = replay_as(world, AUDITOR)
    assert first.verified, first.violations
    assert first.counts.not_judged == 0


def test_a_late_auditor_still_finds_what_it_can_see(world: Simulator) -> None:
    """e3: A record that never was is reported, and so is a decision that hangs on no sealed message."""
    late = appoint(world)
    published = world.run(lambda w: w.publish(1, first=700, name=BORDER))[0]
    item = RecordItem(
        topic=published.topic, offset=published.offset, batch_id=published.batch_id, indexes=b"\0"
    )
    world.ask(POLICE_B, item)
    report = replay_as(world, late)
    assert report.verified, report.violations
    missing = replace(item, batch_id=bytes(32))

    async def invented(w: World) -> AccessTerms:
        prepared = hostile_request(w, POLICE_B, [missing])
        outcome = RecordOutcome(item=0, indexes=b"\0", verdict=Verdict.ALLOWED, reason=None)
        return AccessTerms(request=prepared.signed, outcomes=(outcome,))

    place = world.enter(world.run(invented))
    found = [(one.violation.kind, one.violation.place) for one in replay_as(world, late).violations]
    assert found == [(Kind.ACCESS_RECORD, place)]


def test_junk_that_was_sealed_to_the_auditor_alone(world: Simulator) -> None:
    """e7: What the auditor cannot open accuses no honest service; who sealed the junk is reported."""
    world.suspend(REHAB)

    async def junk(w: World) -> None:
        made = make_channel_keys(w.directory, CHANNEL, POLICE_A, w.coalition.now)
        halves = tuple(
            replace(half, sealed=b"j" * len(half.sealed)) if half.recipient == AUDITOR else half
            for half in made.metadata_halves
        )
        await w.say(replace(made, metadata_halves=halves), POLICE_A)
        await w.say(confirm_channel_keys(w.directory, CHANNEL, KAS, w.coalition.now), KAS)

    world.write(junk)
    published = world.run(lambda w: w.publish(1, first=601, name=BORDER))[0]
    item = RecordItem(
        topic=published.topic, offset=published.offset, batch_id=published.batch_id, indexes=b"\0"
    )
    answer = world.ask(POLICE_B, item)
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    report = world.replay()
    (junk_half,) = [one.violation for one in report.violations]
    assert junk_half.kind is Kind.JUNK_HALF
    assert junk_half.place.topic == "directory"
    assert f"'{POLICE_A}': the metadata half of epoch 1" in junk_half.detail
    assert report.counts.not_judged >= 1
    assert report.counts.opaque >= 2


def test_random_bytes_of_an_old_epoch_excuse_nothing(world: Simulator) -> None:
    """e7: Behind a manifest that shows a second newer epoch nobody need wonder what they say."""
    late = appoint(world)
    world.suspend(REHAB)
    world.next_epoch()
    world.forge(issuer=BORDER)
    before = replay_as(world, late)
    bytes_ = b"\x01\x00\x00\x00\x00" + b"r" * 3000
    place = world.append("returns", 0, (b"k" * 16, bytes_))
    reader_only = replay_as(world, late)
    assert reader_only.counts.opaque == before.counts.opaque + 1
    item = RecordItem(topic="returns", offset=place.offset, batch_id=bytes(32), indexes=b"\0")
    world.enter(CollectionTerms(batches=(listing(item),)))
    found = [one.violation.kind for one in replay_as(world, late).violations]
    assert found == [Kind.COLLECTION_WRONG]


def listing(item: RecordItem) -> Collected:
    """What an entry says of a batch that it took over."""
    return Collected(
        topic=item.topic,
        offset=item.offset,
        batch_id=item.batch_id,
        count=1,
        status=CollectionStatus.COLLECTED,
        detail="",
    )
