"""Whatever others write: it is reported at its offset, and every good record is still delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from broker.avro.schema import default_store
from broker.crypto.lock import LockedBody, lock_bodies
from broker.crypto.sign import SigningKey
from broker.directory import Directory
from broker.log import Message, Partition
from broker.publish.assembly import StreamPlace
from broker.records.record import Record, encode_body
from broker.subscribe.subscriber import NotDelivered, Violation
from broker.verify.violations import Kind
from broker.wire import batch as batch_module
from broker.wire.batch import Batch, Intake, Item, Secrets, build_batch
from broker.wire.manifest import Header
from broker.wire.terms import RecordTerms
from support.coalition import CARE, POLICE_A, POLICE_B, REHAB, receiving_key, signing_key
from support.deliveries import delivered_refs, only
from support.looking import stored
from support.world import CHANNEL, PAIR, World

RETURNS = Partition("returns", 0)
RNG = Random(2396)
SCHEMA = default_store().current("ReturnEvent")


@dataclass(frozen=True, kw_only=True)
class Forged:
    """A batch as a hostile member may write it; without arguments everything in it is right."""

    bodies: Sequence[bytes] = ()
    header: Callable[[Header], Header] = lambda header: header
    terms: Callable[[RecordTerms], RecordTerms] = lambda terms: terms
    key: SigningKey | None = None
    schema: bytes = SCHEMA.id
    record_type: str = "ReturnEvent"
    named: Callable[[Directory], Sequence[tuple[bytes, bytes]]] = lambda _: ()
    """The receiving keys to which the member share is sealed, and their ids."""
    place: StreamPlace | None = None
    release_secret: bytes | None = None
    issuer: str = CARE


def forge(world: World, how: Forged, records: Sequence[Record]) -> Batch:
    """Build a batch of these records that is wrong as ``how`` describes."""
    directory = world.coalition.directory
    channel = directory.channels[CHANNEL]
    epoch = channel.epochs[channel.newest_confirmed]
    place = how.place or StreamPlace(stream=RNG.randbytes(16))
    header = Header(
        topic="returns",
        partition=0,
        epoch=epoch.number,
        issuer=how.issuer,
        issued_at=world.coalition.now,
        directory_size=directory.size,
        directory_root=directory.root,
        stream=place.stream,
        sequence=place.sequence,
        previous=place.previous,
    )
    intake = directory.intake_key(world.coalition.day)
    assert intake is not None
    bodies = how.bodies or [encode_body(record, SCHEMA) for record in records]
    items = [
        Item(record_id=record.record_id, terms=how.terms(record.terms), body=body)
        for record, body in zip(records, bodies, strict=True)
    ]
    metadata, content = world.coalition.member_keys(CHANNEL, epoch.number)
    return build_batch(
        genesis=directory.genesis,
        header=how.header(header),
        record_type=how.record_type,
        schema=how.schema,
        items=items,
        key=how.key or signing_key(how.issuer),
        metadata=metadata,
        content=content,
        named=how.named(directory),
        intake=Intake(key_id=intake.key_id, public=intake.public),
        draw=Secrets.draw(content, items),
    )


def messages_of(batch: Batch) -> list[Message]:
    return [Message(key, value) for key, value in batch.messages]


async def put(world: World, *messages: Message) -> int:
    return await world.log.append(RETURNS, messages)


async def put_forged(world: World, how: Forged, count: int = 2) -> int:
    records = [world.record(100 + i) for i in range(count)]
    return await put(world, *messages_of(forge(world, how, records)))


async def around(world: World, write: Callable[[World], Any]) -> tuple[int, list[Any], list[int]]:
    """Good records before and behind what ``write`` does: its offset, what is reported, who is delivered."""
    await world.publish(2, first=0)
    offset = await write(world)
    await world.publish(2, first=2)
    found = await world.read()
    reported = [item for item in found if isinstance(item, (Violation, NotDelivered))]
    return offset, reported, delivered_refs(found)


async def garbage(world: World) -> int:
    return await put(world, *[Message(b"x", RNG.randbytes(20)) for _ in range(3)])


async def nulls(world: World) -> int:
    return await put(world, Message(None, None), Message(b"k", None), Message(None, b"v"))


async def like_a_manifest(world: World) -> int:
    return await put(world, Message(RNG.randbytes(16), b"\x01" + bytes(4) + RNG.randbytes(2000)))


async def oversize(world: World) -> int:
    return await put(world, Message(RNG.randbytes(16), b"\x01" + bytes(4) + bytes(990_000)))


async def other_partition(world: World) -> int:
    await world.publish(2, first=50, channel=PAIR)
    return await put(
        world, *[Message(m.key, m.value) for m in await stored(world.log, Partition("returns", 1))]
    )


async def copy_of_an_earlier_batch(world: World) -> int:
    async with world.publisher(REHAB, max_records=1) as publisher:
        for number in (0, 1):
            await publisher.publish(CHANNEL, world.record(200 + number))
    first = (await stored(world.log, RETURNS, 3))[:2]
    return await put(world, *[Message(m.key, m.value) for m in first])


async def epoch_to_come(world: World) -> int:
    return await put(world, Message(RNG.randbytes(16), b"\x01\x00\x00\x00\x09" + RNG.randbytes(2000)))


async def suspended(world: World) -> int:
    await world.suspend(CARE)
    return await put_forged(world, Forged())


VOID: list[Any] = [
    pytest.param(garbage, Kind.UNACCOUNTED, 3, id="garbage"),
    pytest.param(nulls, Kind.UNACCOUNTED, 3, id="null keys and values"),
    pytest.param(like_a_manifest, Kind.UNACCOUNTED, 1, id="garbage like a manifest"),
    pytest.param(oversize, Kind.UNACCOUNTED, 1, id="a manifest of a megabyte"),
    pytest.param(other_partition, Kind.UNACCOUNTED, 3, id="another partition's batch"),
    pytest.param(epoch_to_come, Kind.EPOCH_UNKNOWN, 1, id="an epoch that is not there"),
    pytest.param(suspended, Kind.NOT_ENTITLED, 1, id="a suspended agency"),
]


@pytest.mark.parametrize(("write", "kind", "count"), VOID)
async def test_what_no_manifest_accounts_for(
    world: World, write: Callable[[World], Any], kind: Kind, count: int
) -> None:
    """Garbage is one violation at its offset, and the good records around it are delivered."""
    offset, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 2, 3]
    assert (reported[0].kind, reported[0].place.offset) == (kind, offset)
    assert sum(violation.count for violation in reported if violation.kind is kind) >= count
    assert all(violation.place.offset >= offset for violation in reported)


FORGED: list[Any] = [
    pytest.param(Forged(key=signing_key("stranger")), Kind.UNACCOUNTED, id="a stranger's key"),
    pytest.param(Forged(key=signing_key(POLICE_A)), Kind.UNACCOUNTED, id="another agency's key"),
    pytest.param(Forged(issuer="XZZ:nobody"), Kind.UNACCOUNTED, id="nobody"),
    pytest.param(Forged(record_type="Unknown"), Kind.NOT_ENTITLED, id="record type"),
    pytest.param(
        Forged(header=lambda h: replace(h, directory_size=h.directory_size + 9)),
        Kind.VIEW_UNKNOWN,
        id="a view beyond the end",
    ),
    pytest.param(
        Forged(header=lambda h: replace(h, directory_root=bytes(32))), Kind.VIEW_UNKNOWN, id="another view"
    ),
    pytest.param(
        Forged(header=lambda h: replace(h, issued_at=2**62)), Kind.TERMS_INVALID, id="a time far ahead"
    ),
    pytest.param(
        Forged(terms=lambda t: replace(t, erase_by=2**31 - 1)), Kind.TERMS_INVALID, id="kept for ever"
    ),
]


@pytest.mark.parametrize(("how", "kind"), FORGED)
async def test_a_batch_that_may_not_be(world: World, how: Forged, kind: Kind) -> None:
    """A manifest without entitlement or with wrong fields is a violation; its records are not delivered."""
    offset, reported, delivered = await around(world, lambda world: put_forged(world, how))
    assert delivered == [0, 1, 2, 3]
    assert (reported[0].kind, reported[0].place.offset) == (kind, offset)


async def test_a_copy_counts_for_nothing(world: World) -> None:
    """A copy of an earlier batch is a violation, and its record is not delivered twice."""
    offset, reported, delivered = await around(world, copy_of_an_earlier_batch)
    assert delivered == [0, 1, 200, 201, 2, 3]
    assert (reported[0].kind, reported[0].place.offset) == (Kind.MANIFEST_COPIED, offset)


async def test_a_fork_of_a_stream_is_not_delivered(world: World) -> None:
    """Of two batches with one sequence the first counts, and the second is a violation."""

    async def write(world: World) -> int:
        place = StreamPlace(stream=RNG.randbytes(16))
        await put_forged(world, Forged(place=place), 1)
        return await put_forged(world, Forged(place=place), 1)

    offset, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 100, 2, 3]
    assert [(violation.kind, violation.place.offset) for violation in reported] == [
        (Kind.STREAM_FORK, offset)
    ]


async def test_a_gap_is_reported_and_what_follows_is_delivered(world: World) -> None:
    """A batch after a gap in its stream is delivered, with one violation."""
    how = Forged(place=StreamPlace(stream=bytes(16), sequence=5, previous=RNG.randbytes(32)))
    offset, reported, delivered = await around(world, lambda world: put_forged(world, how))
    assert delivered == [0, 1, 100, 101, 2, 3]
    assert [(violation.kind, violation.place.offset) for violation in reported] == [(Kind.STREAM_GAP, offset)]


async def test_a_batch_cut_short_is_void(world: World) -> None:
    """A manifest with too few bodies is void, and reading resumes at the next message."""

    async def write(world: World) -> int:
        whole = messages_of(forge(world, Forged(), [world.record(100), world.record(101)]))
        return await put(world, *whole[:2])

    offset, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 2, 3]
    assert (reported[0].kind, reported[0].place.offset) == (Kind.BODY_MISSING, offset + 2)


async def test_an_altered_body_voids_its_batch(world: World) -> None:
    """One changed bit in a body is found at its offset."""

    async def write(world: World) -> int:
        whole = messages_of(forge(world, Forged(), [world.record(100), world.record(101)]))
        value = whole[2].value or b""
        altered = Message(whole[2].key, value[:-1] + bytes([value[-1] ^ 1]))
        return 2 + await put(world, *whole[:2], altered)

    offset, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 2, 3]
    assert (reported[0].kind, reported[0].place.offset) == (Kind.BODY_ALTERED, offset)
    assert all(violation.caused_by == reported[0].place for violation in reported[1:])


# What only who unlocks can see


def not_avro(world: World) -> Forged:
    return Forged(bodies=[b"\xff" * 40, b"\xff" * 40])


def trailing(world: World) -> Forged:
    return Forged(bodies=[encode_body(world.record(i), SCHEMA) + b"\0" for i in (100, 101)])


def no_body(world: World) -> Forged:
    return Forged(bodies=[b"", b""])


def rule_broken(world: World) -> Forged:
    body = world.record(100).body
    subject = {**body["subject"], "ref": "not a uuid"}
    broken = replace(world.record(100), body={**body, "subject": subject})
    return Forged(bodies=[encode_body(broken, SCHEMA)] * 2)


INVALID = [not_avro, trailing, no_body, rule_broken]


@pytest.mark.parametrize("how", INVALID)
async def test_a_record_that_breaks_rules_is_not_delivered(
    world: World, how: Callable[[World], Forged]
) -> None:
    """A bad body is a violation at its offset that names its issuer, and gives no record."""
    offset, reported, delivered = await around(world, lambda world: put_forged(world, how(world)))
    assert delivered == [0, 1, 2, 3]
    assert [(violation.kind, violation.place.offset) for violation in reported] == [
        (Kind.RECORD_INVALID, offset + 1),
        (Kind.RECORD_INVALID, offset + 2),
    ]
    assert all(CARE in violation.detail for violation in reported)


async def test_a_schema_of_another_type_is_the_issuers_fault(world: World) -> None:
    """A body may not be read with the schema of another record type."""
    how = Forged(schema=default_store().current("JusticeMeasure").id)
    offset, reported, delivered = await around(world, lambda world: put_forged(world, how))
    assert delivered == [0, 1, 2, 3]
    assert [(violation.kind, violation.place.offset) for violation in reported] == [
        (Kind.SCHEMA_MISMATCH, offset)
    ]


async def test_a_member_share_sealed_to_nobody_is_the_issuers_fault(world: World) -> None:
    """A seal that names the reader's key and does not open with it is one violation for all its records."""

    def named(directory: Directory) -> list[tuple[bytes, bytes]]:
        key_ids = [directory.receiving_key(name)[0] for name in (POLICE_B, CARE)]
        return [(key_id, receiving_key("somebody").public) for key_id in key_ids]

    def only(terms: RecordTerms) -> RecordTerms:
        return replace(terms, handling=replace(terms.handling, releasable_to=(POLICE_B,)))

    how = Forged(named=named, terms=only)
    offset, reported, delivered = await around(world, lambda world: put_forged(world, how))
    assert delivered == [0, 1, 2, 3]
    (violation,) = reported
    assert (violation.kind, violation.place.offset, violation.count) == (Kind.MEMBER_SEAL, offset, 2)
    assert CARE in violation.detail


def other_value(body: LockedBody) -> LockedBody:
    value = b"\x02" + bytes(len(body.value) - 1)
    return body._replace(value=value, digest=sha256(value).digest())


def other_commitment(body: LockedBody) -> LockedBody:
    return body._replace(commitment=bytes(32))


@pytest.mark.parametrize("change", [other_value, other_commitment])
async def test_a_body_that_does_not_unlock_is_the_issuers_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[LockedBody], LockedBody]
) -> None:
    """A body that is not the one committed to is found, though its digest and its shares are right."""

    async def write(world: World) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(batch_module, "lock_bodies", lambda *a: [change(body) for body in lock_bodies(*a)])
            return await put_forged(world, Forged(), 1)

    offset, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 2, 3]
    assert [(violation.kind, violation.place.offset) for violation in reported] == [
        (Kind.BODY_LOCKED, offset + 1)
    ]
    assert CARE in reported[0].detail


async def test_a_release_secret_that_does_not_fit_is_never_collected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key access service refuses the batch, and its records are named as not collected."""

    def other_check(body: LockedBody) -> LockedBody:
        return body._replace(release_check=bytes(32))

    async def write(world: World) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(
                batch_module, "lock_bodies", lambda *a: [other_check(body) for body in lock_bodies(*a)]
            )
            return await put_forged(world, Forged(), 1)

    _, reported, delivered = await around(world, write)
    assert delivered == [0, 1, 2, 3]
    assert [(type(item), item.reason) for item in reported] == [(NotDelivered, "NOT_COLLECTED")]


def mutated(messages: Sequence[Message], rng: Random) -> list[Message]:
    """A batch with something changed, left out, doubled, exchanged or cut."""
    changed = list(messages)
    i = rng.randrange(len(changed))
    key, value = changed[i].key or b"", changed[i].value or b""
    at = rng.randrange(len(value))
    match rng.randrange(7):
        case 0:
            changed[i] = Message(
                key, value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
            )
        case 1:
            changed[i] = Message(key, value[:at])
        case 2:
            del changed[i]
        case 3:
            changed.insert(i, changed[i])
        case 4:
            rng.shuffle(changed)
        case 5:
            changed[i] = Message(key[: rng.randrange(len(key))], value)
        case 6:
            changed[i] = Message(None if rng.random() < 0.5 else key, None)
    return changed


async def test_whatever_becomes_of_a_batch_the_others_arrive(world: World) -> None:
    """Between sixty batches with something wrong, all good batches are delivered, each once."""
    rng, place = Random(60), StreamPlace(stream=RNG.randbytes(16))
    wrong = 0
    async with world.publisher(max_records=2) as publisher:
        for number in range(60):
            for i in (0, 1):
                await publisher.publish(CHANNEL, world.record(1000 + 2 * number + i))
            await publisher.flush()
            batch = forge(world, Forged(place=place), [world.record(i) for i in range(3)])
            changed = mutated(messages_of(batch), rng)
            wrong += changed != messages_of(batch)
            if changed:
                await put(world, *changed)
            place = place.behind(batch)
        await publisher.publish(CHANNEL, world.record(5000))
    found = await world.read()
    good = [number for number in delivered_refs(found) if number >= 1000]
    assert good == [*range(1000, 1120), 5000]
    assert wrong > 50
    assert len(only(found)) >= wrong - 10


async def test_violations_do_not_come_again(world: World, tmp_path: Any) -> None:
    """After reading to the end, neither records nor violations are repeated."""
    state = tmp_path / "state.json"
    await world.publish(1)
    await garbage(world)
    await world.publish(1, first=1)
    found = await world.read(state_path=state)
    assert (delivered_refs(found), len(only(found))) == ([0, 1], 1)
    assert await world.read(state_path=state) == []
