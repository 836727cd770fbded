"""An epoch's keys as a recipient gets them out of the directory.

A seed counts only if it gives the public key that the directory says: whoever was sealed anything
else complains, and another member publishes the next epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.crypto.seal import ReceivingKey, epoch_key, open_sealed, seed_info
from broker.directory.channel import Epoch, Use
from broker.directory.directory import Directory
from broker.directory.issuance import header_for
from broker.errors import NotEntitled, OpenError
from broker.wire.statements import ChannelKeysComplained, SealedSeed

__all__ = ["EpochKey", "admit_key", "complaint", "epoch_key_of", "epoch_keys", "open_seed"]

ReceivingKeys = Mapping[bytes, ReceivingKey]
"""The receiving keys that somebody holds, retired ones too, by key id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKey:
    """A key of an epoch with what only its holders can compute; never written to disk or log."""

    channel: str
    epoch: int
    use: Use
    key: ReceivingKey
    admit: bytes
    """Authenticates the tag of a sealed manifest."""
    seed: bytes
    """For granting the epoch to others."""

    def __repr__(self) -> str:
        return f"EpochKey({self.channel!r}, {self.epoch}, {self.use!r})"


def admit_key(seed: bytes, genesis: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869) of an epoch's seed, salted with the genesis."""
    return HKDF(SHA256(), 32, salt=genesis, info=b"ftf-broker/v1/admit").derive(seed)


def open_seed(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> bytes | None:
    """The seed sealed to ``name``; None for who is no recipient or has lost that key, OpenError for junk."""
    found = _epoch(directory, channel, epoch)
    public, junk = found.public(use), None
    for sealed in found.seeds(use).get(name, ()):
        key = receiving_keys.get(sealed.key_id)
        if key is None:
            continue
        try:
            return _open(directory, found, channel, use, sealed, key, public)
        except OpenError as error:
            junk = error
    if junk is not None:
        raise junk
    return None


def _open(
    directory: Directory,
    epoch: Epoch,
    channel: str,
    use: Use,
    sealed: SealedSeed,
    key: ReceivingKey,
    public: bytes | None,
) -> bytes:
    info = seed_info(directory.genesis, channel, epoch.number, use, sealed.key_id)
    seed = open_sealed(key, sealed.sealed, info)
    if epoch_key(seed).public != public:
        raise OpenError(f"the {use} seed of epoch {epoch.number} of '{channel}' gives another public key")
    return seed


def epoch_key_of(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> EpochKey | None:
    """The key for one use of this epoch; None and OpenError as ``open_seed`` has them."""
    seed = open_seed(directory, channel, epoch, use, name, receiving_keys)
    if seed is None:
        return None
    return EpochKey(
        channel=channel,
        epoch=epoch,
        use=use,
        key=epoch_key(seed),
        admit=admit_key(seed, directory.genesis),
        seed=seed,
    )


def epoch_keys(
    directory: Directory, channel: str, epoch: int, name: str, receiving_keys: ReceivingKeys
) -> dict[Use, EpochKey]:
    """The keys of this epoch that ``name`` can open; OpenError, which calls for a complaint, for junk."""
    uses: tuple[Use, ...] = get_args(Use)
    found = {use: epoch_key_of(directory, channel, epoch, use, name, receiving_keys) for use in uses}
    return {use: key for use, key in found.items() if key is not None}


def complaint(
    directory: Directory, channel: str, epoch: int, issuer: str, *, detail: str, issued_at: int
) -> ChannelKeysComplained:
    """The statement of a recipient who was sealed junk: signed by it, it makes the epoch void."""
    header = header_for(directory, issuer, issued_at=issued_at)
    return ChannelKeysComplained(header=header, channel=channel, epoch=epoch, detail=detail[:200])


def _epoch(directory: Directory, channel: str, number: int) -> Epoch:
    found = directory.channel(channel)
    if found is None:
        raise NotEntitled(f"there is no channel {channel[:80]!r}")
    epoch = found.epochs.get(number)
    if epoch is None:
        raise NotEntitled(f"channel '{channel}' has no epoch {number}")
    return epoch
