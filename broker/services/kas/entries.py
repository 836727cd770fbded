"""Access entries, as the key access service writes them to ``ftf.access``, each call one batch.

The access log is built like the other logs. Its manifests are sealed under the epoch's access seed, which
the auditors and the service hold, and the member share of each body follows from it. The release secret is
derived from a key of the month and channel: so nothing has to be stored for a batch, and the bodies of a
month are erased by destroying its key.

    release_secret   HKDF(access key of the month and channel, salt = context, info = "ftf-broker/v1/access")
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.avro.schema_file import protocol_schema, schema_id
from broker.clock import HOUR_US
from broker.crypto.hkdf import hkdf_sha256
from broker.crypto.lock import context_of
from broker.crypto.sign import SigningKey
from broker.directory import Directory, EpochKey
from broker.log.protocol import Log, Message, Partition
from broker.participant.settle import append_settled
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.access import AccessBody, AccessDetails
from broker.wire.batch import Batch, Item, Secrets, build_batch
from broker.wire.encoding import encode
from broker.wire.manifest import Header, Positions, Terms

__all__ = [
    "ACCESS_RECORD_TYPE",
    "ACCESS_SCHEMA_ID",
    "AccessStream",
    "AccessWriter",
    "WrittenEntry",
    "access_release_secret",
    "month_of",
    "new_record_id",
]

ACCESS_RECORD_TYPE = "AccessBody"
ACCESS_SCHEMA_ID = schema_id(protocol_schema(ACCESS_RECORD_TYPE))
"""The schema that every manifest of the access log names."""

_ACCESS = b"ftf-broker/v1/access"
_IDLE_US = HOUR_US
"""After so long without an entry a new stream is begun, in microseconds."""
_MAX_NEWER_STREAMS = 32
"""Behind so many newer streams a new one is begun. A reader keeps 64 of an issuer, and closes the oldest."""
_ATTEMPTS = 2


def month_of(at: int) -> str:
    """Return the UTC month of a time in microseconds, such as ``2026-05``."""
    moment = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return f"{moment.year:04d}-{moment.month:02d}"


def access_release_secret(month_key: bytes, context: bytes) -> bytes:
    """Return the release secret of the batch of the access log with this context."""
    return hkdf_sha256(month_key, salt=context, info=_ACCESS)


def new_record_id(now: int) -> bytes:
    """Return a fresh UUIDv7 of a time in microseconds (RFC 9562, section 5.7)."""
    random = bytearray(secrets.token_bytes(16))
    random[:6] = (now // 1000 & (1 << 48) - 1).to_bytes(6, "big")
    random[6] = 0x70 | random[6] & 0x0F
    random[8] = 0x80 | random[8] & 0x3F
    return bytes(random)


@dataclass(slots=True)
class AccessStream:
    """A stream of access entries, as far as it was written: the next manifest gets ``sequence``."""

    epoch: int
    stream: bytes
    sequence: int = 0
    previous: bytes = bytes(32)
    last_at: int = 0

    @classmethod
    def begin(cls, epoch: int) -> AccessStream:
        """Begin a new stream in this epoch."""
        return cls(epoch, secrets.token_bytes(16))

    def advance(self, batch_id: bytes, now: int) -> None:
        """Move on behind a batch that is in the log: its sequence number is used up."""
        self.sequence += 1
        self.previous = batch_id
        self.last_at = now


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenEntry:
    """A batch of the access log that is durable, and the offset of its manifest."""

    partition: int
    offset: int
    batch: Batch


class AccessWriter:
    """Writes access entries of one channel, in a stream of its own; one append at a time.

    A stream whose append failed, or whose outcome could not be settled, is left and a new stream begun: so
    no sequence number is ever used twice, which would convict the service of a forked stream.
    """

    def __init__(self, log: Log, name: str, key: SigningKey, partition: int) -> None:
        self._log = log
        self._name = name
        self._key = key
        self._partition = partition
        self._stream: AccessStream | None = None
        self._newer: set[bytes] = set()

    def saw_stream(self, stream: bytes) -> None:
        """Note the stream of an entry that was read: many newer ones, of other replicas, would close ours."""
        is_new = self._stream is not None and stream != self._stream.stream
        if is_new and len(self._newer) < _MAX_NEWER_STREAMS:
            self._newer.add(stream)

    def start_anew(self) -> None:
        """Begin a new stream with the next entry."""
        self._stream = None

    async def write(
        self,
        directory: Directory,
        epoch_key: EpochKey,
        month_key: bytes,
        items: Sequence[tuple[Terms, AccessDetails | None]],
        *,
        positions: Positions,
        now: int,
        end: int,
    ) -> WrittenEntry:
        """Append one batch of entries, which binds these positions; it is durable on return.

        The batch cannot stand below ``end``: when the outcome of the append is unknown, the log is read
        from there to settle it. Raises LogUnavailable or OutcomeUnknown when the batch may be missing.
        """
        stream = self._choose(epoch_key.epoch, now)
        header = Header(
            topic=ACCESS_TOPIC,
            partition=self._partition,
            epoch=epoch_key.epoch,
            issuer=self._name,
            issued_at=now,
            directory_size=directory.size,
            directory_root=directory.root,
            stream=stream.stream,
            sequence=stream.sequence,
            previous=stream.previous,
        )
        batch = _build(directory.genesis, header, epoch_key, month_key, items, positions, self._key)
        messages = [Message(key, value) for key, value in batch.messages]
        # Forgotten until this append is settled, so that an error or a cancellation leaves the stream.
        self._stream = None
        place = Partition(ACCESS_TOPIC, self._partition)
        offset = await append_settled(self._log, place, messages, start=end, attempts=_ATTEMPTS)
        stream.advance(batch.batch_id, now)
        self._stream = stream
        self._newer.clear()
        return WrittenEntry(partition=self._partition, offset=offset, batch=batch)

    def _choose(self, epoch: int, now: int) -> AccessStream:
        stream = self._stream
        if (
            stream is None
            or stream.epoch != epoch
            or now - stream.last_at > _IDLE_US
            or len(self._newer) >= _MAX_NEWER_STREAMS
        ):
            self._newer.clear()
            return AccessStream.begin(epoch)
        return stream


def _build(
    genesis: bytes,
    header: Header,
    epoch_key: EpochKey,
    month_key: bytes,
    items: Sequence[tuple[Terms, AccessDetails | None]],
    positions: Positions,
    key: SigningKey,
) -> Batch:
    keys = epoch_key.keys
    made = [
        Item(
            record_id=new_record_id(header.issued_at),
            terms=terms,
            body=encode(AccessBody(details=details)),
        )
        for terms, details in items
    ]
    draw = Secrets.draw(keys, made)
    context = context_of(
        genesis, ACCESS_TOPIC, header.partition, header.epoch, header.issuer, draw.manifest_id
    )
    return build_batch(
        genesis=genesis,
        header=header,
        record_type=ACCESS_RECORD_TYPE,
        schema=ACCESS_SCHEMA_ID,
        items=made,
        key=key,
        metadata=keys,
        content=keys,
        named=(),
        intake=None,
        draw=replace(draw, release_secret=access_release_secret(month_key, context)),
        positions=positions,
    )
