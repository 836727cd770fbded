"""Attacks by requesters who ask for records that they may not have, or who send wrong requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.access.answers import Answer
from broker.audit.accesses import accesses
from broker.clock import system_clock
from broker.verify.violations import Kind
from broker.wire.manifest import LogItem, Operation, Reason, RecordItem, Verdict
from broker.wire.terms import Purpose
from support.asking import hostile_request, post
from support.coalition import AUDITOR, BORDER, CARE, JUSTICE, KAS, POLICE_A, POLICE_B, REHAB, signing_key
from support.played import Target
from support.simulator import Simulator
from support.words import details
from support.world import PAIR, World

MINUTE_US = 60_000_000
HUGE = 2**63 - 1


def named(target: Target, **changes: Any) -> RecordItem:
    """The first record of a batch, as a request names it, with the given fields changed."""
    fields: dict[str, Any] = {
        "topic": target.place.topic,
        "offset": target.place.offset,
        "batch_id": target.batch_id,
    }
    return RecordItem(**(fields | {"indexes": b"\0"} | changes))


# 22: requests that cannot be judged


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"minutes": -6}, "time differs"),
        ({"minutes": 6}, "time differs"),
        ({"issued_at": -HUGE}, "time differs"),
        ({"key": signing_key(BORDER)}, "no key that the directory lists"),
        ({"key": signing_key("stranger")}, "no key that the directory lists"),
        ({"issuer": JUSTICE}, "no key that the directory lists"),
        ({"issuer": "XZZ:nobody"}, "no key that the directory lists"),
        ({"genesis": b"E" * 32}, "signature"),
        ({"kind": "manifest"}, "kind"),
        ({"kind": "collection-query"}, "kind"),
        ({"directory_size": 99}, "beyond"),
        ({"directory_size": HUGE}, "beyond"),
        ({"directory_size": -1}, "another directory"),
        ({"directory_root": bytes(32)}, "another directory"),
        ({"operation": Operation.DISCLOSURE}, "mandate"),
        ({"mandate_ref": "XBB-2024-17"}, "mandate"),
        ({"channel": ""}, "channel of 0"),
        ({"channel": "c" * 101}, "channel of 101"),
        ({"other_details": b"\0" * 60}, "details do not match"),
        ({"other_details": b""}, "details do not match"),
        ({"details": {"person": None}}, "needs a person"),
        ({"details": {"person": "   "}}, "person of"),
        ({"details": {"justification": "j" * 501}}, "justification of 501"),
        ({"details": {"role": ""}}, "role of 0"),
        ({"details": {"recipients": ("no authority",)}}, "recipient"),
        ({"details": {"recipients": ("XAA:border",) * 129}}, "129 recipients"),
    ],
)
def test_a_request_that_cannot_be_judged(world: Simulator, options: dict[str, Any], match: str) -> None:
    """22: An old, stolen, foreign or malformed request is refused, and the refusal says why."""
    if "minutes" in options:
        options = {"issued_at": system_clock() + options["minutes"] * MINUTE_US}
    if "other_details" in options and not options["other_details"]:
        options = options | {"other_details": b"-"}
    world.must_be_refused(lambda: world.ask(POLICE_B, world["family 1"].item(0), **options), match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"topic": "access"}, "holds no records"),
        ({"topic": "keys"}, "holds no records"),
        ({"topic": "directory"}, "holds no records"),
        ({"topic": "../../etc/passwd"}, "holds no records"),
        ({"offset": -1}, "offset -1"),
        ({"indexes": b""}, "indexes"),
        ({"indexes": b"\1\0"}, "indexes"),
        ({"indexes": b"\0\0"}, "indexes"),
    ],
)
def test_an_item_that_names_no_record(world: Simulator, changes: dict[str, Any], match: str) -> None:
    """22: A request is refused for a topic without records, a negative offset, or unsorted indexes."""
    item = named(world["family 1"], **changes)
    world.must_be_refused(lambda: world.ask(POLICE_B, item), match)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (-1, 5), (5, 4), (0, 1001), (HUGE - 1, -HUGE)])
def test_a_range_that_is_none(world: Simulator, start: int, end: int) -> None:
    """22: A request for an empty, negative or too large range of the access log is refused."""
    item = LogItem(start=start, end=end)
    world.must_be_refused(lambda: world.ask(POLICE_B, item, purpose=Purpose.LAWFULNESS), "range")


def test_too_many_items(world: Simulator) -> None:
    """22: A request is refused for 17 items, for no item, for a repeated batch, or for a mixture of kinds."""
    target = world["family 1"]
    many = [named(target, batch_id=bytes([i]) * 32) for i in range(17)]
    world.must_be_refused(lambda: world.ask(POLICE_B, *many), "17 items")
    world.must_be_refused(lambda: world.ask(POLICE_B, target.item(0), target.item(1)), "asked for twice")
    world.must_be_refused(lambda: world.ask(POLICE_B, target.item(0), LogItem(start=0, end=1)), "alone")
    world.must_be_refused(lambda: world.ask(POLICE_B), "0 items")


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 9, b"x" * 70_000, b"\x1caccess-request" + b"\xff" * 50]
)
def test_bytes_that_are_no_request(world: Simulator, data: bytes) -> None:
    """26: Bytes that are not a request are refused, and also as a collection query."""

    async def send(w: World) -> None:
        await w.kas.access(data, data)

    async def query(w: World) -> None:
        await w.kas.collections(data)

    match = "bytes, at most" if len(data) > 65_536 else "malformed"
    world.must_be_refused(lambda: world.run(send), match)
    world.must_be_refused(lambda: world.run(query), match)


# 22: requests that are judged, and denied


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 6},
        {"offset": 1},
        {"offset": HUGE},
        {"batch_id": bytes(32)},
        {"topic": "justice"},
        {"indexes": b"\3"},
        {"indexes": b"\xff"},
    ],
)
def test_a_record_that_is_not_there(world: Simulator, changes: dict[str, Any]) -> None:
    """22: A request that names a batch at a wrong place or a missing index is denied."""
    answer = world.ask(POLICE_B, named(world["family 0"], **changes))
    world.must_be_denied(answer, Reason.UNKNOWN_RECORD)


def test_a_batch_of_another_channel(world: Simulator) -> None:
    """22: A member of two channels is denied a batch of one when it asks in the other."""
    answer = world.ask(POLICE_B, world["pair"].item(0))
    world.must_be_denied(answer, Reason.UNKNOWN_RECORD)


def test_a_purpose_of_auditors(world: Simulator) -> None:
    """A member is denied a record for a purpose that is only for reading the access log."""
    answer = world.ask(POLICE_B, world["family 1"].item(0), purpose=Purpose.LAWFULNESS)
    world.must_be_denied(answer, Reason.PURPOSE_CHANNEL)


def test_a_purpose_that_the_record_was_not_shared_for(world: Simulator) -> None:
    """A member is denied a record for a purpose for which it was not shared."""
    answer = world.ask(CARE, world["family 1"].item(0), purpose=Purpose.CHILD_PROTECTION)
    world.must_be_denied(answer, Reason.PURPOSE_RECORD)


def test_a_prosecutor_and_h1(world: Simulator) -> None:
    """A member is denied a record with handling code H1 for a prosecution."""
    answer = world.ask(JUSTICE, world["h1"].item(0), purpose=Purpose.PROSECUTION)
    world.must_be_denied(answer, Reason.HANDLING)


def test_who_is_not_on_the_list(world: Simulator) -> None:
    """20: A member that releasable_to leaves out is denied the record."""
    answer = world.ask(BORDER, world["releasable"].item(0))
    world.must_be_denied(answer, Reason.NOT_RELEASABLE)


def test_a_withdrawn_record(world: Simulator) -> None:
    """A member is denied a record that its originator has withdrawn."""
    answer = world.ask(POLICE_B, world["family 0"].item(2))
    world.must_be_denied(answer, Reason.WITHDRAWN)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (POLICE_A, {"mandate_ref": "XBB-2024-17"}),
        (POLICE_B, {"mandate_ref": "XZZ-1"}),
        (POLICE_B, {"mandate_ref": "XBB-2024-17", "purpose": Purpose.PROSECUTION}),
    ],
)
def test_a_mandate_that_does_not_cover_it(world: Simulator, name: str, options: dict[str, Any]) -> None:
    """A member is denied under another's mandate, an unknown mandate, or its own for another purpose."""
    options = {"operation": Operation.DISCLOSURE, "purpose": Purpose.PREVENTION} | options
    world.must_be_denied(world.ask(name, world["family 1"].item(0), **options), Reason.MANDATE)


def test_a_range_of_the_log_under_a_mandate(world: Simulator) -> None:
    """A standing mandate does not allow a member to read the access log."""
    options = {"operation": Operation.DISCLOSURE, "mandate_ref": "XBB-2024-17"}
    answer = world.ask(POLICE_B, LogItem(start=0, end=9), purpose=Purpose.LAWFULNESS, **options)
    world.must_be_denied(answer, Reason.MANDATE)


def test_a_range_of_the_log_for_another_purpose(world: Simulator) -> None:
    """A member may not read the access log for an investigation."""
    answer = world.ask(POLICE_B, LogItem(start=0, end=9), purpose=Purpose.INVESTIGATION)
    world.must_be_denied(answer, Reason.PURPOSE_CHANNEL)


def test_an_auditor_asks_for_a_record(world: Simulator) -> None:
    """27: An auditor is denied a record, whatever its purpose."""
    for purpose in (Purpose.LAWFULNESS, Purpose.INVESTIGATION):
        answer = world.ask(AUDITOR, world["family 1"].item(0), purpose=purpose)
        assert not answer.shares
        assert {outcome.verdict for outcome in answer.outcomes.values()} == {Verdict.DENIED}
    assert world.replay().verified


def test_an_auditor_reads_beyond_the_end(world: Simulator) -> None:
    """22: An auditor that asks for a range far beyond the log's end gets no entries."""
    answer = world.ask(AUDITOR, LogItem(start=HUGE - 5, end=HUGE), purpose=Purpose.LAWFULNESS)
    assert answer.entries == ()
    assert world.replay().verified


def test_a_member_sees_no_others_accesses(world: Simulator) -> None:
    """A member that reads the whole access log gets only the entries that concern it."""
    answer = world.ask(REHAB, LogItem(start=0, end=14), purpose=Purpose.LAWFULNESS)
    assert len(answer.entries) == 0
    answer = world.ask(CARE, LogItem(start=0, end=20), purpose=Purpose.LAWFULNESS)
    assert 0 < len(answer.entries) < 7


def _pass_on(world: Simulator, **options: Any) -> Answer:
    """Disclose an emergence report, which has H2, to an agency that takes no part in the channel."""

    async def act(w: World) -> RecordItem:
        (report,) = await w.publish_records([w.record(61, "EmergenceReport")], POLICE_A)
        return RecordItem(
            topic=report.topic, offset=report.offset, batch_id=report.batch_id, indexes=bytes([report.index])
        )

    options = {
        "operation": Operation.DISCLOSURE,
        "mandate_ref": "XBB-2024-17",
        "purpose": Purpose.PREVENTION,
        "details": {"person": None, "recipients": ("XZZ:foreign-service",)},
    } | options
    return world.ask(POLICE_B, world.run(act), **options)


def test_a_record_with_h2_is_passed_on(world: Simulator) -> None:
    """31: A request that names a recipient beyond the requester is denied a record with handling code H2."""
    world.must_be_denied(_pass_on(world), Reason.HANDLING)


def test_a_consultation_passes_on_what_has_h2(world: Simulator) -> None:
    """31: It makes no difference that a person consults the record and names the recipient."""
    consultation = {"operation": Operation.CONSULTATION, "mandate_ref": None}
    details = {"recipients": ("XZZ:foreign-service",)}
    world.must_be_denied(_pass_on(world, **consultation, details=details), Reason.HANDLING)


def test_a_request_hides_its_recipients(world: Simulator) -> None:
    """31: A request that denies the recipients that its details name is refused."""
    world.must_be_refused(lambda: _pass_on(world, passes_on=False), "passes_on is False")


def test_a_service_that_passes_on_what_has_h2(world: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """31: The auditor, who does not see the details, decides again from the request and reports the entry."""
    monkeypatch.setattr("broker.access.policy.HandlingCode", SimpleNamespace(H0="H0", H1="H1", H2="-"))
    answer = _pass_on(world)
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    monkeypatch.undo()
    report = world.replay()
    assert [found.violation.kind for found in report.violations] == [Kind.ACCESS_DECISION]


def test_batches_of_two_issuers(world: Simulator) -> None:
    """30: A request that mixes batches of two issuers is refused, wherever it says that they stand."""
    ours = world["family 1"].item(0)
    theirs = world["single 1"]
    world.must_be_refused(lambda: world.ask(POLICE_B, ours, theirs.item(0)), "2 issuers")
    world.must_be_refused(lambda: world.ask(POLICE_B, ours, named(theirs, offset=HUGE)), "2 issuers")


def test_a_service_that_takes_batches_of_two_issuers(
    world: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30: The auditor reports an entry whose request names batches of two issuers."""
    monkeypatch.setattr("broker.services.kas.view.check_one_issuer", lambda *_: None)
    world.ask(POLICE_B, world["family 1"].item(0), world["single 1"].item(0))
    report = world.replay()
    assert [found.violation.kind for found in report.violations] == [Kind.ACCESS_REQUEST]


def test_an_originator_sees_nothing_about_others_records(world: Simulator) -> None:
    """30: An originator that asks who read its records is shown no record of another originator."""

    async def owned(w: World) -> list[tuple[int, bool]]:
        found = []
        participant = await w.participant(CARE)
        asked = accesses(participant, w.kas, purpose=Purpose.SELF_MONITORING, details=details)
        async for access in asked:
            items = [one.item for one in access.disclosures if isinstance(one.item, RecordItem)]
            own = [item.batch_id == world["releasable"].batch_id for item in items]
            if access.request.issuer != CARE:
                assert all(own), access
                found += [(access.offset, True)] * len(own)
        return found

    assert world.run(owned)


def test_a_suspended_agency_asks(world: Simulator) -> None:
    """A suspended agency is denied, and the access log records its request."""
    world.suspend(CARE)
    world.must_be_denied(world.ask(CARE, world["family 1"].item(0)), Reason.SUSPENDED)


# 21: whoever takes no part


def test_every_answer_to_a_stranger_is_the_same(world: Simulator) -> None:
    """21: A non-member gets the same answer for every record and channel."""
    pair = world["pair"]
    asked = [
        (PAIR, named(pair)),
        (PAIR, named(pair, batch_id=bytes(32), offset=HUGE)),
        ("no-channel", named(pair)),
        ("xbb-xdd", named(world["welfare"])),
    ]

    async def sizes(w: World) -> list[tuple[int, object]]:
        found: list[tuple[int, object]] = []
        for channel, item in asked:
            prepared = hostile_request(w, BORDER, [item], channel=channel)
            sealed = await w.kas.access(prepared.request_bytes, prepared.details_bytes)
            answer = await post(w, BORDER, prepared)
            found.append((len(sealed), (answer.outcomes, answer.entry)))
        return found

    before = [world.end("access", number) for number in range(3)]
    answers = world.run(sizes)
    assert all(answer == answers[0] for answer in answers), answers
    assert [world.end("access", number) for number in range(3)] == before
    assert world.replay().verified


def test_a_member_asks_without_end(world: Simulator) -> None:
    """21: Thirty denied requests give one entry, one that counts the others, and one that binds them."""

    async def ask(w: World) -> None:
        for _ in range(30):
            await post(w, BORDER, hostile_request(w, BORDER, [world["releasable"].item(0)]))

    before = world.end("access", 0).offset
    world.run(ask)
    assert world.end("access", 0).offset == before + 6
    report = world.replay()
    assert (report.verified, report.counts.denials) == (True, 1)


def test_the_same_request_twice(world: Simulator) -> None:
    """22: A request that is sent twice counts as one access."""

    async def twice(w: World) -> None:
        prepared = hostile_request(w, POLICE_B, [world["family 1"].item(0)])
        for _ in range(2):
            await post(w, POLICE_B, prepared)

    before = world.replay().counts.access_entries
    world.run(twice)
    report = world.replay()
    assert (report.verified, report.counts.access_entries) == (True, before + 1)


def test_an_overheard_request_answers_its_issuer_only(world: Simulator) -> None:
    """The answer to an overheard request does not open for the eavesdropper."""

    async def overheard(w: World) -> None:
        await post(w, BORDER, hostile_request(w, POLICE_B, [world["family 1"].item(0)]))

    world.must_stop(lambda: world.run(overheard), "does not open")


def test_the_service_asks_itself(world: Simulator) -> None:
    """The service is denied when it asks in its own name, because it is not a member."""
    answer = world.ask(KAS, world["family 1"].item(0))
    world.must_be_denied(answer, Reason.NOT_MEMBER)
