"""The access log is cut, put back and cut again: what was put back twice counts as if nobody had cut it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.access.answers import Answer
from broker.access.log_evidence import check_log_entry
from broker.access.requests import PreparedRequest
from broker.audit.accesses import accesses
from broker.audit.disclosures import LogAsker
from broker.audit.receipt_check import KeptReceipts
from broker.audit.replay import ReplayReport, replay
from broker.errors import KasStopped, OpenError
from broker.log.protocol import Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Kind, Place
from broker.wire.access import Enclosing
from broker.wire.manifest import ErasureTerms, LateTerms, LogItem, LostMessage
from broker.wire.terms import Purpose, Target
from support.asking import hostile_request, post
from support.coalition import AUDITOR, BORDER, CARE, JUSTICE, POLICE_B, receiving_key, signing_key
from support.played import played
from support.simulator import Simulator
from support.words import details
from support.world import CHANNEL, World


def cut(world: Simulator, offset: int) -> None:
    """The operator cuts the access log here; the service notices, puts back what was cut, and goes on."""
    world.cut_tail(Place("access", 0, offset))
    with pytest.raises(KasStopped):
        world.ask(CARE, world["single 0"].item(0))

    async def acknowledge(w: World) -> None:
        assert isinstance(w.kas, KeyAccessService)
        w.kas.acknowledge_alarm(0)

    world.run(acknowledge)


def asked(world: Simulator, name: str = POLICE_B) -> tuple[PreparedRequest, Answer]:
    """A reading, its request and its answer."""

    async def ask(w: World) -> tuple[PreparedRequest, Answer]:
        prepared = hostile_request(w, name, [world["single 0"].item(0)])
        return prepared, await post(w, name, prepared)

    return world.run(ask)


def judged(world: Simulator, prepared: PreparedRequest, answer: Answer) -> ReplayReport:
    """A replay with the reader's receipt."""

    async def run() -> ReplayReport:
        async with await SqliteLog.open(world.path) as log:
            follower = await DirectoryFollower.start(log, played().genesis)
            keyring = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
            with KeptReceipts(follower.history) as kept:
                kept.take("receipts:1", prepared.signed, answer.signed)
                participant = Participant(log=log, follower=follower, keyring=keyring)
                return await replay(participant, receipts=kept)

    return asyncio.run(run())


def test_an_access_is_cut_off_twice(world: Simulator) -> None:
    """e4: The access counts after the second cut as after the first, and each cut is told."""
    before = world.replay().counts.access_entries
    _, answer = asked(world)
    assert answer.entry is not None
    offset = answer.entry.offset
    for cuts in (1, 2, 3):
        cut(world, offset)
        report = world.replay()
        late = [one.violation for one in report.violations if one.violation.kind is Kind.LATE_ENTRY]
        assert cuts in [violation.count for violation in late]
        assert {one.violation.kind for one in report.violations} == {Kind.LATE_ENTRY}, report.violations
        assert report.counts.access_entries >= before + 1


def test_a_receipt_for_what_was_cut_off_twice(world: Simulator) -> None:
    """e4b: The honest service put everything back, and no honest receipt convicts it."""
    prepared, answer = asked(world)
    assert answer.entry is not None
    for _ in range(2):
        cut(world, answer.entry.offset)
        report = judged(world, prepared, answer)
        assert report.receipts == 1
        assert {one.violation.kind for one in report.violations} == {Kind.LATE_ENTRY}, report.violations


def test_an_erasure_that_was_cut_off_twice(world: Simulator) -> None:
    """e4: What was erased stays erased for the service, however deep its entry lies."""
    target = world["family 1"]
    erased = ErasureTerms(targets=(Target(batch_id=target.batch_id, index=0),), order=None)
    once = world.enter(erased)
    for _ in range(2):
        rows = [world.row(Place("access", 0, once.offset + i)) for i in range(2)]
        world.cut_tail(once)
        messages = tuple(LostMessage(key=row.key or b"", value=row.value or b"") for row in rows)
        assert world.enter(LateTerms(offset=once.offset, batch_id=bytes(32), messages=messages)) == once
    answer = world.ask(JUSTICE, target.item(0, 1))
    assert [outcome.released for outcome in answer.outcomes.values()] == [False, True]


def told(world: Simulator, name: str) -> list[tuple[str, str | None]]:
    """Who read, and for which case, as audit accesses tells an auditor or an originator."""

    async def act(w: World) -> list[tuple[str, str | None]]:
        found = accesses(
            await w.participant(name),
            w.kas,
            channels=[CHANNEL],
            agency=JUSTICE,
            purpose=Purpose.LAWFULNESS,
            details=details,
        )
        return [
            (one.request.issuer, None if one.details is None else one.details.case_reference)
            async for one in found
        ]

    return world.run(act)


@pytest.mark.parametrize("name", [AUDITOR, BORDER])
def test_an_access_that_was_put_back_is_told(world: Simulator, name: str) -> None:
    """e5: The auditor and the originator are told of it, with its details, after each cut."""
    before = told(world, name)
    _, answer = asked(world, JUSTICE)
    assert answer.entry is not None
    after = told(world, name)
    assert len(after) == len(before) + 1
    for _ in range(2):
        cut(world, answer.entry.offset)
        assert sorted(told(world, name)) == sorted(after)


def test_a_lie_about_what_was_put_back(world: Simulator) -> None:
    """e5: A member is shown nothing as put back that does not lie in a LATE entry of the log."""
    _, answer = asked(world, JUSTICE)
    assert answer.entry is not None
    cut(world, answer.entry.offset)

    async def act(w: World) -> None:
        border = await w.participant(BORDER)
        asker = LogAsker(border, w.kas, Purpose.LAWFULNESS, details)
        channel = border.channel(CHANNEL)
        end = await border.end_of(Partition("access", 0))
        entries = await asker.ask(channel, LogItem(start=0, end=end))
        put_back = next(entry for entry in entries if entry.within)
        other = next(entry for entry in entries if not entry.within)
        history = border.follower.history
        assert check_log_entry(put_back, history, 0).stands.manifest.manifest_id
        with pytest.raises(OpenError, match="does not hold it"):
            check_log_entry(replace(other, within=put_back.within), history, 0)
        again = Enclosing(index=other.index, manifest=other.manifest, entry=other.entry, path=other.path)
        with pytest.raises(OpenError, match="does not hold it"):
            check_log_entry(replace(put_back, within=(again,)), history, 0)
        bare = check_log_entry(replace(put_back, within=()), history, 0)
        stored = [message async for message in w.log.read(Partition("access", 0), put_back.offset)]
        assert stored[0].key != bare.stands.manifest.manifest_id

    world.run(act)


# repeats


def test_repeats_count_once_and_are_shown(world: Simulator) -> None:
    """r13: A request that is sent three times is one access; a repeat of the newest batch is shown."""
    before = world.replay().counts

    async def thrice(w: World) -> None:
        prepared = hostile_request(w, JUSTICE, [world["single 0"].item(0)])
        for _ in range(3):
            await post(w, JUSTICE, prepared)

    world.run(thrice)
    copy = world.copy_to("last", "returns", 0)
    report = world.replay()
    assert report.verified, report.violations
    assert report.counts.access_entries == before.access_entries + 1
    assert report.counts.repeated_requests == before.repeated_requests + 2
    assert (report.counts.repeats, report.counts.repeated) == (before.repeats + 1, [copy])
    assert report.counts.records == before.records
