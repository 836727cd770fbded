"""Consulting one record."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from broker.access.answers import open_receipt
from broker.audit.receipt_check import KeptReceipts, read_kept
from broker.audit.replay import ReplayReport, replay
from broker.avro.schema import default_store
from broker.crypto.merkle import root_of_leaves
from broker.errors import KasUnavailable, OtherLogRead, UsageError
from broker.log import Message, Partition
from broker.subscribe.consultation import Consultation, consult, find_batch
from broker.subscribe.delivery import READER_TOO_OLD, Opener
from broker.subscribe.receipts import read_receipts
from broker.subscribe.subscriber import Delivered, NotDelivered, Violation
from broker.verify.violations import Kind, Place
from broker.wire.log_leaf import message_leaf
from broker.wire.manifest import AccessTerms, TopicHead, Verdict
from support.audit_log import alter
from support.coalition import AUDITOR, CARE, POLICE_B
from support.deliveries import numbered
from support.looking import access_terms, stored
from support.world import World, ground


def receipts_of(world: World) -> Path:
    """The file in which the consultations of these tests keep their receipts."""
    return world.path.parent / "state" / "consultations.receipts"


async def consulted(world: World, name: str = POLICE_B, **options: Any) -> Consultation | Violation:
    """Find the batch that the options name and consult a record of it, by default the first."""
    participant = await world.participant(name, store=options.pop("store", default_store()))
    kas = options.pop("kas", world.kas)
    asked = {name: options.pop(name) for name in ("index", "kas_timeout_s", "seen") if name in options}
    reason = options.pop("ground", ground())
    batch = await find_batch(participant, channel=reason.channel, topic="returns", **options)
    if isinstance(batch, Violation):
        return batch
    options = {"index": 0, "receipts": receipts_of(world)} | asked
    return await consult(participant, kas, ground=reason, batch=batch, **options)


async def delivery_of(world: World, name: str = POLICE_B, **options: Any) -> Any:
    """What came of a consultation."""
    found = await consulted(world, name, **options)
    return found.delivery if isinstance(found, Consultation) else found


async def replayed(world: World, receipts: Path) -> ReplayReport:
    """What the auditor's replay finds with these receipts."""
    participant = await world.participant(AUDITOR)
    with KeptReceipts(participant.follower.history) as kept:
        for line in read_kept(receipts):
            kept.take(*line)
        return await replay(participant, receipts=kept)


async def test_a_record_is_found_by_its_batch_or_its_offset(world: World) -> None:
    """Only the named record is read and asked for, as the access log shows."""
    published = await world.publish(7, max_records=3)
    sent = published[4]
    for place in ({"batch_id": sent.batch_id}, {"offset": sent.offset}):
        found = await delivery_of(world, index=sent.index, **place)
        assert numbered(found) == 4
        assert found.record_id == sent.record_id
    asked = [terms for terms in await access_terms(world) if isinstance(terms, AccessTerms)]
    assert [outcome.indexes for terms in asked for outcome in terms.outcomes] == [bytes([sent.index])] * 2


async def test_who_was_shown_another_log_is_refused(world: World) -> None:
    """The service refuses a consultation by somebody who has read another log, and logs nothing."""
    sent = (await world.publish(1))[0]
    messages = await stored(world.log, Partition("returns", 0))
    leaves = [message_leaf(one.appended_at, one.key, sha256(one.value or b"").digest()) for one in messages]
    head = TopicHead(topic="returns", size=len(leaves), root=root_of_leaves(leaves))
    assert numbered(await delivery_of(world, batch_id=sent.batch_id, seen=[head])) == 0
    before = len(await access_terms(world))
    for other in (replace(head, root=bytes(32)), replace(head, size=head.size + 1)):
        with pytest.raises(OtherLogRead, match="you have read another returns/0, up to"):
            await consulted(world, batch_id=sent.batch_id, seen=[other])
    assert len(await access_terms(world)) == before


async def test_what_is_not_there_is_a_usage_error(world: World) -> None:
    """A batch, an index or a channel that does not exist is an error with a hint."""
    (sent,) = await world.publish(1)
    for wrong, message in (
        ({"offset": 9}, "no batch at offset 9"),
        ({"batch_id": bytes(32)}, "no batch 0000"),
        ({"offset": 0, "index": 1}, "no record 1"),
        ({"offset": 0, "ground": ground("nowhere")}, "no channel 'nowhere'"),
        ({}, "by its id or by its offset"),
        ({"offset": 0, "batch_id": sent.batch_id}, "by its id or by its offset"),
    ):
        with pytest.raises(UsageError, match=message):
            await delivery_of(world, **wrong)


async def test_a_denial_is_an_answer(world: World) -> None:
    """A record that was not shared for this purpose comes back as not delivered, with the reason."""
    await world.publish_records([world.record(0, changes={"purpose": "CHILD_PROTECTION"})])
    found = await delivery_of(world, CARE, offset=0)
    assert isinstance(found, NotDelivered)
    assert found.reason == "PURPOSE_RECORD"


async def test_the_violation_at_an_offset_is_told(world: World) -> None:
    """At an offset without a valid batch, the violation that stands there is returned."""
    await world.log.append(Partition("returns", 0), [Message(b"x", b"junk"), Message(b"y", b"junk")])
    found = await delivery_of(world, offset=1)
    assert isinstance(found, Violation)
    assert found.kind is Kind.UNACCOUNTED
    await world.publish(1)
    assert isinstance(await delivery_of(world, offset=1), Violation)
    assert isinstance(await delivery_of(world, offset=2), Delivered)


async def test_without_the_service_nothing_is_read(world: World) -> None:
    """While the key access service is down a consultation fails after its timeout."""

    class Down:
        async def access(self, request: bytes, details: bytes) -> bytes:
            raise KasUnavailable("down, as planned")

        async def collections(self, query: bytes) -> bytes:
            raise KasUnavailable("down, as planned")

    await world.publish(1)
    with pytest.raises(KasUnavailable):
        await delivery_of(world, offset=0, kas=Down(), kas_timeout_s=-1.0)
    assert list(read_receipts(receipts_of(world))) == []


async def test_the_receipt_is_kept_and_says_where_the_access_was_logged(world: World) -> None:
    """The receipt in the file is the service's own, for the entry that the consultation names."""
    await world.publish(1)
    found = await consulted(world, offset=0)
    assert isinstance(found, Consultation)
    assert found.entry is not None
    ((_, signed),) = read_receipts(receipts_of(world))
    assert open_receipt(signed, world.coalition.directory) == found.receipt
    at_entry = await stored(world.log, Partition("access", found.entry.partition), found.entry.offset)
    assert at_entry[0].offset == found.entry.offset
    assert receipts_of(world).stat().st_mode & 0o777 == 0o600


async def test_a_denial_has_its_receipt(world: World) -> None:
    """The receipt of a denial is kept too, and gives the reason."""
    await world.publish_records([world.record(0, changes={"purpose": "CHILD_PROTECTION"})])
    found = await consulted(world, CARE, offset=0)
    assert isinstance(found, Consultation)
    assert isinstance(found.delivery, NotDelivered)
    ((_, signed),) = read_receipts(receipts_of(world))
    (outcome,) = open_receipt(signed, world.coalition.directory).outcomes
    assert outcome.verdict is Verdict.DENIED
    assert outcome.reason == found.delivery.reason


async def test_an_entry_that_is_cut_from_the_log_later_is_missed(world: World) -> None:
    """The log alone looks whole after the cut; the receipt of the consultation binds what is missing."""
    await world.publish(1)
    found = await consulted(world, offset=0)
    assert isinstance(found, Consultation)
    entry = found.entry
    assert entry is not None
    assert (await replayed(world, receipts_of(world))).verified
    alter(
        world.path,
        lambda log: log.execute(
            "DELETE FROM message WHERE topic = 'ftf.access' AND partition = ? AND offset >= ?",
            (entry.partition, entry.offset),
        ),
    )
    assert (await replay(await world.participant(AUDITOR))).verified
    report = await replayed(world, receipts_of(world))
    roots = [noted.violation for noted in report.violations if noted.violation.caused_by is None]
    assert [(root.kind, root.place) for root in roots] == [
        (Kind.LOG_FORKED, Place("access", entry.partition, entry.offset))
    ]


class Crash(BaseException):
    """The process ends here."""


async def test_a_crash_before_the_record_is_opened_leaves_the_receipt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt is durable before the record is unlocked."""
    await world.publish(1)

    def crash(*_: object, **__: object) -> None:
        assert len(list(read_receipts(receipts_of(world)))) == 1
        raise Crash

    monkeypatch.setattr(Opener, "open", crash)
    with pytest.raises(Crash):
        await delivery_of(world, offset=0)
    assert len(list(read_receipts(receipts_of(world)))) == 1


async def test_a_receipt_that_cannot_be_kept_is_found_out_before_anything_is_logged(world: World) -> None:
    """Where the file cannot be written nothing is asked, so the access log does not grow."""
    await world.publish(1)
    receipts_of(world).mkdir(parents=True)
    before = await access_terms(world)
    with pytest.raises(UsageError, match="cannot write"):
        await delivery_of(world, offset=0)
    assert await access_terms(world) == before


async def test_a_record_that_we_are_too_old_to_read_is_not_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked for a record that we could not read, so there is no receipt either."""
    await world.publish(1)
    monkeypatch.setattr(Opener, "schema_of", lambda *_: None)
    found = await consulted(world, offset=0)
    assert isinstance(found, Consultation)
    assert isinstance(found.delivery, NotDelivered)
    assert found.delivery.reason == READER_TOO_OLD
    assert (found.receipt, found.entry) == (None, None)
    assert not receipts_of(world).exists()
