"""Right batches that are put into the log by hand, with everything at hand that their issuer knows.

    batch = await place(world, POLICE_A, 3)
    answer = await ask(world, kas, POLICE_B, [batch.item(0)])

The bodies are numbers and no records: whoever needs real ones publishes (``world.publish``). Batches of one
issuer in one partition continue its stream. Wrong batches are made by ``forgery``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from broker.avro.schema import default_store
from broker.directory import Directory
from broker.log.protocol import Message, Partition
from broker.wire.batch import Secrets
from broker.wire.manifest import Terms
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp
from support.coalition import POLICE_A
from support.forgery import Forged, Placed, publish
from support.world import World

__all__ = ["Placed", "order_terms", "place", "place_copy", "place_order", "record_terms"]


def record_terms(
    day: int,
    *,
    action: Action = Action.NEW,
    targets: Sequence[Target] = (),
    codes: Sequence[HandlingCode] = (),
    releasable_to: Sequence[str] = (),
    purpose: Purpose = Purpose.INVESTIGATION,
    erase_in_days: int = 1000,
) -> RecordTerms:
    """Terms that the coalition's channels allow, dated from this day."""
    return RecordTerms(
        action=action,
        targets=tuple(targets),
        handling=Handling(codes=tuple(codes), tlp=Tlp.AMBER, releasable_to=tuple(releasable_to)),
        purpose=purpose,
        review_by=day + min(100, erase_in_days),
        erase_by=day + erase_in_days,
    )


async def place(
    world: World,
    issuer: str = POLICE_A,
    count: int = 1,
    *,
    channel: int = 0,
    topic: str = "returns",
    terms: Sequence[Terms] = (),
    releasable_to: Sequence[str] = (),
    draw: Secrets | None = None,
    sealed_secret: bytes | None = None,
    release_seal: bytes | None = None,
    intake_day: int | None = None,
    as_directory: Directory | None = None,
    new_stream: bool = False,
) -> Placed:
    """Put a batch of so many records into the issuer's stream of this partition.

    ``terms`` are those of each record. ``as_directory`` is the view that the header claims instead of ours,
    ``sealed_secret`` is sealed to the service instead of the secret that locks, and ``release_seal`` is a
    seal as it stands.
    """
    directory = world.directory
    epoch = directory.channels[directory.numbers[channel]].newest_confirmed
    stream_of = (issuer, topic, channel, epoch)
    fresh = {"stream": secrets.token_bytes(16), "sequence": 0, "previous": bytes(32)}
    stream = fresh if new_stream else world.streams.get(stream_of, fresh)
    view = as_directory or directory
    header = {"issued_at": world.clock(), "directory_size": view.size, "directory_root": view.root}
    default = record_terms(world.day, releasable_to=releasable_to)
    how = Forged(
        issuer=issuer,
        count=count,
        record_type=_record_type(topic),
        partition=channel,
        header=header | stream,
        record_terms=[terms[i] if terms else default for i in range(count)],
        bodies=[b"%d" % i for i in range(count)],
        releasable_to=releasable_to,
        draw=draw,
        release_secret=sealed_secret,
        release_seal=release_seal,
        intake_day=world.day if intake_day is None else intake_day,
    )
    placed = await publish(world, how)
    world.streams[stream_of] = placed.next()
    return placed


def _record_type(topic: str) -> str:
    store = default_store()
    return next(name for name in store.record_types if store.current(name).topic == topic)


def order_terms(world: World, action: Action, *targets: Target) -> RecordTerms:
    """The terms of a record that acts on others."""
    return record_terms(world.day, action=action, targets=targets)


async def place_order(
    world: World, action: Action, *targets: Target, issuer: str = POLICE_A, topic: str = "returns"
) -> Placed:
    """Put a record there that acts on others."""
    return await place(world, issuer, topic=topic, terms=[order_terms(world, action, *targets)])


async def place_copy(world: World, batch: Placed) -> Placed:
    """Append a batch a second time, behind everything; where its copy stands."""
    messages = [Message(key, value) for key, value in batch.batch.messages]
    offset = await world.log.append(Partition(batch.topic, batch.partition), messages)
    return replace(batch, place=batch.place._replace(offset=offset))
