"""Filling a log with batches quickly: built as the publisher builds them, appended, and taken over."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from bench.coalition import WRITER, Coalition, channel_of, key_access
from bench.records import MEASURED, body_of, records
from broker.avro.schema import default_store
from broker.clock import system_clock
from broker.log.protocol import Message, Partition
from broker.participant.keyring import Keyring
from broker.publish.assembly import StreamPlace, build_record_batch
from broker.wire.batch import Item

__all__ = ["fill", "items_of"]

_COLLECT_EVERY = 200
"""Batches between two collections; one entry lists at most 256."""


def items_of(count: int) -> Sequence[Item]:
    """So many records, encoded and ready to be locked; equal terms are one object, as in the publisher."""
    made = records(count)
    terms = {one.terms: one.terms for one in made}
    bodies = {id(one): body_of(one) for one in made}
    return [Item(record_id=one.record_id, terms=terms[one.terms], body=bodies[id(one)]) for one in made]


async def fill(coalition: Coalition, count: int, size: int, *, channel: int = 0) -> None:
    """Publish so many records in batches of ``size``, and have all of them taken over."""
    schema = default_store().current(MEASURED)
    partition = Partition(schema.topic, channel)
    place = StreamPlace(stream=secrets.token_bytes(16))
    keyring: Keyring = coalition.keyring(WRITER)
    items = items_of(min(count, 4096))
    async with coalition.log() as (log, follower), key_access(coalition) as kas:
        directory = follower.history.latest
        done = batches = 0
        while done < count:
            start = done % len(items)
            some = items[start : start + min(size, count - done)]
            batch = build_record_batch(
                directory,
                keyring,
                channel_of(directory, channel),
                schema=schema,
                items=some,
                place=place,
                issued_at=system_clock(),
            )
            await log.append(partition, [Message(key, value) for key, value in batch.messages])
            place = place.behind(batch)
            done, batches = done + len(some), batches + 1
            if not batches % _COLLECT_EVERY or done >= count:
                followed = kas.channel_service(channel_of(directory, channel))
                async with followed.turn:
                    state = await followed.apply()
                    await followed.collect(state, list(state.pending))
