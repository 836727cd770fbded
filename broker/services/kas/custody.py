"""Custody of release secrets: taking a batch over, and what the service holds of it in ``ftf.keys``.

Taking over. A batch that every reader accepts is judged once more, by the service's own directory, and its
release secret is opened. It may still be REFUSED: nothing of it is released then, and its orders do not
count. So a thief with a stolen key that was revoked cannot date a batch back to when the key was valid, and
an issuer whose release secret does not give the shares that it signed for is named. No date refuses a batch:
it is taken over while its intake key exists.

Intake keys. The key of a day is destroyed once the service's own clock is two days past that day, and every
record partition of every open channel was applied to ends that were taken after that moment, with nothing
left that waits (``intake_over_at``, ``KeyAccessService.collect``). So whoever published in time, with any
delay of the log, was taken over before.

Holding. The topic ``ftf.keys`` has one value for each batch:

    key     batch_id
    value   id of storage key (32) | nonce (12) | AES-256-GCM(key of the batch, nonce, Avro(HeldRelease))
    key of the batch   HKDF-Expand(storage key, "ftf-broker/v1/held" | batch_id, 32)
    nonce              first 12 bytes of HMAC(HKDF-Expand(storage key, "ftf-broker/v1/held-nonce", 32),
                         Avro(HeldRelease))

Nothing here is drawn. A service that is resumed twice from one snapshot draws the same bytes twice, and still
seals no two texts under one key and nonce.

The topic is compacted, and the log's operator can put an old value back. So a value never gives more than
what the logs say may still be released: the shares of erased records are removed before it is used.

Lost. Whoever runs the log can also delete values, or the topic. No entry tells what was in it, and nobody
can put it back but the originator, who publishes the record anew. Each batch that was taken over and has no
value is named in our log when its channel was first read, and when somebody asks for it, which is an alarm
too. A running service that finds ``ftf.keys`` shorter than it was writes again what it still holds.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.access.record_states import ChannelRecords
from broker.clock import DAY_US
from broker.crypto.hkdf import Expand
from broker.crypto.lock import context_of, release_shares, wrong_release_shares
from broker.crypto.seal import open_sealed, release_info
from broker.directory import Directory
from broker.errors import FormatError, KeyFileError, NotEntitled, OpenError
from broker.log.protocol import Log, Message, Partition
from broker.logger import get_logger
from broker.participant.settle import append_settled
from broker.services.kas.keystore import KeyStore, StorageKey
from broker.verify.entitlement import judge_issuer
from broker.verify.partition import Stale, VerifiedBatch
from broker.wire.access import HeldRelease, ReleaseShare
from broker.wire.encoding import decode, encode
from broker.wire.manifest import Collected, CollectionStatus

__all__ = [
    "INTAKE_DAYS_KEPT",
    "KEYS",
    "SHARES_GONE",
    "Custody",
    "KeyMissing",
    "TakenOver",
    "intake_over_at",
    "open_held",
    "open_value",
    "seal_held",
    "take_over",
    "take_over_all",
    "without_erased",
]

INTAKE_DAYS_KEPT = 2
"""Days after its own day for which an intake key is kept at least, by the service's own clock."""

KEYS = Partition("keys", 0)

SHARES_GONE = (
    "ftf.keys has lost the shares of records that were taken over; their originators must publish them anew"
)

_MAX_DETAIL = 200
_MAX_NAMED = 20
_MAX_PUT = 256
_BATCH_ID_BYTES = 32
_ID_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MAX_VALUE_BYTES = 32_768
_HELD = b"ftf-broker/v1/held"
_HELD_NONCE = b"ftf-broker/v1/held-nonce"

_log = get_logger("broker.access")


class KeyMissing(Exception):
    """The key store lacks an intake key that we announced: the operator's fault, not the issuer's."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TakenOver:
    """What a COLLECTION entry will say about a batch, and its release secret if it is COLLECTED."""

    listed: Collected
    secret: bytes | None
    is_too_late: bool = False
    """Whether it is REFUSED because its intake key was destroyed. Another process may have destroyed the key
    behind its own entry that lists the batch, so the access log is read again before this is written."""


class _TooLate(NotEntitled):
    """The intake key of a batch was destroyed."""


def intake_over_at(day: int) -> int:
    """Return the time, in microseconds, at which the intake key of a day may be destroyed at the earliest."""
    return (day + 1 + INTAKE_DAYS_KEPT) * DAY_US


def take_over(batch: VerifiedBatch | Stale, directory: Directory, store: KeyStore) -> TakenOver:
    """Take a batch over: COLLECTED with its release secret, or STALE or REFUSED with the reason.

    (1) Its issuer is entitled now too, (2) its intake key is ours, and was not destroyed, (3) the release
    secret opens, (4) and gives the release check of every record. Raises KeyMissing when we announced the
    intake key of (2) and have lost it.
    """
    if isinstance(batch, Stale):
        return TakenOver(
            listed=_listing(batch, CollectionStatus.STALE, batch.lapse.fault.detail), secret=None
        )
    try:
        # (1) The signature was verified with this very key; only whether the key still counts is new.
        judge_issuer(directory, batch.opened)
        secret = _open_secret(batch, directory, store)
    except (NotEntitled, OpenError) as error:
        refused = _listing(batch, CollectionStatus.REFUSED, error.message)
        return TakenOver(listed=refused, secret=None, is_too_late=isinstance(error, _TooLate))
    return TakenOver(listed=_listing(batch, CollectionStatus.COLLECTED, ""), secret=secret)


def take_over_all(
    batches: Iterable[VerifiedBatch | Stale], directory: Directory, store: KeyStore
) -> tuple[list[TakenOver], list[tuple[VerifiedBatch | Stale, str]]]:
    """Take these batches over; returns those that were judged, and those that our keys failed, with why."""
    taken: list[TakenOver] = []
    failed: list[tuple[VerifiedBatch | Stale, str]] = []
    for batch in batches:
        try:
            taken.append(take_over(batch, directory, store))
        except (KeyMissing, KeyFileError) as error:
            failed.append((batch, str(error)))
    return taken, failed


def _listing(batch: VerifiedBatch | Stale, status: CollectionStatus, detail: str) -> Collected:
    return Collected(
        topic=batch.topic,
        offset=batch.offset,
        batch_id=batch.batch_id,
        count=batch.opened.manifest.count,
        status=status,
        detail=detail[:_MAX_DETAIL],
    )


def _open_secret(batch: VerifiedBatch, directory: Directory, store: KeyStore) -> bytes:
    manifest = batch.opened.manifest
    header = manifest.header
    issuer = header.issuer
    intake = directory.intake_keys.get(manifest.intake_key_id)
    if intake is None or intake.service != directory.kas_name:
        raise NotEntitled("the intake key is not the key access service's")  # (2)
    key = store.intake_key(intake.day, intake.key_id)
    if key is None and store.is_intake_destroyed(intake.day):
        raise _TooLate(f"the intake key of day {intake.day} is destroyed")
    if key is None:
        raise KeyMissing(f"the intake key of day {intake.day} is not in the key store")
    context = context_of(
        directory.genesis, header.topic, header.partition, header.epoch, issuer, manifest.manifest_id
    )
    try:
        # (3) The context is in the seal: a release seal copied from another batch does not open here.
        secret = open_sealed(key, manifest.release_seal, release_info(context, key.key_id))
        shares = release_shares(context, secret, range(manifest.count))
    except OpenError as error:
        raise OpenError(f"'{issuer}': release secret: {error.message}") from None
    checks = batch.opened.entries.release_checks
    if wrong := wrong_release_shares(context, range(manifest.count), shares, checks):  # (4)
        raise OpenError(f"'{issuer}': release secret does not give the release check of record {min(wrong)}")
    return secret


def seal_held(key: StorageKey, batch_id: bytes, held: HeldRelease) -> bytes:
    """Return the value of ``ftf.keys`` for what is held of a batch. Equal ones give equal bytes."""
    plaintext = encode(held)
    cipher, nonce = _cipher_of(key, batch_id), _nonce_of(key, plaintext)
    return key.id + nonce + cipher.encrypt(nonce, plaintext, None)


def _cipher_of(key: StorageKey, batch_id: bytes) -> AESGCM:
    return AESGCM(Expand(key.key).block(_HELD + batch_id))


def _nonce_of(key: StorageKey, plaintext: bytes) -> bytes:
    return hmac.digest(Expand(key.key).block(_HELD_NONCE), plaintext, "sha256")[:_NONCE_BYTES]


def open_held(store: KeyStore, batch_id: bytes, value: bytes) -> HeldRelease:
    """Open a value of ``ftf.keys``.

    Raises OpenError when its storage key is gone, when the value belongs to another batch, or when it was
    altered.
    """
    if not _ID_BYTES + _NONCE_BYTES + _TAG_BYTES < len(value) <= _MAX_VALUE_BYTES:
        raise OpenError(f"value of {len(value)} bytes is no held release")
    key = store.storage_key_by_id(value[:_ID_BYTES])
    if key is None:
        raise OpenError("the storage key of the value is gone")
    return open_value(key, batch_id, value)


def open_value(key: StorageKey, batch_id: bytes, value: bytes) -> HeldRelease:
    """Open a value of ``ftf.keys`` with the storage key that it names; raises OpenError."""
    nonce = value[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
    try:
        plain = _cipher_of(key, batch_id).decrypt(nonce, value[_ID_BYTES + _NONCE_BYTES :], None)
    except InvalidTag:
        raise OpenError("the value does not open for this batch") from None
    if _nonce_of(key, plain) != nonce:
        raise OpenError("the nonce of the value is not that of its plaintext")
    try:
        return decode(HeldRelease, plain)
    except FormatError as error:
        raise OpenError(f"the value is malformed: {error.message}") from None


def without_erased(
    held: HeldRelease, context: bytes, count: int, erased: Collection[int]
) -> dict[int, bytes]:
    """Return the shares that may still be used, by index, for a batch of ``count`` records."""
    if held.release_secret is not None:
        indexes: Sequence[int] = [index for index in range(count) if index not in erased]
        return dict(zip(indexes, release_shares(context, held.release_secret, indexes), strict=True))
    return {kept.index: kept.share for kept in held.shares if kept.index not in erased and kept.index < count}


class Custody:
    """What the service holds of each batch: ``ftf.keys`` as far as it was read, its values still sealed.

    All channels share it. ``refresh`` serialises its own reading, so any task may call it at any time.
    """

    def __init__(self, log: Log, store: KeyStore) -> None:
        self._log = log
        self._store = store
        self._values: dict[bytes, bytes] = {}
        """The newest value of each batch, by batch id. ``refresh`` and ``_put`` write it."""
        self._next_offset = 0
        self._reading = asyncio.Lock()
        self._looked_at: dict[str, ChannelRecords] = {}
        """By channel: the records whose values were last looked for."""

    async def refresh(self) -> None:
        """Read on to the end of ``ftf.keys``.

        Where it was cut or made anew since, it is read from its beginning, and what it lacks and we still
        hold is written again.
        """
        async with self._reading:
            end = (await self._log.ends([KEYS]))[KEYS]
            if end >= self._next_offset:
                await self._read_on()
                return
            _log.error("ftf.keys was cut or made anew", end=end, read_before=self._next_offset)
            held_before, self._values, self._next_offset = self._values, {}, 0
            self._looked_at.clear()
            try:
                stands = await self._read_on()
            finally:
                # Whatever happens, the last copy of a value is not thrown away.
                self._values = held_before | self._values
            lost = [item for item in held_before.items() if item[0] not in stands]
            for first in range(0, len(lost), _MAX_PUT):
                await self._put(lost[first : first + _MAX_PUT])
            _log.warning("values of ftf.keys were written again", count=len(lost))

    async def _read_on(self) -> set[bytes]:
        """Read on, and return the batches of which a message was read."""
        seen: set[bytes] = set()
        async for message in self._log.read(KEYS, self._next_offset):
            self._next_offset = message.offset + 1
            if message.key is None or len(message.key) != _BATCH_ID_BYTES:
                continue
            seen.add(message.key)
            # A null deletes, as the compaction does; an oversized value is none of ours.
            if message.value is None or len(message.value) > _MAX_VALUE_BYTES:
                self._values.pop(message.key, None)
            else:
                self._values[message.key] = message.value
        return seen

    async def look_for(self, channel: str, records: ChannelRecords) -> None:
        """Name in our log the batches of a channel that were taken over, and of which nothing is held.

        Each ``records`` is looked at once, and again when ``ftf.keys`` was cut.
        """
        await self.refresh()
        if self._looked_at.get(channel) is records:
            return
        self._looked_at[channel] = records
        lost = [batch for batch in records.to_be_held() if batch.batch_id not in self._values]
        if lost:
            named = [f"{batch.topic}@{batch.offset} of {batch.issuer}" for batch in lost[:_MAX_NAMED]]
            _log.error("shares are gone", channel=channel, batches=len(lost), first=named, detail=SHARES_GONE)

    async def keep(self, secrets_of: Iterable[tuple[bytes, bytes]], day: int) -> None:
        """Keep the release secrets of batches, as (batch_id, secret); they are durable on return.

        ``day`` chooses the storage key.
        """
        key = self._store.storage_key(day)
        await self._put(
            [
                (batch_id, seal_held(key, batch_id, HeldRelease(release_secret=secret, shares=())))
                for batch_id, secret in secrets_of
            ]
        )

    async def shares(
        self, batch_id: bytes, context: bytes, count: int, erased: int, day: int
    ) -> dict[int, bytes]:
        """Return the shares of a batch that may still be used, by index.

        Bit i of ``erased`` is set where record i was shredded. Raises OpenError when nothing is held, or
        when it does not open.
        """
        value = self._values.get(batch_id)
        if value is None:
            raise OpenError("nothing is held of the batch")
        held = open_held(self._store, batch_id, value)
        gone = {index for index in range(count) if erased >> index & 1}
        left = without_erased(held, context, count, gone)
        # A value that holds more than that is an old one, which somebody put back: write it without again.
        if gone and (held.release_secret is not None or any(kept.index in gone for kept in held.shares)):
            rest = HeldRelease(
                release_secret=None,
                shares=tuple(ReleaseShare(index=index, share=share) for index, share in left.items()),
            )
            await self._put([(batch_id, seal_held(self._store.storage_key(day), batch_id, rest))])
        return left

    async def _put(self, values: Sequence[tuple[bytes, bytes]]) -> None:
        if values:
            messages = [Message(batch_id, value) for batch_id, value in values]
            await append_settled(self._log, KEYS, messages, attempts=2)
            self._values.update(values)
