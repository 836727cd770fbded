"""The six steps: who reads what is logged, durably, before anything is released."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from broker.access.answers import Answer, Outcome, RecordRef, share_of
from broker.access.log_evidence import open_log_entry
from broker.access.requests import new_details
from broker.directory import drafts
from broker.errors import (
    BrokerError,
    KasUnavailable,
    LogUnavailable,
    OpenError,
    OutcomeUnknown,
    RequestRefused,
)
from broker.log.protocol import Message, Partition
from broker.wire.access import LogEntry
from broker.wire.manifest import (
    AccessTerms,
    CollectionTerms,
    DenialTerms,
    LogItem,
    Operation,
    Reason,
    Verdict,
)
from broker.wire.terms import Action, Purpose
from support.asking import ask, deliver, prepare
from support.coalition import AUDITOR, CARE, JUSTICE, KAS, POLICE_A, POLICE_B, REHAB, signing_key
from support.fault_log import Fault, FaultLog
from support.forgery import positions_of
from support.looking import access_positions, access_terms, access_violations, cut
from support.placing import place, place_order
from support.world import World

RELEASED = Outcome(Verdict.ALLOWED, None, True)
MINUTE = 61.0


def denied(reason: Reason) -> Outcome:
    """Return the outcome of a denial."""
    return Outcome(Verdict.DENIED, reason, False)


def only(answer: Answer) -> Outcome:
    """Return the outcome that all records of an answer have."""
    (outcome,) = set(answer.outcomes.values())
    return outcome


async def accesses(world: World, channel: int = 0) -> list[AccessTerms]:
    """Return the access entries of a channel, without collections and counted denials."""
    return [terms for terms in await access_terms(world, channel) if isinstance(terms, AccessTerms)]


async def test_a_release_stands_behind_a_durable_entry(tmp_path: Path) -> None:
    """A member gets exactly the shares that the issuer signed for, and the entry says who asked for what."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        prepared = prepare(world, POLICE_B, [batch.item(0, 2)])
        answer = await deliver(world, kas, prepared)
        assert answer.outcomes == {RecordRef(0, 0): RELEASED, RecordRef(0, 2): RELEASED}
        for index in (0, 2):
            assert share_of(answer, 0, index) == batch.share(world.coalition.genesis, index)
        with pytest.raises(OpenError, match="was not released"):
            share_of(answer, 0, 1)
        (entry,) = await accesses(world)
        assert entry.request == prepared.signed
        positions = (await access_positions(world))[-1]
        assert positions.directory_size == world.directory.size
        assert {head.topic: head.size for head in positions.topics}["returns"] == 4
        assert positions == await positions_of(world, access=positions.access_size)
        assert answer.entry is not None
        assert (answer.entry.partition, answer.entry.offset) == (0, 2)
        assert await access_violations(world) == []


async def test_a_repeated_request_is_decided_and_logged_anew(tmp_path: Path) -> None:
    """Whatever an older entry of the same request says, only the newest one releases."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        order = await place_order(world, Action.RESTRICT, batch.target(0))
        prepared = prepare(world, POLICE_B, [batch.item(0, 1)])
        first = await deliver(world, kas, prepared)
        await place_order(world, Action.WITHDRAW, order.target(0))
        await place_order(world, Action.WITHDRAW, batch.target(1))
        second = await deliver(world, kas, prepared)
        outcomes = [[one.reason for one in answer.outcomes.values()] for answer in (first, second)]
        assert outcomes == [[Reason.RESTRICTED, None], [None, Reason.WITHDRAWN]]
        assert [sorted(answer.shares) for answer in (first, second)] == [[(0, 1)], [(0, 0)]]
        assert first.entry is not None
        assert second.entry is not None
        assert first.entry.offset < second.entry.offset
        assert [entry.request for entry in await accesses(world)] == [prepared.signed] * 2
        assert await access_violations(world) == []


async def test_records_of_several_batches_and_topics_in_one_request(tmp_path: Path) -> None:
    """One request reads records of several topics of a channel, one entry stands for all of them."""
    async with World.still(tmp_path) as world, world.service() as kas:
        first = await place(world, POLICE_A, 2)
        second = await place(world, POLICE_A, 2, topic="justice")
        answer = await ask(world, kas, POLICE_B, [first.item(0, 1), second.item(1)])
        assert only(answer) == RELEASED
        assert share_of(answer, 1, 1) == second.share(world.coalition.genesis, 1)
        assert len(await accesses(world)) == 1


async def test_a_disclosure_needs_its_mandate(tmp_path: Path) -> None:
    """A system reads under a standing mandate of the channel, and under no other."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        details = new_details(role="gateway", legal_basis="treaty, art. 7", justification="screening")
        for mandate, expected in (("XBB-2024-17", RELEASED), ("another", denied(Reason.MANDATE))):
            answer = await ask(
                world,
                kas,
                POLICE_B,
                [batch.item(0)],
                operation=Operation.DISCLOSURE,
                mandate_ref=mandate,
                details=details,
            )
            assert only(answer) == expected


async def test_a_repeated_request_is_decided_anew(tmp_path: Path) -> None:
    """The same bytes twice make two entries with the same request digest."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        prepared = prepare(world, POLICE_B, [batch.item(0)])
        answers = [await deliver(world, kas, prepared) for _ in range(2)]
        assert [only(answer) for answer in answers] == [RELEASED, RELEASED]
        assert [entry.request for entry in await accesses(world)] == [prepared.signed] * 2


async def test_unknown_records_are_denied_and_logged(tmp_path: Path) -> None:
    """A batch that does not exist, another offset, or an index beyond the end is denied, and logged."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        for item in (
            replace(batch.item(0), batch_id=bytes(32)),
            replace(batch.item(0), offset=1),
            replace(batch.item(0), offset=10_000),
            replace(batch.item(0), topic="justice"),
            batch.item(2),
        ):
            assert only(await ask(world, kas, POLICE_B, [item])) == denied(Reason.UNKNOWN_RECORD)
            world.advance(MINUTE)
        assert len(await accesses(world)) == 5


async def test_a_mixed_request_is_logged_whole(tmp_path: Path) -> None:
    """A request with allowed and denied records gets a whole entry each time."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        for _ in range(2):
            answer = await ask(world, kas, POLICE_B, [batch.item(0, 7)])
            assert answer.outcomes == {
                RecordRef(0, 0): RELEASED,
                RecordRef(0, 7): denied(Reason.UNKNOWN_RECORD),
            }
        assert [len(entry.outcomes) for entry in await accesses(world)] == [2, 2]


async def test_denials_are_counted_after_the_first(tmp_path: Path) -> None:
    """The first denial is logged whole, and those of the same minute as one entry with their number."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        answers = [await ask(world, kas, POLICE_B, [batch.item(9)]) for _ in range(5)]
        assert [answer.entry is not None for answer in answers] == [True, False, False, False, False]
        assert len(await accesses(world)) == 1
        world.advance(MINUTE)
        await ask(world, kas, POLICE_B, [batch.item(9)])
        (counted,) = [entry for entry in await access_terms(world) if isinstance(entry, DenialTerms)]
        assert (counted.agency, counted.count) == (POLICE_B, 5)
        assert counted.first_at < counted.last_at
        assert await access_violations(world) == []


async def test_counted_denials_are_logged_at_the_end(tmp_path: Path) -> None:
    """Counted denials are logged when their minute is over, and when the service stops."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        async with world.service() as kas:
            for _ in range(3):
                await ask(world, kas, POLICE_B, [batch.item(9)])
            world.advance(MINUTE)
            await kas.collect()
            assert [entry.count for entry in await access_terms(world) if isinstance(entry, DenialTerms)] == [
                2
            ]
            await ask(world, kas, POLICE_B, [batch.item(9)])
        assert [entry.count for entry in await access_terms(world) if isinstance(entry, DenialTerms)] == [
            2,
            1,
        ]


async def test_strangers_get_one_answer(tmp_path: Path) -> None:
    """Attack 21: a stranger learns nothing, not even whether a channel or a record exists."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, channel=1)
        asked = [
            prepare(world, CARE, [batch.item(0)], channel="xaa-xbb"),
            prepare(world, CARE, [batch.item(0)], channel="no-such-channel"),
            prepare(world, CARE, [replace(batch.item(0), batch_id=bytes(32))], channel="xaa-xbb"),
            prepare(world, CARE, [batch.item(0)], channel="xaa-xbb", purpose=Purpose.LAWFULNESS),
        ]
        for _ in range(3):
            answers = [await deliver(world, kas, prepared) for prepared in asked]
            assert {only(answer) for answer in answers} == {denied(Reason.NOT_MEMBER)}
            assert {answer.entry for answer in answers} == {None}
        assert kas.stranger_denials == 12
        assert await access_terms(world, 1) == []


async def test_a_suspended_agency_is_denied_and_logged(tmp_path: Path) -> None:
    """A suspension ends reading at once, and the attempt leaves a trace."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        await world.say(
            drafts.suspend_agency(world.directory, agency=POLICE_B, reason="x", issued_at=world.now)
        )
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == denied(Reason.SUSPENDED)
        assert [entry.outcomes[0].reason for entry in await accesses(world)] == [None, Reason.SUSPENDED]


async def test_a_member_that_left_is_a_stranger_at_once(tmp_path: Path) -> None:
    """A member that left meanwhile gets the strangers' answer, and no entry."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        left = drafts.leave_channel(
            world.directory, channel="repatriation", agency=POLICE_B, issued_at=world.now
        )
        await world.say(left, POLICE_B)
        answer = await ask(world, kas, POLICE_B, [batch.item(0)])
        assert only(answer) == denied(Reason.NOT_MEMBER)
        assert answer.entry is None
        assert len(await accesses(world)) == 1


async def test_a_request_by_a_key_revoked_meanwhile_is_refused(tmp_path: Path) -> None:
    """The signature is checked again by the directory from which the request is decided."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        prepared = prepare(world, POLICE_B, [batch.item(0)])
        assert only(await deliver(world, kas, prepared)) == RELEASED
        revoked = drafts.revoke_key(
            world.directory,
            party=POLICE_B,
            key_id=signing_key(POLICE_B).key_id,
            since=world.directory.size,
            issued_at=world.now,
        )
        await world.say(revoked, POLICE_B)
        with pytest.raises(RequestRefused, match="no active signing key"):
            await kas.access(prepared.request_bytes, prepared.details_bytes)
        assert len(await accesses(world)) == 1


async def test_an_unfinished_batch_at_the_end_is_not_waited_for(tmp_path: Path) -> None:
    """The recorded position lies before a batch whose bodies have not all come, and nobody waits for them."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        late = await place(world, POLICE_A, 3, topic="justice")
        rest = cut(world, "justice", 0, 2)
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        assert only(await ask(world, kas, POLICE_B, [late.item(0)])) == denied(Reason.UNKNOWN_RECORD)
        for key, value in rest:
            await world.log.append(Partition("justice", 0), [Message(key, value)])
        assert only(await ask(world, kas, POLICE_B, [late.item(0)])) == RELEASED
        sizes = [
            {head.topic: head.size for head in positions.topics}
            for positions in await access_positions(world)
        ]
        assert sorted({size["justice"] for size in sizes}) == [0, 4]


async def test_a_request_that_waited_too_long_is_refused(tmp_path: Path) -> None:
    """A request's time is compared when it is decided, not when it arrives."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:

            async def wait() -> None:
                world.advance(301)

            log.after_ends = wait
            with pytest.raises(RequestRefused, match="differs from the service's"):
                await ask(world, kas, POLICE_B, [batch.item(0)])
            assert await accesses(world) == []


async def test_a_closed_channel_is_read_no_more(tmp_path: Path) -> None:
    """Nothing can be logged in a closed channel, so nothing of it is released."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        await world.say(drafts.close_channel(world.directory, channel="repatriation", issued_at=world.now))
        answer = await ask(world, kas, POLICE_B, [batch.item(0)])
        assert only(answer) == denied(Reason.CHANNEL_CLOSED)
        assert answer.entry is None
        assert len(await accesses(world)) == 1


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action.WITHDRAW, Reason.WITHDRAWN),
        (Action.ERASE, Reason.ERASED),
        (Action.RESTRICT, Reason.RESTRICTED),
    ],
)
async def test_orders_end_reading_at_once(tmp_path: Path, action: Action, reason: Reason) -> None:
    """WITHDRAW, ERASE and RESTRICT, in any topic of the channel, count as soon as they are in the log."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        assert only(await ask(world, kas, POLICE_B, [batch.item(0, 1)])) == RELEASED
        await place_order(world, action, batch.target(1), topic="emergence")
        answer = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
        assert answer.outcomes == {RecordRef(0, 0): RELEASED, RecordRef(0, 1): denied(reason)}


async def test_restrict_leaves_judicial_purposes_and_is_withdrawn(tmp_path: Path) -> None:
    """A restricted record is read for judicial purposes only, until its originator withdraws the RESTRICT."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        order = await place_order(world, Action.RESTRICT, batch.target(0))
        answer = await ask(world, kas, POLICE_B, [batch.item(0)], purpose=Purpose.PROSECUTION)
        assert only(answer) == RELEASED
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == denied(Reason.RESTRICTED)
        await place_order(world, Action.RECTIFY, batch.target(0), topic="justice")
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == denied(Reason.RESTRICTED)
        await place_order(world, Action.WITHDRAW, order.target(0), topic="justice")
        assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED


# what fails, and when

FAULTS = [
    ("keys", "before", LogUnavailable("refused")),
    ("keys", "after", OutcomeUnknown("lost")),
    ("access", "before", LogUnavailable("refused")),
    ("access", "before", OutcomeUnknown("lost")),
    ("access", "after", OutcomeUnknown("lost")),
    ("access", "after", LogUnavailable("gone")),
]


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize(("topic", "when", "error"), FAULTS)
async def test_an_append_that_fails_releases_nothing_without_an_entry(
    tmp_path: Path, topic: str, when: str, error: BrokerError, collected: bool
) -> None:
    """When an append fails, persisted or not, no share is released without an entry, and the log verifies."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            if collected:
                await kas.collect()
                world.advance(2)
            faults = log.fail_before if when == "before" else log.fail_after
            faults[topic] = error
            entry = None
            with suppress(KasUnavailable):
                answer = await ask(world, kas, POLICE_B, [batch.item(0)])
                assert answer.shares
                entry = answer.entry
            logged = await accesses(world)
            assert entry is None or len(logged) >= 1
            assert await access_violations(world) == []
        async with world.service() as kas:  # restarted
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        collections = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
        assert collections
        assert await access_violations(world) == []


async def test_a_crash_between_entry_and_answer_releases_nothing(tmp_path: Path) -> None:
    """A service killed behind the commit point leaves an entry, releases nothing, and starts again."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await kas.collect()

            async def die() -> None:
                raise asyncio.CancelledError

            log.after_append["access"] = die
            with pytest.raises(asyncio.CancelledError):
                await ask(world, kas, POLICE_B, [batch.item(0)])
        assert len(await accesses(world)) == 1
        async with world.service() as kas:
            assert not kas.alarms
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        assert len(await accesses(world)) == 2
        assert await access_violations(world) == []


async def test_two_replicas_side_by_side(tmp_path: Path) -> None:
    """Two replicas that share key store and journal both release every batch, and the log verifies."""
    async with World.still(tmp_path) as world, world.service() as first, world.service() as second:
        batches = [await place(world, POLICE_A) for _ in range(3)]
        await asyncio.gather(first.collect(), second.collect())
        for batch in batches:
            answers = await asyncio.gather(
                ask(world, first, POLICE_B, [batch.item(0)]), ask(world, second, POLICE_B, [batch.item(0)])
            )
            assert [only(answer) for answer in answers] == [RELEASED, RELEASED]
            late = await place(world, JUSTICE)
            assert only(await ask(world, second, POLICE_B, [late.item(0)])) == RELEASED
            assert only(await ask(world, first, POLICE_B, [late.item(0)])) == RELEASED
        assert first.alarms == second.alarms == ()
        assert await access_violations(world) == []


async def test_a_service_whose_key_was_revoked_stops(tmp_path: Path) -> None:
    """The service answers nothing more once its signing key is revoked."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        key = world.directory.parties[KAS].keys[signing_key(KAS).key_id]
        await world.say(
            drafts.revoke_key(
                world.directory,
                party=KAS,
                key_id=key.key_id,
                since=world.directory.size,
                issued_at=world.now,
                by_authority=True,
            )
        )
        with pytest.raises(KasUnavailable, match="revoked"):
            await ask(world, kas, POLICE_B, [batch.item(0)])
        with pytest.raises(KasUnavailable, match="revoked"):
            async with world.service():
                pass


# reading the access log


def opened(entries: tuple[LogEntry, ...], world: World) -> list[str]:
    """Prove and unlock the entries of an answer, and return what each is about."""
    found = [open_log_entry(entry, world.coalition.history, 0) for entry in entries]
    return [
        type(logged.terms).__name__ + (f" by {logged.details.person}" if logged.details else "")
        for logged in found
    ]


async def test_an_auditor_reads_the_access_log_and_that_is_logged(tmp_path: Path) -> None:
    """An auditor gets every entry of the range, with its person, and this reading is logged too."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        answer = await ask(world, kas, AUDITOR, [LogItem(start=0, end=100)], purpose=Purpose.LAWFULNESS)
        assert only(answer) == RELEASED
        assert opened(answer.entries, world) == [
            "CollectionTerms",
            "AccessTerms by officer-17",
            "AccessTerms by officer-17",
        ]
        assert len(await accesses(world)) == 2


async def test_members_read_the_entries_that_concern_them(tmp_path: Path) -> None:
    """Members get the entries about their own requests and their own records, and no others."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        item = LogItem(start=0, end=4)
        for name, expected in ((POLICE_A, 1), (POLICE_B, 1), (REHAB, 0)):
            answer = await ask(world, kas, name, [item], purpose=Purpose.SELF_MONITORING)
            assert only(answer) == RELEASED
            assert len(opened(answer.entries, world)) == expected


async def test_the_access_log_is_read_for_four_purposes_only(tmp_path: Path) -> None:
    """A purpose that LED art. 25(2) does not name is denied, and no entry is released."""
    async with World.still(tmp_path) as world, world.service() as kas:
        answer = await ask(world, kas, AUDITOR, [LogItem(start=0, end=9)], purpose=Purpose.INVESTIGATION)
        assert only(answer) == denied(Reason.PURPOSE_CHANNEL)
        assert answer.entries == ()


async def test_an_altered_log_entry_is_found(tmp_path: Path) -> None:
    """An entry of the access log whose terms, body or key was exchanged does not open."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        answer = await ask(world, kas, AUDITOR, [LogItem(start=0, end=9)], purpose=Purpose.LAWFULNESS)
        first, second, _ = answer.entries
        for wrong in (
            replace(first, entry=second.entry),
            replace(first, body=second.body),
            replace(first, body_key=second.body_key),
            replace(first, body_key=None),
            replace(first, index=1),
        ):
            with pytest.raises(BrokerError):
                open_log_entry(wrong, world.coalition.history, 0)


# refused requests


async def test_a_malformed_request_has_nothing_read(tmp_path: Path) -> None:
    """A malformed or stale request, or one with wrong details, is refused before anything is read."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            good = prepare(world, POLICE_B, [batch.item(0)])
            stale = prepare(world, POLICE_B, [batch.item(0)], now=world.now - 301_000_000)
            log.reads = [Fault.REFUSED] * 9
            for request, details in (
                (b"", b""),
                (good.request_bytes + b"\0", good.details_bytes),
                (good.request_bytes, good.details_bytes[:-1]),
                (stale.request_bytes, stale.details_bytes),
            ):
                with pytest.raises(RequestRefused):
                    await kas.access(request, details)
            assert len(log.reads) == 9


async def test_refused_requests_leave_no_entry(tmp_path: Path) -> None:
    """Attack 22: a stale request, another's signature, or details of another request are refused."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        good = prepare(world, POLICE_B, [batch.item(0)])
        stale = prepare(world, POLICE_B, [batch.item(0)], now=world.now - 301 * 1_000_000)
        other = prepare(world, POLICE_B, [batch.item(0)])
        for request, details in (
            (stale.request_bytes, stale.details_bytes),
            (good.request_bytes, other.details_bytes),
            (good.request_bytes, b""),
            (good.request_bytes[:-1], good.details_bytes),
            (b"\xff" * 100, good.details_bytes),
            (b"", b""),
        ):
            with pytest.raises(RequestRefused):
                await kas.access(request, details)
        assert await access_terms(world) == []
