"""Access entries that lie: whatever a key access service writes is decided again, and named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from broker.access.requests import PreparedRequest
from broker.audit.replay import ReplayReport
from broker.directory import drafts
from broker.log.protocol import Partition
from broker.services.kas.entries import AccessWriter
from broker.verify.violations import Kind, Place, Violation
from broker.wire.access import AccessRequest
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import (
    AccessTerms,
    Collected,
    CollectionStatus,
    CollectionTerms,
    DenialTerms,
    ErasureTerms,
    LateTerms,
    LostMessage,
    Positions,
    Reason,
    RecordOutcome,
    Signed,
    Terms,
    Verdict,
)
from broker.wire.terms import Action, Purpose
from support.asking import ask, prepare
from support.audit_log import replayed_file
from support.coalition import BORDER, DAY_US, KAS, POLICE_A, POLICE_B, REHAB, signing_key
from support.forgery import Forged, positions_of, publish
from support.placing import Placed, place, place_order, record_terms
from support.world import World

ALLOWED, DENIED = Verdict.ALLOWED, Verdict.DENIED
EVERYTHING = b"\x00\x01\x02"


@dataclass
class Liar:
    """A key access service that writes what it likes, with its own right keys."""

    world: World
    writer: AccessWriter

    async def write(self, *terms: Terms, positions: Positions | None = None) -> int:
        """Append an entry; returns its offset."""
        key = self.world.coalition.epoch_keys("repatriation", 0, KAS)["access"]
        items = [(one, None) for one in terms]
        now = self.world.clock()
        made = positions or await self.positions()
        written = await self.writer.write(
            self.world.directory, key, b"m" * 32, items, positions=made, now=now, end=0
        )
        return written.offset

    async def positions(self, **sizes: int) -> Positions:
        """Where the logs stand now, or stood at these sizes."""
        return await positions_of(self.world, **sizes)

    async def collect(self, *batches: Placed, status: CollectionStatus = CollectionStatus.COLLECTED) -> int:
        """List batches as they are."""
        return await self.write(CollectionTerms(batches=tuple(_listed(one, status) for one in batches)))

    async def give(
        self,
        prepared: PreparedRequest,
        *outcomes: RecordOutcome,
        signed: Signed | None = None,
        positions: Positions | None = None,
    ) -> int:
        """Log an access with these outcomes."""
        terms = AccessTerms(request=signed or prepared.signed, outcomes=outcomes)
        return await self.write(terms, positions=positions)

    async def found(self) -> list[Violation]:
        """What the auditor finds."""
        return [one.violation for one in (await self.report()).violations]

    async def report(self) -> ReplayReport:
        """The auditor's report."""
        return await replayed_file(self.world.folder / "log.db", genesis=self.world.coalition.genesis)


def _listed(batch: Placed, status: CollectionStatus, **changes: object) -> Collected:
    listed = Collected(
        topic=batch.topic,
        offset=batch.offset,
        batch_id=batch.batch_id,
        count=batch.batch.manifest.count,
        status=status,
        detail="",
    )
    return replace(listed, **changes)  # type: ignore[arg-type]


def _outcome(
    indexes: bytes = EVERYTHING, verdict: Verdict = ALLOWED, reason: Reason | None = None
) -> RecordOutcome:
    return RecordOutcome(item=0, indexes=indexes, verdict=verdict, reason=reason)


@asynccontextmanager
async def liar(folder: Path) -> AsyncIterator[Liar]:
    """A liar on a fresh log."""
    async with World.still(folder) as world:
        yield Liar(world, AccessWriter(world.log, KAS, signing_key(KAS), 0))


def _facts(found: Sequence[Violation]) -> list[tuple[Kind, str, int]]:
    return [(one.kind, one.place.topic, one.place.offset) for one in found]


async def test_an_honest_entry_stands(tmp_path: Path) -> None:
    """What these tests write is right unless they make it wrong; a repeated request counts once."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        await kas.give(prepared, _outcome())
        await kas.give(prepared, _outcome())
        report = await kas.report()
        assert report.violations == ()
        assert report.counts.access_entries == 1


async def test_allowed_what_would_be_denied(tmp_path: Path) -> None:
    """A stranger to the channel's purpose, or a record that was withdrawn: the decision differs."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        wrong = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)], purpose=Purpose.REHAB_REINTEGRATION)
        first = await kas.give(wrong, _outcome())
        await place_order(kas.world, Action.WITHDRAW, batch.target(1))
        second = await kas.give(prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)]), _outcome())
        assert _facts(await kas.found()) == [
            (Kind.ACCESS_DECISION, "access", first),
            (Kind.ACCESS_DECISION, "access", second),
        ]


async def test_orders_count_from_the_positions_at_which_they_were_seen(tmp_path: Path) -> None:
    """An order behind the recorded positions does not make an earlier decision wrong."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        before = await kas.positions()
        await place_order(kas.world, Action.WITHDRAW, batch.target(1))
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        await kas.give(prepared, _outcome(), positions=before)
        denied = _outcome(b"\x01", DENIED, Reason.WITHDRAWN)
        await kas.give(prepare(kas.world, POLICE_B, [batch.item(0, 1)]), _outcome(b"\0"), denied)
        assert await kas.found() == []


async def test_an_acquittal_shortens_what_it_names(tmp_path: Path) -> None:
    """A RECTIFY with an earlier erase_by ends reading on that day, for the service and for replay."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        terms = record_terms(world.day, action=Action.RECTIFY, targets=[batch.target(0)], erase_in_days=2)
        await place(world, POLICE_A, topic="justice", terms=[terms])
        before = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
        assert [one.released for one in before.outcomes.values()] == [True, True]
        world.advance(2 * 86_400)
        after = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
        assert [one.reason for one in after.outcomes.values()] == [Reason.EXPIRED, None]
        report = await replayed_file(world.folder / "log.db", genesis=world.coalition.genesis)
        assert (report.violations, report.counts.access_entries) == ((), 2)


async def test_a_manifest_dated_ahead_keeps_nothing_longer(tmp_path: Path) -> None:
    """The ceiling counts from the COLLECTION entry where that is earlier, for the service and for replay."""
    async with World.still(tmp_path) as world, world.service() as kas:
        ahead = world.now + 200 * 365 * DAY_US
        terms = {"review_by": ahead // DAY_US + 1, "erase_by": ahead // DAY_US + 3000}
        batch = await publish(world, Forged(count=1, header={"issued_at": ahead}, terms=terms))
        before = await ask(world, kas, POLICE_B, [batch.item(0)])
        assert [one.released for one in before.outcomes.values()] == [True]
        ceiling = world.directory.channels["repatriation"].ceiling_days
        world.advance(ceiling * 86_400)
        after = await ask(world, kas, POLICE_B, [batch.item(0)])
        assert [one.reason for one in after.outcomes.values()] == [Reason.EXPIRED]
        report = await replayed_file(world.folder / "log.db", genesis=world.coalition.genesis)
        assert (report.violations, report.counts.access_entries) == ((), 2)


async def test_denied_what_would_be_allowed(tmp_path: Path) -> None:
    """A service that withholds at its pleasure is found too: every reason to deny can be checked."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        offset = await kas.give(prepared, _outcome(verdict=DENIED, reason=Reason.RESTRICTED))
        assert _facts(await kas.found()) == [(Kind.ACCESS_DECISION, "access", offset)]


async def test_an_access_before_the_collection(tmp_path: Path) -> None:
    """What was not taken over must not be given."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        offset = await kas.give(prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)]), _outcome())
        await kas.collect(batch)
        assert _facts(await kas.found()) == [(Kind.ACCESS_DECISION, "access", offset)]


@pytest.mark.parametrize("wrong", ["signature", "key", "kind", "content", "time", "head"])
async def test_a_request_that_nobody_made(wrong: str, tmp_path: Path) -> None:
    """An access under a false name, or one whose request is not signed, convicts the service."""
    async with liar(tmp_path) as kas:
        world = kas.world
        batch = await place(world, POLICE_A, 3)
        await kas.collect(batch)
        prepared = prepare(world, POLICE_B, [batch.item(0, 1, 2)])
        if wrong == "time":
            prepared = prepare(world, POLICE_B, [batch.item(0, 1, 2)], now=world.now - 3_600_000_000)
        request: AccessRequest = prepared.request
        if wrong == "head":
            request = replace(request, directory_root=bytes(32))
        signer = signing_key(BORDER if wrong == "key" else POLICE_B)
        kind = "receipt" if wrong == "kind" else "access-request"
        signed = sign_content(signer, kind, world.coalition.genesis, encode(request))
        if wrong == "content":
            signed = replace(signed, content=signed.content + b"\0")
        if wrong == "signature":
            other = replace(request, issuer=POLICE_A)
            signed = replace(signed, content=encode(other))
        offset = await kas.give(prepared, _outcome(), signed=signed)
        assert _facts(await kas.found()) == [(Kind.ACCESS_REQUEST, "access", offset)]


async def test_outcomes_that_do_not_cover_the_request(tmp_path: Path) -> None:
    """Each record asked for has one outcome, no more and no less."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        first = await kas.give(prepared, _outcome(b"\0\1"))
        second = await kas.give(prepared, _outcome(), _outcome(b"\2"))
        kinds = [(Kind.ACCESS_REQUEST, "access", offset) for offset in (first, second)]
        assert _facts(await kas.found()) == kinds


async def test_records_that_are_not_there(tmp_path: Path) -> None:
    """An index beyond the batch, or another offset: allowed is wrong, denied as unknown is right."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        beyond = prepare(kas.world, POLICE_B, [batch.item(7)])
        first = await kas.give(beyond, _outcome(b"\7"))
        await kas.give(beyond, _outcome(b"\7", DENIED, Reason.UNKNOWN_RECORD))
        moved = replace(batch.item(0), offset=17)
        third = await kas.give(prepare(kas.world, POLICE_B, [moved]), _outcome(b"\0"))
        kinds = [(Kind.ACCESS_RECORD, "access", offset) for offset in (first, third)]
        assert _facts(await kas.found()) == kinds


@pytest.mark.parametrize("wrong", ["within", "topics", "negative"])
async def test_positions_that_cannot_be(wrong: str, tmp_path: Path) -> None:
    """An end within a batch or behind the entry itself, a topic left out."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        right = await kas.positions()
        positions = {
            "within": await kas.positions(returns=2),
            "topics": replace(right, topics=right.topics[1:]),
            "negative": await kas.positions(justice=-1),
        }[wrong]
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        offset = await kas.give(prepared, _outcome(), positions=positions)
        assert _facts(await kas.found()) == [(Kind.ACCESS_POSITIONS, "access", offset)]


async def _suspend(world: World) -> None:
    statement = drafts.suspend_agency(world.directory, agency=BORDER, reason="exercise", issued_at=1)
    await world.say(statement)


@pytest.mark.parametrize("topic", ["returns", "access", "directory"])
async def test_positions_that_fall_within_a_stream(topic: str, tmp_path: Path) -> None:
    """Who decides on how the logs were before an order, since it would deny now, is found."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        before = await kas.positions()
        await _suspend(kas.world)
        await place_order(kas.world, Action.WITHDRAW, batch.target(1))
        await kas.give(prepare(kas.world, POLICE_B, [batch.item(0)]), _outcome(b"\0"))
        now = await kas.positions()
        positions = {
            "returns": replace(now, topics=before.topics),
            "access": await kas.positions(access=0),
            "directory": replace(
                now, directory_size=before.directory_size, directory_root=before.directory_root
            ),
        }[topic]
        outcomes = (
            [_outcome()]
            if topic == "returns"
            else [_outcome(b"\0\x02"), _outcome(b"\x01", DENIED, Reason.WITHDRAWN)]
        )
        late = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        offset = await kas.give(late, *outcomes, positions=positions)
        (found,) = await kas.found()
        assert (found.kind, found.place.offset) == (Kind.ACCESS_POSITIONS, offset)
        assert f" in {topic}, its stream had reached" in found.detail


async def test_a_decision_on_less_of_the_directory_than_its_request_had_seen(tmp_path: Path) -> None:
    """A service that is shown an old directory, or pretends to be, is given away by the requester's view."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        before = await kas.positions()
        await _suspend(kas.world)
        prepared = prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)])
        offset = await kas.give(prepared, _outcome(), positions=before)
        (found,) = await kas.found()
        assert (found.kind, found.place.offset) == (Kind.ACCESS_POSITIONS, offset)
        assert "its request had seen" in found.detail


async def test_positions_beyond_the_log_s_end(tmp_path: Path) -> None:
    """A position that was signed and is no longer there proves that the log was cut, or is another one."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        positions = await kas.positions(returns=8)
        await kas.give(prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)]), _outcome(), positions=positions)
        (found,) = await kas.found()
        assert (found.kind, found.place) == (Kind.LOG_FORKED, Place("returns", 0, 4))
        assert found.detail == "the log ends at 4, and access@2 saw 8 messages of it"


async def test_collections_that_are_wrong(tmp_path: Path) -> None:
    """A batch that never was, another count, a listing twice at two places."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        collected = CollectionStatus.COLLECTED
        first = await kas.write(CollectionTerms(batches=(_listed(batch, collected, count=2),)))
        second = await kas.write(CollectionTerms(batches=(_listed(batch, collected, offset=9),)))
        await kas.write(CollectionTerms(batches=(_listed(batch, collected, batch_id=bytes(32), offset=77),)))
        last = await kas.write(CollectionTerms(batches=(_listed(batch, CollectionStatus.UNKNOWN),)))
        assert sorted(_facts(await kas.found())) == sorted(
            [
                (Kind.COLLECTION_WRONG, "access", second),
                (Kind.COLLECTION_WRONG, "access", first),
                (Kind.COLLECTION_WRONG, "access", last),
                (Kind.COLLECTION_WRONG, "returns", 77),
            ]
        )


async def test_collected_although_its_issuer_was_suspended_by_then(tmp_path: Path) -> None:
    """At the size at which the service took it over its issuer must have been entitled; REFUSED is right."""
    async with liar(tmp_path) as kas:
        world = kas.world
        one, two = await place(world, BORDER), await place(world, BORDER)
        suspended = drafts.suspend_agency(world.directory, agency=BORDER, reason="x", issued_at=world.now)
        await world.say(suspended)
        offset = await kas.collect(one)
        await kas.collect(two, status=CollectionStatus.REFUSED)
        assert _facts(await kas.found()) == [(Kind.COLLECTION_WRONG, "access", offset)]


async def test_a_batch_that_is_passed_over(tmp_path: Path) -> None:
    """Not collected although later ones are; what is newer than all that is listed is merely pending."""
    async with liar(tmp_path) as kas:
        passed, collected = await place(kas.world, POLICE_A), await place(kas.world, BORDER)
        pending = await place(kas.world, POLICE_A)
        await kas.collect(collected)
        report = await kas.report()
        assert _facts([one.violation for one in report.violations]) == [
            (Kind.NOT_COLLECTED, "returns", passed.offset)
        ]
        assert report.counts.uncollected == 1
        await kas.collect(pending, passed)
        assert (await kas.report()).verified


async def test_a_late_entry_is_an_alarm_and_its_contents_count(tmp_path: Path) -> None:
    """What was cut and came back counts as present: the access that it collects for is right."""
    async with liar(tmp_path) as kas:
        world = kas.world
        batch = await place(world, POLICE_A, 3)
        await kas.collect(batch)
        messages = [message async for message in world.log.read(Partition("access", 0), 0)]
        lost = tuple(LostMessage(key=m.key or b"", value=m.value or b"") for m in messages)
        late = LateTerms(offset=0, batch_id=bytes(32), messages=lost)
        offset = await kas.write(late)
        assert _facts(await kas.found()) == [(Kind.LATE_ENTRY, "access", offset)]
        broken = LateTerms(offset=0, batch_id=bytes(32), messages=lost[1:])
        second = await kas.write(broken)
        assert _facts(await kas.found())[1:] == [
            (Kind.LATE_ENTRY, "access", second),
            (Kind.TERMS_INVALID, "access", second),
        ]


async def test_denials_and_erasures_are_counted(tmp_path: Path) -> None:
    """A counted denial of nothing is invalid; a record that is shredded is not given any more."""
    async with liar(tmp_path) as kas:
        batch = await place(kas.world, POLICE_A, 3)
        await kas.collect(batch)
        await kas.write(DenialTerms(agency=REHAB, count=3, first_at=1, last_at=2))
        wrong = await kas.write(DenialTerms(agency=REHAB, count=0, first_at=1, last_at=2))
        await kas.write(ErasureTerms(targets=(batch.target(2),), order=None))
        given = await kas.give(prepare(kas.world, POLICE_B, [batch.item(0, 1, 2)]), _outcome())
        report = await kas.report()
        assert (report.counts.denials, report.counts.erasures) == (2, 1)
        assert _facts([one.violation for one in report.violations]) == [
            (Kind.TERMS_INVALID, "access", wrong),
            (Kind.ACCESS_DECISION, "access", given),
        ]
