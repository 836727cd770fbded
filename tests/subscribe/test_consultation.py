"""Consulting one record."""

from __future__ import annotations

from typing import Any

import pytest

from broker.avro.schema import default_store
from broker.errors import KasUnavailable, UsageError
from broker.log import Message, Partition
from broker.subscribe.consultation import consult
from broker.subscribe.subscriber import Delivered, NotDelivered, Violation
from broker.verify.violations import Kind
from broker.wire.manifest import AccessTerms
from support.coalition import CARE, POLICE_B
from support.exchange import World, access_terms, ground, numbered


async def one(world: World, name: str = POLICE_B, **options: Any) -> Any:
    options = dict[str, Any](ground=ground(), topic="returns", index=0) | options
    participant = await world.participant(name, store=options.pop("store", default_store()))
    return await consult(participant, options.pop("kas", world.kas), **options)


async def test_a_record_is_found_by_its_batch_or_its_offset(world: World) -> None:
    """The record named is read, and nothing else is asked for: the access log says which."""
    published = await world.publish(7, max_records=3)
    sent = published[4]
    for place in ({"batch_id": sent.batch_id}, {"offset": sent.offset}):
        found = await one(world, index=sent.index, **place)
        assert numbered(found) == 4
        assert found.record_id == sent.record_id
    asked = [terms for terms in await access_terms(world) if isinstance(terms, AccessTerms)]
    assert [outcome.indexes for terms in asked for outcome in terms.outcomes] == [bytes([sent.index])] * 2


async def test_what_is_not_there_is_a_usage_error(world: World) -> None:
    """A batch, an index or a channel that is not there is named with what to check."""
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
            await one(world, **wrong)


async def test_a_denial_is_an_answer(world: World) -> None:
    """A record that was not shared for this purpose is named, with the reason."""
    await world.publish_records([world.record(0, changes={"purpose": "CHILD_PROTECTION"})])
    found = await one(world, CARE, offset=0)
    assert isinstance(found, NotDelivered)
    assert found.reason == "PURPOSE_RECORD"


async def test_the_violation_at_an_offset_is_told(world: World) -> None:
    """Asked for an offset where there is no valid batch, the answer says what stands there."""
    await world.log.append(Partition("returns", 0), [Message(b"x", b"junk"), Message(b"y", b"junk")])
    found = await one(world, offset=1)
    assert isinstance(found, Violation)
    assert found.kind is Kind.UNACCOUNTED
    await world.publish(1)
    assert isinstance(await one(world, offset=1), Violation)
    assert isinstance(await one(world, offset=2), Delivered)


async def test_without_the_service_nothing_is_read(world: World) -> None:
    """While the key access service is down a consultation fails, after its timeout."""

    class Down:
        async def access(self, request: bytes, details: bytes) -> bytes:
            raise KasUnavailable("down, as planned")

        async def collections(self, query: bytes) -> bytes:
            raise KasUnavailable("down, as planned")

    await world.publish(1)
    with pytest.raises(KasUnavailable):
        await one(world, offset=0, kas=Down(), kas_timeout_s=-1.0)
