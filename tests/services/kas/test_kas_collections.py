"""Taking batches over: COLLECTED with every share proved, or REFUSED with issuer and reason named."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from broker.access.answers import Outcome, open_collection_answer
from broker.access.requests import make_query
from broker.directory import drafts
from broker.errors import KasUnavailable, OpenError, RequestRefused
from broker.services.kas.service import KeyAccessService
from broker.wire.access import BatchRef
from broker.wire.manifest import Collected, CollectionStatus, CollectionTerms, Reason, Verdict
from broker.wire.terms import Action
from support.asking import ask
from support.coalition import (
    CARE,
    JUSTICE,
    POLICE_A,
    POLICE_B,
    REHAB,
    signing_key,
)
from support.fault_log import Fault, FaultLog
from support.looking import access_terms, access_violations
from support.placing import Placed, order_terms, place, place_copy
from support.world import World

COLLECTED = CollectionStatus.COLLECTED
REFUSED = CollectionStatus.REFUSED
UNKNOWN = CollectionStatus.UNKNOWN


async def asked(
    world: World, kas: KeyAccessService, *batches: Placed, name: str = POLICE_A, channel: str = "repatriation"
) -> list[Collected]:
    """Return what the service answers about these batches."""
    refs = [BatchRef(topic=batch.topic, offset=batch.offset, batch_id=batch.batch_id) for batch in batches]
    query, data = make_query(
        name, signing_key(name), world.directory, channel=channel, batches=refs, now=world.clock()
    )
    return list(open_collection_answer(await kas.collections(data), query, world.directory))


async def status(world: World, kas: KeyAccessService, batch: Placed) -> tuple[CollectionStatus, str]:
    """Return what became of a batch, and why."""
    (found,) = await asked(world, kas, batch)
    return found.status, found.detail


async def test_a_good_batch_is_collected(tmp_path: Path) -> None:
    """The publisher learns that its batch was taken over, and the access log lists it once."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        for _ in range(2):
            assert await status(world, kas, batch) == (COLLECTED, "")
        assert [
            len(entry.batches) for entry in await access_terms(world) if isinstance(entry, CollectionTerms)
        ] == [1]


async def test_one_entry_lists_many_batches(tmp_path: Path) -> None:
    """While following live, the batches of a second are one entry, with up to 256 batches in it."""
    async with World.still(tmp_path) as world, world.service() as kas:
        for _ in range(300):
            await place(world, POLICE_A)
        await kas.collect()
        await place(world, JUSTICE)
        await kas.collect()
        lists = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
        assert [len(entry.batches) for entry in lists] == [256]
        world.advance(1.1)
        await kas.collect()
        lists = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
        assert [len(entry.batches) for entry in lists] == [256, 45]
        assert await access_violations(world) == []


async def test_a_wrong_release_secret_is_refused(tmp_path: Path) -> None:
    """Attack 19: a release secret that does not give every release check names its issuer."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2, sealed_secret=secrets.token_bytes(32))
        assert await status(world, kas, batch) == (
            REFUSED,
            f"'{POLICE_A}': release secret does not give the release check of record 0",
        )
        short = await place(world, POLICE_A, sealed_secret=bytes(31))
        found, detail = await status(world, kas, short)
        assert found is REFUSED
        assert POLICE_A in detail
        answer = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
        assert {outcome.reason for outcome in answer.outcomes.values()} == {Reason.NOT_COLLECTED}
        assert not answer.shares


async def test_a_missing_intake_key_is_the_operators_fault(tmp_path: Path) -> None:
    """When our own key store lacks the intake key, the batch is UNKNOWN and an alarm is raised."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        key = world.directory.intake_key(world.day)
        assert key is not None
        async with world.service(without_intake=True) as kas:
            assert await status(world, kas, batch) == (UNKNOWN, "")
            assert "intake key" in kas.alarms[0]
        async with world.service() as kas:
            assert await status(world, kas, batch) == (COLLECTED, "")


async def test_a_revoked_key_cannot_date_itself_back(tmp_path: Path) -> None:
    """Attack 11: a batch under a revoked key is REFUSED, though it claims an older directory."""
    async with World.still(tmp_path) as world, world.service() as kas:
        victim = await place(world, POLICE_A, topic="justice")
        before = world.directory
        await world.say(
            drafts.revoke_key(
                world.directory,
                party=POLICE_A,
                key_id=signing_key(POLICE_A).key_id,
                since=before.size,
                issued_at=world.now,
            ),
            POLICE_A,
        )
        order = await place(
            world,
            POLICE_A,
            topic="emergence",
            terms=[order_terms(world, Action.ERASE, victim.target(0))],
            as_directory=before,
        )
        (found,) = await asked(world, kas, order, name=POLICE_B)
        assert found.status is REFUSED
        assert "revoked" in found.detail
        answer = await ask(world, kas, POLICE_B, [order.item(0), victim.item(0)])
        reasons = [outcome.reason for outcome in answer.outcomes.values()]
        assert reasons == [Reason.NOT_COLLECTED, Reason.NOT_COLLECTED]  # the victim's key is revoked too
        assert await access_violations(world) == []


async def test_an_order_of_a_refused_batch_does_not_count(tmp_path: Path) -> None:
    """A record taken over before a suspension stays readable, whatever the thief orders after."""
    async with World.still(tmp_path) as world, world.service() as kas:
        victim = await place(world, POLICE_A, topic="justice")
        assert await status(world, kas, victim) == (COLLECTED, "")
        before = world.directory
        await world.say(
            drafts.suspend_agency(before, agency=POLICE_A, reason="stolen key", issued_at=world.now)
        )
        order = await place(
            world,
            POLICE_A,
            topic="emergence",
            terms=[order_terms(world, Action.ERASE, victim.target(0))],
            as_directory=before,
        )
        (found,) = await asked(world, kas, order, name=POLICE_B)
        assert (found.status, "suspended" in found.detail) == (REFUSED, True)
        answer = await ask(world, kas, POLICE_B, [victim.item(0)])
        assert answer.shares


async def test_a_copy_is_collected_at_its_first_offset_only(tmp_path: Path) -> None:
    """A batch appended a second time is no second batch, and a request that names the copy is denied."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        copy = await place_copy(world, batch)
        first, second = await asked(world, kas, batch, copy)
        assert (first.status, second.status) == (COLLECTED, CollectionStatus.VOID)
        assert second.detail == "it counts at returns@0, where it stands first"
        answer = await ask(world, kas, POLICE_B, [copy.item(0)])
        assert [outcome.reason for outcome in answer.outcomes.values()] == [Reason.UNKNOWN_RECORD]


async def test_a_stranger_learns_nothing_of_batches(tmp_path: Path) -> None:
    """A stranger's query is answered UNKNOWN, as is one for a channel that does not exist."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, channel=1)
        for name, channel in ((CARE, "xaa-xbb"), (CARE, "nowhere"), (POLICE_A, "nowhere")):
            (found,) = await asked(world, kas, batch, name=name, channel=channel)
            assert (found.status, found.count) == (UNKNOWN, 0)
        (found,) = await asked(world, kas, batch, channel="xaa-xbb")
        assert (found.status, found.count) == (COLLECTED, 1)


async def test_a_query_is_answered_for_its_signer_only(tmp_path: Path) -> None:
    """A query that another agency signed, or that is old or malformed, is refused."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        refs = [BatchRef(topic="returns", offset=0, batch_id=batch.batch_id)]
        for key, now in ((signing_key(POLICE_B), world.now), (signing_key(POLICE_A), world.now - 10**9)):
            _, data = make_query(
                POLICE_A, key, world.directory, channel="repatriation", batches=refs, now=now
            )
            with pytest.raises(RequestRefused):
                await kas.collections(data)
        queries = [
            make_query(
                POLICE_A,
                signing_key(POLICE_A),
                world.directory,
                channel="repatriation",
                batches=refs,
                now=world.now,
            )
            for _ in range(2)
        ]
        with pytest.raises(OpenError, match="another query"):
            open_collection_answer(await kas.collections(queries[0][1]), queries[1][0], world.directory)
        with pytest.raises(RequestRefused):
            await kas.collections(b"junk")


async def test_ends_are_taken_in_one_call(tmp_path: Path) -> None:
    """Attack 5: the ends of directory, access log and every record topic come from one call."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
        decided = log.ends_asked[0]
        assert {partition.topic for partition in decided} == {
            "directory",
            "access",
            "returns",
            "relocation",
            "rehabilitation",
            "emergence",
            "justice",
        }


async def test_more_than_an_entry_lists_are_listed_in_several(tmp_path: Path) -> None:
    """More batches than one entry may list are listed in several entries, before the request is answered."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        published = [await place(world, POLICE_A) for _ in range(258)]
        async with world.service(log=log) as kas:
            for _ in range(2):
                log.appends = [Fault.REFUSED] * 2
                with pytest.raises(KasUnavailable):
                    await ask(world, kas, POLICE_B, [published[0].item(0)])
            log.appends = []
            answer = await ask(world, kas, POLICE_B, [published[-1].item(0)])
            assert set(answer.outcomes.values()) == {Outcome(Verdict.ALLOWED, None, True)}
            found = [
                len(entry.batches)
                for entry in await access_terms(world)
                if isinstance(entry, CollectionTerms)
            ]
            assert sum(found) == 258
            assert max(found) <= 256


@pytest.mark.parametrize("question", ["access", "collections"])
async def test_a_failure_outside_is_kas_unavailable(tmp_path: Path, question: str) -> None:
    """A log that cannot be read is KasUnavailable for the caller, without any name of a file."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            log.reads = [Fault.REFUSED]
            reading = ask(world, kas, REHAB, [batch.item(0)], channel="xaa-xbb")
            with pytest.raises(KasUnavailable, match="cannot answer now"):
                await (reading if question == "access" else asked(world, kas, batch))
            reading.close()
