"""What hostile parties write: statements that they mutated, and then truly signed and sealed.

Each deed holds every key of the coalition: it signs with those that the statement needs. A value that cannot
be encoded is not written.
"""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import fields
from typing import Any

from broker.directory import directory_message, make_channel_keys
from broker.log.protocol import Message, Partition
from broker.wire.access import AccessDetails
from broker.wire.encoding import decode_content
from broker.wire.manifest import AccessTerms, Header
from fuzz.mutate import Pool, mutated, mutated_bytes
from support.coalition import AGENCIES, KAS, POLICE_A, signing_key
from support.forgery import Forged, enter, forge, opened_by_kas, positions_of, remade
from support.looking import access_terms, stored
from support.words import details
from support.world import CHANNEL, World

__all__ = ["DEEDS", "fill"]

_TOPICS = ("returns", "justice", "emergence", "relocation", "rehabilitation", "access")
_DATES = (0, -1, 1, 2**53, 2**53 * 1000, 2**62, 2**63 - 1, -(2**63))
_TYPES = ("ReturnEvent", "JusticeMeasure", "EmergenceReport")


async def fill(world: World, pool: Pool) -> None:
    """Take apart what honest parties wrote."""
    for statement, _ in world.coalition.made:
        pool.take(statement)
    for terms in await access_terms(world):
        pool.take(terms)
        if isinstance(terms, AccessTerms):
            pool.take(decode_content(terms.request))
    batch, _ = forge(world, Forged(issuer=POLICE_A))
    pool.take(batch.manifest)
    pool.take(opened_by_kas(world, batch).entries)
    pool.take(details())


async def statement(world: World, rng: random.Random, pool: Pool) -> None:
    """A statement of the directory: one that was made before or is due now, mutated, and signed by all."""
    made, keys = rng.choice(world.coalition.made)
    if rng.random() < 0.2:
        made, keys = make_channel_keys(world.directory, CHANNEL, POLICE_A, world.coalition.now), ()
    if rng.random() < 0.8:
        made = world.coalition.updated(made)
    changed = mutated(made, rng, pool)
    issuer = changed.header.issuer if isinstance(changed.header, Header) else ""
    signers = [*keys, *world.coalition.authority_keys[: rng.randrange(3)]]
    signers += [signing_key(issuer)] if issuer in (*AGENCIES, KAS) else []
    signed = world.coalition.sign(changed, *dict.fromkeys(signers))
    if rng.random() < 0.15:
        signed = mutated(signed, rng, pool)
    await world.log.append(Partition("directory", 0), [Message(*directory_message(signed))])


async def batch(world: World, rng: random.Random, pool: Pool) -> None:
    """A batch of records whose manifest or entries are mutated, sealed for its place."""
    how = Forged(issuer=rng.choice(AGENCIES), record_type=rng.choice(_TYPES), count=rng.choice((1, 3)))
    made, _ = forge(world, how)
    changes: dict[str, Any] = {}
    if rng.random() < 0.6:
        changes |= _fields(mutated(made.manifest, rng, pool))
    if rng.random() < 0.6:
        changes["entries"] = _fields(mutated(opened_by_kas(world, made).entries, rng, pool))
    header = made.manifest.header
    key = signing_key(header.issuer)
    try:
        changed = remade(world, made, key=key, reroot="entries" in changes, **changes)
    except (IndexError, TypeError, struct.error):  # columns of different lengths have no leaves to sign
        changed = remade(world, made, key=key, **changes)
    messages = [Message(key, value) for key, value in changed.messages]
    if rng.random() < 0.2:
        at = rng.randrange(len(messages))
        messages[at] = Message(messages[at].key, mutated_bytes(messages[at].value or b"", rng))
    await world.log.append(Partition(header.topic, header.partition), messages)


async def entry(world: World, rng: random.Random, pool: Pool) -> None:
    """An entry by the service's own key, whose terms, header, positions or details are mutated."""
    terms = mutated(rng.choice(await access_terms(world) or pool.values[AccessTerms]), rng, pool)
    if rng.random() < 0.2:
        terms = pool.any_of(type(terms), rng)
    changes: dict[str, Any] = {}
    if rng.random() < 0.3:
        made, _ = forge(world, Forged(issuer=POLICE_A))
        changes = _fields(mutated(made.manifest.header, rng, pool))
        for name in ("topic", "partition", "epoch", "issuer"):
            del changes[name]
    said: AccessDetails | None = mutated(details(), rng, pool) if rng.random() < 0.3 else None
    positions = await positions_of(world)
    if rng.random() < 0.3:
        positions = mutated(positions, rng, pool)
    changes["positions"] = positions
    await enter(world, *[terms] * rng.choice((1, 1, 2)), details=said, **changes)


async def raw(world: World, rng: random.Random, pool: Pool) -> None:
    """Messages of any topic again, with other bytes, or bytes that are nothing at all."""
    topic = rng.choice((*_TOPICS, "directory", "keys"))
    partition = Partition(topic, 0 if topic in ("directory", "keys") else rng.randrange(3))
    there = await stored(world.log, partition)
    key, value = rng.randbytes(16), b"\x01" + bytes(4) + rng.randbytes(300)
    if there and rng.random() < 0.8:
        one = rng.choice(there)
        key, value = one.key or b"", mutated_bytes(one.value or b"", rng)
    message = Message(rng.choice((key, key, mutated_bytes(key, rng), None)), rng.choice((value, value, None)))
    if topic == "keys" and message.key is None:
        return
    await world.log.append(partition, [message])


async def dates(world: World, rng: random.Random, pool: Pool) -> None:
    """The operator dates messages as it likes, behind the log's back."""
    with closing(sqlite3.connect(world.path)) as db, db:
        beside = "" if rng.random() < 0.2 else "WHERE topic != 'ftf.directory'"
        rows = [row for (row,) in db.execute(f"SELECT rowid FROM message {beside} ORDER BY rowid")]
        for row in rng.sample(rows, rng.choice((1, 5))):
            at = rng.choice((*_DATES, world.now + rng.randrange(-(10**13), 10**13)))
            db.execute("UPDATE message SET appended_at = ? WHERE rowid = ?", (at, row))


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in fields(value)}


DEEDS: Mapping[str, Callable[[World, random.Random, Pool], Awaitable[None]]] = {
    "statement": statement,
    "batch": batch,
    "entry": entry,
    "raw": raw,
    "dates": dates,
}
"""What is written, by name."""
