"""What the key access service still holds of each batch: the values of ``ftf.keys``.

    key     batch_id
    value   storage key's id (32) | nonce (12) | AES-256-GCM(storage key, Avro(HeldRelease), aad = batch_id)

The topic is compacted, and whoever runs the log can put an old value back. So a value is never more
than what the logs say may still be released: indexes that are erased are removed before it is used.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto.lock import release_shares
from broker.errors import FormatError, OpenError
from broker.log.protocol import Log, Message, Partition
from broker.participant.settle import append_settled
from broker.services.kas.keystore import KeyStore, StorageKey
from broker.wire.access import HeldRelease, ReleaseShare
from broker.wire.encoding import decode, encode

__all__ = ["KEYS", "HeldReleases", "open_held", "seal_held", "without_erased"]

KEYS = Partition("keys", 0)
_ID_BYTES, _NONCE_BYTES = 32, 12
_MAX_VALUE_BYTES = 32_768


def seal_held(key: StorageKey, batch_id: bytes, held: HeldRelease) -> bytes:
    """The value of ftf.keys for what is held of a batch."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return key.id + nonce + AESGCM(key.key).encrypt(nonce, encode(held), batch_id)


def open_held(store: KeyStore, batch_id: bytes, value: bytes) -> HeldRelease:
    """What a value of ftf.keys holds; OpenError where its key is gone or it is another batch's."""
    if not _ID_BYTES + _NONCE_BYTES + 16 < len(value) <= _MAX_VALUE_BYTES:
        raise OpenError(f"value of {len(value)} bytes is no held release")
    key = store.storage_key_by_id(value[:_ID_BYTES])
    if key is None:
        raise OpenError("the storage key of the value is gone")
    nonce = value[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
    try:
        plain = AESGCM(key.key).decrypt(nonce, value[_ID_BYTES + _NONCE_BYTES :], batch_id)
        return decode(HeldRelease, plain)
    except InvalidTag:
        raise OpenError("the value does not open for this batch") from None
    except FormatError as error:
        raise OpenError(f"the value is malformed: {error.message}") from None


def without_erased(
    held: HeldRelease, context: bytes, count: int, erased: Collection[int]
) -> dict[int, bytes]:
    """The shares that may still be used, by index."""
    if held.release_secret is not None:
        indexes: Sequence[int] = [i for i in range(count) if i not in erased]
        return dict(zip(indexes, release_shares(context, held.release_secret, indexes), strict=True))
    return {one.index: one.share for one in held.shares if one.index not in erased and one.index < count}


class HeldReleases:
    """``ftf.keys`` as far as it was read: the newest value of each batch, still sealed."""

    def __init__(self, log: Log, store: KeyStore) -> None:
        self._log = log
        self._store = store
        self._values: dict[bytes, bytes] = {}
        self._next = 0
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Read on to the end."""
        async with self._turn:
            async for message in self._log.read(KEYS, self._next):
                self._next = message.offset + 1
                if message.key is None or len(message.key) != 32:
                    continue
                if message.value is None or len(message.value) > _MAX_VALUE_BYTES:
                    self._values.pop(message.key, None)
                else:
                    self._values[message.key] = message.value

    async def take(self, secrets_of: Iterable[tuple[bytes, bytes]], day: int) -> None:
        """Store the release secrets of newly taken batches; durable on return."""
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
        """The shares that may still be used; ``erased`` has bit i set for what was shredded.

        A value that holds more than that was put back by somebody: it is written again without it.
        """
        value = self._values.get(batch_id)
        if value is None:
            raise OpenError("nothing is held of the batch")
        held = open_held(self._store, batch_id, value)
        gone = {i for i in range(count) if erased >> i & 1}
        left = without_erased(held, context, count, gone)
        if gone and (held.release_secret is not None or any(one.index in gone for one in held.shares)):
            rest = HeldRelease(
                release_secret=None,
                shares=tuple(ReleaseShare(index=i, share=share) for i, share in left.items()),
            )
            await self._put([(batch_id, seal_held(self._store.storage_key(day), batch_id, rest))])
        return left

    async def _put(self, values: Sequence[tuple[bytes, bytes]]) -> None:
        if values:
            messages = [Message(batch_id, value) for batch_id, value in values]
            await append_settled(self._log, KEYS, messages, attempts=2)
            self._values.update(values)
