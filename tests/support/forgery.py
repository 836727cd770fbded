"""Batches that no honest publisher makes: any header, any key, any seal, any bodies.

    place = world.run(lambda w: publish(w, Forged(issuer=CARE, header={"directory_size": 99})))

By default everything is right, and a new stream begins.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from broker.avro.schema import RecordSchema, default_store
from broker.clock import system_clock
from broker.crypto.epoch import EpochKeys, ManifestPlace
from broker.crypto.lock import context_of, release_share
from broker.crypto.merkle import root_of_leaves
from broker.crypto.seal import release_info, seal
from broker.crypto.sign import SigningKey
from broker.directory import Directory
from broker.log.protocol import Message, Partition
from broker.participant.reading import leaf_of
from broker.records.record import encode_body
from broker.services.kas.entries import ACCESS_RECORD_TYPE, ACCESS_SCHEMA_ID, access_release_secret
from broker.verify.manifest_terms import seal_recipients
from broker.verify.violations import Place
from broker.wire.access import AccessBody, AccessDetails
from broker.wire.batch import Batch, Intake, Item, Secrets, build_batch
from broker.wire.encoding import encode, sign_content
from broker.wire.entry import leaf_hashes
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import (
    Header,
    ManifestPlaintext,
    Positions,
    RecordItem,
    RecordManifest,
    Terms,
    TopicHead,
)
from broker.wire.terms import Target
from support.coalition import CARE, KAS, signing_key
from support.world import World

__all__ = ["Forged", "Placed", "enter", "forge", "opened_by_kas", "positions_of", "publish", "remade"]

Messages = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Forged:
    """What goes into a batch; ``header``, ``terms`` and ``manifest`` are fields that are changed."""

    issuer: str = CARE
    key: SigningKey | None = None
    count: int = 2
    record_type: str = "ReturnEvent"
    schema: bytes | None = None
    named_type: str | None = None
    topic: str | None = None
    partition: int = 0
    header: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, object] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the header that say something else than where the batch is sealed for."""
    broken: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that break the rules of its type."""
    bodies: Sequence[bytes] | None = None
    record_terms: Sequence[Terms] | None = None
    """The terms of each record, instead of those of a right record; ``bodies`` are needed then."""
    releasable_to: Sequence[str] = ()
    """The agencies to whose receiving keys the member share is sealed, beside the issuer's."""
    intake_day: int | None = None
    draw: Secrets | None = None
    sealed_epoch: int | None = None
    members: Sequence[tuple[bytes, bytes]] | None = None
    release_secret: bytes | None = None
    """What is sealed to the service instead of the secret that locks."""
    release_seal: bytes | None = None
    """A seal as it stands, in place of one to the service."""
    genesis: bytes | None = None
    view: Directory | None = None
    messages: Callable[[Messages], Messages] = lambda messages: messages


@dataclass(frozen=True, slots=True)
class Placed:
    """A batch that was put into the log, where it stands, and the secrets that its maker knows."""

    place: Place
    batch: Batch
    draw: Secrets

    @property
    def topic(self) -> str:
        """The record topic in which it stands."""
        return self.place.topic

    @property
    def partition(self) -> int:
        """The number of its channel."""
        return self.place.partition

    @property
    def offset(self) -> int:
        """The offset of its manifest."""
        return self.place.offset

    @property
    def batch_id(self) -> bytes:
        """Its name."""
        return self.batch.batch_id

    def context(self, genesis: bytes) -> bytes:
        """What binds its shares to it."""
        return context_for(genesis, self.batch.manifest.header, self.draw.manifest_id)

    def share(self, genesis: bytes, index: int) -> bytes:
        """The release share that its issuer signed for."""
        return release_share(self.context(genesis), self.draw.release_secret, index)

    def item(self, *indexes: int) -> RecordItem:
        """These records of it, as a request names them."""
        return RecordItem(
            topic=self.topic, offset=self.offset, batch_id=self.batch_id, indexes=bytes(indexes)
        )

    def target(self, index: int) -> Target:
        """One record of it, as an order names it."""
        return Target(batch_id=self.batch_id, index=index)

    def next(self) -> dict[str, Any]:
        """The header's fields of the statement that follows in its stream."""
        header = self.batch.manifest.header
        return {"stream": header.stream, "sequence": header.sequence + 1, "previous": self.batch_id}


def forge(world: World, how: Forged) -> tuple[Batch, Secrets]:
    """A batch that is wrong as told."""
    directory = how.view or world.coalition.directory
    name = directory.numbers[how.partition]
    channel = directory.channels[name]
    schema = default_store().current(how.record_type)
    epoch = channel.epochs[channel.newest_confirmed if how.sealed_epoch is None else how.sealed_epoch]
    header = Header(
        topic=how.topic or schema.topic,
        partition=how.partition,
        epoch=epoch.number,
        issuer=how.issuer,
        issued_at=system_clock(),
        directory_size=directory.size,
        directory_root=directory.root,
        stream=secrets.token_bytes(16),
        sequence=0,
        previous=bytes(32),
    )
    header = replace(header, **how.header)
    intake = directory.intake_key(world.coalition.day if how.intake_day is None else how.intake_day)
    assert intake is not None
    items = _items(world, how, schema)
    metadata, content = world.coalition.member_keys(name, epoch.number, how.genesis)
    draw = how.draw or Secrets.draw(content, items)
    named = list(how.members or ())
    if how.releasable_to and not named:
        names = seal_recipients(how.issuer, tuple(how.releasable_to))
        named = [directory.receiving_key(member) for member in names]
    context = context_for(how.genesis or directory.genesis, header, draw.manifest_id)
    if not named:
        draw = replace(draw, member_share=content.member_share(context))
    batch = build_batch(
        genesis=how.genesis or directory.genesis,
        header=header,
        record_type=how.named_type or how.record_type,
        schema=how.schema or schema.id,
        items=items,
        key=how.key or signing_key(how.issuer),
        metadata=metadata,
        content=content,
        named=named,
        intake=Intake(key_id=intake.key_id, public=intake.public),
        draw=draw,
    )
    if how.release_secret is not None or how.release_seal is not None:
        context = context_for(directory.genesis, header, draw.manifest_id)
        info = release_info(context, intake.key_id)
        sealed = how.release_seal or seal(intake.public, how.release_secret or b"", info)
        batch = remade(world, batch, key=how.key, release_seal=sealed)
    if how.manifest:
        batch = remade(world, batch, **({"key": how.key} | dict(how.manifest)))
    if how.elsewhere:
        place = (header.topic, header.partition, header.epoch)
        batch = remade(world, batch, place=place, header=replace(header, **how.elsewhere))
    return batch, draw


def _items(world: World, how: Forged, schema: RecordSchema) -> list[Item]:
    if how.record_terms is not None:
        return [
            Item(record_id=secrets.token_bytes(16), terms=terms, body=body)
            for terms, body in zip(how.record_terms, how.bodies or (), strict=True)
        ]
    records = [world.record(300 + i, how.record_type, how.changes) for i in range(how.count)]
    records = [replace(record, body=_broken(record.body, how.broken)) for record in records]
    bodies = how.bodies or [encode_body(record, schema) for record in records]
    return [
        Item(record_id=record.record_id, terms=replace(record.terms, **how.terms), body=body)
        for record, body in zip(records, bodies, strict=True)
    ]


def _broken(body: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    made = deepcopy(body)
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = made
        for name in parents:
            at = at[name]
        at[last] = value
    return made


def context_for(genesis: bytes, header: Header, manifest_id: bytes) -> bytes:
    """What binds the shares of a batch to it."""
    return context_of(genesis, header.topic, header.partition, header.epoch, header.issuer, manifest_id)


def opened_by_kas(world: World, batch: Batch) -> OpenedManifest:
    """The manifest of a batch, as the service reads it."""
    header, envelope = batch.manifest.header, parse_envelope(*batch.messages[0])
    assert envelope is not None
    keys = _metadata(world, header.partition, header.epoch)
    opened = open_manifest(envelope, topic=header.topic, partition=header.partition, keys=keys)
    assert opened is not None
    return opened


def _metadata(world: World, partition: int, epoch: int) -> EpochKeys:
    name = world.coalition.directory.numbers[partition]
    return world.coalition.epoch_keys(name, epoch, KAS)["metadata"].keys


def remade(
    world: World,
    batch: Batch,
    *,
    key: SigningKey | None = None,
    signed_for: bytes | None = None,
    entries: Mapping[str, Any] | None = None,
    reroot: bool = False,
    plain: bytes | None = None,
    trailing: bytes = b"",
    padding: int = 0,
    place: tuple[str, int, int] | None = None,
    **changes: Any,
) -> Batch:
    """The same batch with other fields in its manifest, signed and sealed again.

    ``signed_for`` is another genesis, ``place`` where it is sealed for instead of where it says it stands,
    ``entries`` other columns, whose root is signed if ``reroot``, ``plain`` other bytes that are sealed.
    """
    manifest: RecordManifest = replace(batch.manifest, **changes)
    header, genesis = batch.manifest.header, world.coalition.genesis
    columns = replace(opened_by_kas(world, batch).entries, **(entries or {}))
    if reroot:
        manifest = replace(manifest, entries_root=root_of_leaves(leaf_hashes(columns)))
    place = place or (header.topic, header.partition, header.epoch)
    signer, bound_to = key or signing_key(header.issuer), signed_for or genesis
    signed = sign_content(signer, "manifest", bound_to, encode(manifest))
    plain = plain or encode(ManifestPlaintext(signed=signed, entries=columns)) + trailing
    padded = len(plain).to_bytes(4, "big") + plain
    padded += bytes(-len(padded) % 256 + padding)
    sealed = _metadata(world, *place[1:]).seal_manifest(
        ManifestPlace(*place, batch.manifest.manifest_id), padded
    )
    value = b"\x01" + place[2].to_bytes(4, "big") + sealed
    messages = ((batch.manifest.manifest_id, value), *batch.messages[1:])
    return Batch(batch_id=sha256(signed.content).digest(), manifest=manifest, messages=messages)


async def publish(world: World, how: Forged, *, at: Partition | None = None) -> Placed:
    """Append a forged batch, where it says or elsewhere."""
    batch, draw = forge(world, how)
    topic = how.topic or default_store().current(how.record_type).topic
    partition = at or Partition(topic, how.partition)
    messages = [Message(key, value) for key, value in how.messages(batch.messages)]
    offset = await world.log.append(partition, messages)
    return Placed(Place(*partition, offset), batch, draw)


async def positions_of(world: World, channel: int = 0, **sizes: int) -> Positions:
    """Where the logs of a channel stand now, with their roots; ``sizes`` are other ones, by topic."""
    topics = ("access", *sorted(default_store().topics))
    partitions = [Partition(topic, channel) for topic in topics]
    ends = await world.log.ends(partitions)
    heads = []
    for partition in partitions:
        size = sizes.get(partition.topic, ends[partition])
        leaves = [leaf_of(one) async for one in world.log.read(partition, 0) if one.offset < size]
        heads.append(TopicHead(topic=partition.topic, size=size, root=root_of_leaves(leaves)))
    access, *records = heads
    return Positions(
        directory_size=world.directory.size,
        directory_root=world.directory.root,
        access_size=access.size,
        access_root=access.root,
        topics=tuple(records),
    )


async def enter(
    world: World,
    *terms: Terms,
    channel: int = 0,
    key: SigningKey | None = None,
    details: AccessDetails | None = None,
    positions: Positions | None = None,
    **header: Any,
) -> Place:
    """Append a batch of entries to the access log with the service's keys, journalled nowhere."""
    directory = world.coalition.directory
    name = directory.numbers[channel]
    epoch = directory.channels[name].newest_confirmed
    access = world.coalition.epoch_keys(name, epoch, KAS)["access"].keys
    made = Header(
        topic="access",
        partition=channel,
        epoch=epoch,
        issuer=KAS,
        issued_at=system_clock(),
        directory_size=directory.size,
        directory_root=directory.root,
        stream=secrets.token_bytes(16),
        sequence=0,
        previous=bytes(32),
    )
    made = replace(made, **header)
    body = encode(AccessBody(details=details))
    items = [Item(record_id=secrets.token_bytes(16), terms=one, body=body) for one in terms]
    draw = Secrets.draw(access, items)
    context = context_for(directory.genesis, made, draw.manifest_id)
    batch = build_batch(
        genesis=directory.genesis,
        header=made,
        record_type=ACCESS_RECORD_TYPE,
        schema=ACCESS_SCHEMA_ID,
        items=items,
        key=key or signing_key(KAS),
        metadata=access,
        content=access,
        named=(),
        intake=None,
        draw=replace(draw, release_secret=access_release_secret(bytes(32), context)),
        positions=positions or await positions_of(world, channel),
    )
    partition = Partition("access", channel)
    offset = await world.log.append(partition, [Message(*one) for one in batch.messages])
    return Place("access", channel, offset)
