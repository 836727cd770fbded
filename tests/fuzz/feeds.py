"""Who is fed with it: the service, subscribers, replay, access queries and views, all as they are used."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping

from broker.audit.accesses import accesses
from broker.audit.replay import replay
from broker.audit.report import to_json
from broker.errors import BrokerError
from broker.log.protocol import Partition
from broker.services.kas.service import KeyAccessService
from broker.show.channel_view import channel_json
from broker.show.meanings import violation_line
from broker.show.message_view import PartitionView, directory_view
from broker.show.party_view import party_json
from broker.show.record_view import delivered_json, record_block, record_rows
from broker.show.statement_text import statement_text
from broker.subscribe.subscriber import Delivered
from broker.verify.violations import Violation
from broker.wire.access import AccessAnswer, BatchRef, CollectionQuery, Receipt
from broker.wire.encoding import STATEMENT_KINDS, decode, decode_content, encode, sign_content
from broker.wire.manifest import LogItem, RecordItem, Signed
from broker.wire.terms import Purpose
from fuzz.mutate import Pool, mutated, mutated_bytes
from support.asking import hostile_request
from support.coalition import AUDITOR, POLICE_A, POLICE_B, REHAB, signing_key
from support.hostile_kas import HostileKas
from support.looking import stored
from support.simulator import subscribed
from support.words import details
from support.world import CHANNEL, PAIR, World

__all__ = ["FEEDS", "WITHOUT_SERVICE"]

_READERS = {CHANNEL: POLICE_B, PAIR: POLICE_A, "xbb-xdd": REHAB}


async def collect(world: World, rng: random.Random, pool: Pool) -> None:
    """The service takes over what is new."""
    assert isinstance(world.kas, KeyAccessService)
    await world.kas.collect()


async def read(world: World, rng: random.Random, pool: Pool) -> None:
    """A subscriber reads everything of a channel, and everything is shown."""
    channel, name = rng.choice(list(_READERS.items()))
    for item in await subscribed(world, await world.follower(), name, channel):
        if isinstance(item, Delivered):
            json.dumps(delivered_json(item, channel))
            record_block(item)
            record_rows(item)
        elif isinstance(item, Violation):
            violation_line(item)


async def read_from_a_hostile_service(world: World, rng: random.Random, pool: Pool) -> None:
    """A subscriber is answered by a service that mutates what it says, and signs it."""

    def change(answer: AccessAnswer, receipt: Receipt) -> tuple[AccessAnswer, Receipt]:
        pool.take(receipt)
        changed = mutated(receipt, rng, pool) if rng.random() < 0.6 else receipt
        return (mutated(answer, rng, pool) if rng.random() < 0.6 else answer), changed

    channel, name = rng.choice(list(_READERS.items()))
    hostile = World(
        world.folder, world.log, world.coalition, HostileKas(world, name, change, b""), world.clock
    )
    await subscribed(hostile, await world.follower(), name, channel)


async def ask(world: World, rng: random.Random, pool: Pool) -> None:
    """Requests that are mutated and signed, and bytes that are none."""
    items = [*pool.values[RecordItem], LogItem(start=0, end=rng.choice((1, 5, 10**6)))]
    right = hostile_request(world, POLICE_B, rng.sample(items, rng.choice((1, min(4, len(items))))))
    request = mutated(right.request, rng, pool) if rng.random() < 0.7 else right.request
    pool.take(request)
    said = encode(mutated(details(), rng, pool)) if rng.random() < 0.2 else right.details_bytes
    signed = sign_content(signing_key(POLICE_B), "access-request", world.directory.genesis, encode(request))
    if rng.random() < 0.2:
        await world.kas.access(mutated_bytes(encode(signed), rng), mutated_bytes(said, rng))
    await world.kas.access(encode(signed), said)


async def query(world: World, rng: random.Random, pool: Pool) -> None:
    """Questions about collections that are mutated and signed."""
    refs = [
        BatchRef(topic=one.topic, offset=one.offset, batch_id=one.batch_id)
        for one in pool.values[RecordItem][: rng.choice((1, 3))]
    ]
    for one in refs:
        pool.take(one)
    right = CollectionQuery(
        issuer=POLICE_B, issued_at=world.now, nonce=bytes(16), channel=CHANNEL, batches=tuple(refs)
    )
    content = encode(mutated(right, rng, pool) if rng.random() < 0.7 else right)
    signed = sign_content(signing_key(POLICE_B), "collection-query", world.directory.genesis, content)
    await world.kas.collections(encode(signed))


async def audit(world: World, rng: random.Random, pool: Pool) -> None:
    """The auditor replays, and its report is written down."""
    report = await replay(await world.participant(AUDITOR))
    json.dumps(to_json(report, world.log))
    for one in report.violations:
        violation_line(one.violation)


async def list_accesses(world: World, rng: random.Random, pool: Pool) -> None:
    """An auditor or an agency asks who read."""
    participant = await world.participant(rng.choice((AUDITOR, POLICE_A)))
    found = accesses(participant, world.kas, purpose=Purpose.LAWFULNESS, details=details)
    async for _ in found:
        pass


async def view(world: World, rng: random.Random, pool: Pool) -> None:
    """Every message is shown as a member sees it, and the directory with everybody in it."""
    follower = await world.follower()
    directory = follower.history.latest
    for channel in directory.channels.values():
        json.dumps(channel_json(channel))
        for topic in ("returns", "justice", "access"):
            seen = PartitionView(topic, channel, directory, world.keyring(rng.choice((POLICE_B, AUDITOR))))
            for message in await stored(world.log, Partition(topic, channel.number)):
                shown = seen.see(message)
                json.dumps([shown.text, shown.facts])
    for party in directory.parties.values():
        json.dumps(party_json(directory, party))
    faults = {violation.place.offset: violation_line(violation) for violation in follower.violations}
    for message in await stored(world.log, Partition("directory", 0)):
        json.dumps(directory_view(message, faults.get(message.offset)).text)
        _tell_statement(message.value)


def _tell_statement(value: bytes | None) -> None:
    try:
        signed = decode(Signed, value or b"")
        if signed.kind in STATEMENT_KINDS:
            statement_text(decode_content(signed))
    except BrokerError:
        pass


FEEDS: Mapping[str, Callable[[World, random.Random, Pool], Awaitable[None]]] = {
    "collect": collect,
    "read": read,
    "read from a hostile service": read_from_a_hostile_service,
    "ask": ask,
    "query": query,
    "audit": audit,
    "list accesses": list_accesses,
    "view": view,
}
"""Everybody who is fed, by name."""
WITHOUT_SERVICE = ("audit", "view")
"""Those who need no running service."""
