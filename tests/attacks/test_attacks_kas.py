"""Attacks by a key access service that lies in its entries or its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import BrokerError
from broker.subscribe.subscriber import Delivered, Violation
from broker.verify.violations import Kind, Place
from broker.wire.access import AccessAnswer, EntryRef, Receipt
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
    Verdict,
)
from broker.wire.terms import Purpose, Target
from support.asking import hostile_request
from support.coalition import BORDER, CARE, JUSTICE, KAS, POLICE_A, POLICE_B, signing_key
from support.forgery import positions_of
from support.hostile_kas import HostileKas
from support.simulator import Simulator
from support.world import World

HUGE = 2**63 - 1
ALLOWED = (Verdict.ALLOWED, None)


def access(
    world: Simulator,
    name: str = POLICE_B,
    target: str = "family 1",
    *,
    indexes: tuple[int, ...] = (0,),
    outcomes: tuple[RecordOutcome, ...] | None = None,
    verdict: tuple[Verdict, Reason | None] = ALLOWED,
    request: dict[str, Any] | None = None,
) -> AccessTerms:
    """An access entry that is right except for the fields that are given."""
    item = world[target].item(*indexes)

    async def make(w: World) -> AccessTerms:
        prepared = hostile_request(w, name, [item], **(request or {}))
        default = (RecordOutcome(item=0, indexes=bytes(indexes), verdict=verdict[0], reason=verdict[1]),)
        return AccessTerms(request=prepared.signed, outcomes=outcomes or default)

    return world.run(make)


def positions_at(world: Simulator, **sizes: int) -> Positions:
    """Where the logs stand, or stood at these sizes, with the roots there."""

    async def make(w: World) -> Positions:
        return await positions_of(w, **sizes)

    return world.run(make)


def listed(world: Simulator, target: str = "family 1", **changes: Any) -> CollectionTerms:
    """A COLLECTION entry for one batch, with the given fields changed."""
    batch = world[target]
    made = Collected(
        topic=batch.place.topic,
        offset=batch.place.offset,
        batch_id=batch.batch_id,
        count=batch.records,
        status=CollectionStatus.COLLECTED,
        detail="",
    )
    return CollectionTerms(batches=(replace(made, **changes),))


def test_an_honest_entry(world: Simulator) -> None:
    """An honest entry, from which the attacks below start, verifies."""
    world.enter(access(world))
    assert world.replay().verified


# 6: an access under a false name, or decided wrongly


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"key": signing_key(KAS)}, Kind.ACCESS_REQUEST),
        ({"key": signing_key("stranger")}, Kind.ACCESS_REQUEST),
        ({"issuer": "XZZ:nobody"}, Kind.ACCESS_REQUEST),
        ({"issuer": JUSTICE}, Kind.ACCESS_REQUEST),
        ({"genesis": b"E" * 32}, Kind.ACCESS_REQUEST),
        ({"kind": "receipt"}, Kind.ACCESS_REQUEST),
        ({"issued_at": 1}, Kind.ACCESS_REQUEST),
        ({"issued_at": HUGE}, Kind.ACCESS_REQUEST),
        ({"directory_size": 999}, Kind.ACCESS_REQUEST),
        ({"directory_root": bytes(32)}, Kind.ACCESS_REQUEST),
        ({"channel": "xaa-xbb"}, Kind.ACCESS_DECISION),
        ({"channel": "no-channel"}, Kind.ACCESS_DECISION),
        ({"purpose": Purpose.LAWFULNESS}, Kind.ACCESS_DECISION),
        ({"purpose": Purpose.CHILD_PROTECTION}, Kind.ACCESS_DECISION),
    ],
)
def test_an_access_without_a_valid_request(world: Simulator, request_: dict[str, Any], kind: Kind) -> None:
    """6: The service logs an access that has no valid request, or that the policy denies."""
    place = world.enter(access(world, request=request_))
    world.must_report(kind, place)


def test_an_entry_whose_request_is_junk(world: Simulator) -> None:
    """6: An access entry with junk bytes in place of its request is reported."""
    terms = access(world)
    place = world.enter(replace(terms, request=replace(terms.request, content=b"junk")))
    world.must_report(Kind.ACCESS_REQUEST, place)


def test_an_entry_whose_request_has_no_signature(world: Simulator) -> None:
    """6: An access entry whose request has lost its signature is reported."""
    terms = access(world)
    place = world.enter(replace(terms, request=replace(terms.request, signatures=())))
    world.must_report(Kind.ACCESS_REQUEST, place)


@pytest.mark.parametrize(
    ("name", "target", "indexes"),
    [
        (BORDER, "releasable", (0,)),
        (POLICE_B, "family 0", (2,)),
        (KAS, "family 1", (0,)),
        ("auditor", "family 1", (0,)),
    ],
)
def test_what_was_to_be_denied_is_allowed(
    world: Simulator, name: str, target: str, indexes: tuple[int, ...]
) -> None:
    """6: The service allows an access that the policy denies, and the replay's own decision differs."""
    place = world.enter(access(world, name, target, indexes=indexes))
    world.must_report(Kind.ACCESS_DECISION, place)


def test_what_was_to_be_allowed_is_denied(world: Simulator) -> None:
    """6: The service denies an access that the policy allows, and the replay's own decision differs."""
    place = world.enter(access(world, verdict=(Verdict.DENIED, Reason.NOT_RELEASABLE)))
    world.must_report(Kind.ACCESS_DECISION, place)


def test_a_record_that_was_never_there(world: Simulator) -> None:
    """6: The service logs an access to an index that the batch does not have."""
    place = world.enter(access(world, indexes=(0, 9)))
    world.must_report(Kind.ACCESS_RECORD, place)


@pytest.mark.parametrize(
    "outcomes",
    [
        (RecordOutcome(item=0, indexes=b"\1", verdict=Verdict.ALLOWED, reason=None),),
        (RecordOutcome(item=0, indexes=b"\0\0", verdict=Verdict.ALLOWED, reason=None),),
        (RecordOutcome(item=9, indexes=b"\0", verdict=Verdict.ALLOWED, reason=None),),
        (RecordOutcome(item=-1, indexes=b"\0", verdict=Verdict.ALLOWED, reason=None),),
        (RecordOutcome(item=0, indexes=b"", verdict=Verdict.ALLOWED, reason=None),),
        (RecordOutcome(item=0, indexes=b"\0", verdict=Verdict.ALLOWED, reason=Reason.ERASED),),
        (RecordOutcome(item=0, indexes=b"\0", verdict=Verdict.DENIED, reason=None),),
    ],
)
def test_outcomes_that_do_not_fit(world: Simulator, outcomes: tuple[RecordOutcome, ...]) -> None:
    """6: The outcomes of an entry must cover each requested record exactly once."""
    place = world.enter(access(world, outcomes=outcomes))
    world.must_report(Kind.ACCESS_REQUEST, place)


@pytest.mark.parametrize(
    ("positions", "sizes"),
    [
        ({"directory_size": -1}, {}),
        ({"access_size": -1}, {}),
        ({"topics": ()}, {}),
        ({}, {"returns": 7}),
        ({}, {"returns": -1}),
    ],
)
def test_positions_that_are_none(world: Simulator, positions: dict[str, Any], sizes: dict[str, int]) -> None:
    """5, 23b: An entry is reported when it records positions that no service can have read."""
    made = replace(positions_at(world, **sizes), **positions)
    place = world.enter(access(world), positions=made)
    world.must_report(Kind.ACCESS_POSITIONS, place)


@pytest.mark.parametrize(
    ("topic", "positions"),
    [
        ("directory", {"directory_size": 999}),
        ("directory", {"directory_size": HUGE}),
        ("directory", {"directory_root": bytes(32)}),
        ("access", {"access_size": HUGE}),
        ("access", {"access_root": bytes(32)}),
    ],
)
def test_positions_in_another_log(world: Simulator, topic: str, positions: dict[str, Any]) -> None:
    """5: Positions in another directory or access log prove a fork of it, and accuse nobody."""
    place = world.enter(access(world), positions=replace(positions_at(world), **positions))
    report = world.replay()
    found = report.violations[0].violation
    assert (found.kind, found.place.topic) == (Kind.LOG_FORKED, topic)
    assert f"access@{place.offset}" in found.detail


@pytest.mark.parametrize("end", [27, HUGE])
def test_positions_beyond_the_end(world: Simulator, end: int) -> None:
    """5: A signed position beyond a topic's end proves that its log is another one, or was cut."""
    before = positions_at(world)
    world.enter(access(world), positions=positions_at(world, returns=end))
    fits = next(head.size for head in before.topics if head.topic == "returns")
    world.must_report(Kind.LOG_FORKED, Place("returns", 0, fits), delivers=False)


def test_decided_on_an_old_state(world: Simulator) -> None:
    """5: A decision at positions from before a withdrawal is not reported, because replay uses them too.

    Before there are checkpoints, nothing proves that the positions were old; the entry shows them openly.
    """
    world.enter(access(world, target="family 0", indexes=(2,)), positions=positions_at(world, returns=22))
    assert world.replay().verified


# 7: what the entries list


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_id": b"b" * 32, "offset": 99},
        {"batch_id": b"b" * 32, "offset": HUGE, "count": 2**31 - 1},
        {"batch_id": b"b" * 32, "count": -5},
    ],
)
def test_a_collection_of_what_is_not_there(world: Simulator, changes: dict[str, Any]) -> None:
    """A batch that is listed and that nobody published is reported at the place that the entry names."""
    entry = listed(world, **changes)
    world.enter(entry)
    place = Place("returns", 0, entry.batches[0].offset)
    world.must_report(Kind.COLLECTION_WRONG, place, delivers=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "keys"},
        {"topic": "x" * 500},
        {"offset": -1},
        {"status": CollectionStatus.UNKNOWN},
        {"offset": 1},
    ],
)
def test_a_collection_that_lies(world: Simulator, changes: dict[str, Any]) -> None:
    """A COLLECTION entry that gives a wrong topic, offset or status for a batch is reported."""
    place = world.enter(listed(world, **changes))
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_an_empty_collection(world: Simulator) -> None:
    """A COLLECTION entry without a batch is reported."""
    place = world.enter(CollectionTerms(batches=()))
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_a_batch_is_never_collected(world: Simulator) -> None:
    """A batch that the service passes over in favour of a later batch is reported as not collected."""
    left_out = world.publish(count=1)
    later = world.forge(count=1)
    entry = listed(world, offset=later.place.offset, batch_id=later.batch.batch_id, count=1)
    world.enter(entry)
    report = world.replay()
    assert [(v.violation.kind, v.violation.place) for v in report.violations] == [
        (Kind.NOT_COLLECTED, left_out)
    ]


def test_a_batch_that_was_not_entitled_is_collected(world: Simulator) -> None:
    """11: The service takes over a batch of an agency that it knew was suspended, and is reported."""
    before = world.directory()
    world.suspend(CARE)
    placed = world.forge(issuer=CARE, count=1, view=before)
    entry = listed(world, offset=placed.place.offset, batch_id=placed.batch.batch_id, count=1)
    place = world.enter(entry)
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_a_count_of_denials_that_is_none(world: Simulator) -> None:
    """An entry that counts zero denials is reported."""
    place = world.enter(DenialTerms(agency=CARE, count=0, first_at=1, last_at=1))
    world.must_report(Kind.TERMS_INVALID, place)


@pytest.mark.parametrize("index", [-1, 256, 2**31 - 1])
def test_an_erasure_of_no_record(world: Simulator, index: int) -> None:
    """An erasure of an index that no batch can have is reported, and subscribers go on reading."""
    batch_id = world["family 1"].batch_id
    place = world.enter(ErasureTerms(targets=(Target(batch_id=batch_id, index=index),), order=None))
    world.must_report(Kind.TERMS_INVALID, place)
    assert [item for item in world.read() if isinstance(item, Delivered)]


def test_a_released_record_behind_its_erasure(world: Simulator) -> None:
    """23b: An access that is allowed after the record's erasure is reported."""
    world.enter(ErasureTerms(targets=(Target(batch_id=world["family 1"].batch_id, index=0),), order=None))
    place = world.enter(access(world))
    world.must_report(Kind.ACCESS_DECISION, place)


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (LostMessage(key=b"", value=b""),),
        (LostMessage(key=b"k" * 16, value=b"\x01" + bytes(3000)),),
    ],
)
def test_a_late_entry_of_junk(world: Simulator, messages: tuple[LostMessage, ...]) -> None:
    """7: A LATE entry for messages that were never cut is reported, and nothing else is."""
    place = world.enter(LateTerms(offset=0, batch_id=bytes(32), messages=messages))
    report = world.replay()
    assert report.violations[0].violation.kind is Kind.LATE_ENTRY
    assert {found.violation.place for found in report.violations} == {place}


def test_an_entry_by_another(world: Simulator) -> None:
    """An access entry is reported when its signature is made with a member's key."""
    place = world.enter(access(world), key=signing_key(POLICE_A))
    world.must_report(Kind.UNACCOUNTED, place)


def test_an_entry_in_anothers_name(world: Simulator) -> None:
    """An access entry is reported when a member issues it in its own name."""
    place = world.enter(access(world), key=signing_key(POLICE_A), issuer=POLICE_A)
    world.must_report(Kind.NOT_ENTITLED, place)


@pytest.mark.parametrize("issued_at", [0, -HUGE, HUGE])
def test_an_entry_at_an_impossible_time(world: Simulator, issued_at: int) -> None:
    """An access entry is reported when its time is far from the time of its request."""
    place = world.enter(access(world), issued_at=issued_at)
    world.must_report(Kind.ACCESS_REQUEST, place)


# 7: the service's other faces to requesters


Change = Callable[[AccessAnswer, Receipt], tuple[AccessAnswer, Receipt]]


def outcome(**changes: Any) -> Change:
    """A change to every outcome of the receipt."""
    return lambda answer, receipt: (
        answer,
        replace(receipt, outcomes=tuple(replace(result, **changes) for result in receipt.outcomes)),
    )


def receipt_(**changes: Any) -> Change:
    """A change to the receipt."""
    return lambda answer, receipt: (answer, replace(receipt, **changes))


def shares(**changes: Any) -> Change:
    """A change to every released share of the answer."""
    return lambda answer, receipt: (
        replace(answer, shares=tuple(replace(share, **changes) for share in answer.shares)),
        receipt,
    )


WRONG: list[tuple[str, Change]] = [
    ("another request", receipt_(request_digest=bytes(32))),
    ("not the service", receipt_(issuer=POLICE_A)),
    ("no entry", receipt_(entry=None)),
    ("another partition", receipt_(entry=EntryRef(batch_id=bytes(32), partition=0, offset=0, index=0))),
    ("no outcomes", receipt_(outcomes=())),
    ("item 7", outcome(item=7)),
    ("item -1", outcome(item=-1)),
    ("denied and released", outcome(verdict=Verdict.DENIED)),
    ("released with a reason", outcome(reason=Reason.ERASED)),
    ("other indexes", outcome(indexes=b"\7")),
    ("no indexes", outcome(indexes=b"")),
    ("no shares", lambda answer, receipt: (replace(answer, shares=()), receipt)),
    ("short shares", shares(release_shares=bytes(31))),
    ("shares of another item", shares(item=9)),
    ("shares for other indexes", shares(indexes=b"\5\6\7")),
]


@pytest.mark.parametrize("change", [change for _, change in WRONG], ids=[name for name, _ in WRONG])
def test_an_answer_that_is_wrong(world: Simulator, change: Change) -> None:
    """A subscriber stops at a receipt or shares that do not fit its request, and reports the receipt."""
    found = world.run(lambda w: answered(w, change))
    assert [(item.kind, item.place) for item in found if isinstance(item, Violation)] == [
        (Kind.RECEIPT_INVALID, Place("returns", 1, 0))
    ]
    assert len(found) == 1


def test_a_share_that_does_not_fit(world: Simulator) -> None:
    """19: A wrong release share is reported at each body, and the report names the service."""
    change = shares(release_shares=bytes(64))
    found = world.run(lambda w: answered(w, change))
    violations = [item for item in found if isinstance(item, Violation)]
    assert {violation.kind for violation in violations} == {Kind.RELEASE_SHARE}
    assert all(f"'{KAS}'" in violation.detail for violation in violations)
    assert len(violations) == len(found) == 2


@pytest.mark.parametrize("data", [b"", b"junk", bytes(2000)])
def test_an_answer_that_is_junk(world: Simulator, data: bytes) -> None:
    """A subscriber stops at an answer of junk bytes, and reports the receipt."""
    found = world.run(lambda w: answered(w, None, data))
    assert [item.kind for item in found if isinstance(item, Violation)] == [Kind.RECEIPT_INVALID]


async def answered(world: World, change: Change | None, data: bytes = b"") -> list[object]:
    """Return what a subscriber of channel 1 is given when the service changes and signs its answer."""
    subscriber = await world.subscriber(
        POLICE_A, "xaa-xbb", kas=HostileKas(world, POLICE_A, change, data), kas_timeout_s=0.0
    )
    found: list[object] = []
    async with subscriber:
        try:
            async for item in subscriber.deliveries():
                found.append(item)
        except BrokerError:
            pass
    return found
