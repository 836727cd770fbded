"""A key access service that lies, and its receipts: what replay and requesters must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.avro.schema import default_store
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
    TopicEnd,
    Verdict,
)
from broker.wire.terms import Purpose, Target
from support.asking import hostile_request
from support.coalition import BORDER, CARE, JUSTICE, KAS, POLICE_A, POLICE_B, signing_key
from support.exchange import World
from support.hostile_kas import HostileKas
from support.simulator import Simulator

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
    positions: dict[str, Any] | None = None,
    ends: dict[str, int] | None = None,
    request: dict[str, Any] | None = None,
) -> AccessTerms:
    """An access entry that is right but for what is told."""
    item = world[target].item(*indexes)
    at = {topic: world.end(topic, 0).offset for topic in sorted(default_store().topics)} | (ends or {})
    access_end = world.end("access", 0).offset

    async def make(w: World) -> AccessTerms:
        prepared = hostile_request(w, name, [item], **(request or {}))
        directory = w.coalition.directory
        made = Positions(
            directory_size=directory.size,
            directory_head=directory.head,
            ends=tuple(TopicEnd(topic=topic, end=end) for topic, end in at.items()),
            access_end=access_end,
        )
        default = (RecordOutcome(item=0, indexes=bytes(indexes), verdict=verdict[0], reason=verdict[1]),)
        return AccessTerms(
            request=prepared.signed,
            outcomes=outcomes or default,
            positions=replace(made, **(positions or {})),
        )

    return world.run(make)


def listed(world: Simulator, target: str = "family 1", **changes: Any) -> CollectionTerms:
    """A COLLECTION entry of one batch, with fields changed."""
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
    """What the attacks below start from: nothing is wrong with it."""
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
        ({"directory_head": bytes(32)}, Kind.ACCESS_REQUEST),
        ({"channel": "xaa-xbb"}, Kind.ACCESS_DECISION),
        ({"channel": "no-channel"}, Kind.ACCESS_DECISION),
        ({"purpose": Purpose.LAWFULNESS}, Kind.ACCESS_DECISION),
        ({"purpose": Purpose.CHILD_PROTECTION}, Kind.ACCESS_DECISION),
    ],
)
def test_an_access_without_a_valid_request(world: Simulator, request_: dict[str, Any], kind: Kind) -> None:
    """6: K logs an access that nobody validly asked for: the request is missing, or decides otherwise."""
    place = world.enter(access(world, request=request_))
    world.must_report(kind, place)


def test_an_entry_whose_request_is_junk(world: Simulator) -> None:
    """6: K puts bytes where the request belongs."""
    terms = access(world)
    place = world.enter(replace(terms, request=replace(terms.request, content=b"junk")))
    world.must_report(Kind.ACCESS_REQUEST, place)


def test_an_entry_whose_request_has_no_signature(world: Simulator) -> None:
    """6: K strips the signature of a request."""
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
    """6: K allows what the policy denies: decided again it is denied."""
    place = world.enter(access(world, name, target, indexes=indexes))
    world.must_report(Kind.ACCESS_DECISION, place)


def test_what_was_to_be_allowed_is_denied(world: Simulator) -> None:
    """6: K denies what the policy allows."""
    place = world.enter(access(world, verdict=(Verdict.DENIED, Reason.NOT_RELEASABLE)))
    world.must_report(Kind.ACCESS_DECISION, place)


def test_a_record_that_was_never_there(world: Simulator) -> None:
    """6: K logs an access to an index that the batch has not."""
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
    """6: K logs outcomes that are not those of what was asked for, once each."""
    place = world.enter(access(world, outcomes=outcomes))
    world.must_report(Kind.ACCESS_REQUEST, place)


@pytest.mark.parametrize(
    ("positions", "ends"),
    [
        ({"directory_size": 999}, {}),
        ({"directory_size": HUGE}, {}),
        ({"directory_size": -1}, {}),
        ({"directory_head": bytes(32)}, {}),
        ({"access_end": HUGE}, {}),
        ({"access_end": -1}, {}),
        ({"ends": ()}, {}),
        ({}, {"keys": 5}),
        ({}, {"returns": 7}),
        ({}, {"returns": -1}),
    ],
)
def test_positions_that_are_none(world: Simulator, positions: dict[str, Any], ends: dict[str, int]) -> None:
    """5, 23b: K records positions beyond the ends, within a batch, or of another directory."""
    place = world.enter(access(world, positions=positions, ends=ends))
    world.must_report(Kind.ACCESS_POSITIONS, place)


@pytest.mark.parametrize("end", [27, HUGE])
def test_positions_beyond_the_end(world: Simulator, end: int) -> None:
    """5: K records more of a record topic than there is: either it lies or the log was cut, where it ends."""
    world.enter(access(world, ends={"returns": end}))
    world.must_report(Kind.ACCESS_POSITIONS, world.end("returns", 0), delivers=False)


def test_decided_on_an_old_state(world: Simulator) -> None:
    """5: K decides on positions from before the withdrawal: replay decides from there too, and sees them.

    That they are old convicts nobody before there are checkpoints; the entry says so in the open.
    """
    world.enter(access(world, target="family 0", indexes=(2,), ends={"returns": 22}))
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
    """K lists a batch that nobody published: named at the place that the entry names."""
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
    """K lists a batch where it does not stand, or where nothing stands."""
    place = world.enter(listed(world, **changes))
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_an_empty_collection(world: Simulator) -> None:
    """K lists nothing, or more than it may."""
    place = world.enter(CollectionTerms(batches=()))
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_a_batch_is_never_collected(world: Simulator) -> None:
    """K leaves out a batch and lists a later one: NOT_COLLECTED where the batch stands."""
    left_out = world.publish(count=1)
    later = world.forge(count=1)
    entry = listed(world, offset=later.place.offset, batch_id=later.batch.batch_id, count=1)
    world.enter(entry)
    report = world.replay()
    assert [(v.violation.kind, v.violation.place) for v in report.violations] == [
        (Kind.NOT_COLLECTED, left_out)
    ]


def test_a_batch_that_was_not_entitled_is_collected(world: Simulator) -> None:
    """11: K takes over the batch of an agency that it knew was suspended."""
    before = world.directory()
    world.suspend(CARE)
    placed = world.forge(issuer=CARE, count=1, view=before)
    entry = listed(world, offset=placed.place.offset, batch_id=placed.batch.batch_id, count=1)
    place = world.enter(entry)
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_a_count_of_denials_that_is_none(world: Simulator) -> None:
    """K counts no denials, or denials that ended before they began."""
    place = world.enter(DenialTerms(agency=CARE, count=0, first_at=1, last_at=1))
    world.must_report(Kind.TERMS_INVALID, place)


@pytest.mark.parametrize("index", [-1, 256, 2**31 - 1])
def test_an_erasure_of_no_record(world: Simulator, index: int) -> None:
    """K says that it shredded a record that no batch can have: replay says so, and goes on."""
    batch_id = world["family 1"].batch_id
    place = world.enter(ErasureTerms(targets=(Target(batch_id=batch_id, index=index),), order=None))
    world.must_report(Kind.TERMS_INVALID, place)
    assert [one for one in world.read() if isinstance(one, Delivered)]


def test_a_released_record_behind_its_erasure(world: Simulator) -> None:
    """23b: K allows a record behind the entry that says it was shredded."""
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
    """7: K says that messages were cut which never were: LATE is a violation by itself."""
    place = world.enter(LateTerms(offset=0, batch_id=bytes(32), messages=messages))
    report = world.replay()
    assert report.violations[0].violation.kind is Kind.LATE_ENTRY
    assert {one.violation.place for one in report.violations} == {place}


def test_an_entry_by_another(world: Simulator) -> None:
    """M, T write an access entry with the access key and a key that is not the service's."""
    place = world.enter(access(world), key=signing_key(POLICE_A))
    world.must_report(Kind.NOT_ENTITLED, place)


def test_an_entry_in_anothers_name(world: Simulator) -> None:
    """A member that an auditor's access key leaked to enters accesses in its own name."""
    place = world.enter(access(world), key=signing_key(POLICE_A), issuer=POLICE_A)
    world.must_report(Kind.NOT_ENTITLED, place)


@pytest.mark.parametrize("issued_at", [0, -HUGE, HUGE])
def test_an_entry_at_an_impossible_time(world: Simulator, issued_at: int) -> None:
    """K dates an entry to the beginning or the end of time: the request's time is not the entry's."""
    place = world.enter(access(world), issued_at=issued_at)
    world.must_report(Kind.ACCESS_REQUEST, place)


# 7: the service's other faces to requesters


Change = Callable[[AccessAnswer, Receipt], tuple[AccessAnswer, Receipt]]


def outcome(**changes: Any) -> Change:
    """Change every outcome of the receipt."""
    return lambda answer, receipt: (
        answer,
        replace(receipt, outcomes=tuple(replace(one, **changes) for one in receipt.outcomes)),
    )


def receipt_(**changes: Any) -> Change:
    """Change the receipt."""
    return lambda answer, receipt: (answer, replace(receipt, **changes))


def shares(**changes: Any) -> Change:
    """Change what is released."""
    return lambda answer, receipt: (
        replace(answer, shares=tuple(replace(one, **changes) for one in answer.shares)),
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


@pytest.mark.parametrize("change", [one for _, one in WRONG], ids=[name for name, _ in WRONG])
def test_an_answer_that_is_wrong(world: Simulator, change: Change) -> None:
    """K, O answer with a receipt or shares that do not fit: the subscriber stops, and names the service."""
    found = world.run(lambda w: answered(w, change))
    assert [(one.kind, one.place) for one in found if isinstance(one, Violation)] == [
        (Kind.RECEIPT_INVALID, Place("returns", 1, 0))
    ]
    assert len(found) == 1


def test_a_share_that_does_not_fit(world: Simulator) -> None:
    """19: K releases another share than the issuer signed for: blamed at the body, the service named."""
    change = shares(release_shares=bytes(64))
    found = world.run(lambda w: answered(w, change))
    said = [one for one in found if isinstance(one, Violation)]
    assert {one.kind for one in said} == {Kind.RELEASE_SHARE}
    assert all(f"'{KAS}'" in one.detail for one in said)
    assert len(said) == len(found) == 2


@pytest.mark.parametrize("data", [b"", b"junk", bytes(2000)])
def test_an_answer_that_is_junk(world: Simulator, data: bytes) -> None:
    """K, O answer with bytes: the subscriber stops, and says so."""
    found = world.run(lambda w: answered(w, None, data))
    assert [one.kind for one in found if isinstance(one, Violation)] == [Kind.RECEIPT_INVALID]


async def answered(world: World, change: Change | None, data: bytes = b"") -> list[object]:
    """What a subscriber of channel 1 is given where the service's answer is changed, and signed, again."""
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
