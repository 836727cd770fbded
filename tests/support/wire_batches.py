"""Batches of the vectors' coalition, built and read with keys that are known."""

from __future__ import annotations

from broker.crypto.epoch import EpochKeys
from broker.crypto.lock import body_key, check_release_share, context_of, release_shares, unlock
from broker.crypto.seal import open_sealed, release_info
from broker.errors import OpenError
from broker.wire.batch import Batch, Item, Secrets, build_batch
from broker.wire.envelope import Envelope, OpenedManifest, open_manifest, parse_envelope
from vectors.coalition import (
    CONTENT,
    EPOCH,
    GENESIS,
    INTAKE,
    ISSUER,
    METADATA,
    PARTITION,
    POLICE,
    TOPIC,
    header,
    intake_of,
    record_terms,
)

__all__ = ["DRAW", "ITEM", "batch_of", "context", "envelope_of", "items_of", "opened", "read"]

DRAW = Secrets(manifest_id=b"\x31" * 16, member_share=b"\x32" * 32, release_secret=b"\x33" * 32)
ITEM = Item(record_id=b"\x01" * 16, terms=record_terms(), body=b"body")


def batch_of(
    items: list[Item],
    *,
    draw: Secrets = DRAW,
    topic: str = TOPIC,
    partition: int = PARTITION,
    epoch: int = EPOCH,
    issuer: str = ISSUER,
) -> Batch:
    """A batch by the police to the channel."""
    return build_batch(
        genesis=GENESIS,
        header=header(topic=topic, partition=partition, epoch=epoch, issuer=issuer),
        record_type="ReturnEvent",
        schema=b"\x34" * 32,
        items=items,
        key=POLICE,
        metadata=METADATA,
        content=CONTENT,
        named=(),
        intake=intake_of(),
        draw=draw,
    )


def envelope_of(batch: Batch) -> Envelope:
    """The manifest message of a batch."""
    envelope = parse_envelope(*batch.messages[0])
    assert envelope is not None
    return envelope


def opened(
    envelope: Envelope,
    *,
    topic: str = TOPIC,
    partition: int = PARTITION,
    keys: EpochKeys = METADATA,
) -> OpenedManifest:
    """The manifest that a holder of the metadata seed sees; raises OpenError where it does not open."""
    found = open_manifest(envelope, topic=topic, partition=partition, keys=keys)
    if found is None:
        raise OpenError("not sealed for this place")
    return found


def context(batch: Batch) -> bytes:
    """The context of a batch, as every reader derives it from the header."""
    place = batch.manifest.header
    return context_of(
        GENESIS, place.topic, place.partition, place.epoch, place.issuer, batch.manifest.manifest_id
    )


def read(batch: Batch, *, secret: bytes | None = None) -> list[bytes]:
    """Every body, as a member reads it with the shares that the key access service derives."""
    found, bound = opened(envelope_of(batch)), context(batch)
    member = CONTENT.member_share(bound)
    released = open_sealed(INTAKE, found.manifest.release_seal, release_info(bound, INTAKE.key_id))
    indexes = range(found.manifest.count)
    bodies = []
    for i, share in enumerate(release_shares(bound, secret or released, indexes)):
        at = i * 32
        check_release_share(bound, i, share, found.entries.release_checks[at : at + 32])
        key = body_key(bound, member, i, share)
        bodies.append(unlock(key, i, batch.messages[i + 1][1], found.entries.commitments[at : at + 32]))
    return bodies


def items_of(count: int) -> list[Item]:
    """Records with three different terms and bodies of many sizes."""
    terms = [record_terms(erase_by=21_915 + i) for i in range(3)]
    return [
        Item(record_id=i.to_bytes(16, "big"), terms=terms[i % 3], body=b"x" * (i * 7 % 900))
        for i in range(count)
    ]
