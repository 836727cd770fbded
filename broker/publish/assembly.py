"""Assembly of a batch: records become signed and locked messages, under the directory's keys. Pure.

The benchmark measures the cryptography of publishing here, without a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.avro.schema import RecordSchema
from broker.clock import day_of
from broker.crypto.epoch import EpochKeys
from broker.directory import Channel, Directory, Use
from broker.errors import UsageError
from broker.participant.keyring import Keyring
from broker.publish.permission import intake_of
from broker.verify.manifest_terms import seal_recipients
from broker.wire.batch import Batch, Item, Secrets, build_batch
from broker.wire.manifest import Header

__all__ = ["StreamPlace", "build_record_batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlace:
    """A place in a stream: the stream's 16 random bytes, and the two fields by which batches are chained."""

    stream: bytes
    sequence: int = 0
    previous: bytes = bytes(32)
    """The id of the batch before; zeros for the first batch of a stream."""

    def behind(self, batch: Batch) -> StreamPlace:
        """Return the place after this one, at which ``batch`` was put."""
        return StreamPlace(stream=self.stream, sequence=self.sequence + 1, previous=batch.batch_id)


def build_record_batch(
    directory: Directory,
    keyring: Keyring,
    channel: Channel,
    *,
    schema: RecordSchema,
    items: Sequence[Item],
    place: StreamPlace,
    issued_at: int,
    releasable_to: tuple[str, ...] = (),
    instead_of: bytes | None = None,
) -> Batch:
    """Build a batch under the keys of the channel's newest confirmed epoch.

    The member share follows from the epoch's content seed; if ``releasable_to`` names agencies, it is drawn
    and sealed to the newest receiving keys of these and of the issuer instead. ``issued_at`` is in
    microseconds since 1970-01-01. Raises UsageError when we hold no key of the epoch.

    A batch that must be appended again is kept, never built again: building draws new secrets, and the log
    would hold two batches at one place of the stream.
    """
    epoch = channel.epoch
    metadata = _epoch_keys(directory, keyring, channel, "metadata")
    content = _epoch_keys(directory, keyring, channel, "content")
    if epoch is None or metadata is None or content is None:
        raise UsageError(
            f"'{keyring.name}' holds no key of the newest epoch of channel '{channel.name}'",
            hint="have a member publish the channel's next keys: ftf-broker channel rotate",
        )
    header = Header(
        topic=schema.topic,
        partition=channel.number,
        epoch=epoch.number,
        issuer=keyring.name,
        issued_at=issued_at,
        # The newest state that we have seen. Readers never judge the batch by an older one, and they report a
        # head that is not theirs, so the log cannot show two histories to two participants.
        directory_size=directory.size,
        directory_root=directory.root,
        stream=place.stream,
        sequence=place.sequence,
        previous=place.previous,
    )
    return build_batch(
        genesis=directory.genesis,
        header=header,
        record_type=schema.record_type,
        schema=schema.id,
        items=items,
        key=keyring.signing,
        metadata=metadata,
        content=content,
        named=_named(directory, keyring.name, releasable_to),
        intake=intake_of(directory, day_of(issued_at)),
        # These secrets live as long as this call and are kept nowhere.
        draw=Secrets.draw(content, items),
        instead_of=instead_of,
    )


def _epoch_keys(directory: Directory, keyring: Keyring, channel: Channel, use: Use) -> EpochKeys | None:
    found = keyring.epoch_key(directory, channel.name, channel.newest_confirmed, use)
    return None if found is None else found.keys


def _named(directory: Directory, issuer: str, releasable_to: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    if not releasable_to:
        return []
    return [directory.receiving_key(name) for name in seal_recipients(issuer, releasable_to)]
