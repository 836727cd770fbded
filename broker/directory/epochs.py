"""The keys of an epoch, as a recipient opens them from the directory.

From the seed that was sealed to it a recipient derives the epoch's private key. A seed counts only if the
public key that belongs to it is the one in the directory. A seed that gives another key, or does not open, is
junk. Its recipient then complains, the epoch is void, and another member publishes the next one.
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
"""The receiving keys that a party holds, retired ones too, by key id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKey:
    """A key of an epoch, with the secrets that only its holders can compute.

    It is kept in memory alone, never on disk or in a log.
    """

    channel: str
    epoch: int
    use: Use
    key: ReceivingKey
    admit: bytes
    """The key of the HMAC tag of a manifest message."""
    seed: bytes
    """The epoch's seed, 32 bytes, with which its holder can grant the epoch to others."""

    def __repr__(self) -> str:
        # Without the secrets: a repr ends up in tracebacks and logs.
        return f"EpochKey({self.channel!r}, {self.epoch}, {self.use!r})"


def admit_key(seed: bytes, genesis: bytes) -> bytes:
    """Return the admit key of an epoch: HKDF-SHA-256 (RFC 5869) of its seed, with the genesis as salt."""
    return HKDF(SHA256(), 32, salt=genesis, info=b"ftf-broker/v1/admit").derive(seed)


def open_seed(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> bytes | None:
    """Open the seed of this use that was sealed to ``name``, and check it against the directory.

    Returns None when ``name`` is not a recipient, or holds none of the keys to which seeds were sealed.
    Raises OpenError when every seed that it holds a key for is junk, and NotEntitled when there is no such
    channel or epoch.
    """
    found = _find_epoch(directory, channel, epoch)
    public = found.public(use)
    junk: OpenError | None = None
    # There may be several seeds, by granters and for new receiving keys. A junk seed must not hide a good one
    # behind it.
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
    # Stands against a member that seals different seeds to different recipients, or the seed of another use.
    if epoch_key(seed).public != public:
        raise OpenError(f"the {use} seed of epoch {epoch.number} of '{channel}' gives another public key")
    return seed


def epoch_key_of(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> EpochKey | None:
    """Open the key for one use of this epoch. Returns None, and raises errors, as ``open_seed`` does."""
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
    """Open all keys of this epoch that were sealed to ``name``, by use.

    Raises OpenError when a seed is junk, which is a reason to make a ``complaint``.
    """
    uses: tuple[Use, ...] = get_args(Use)
    keys = {use: epoch_key_of(directory, channel, epoch, use, name, receiving_keys) for use in uses}
    return {use: key for use, key in keys.items() if key is not None}


def complaint(
    directory: Directory, channel: str, epoch: int, issuer: str, *, detail: str, issued_at: int
) -> ChannelKeysComplained:
    """Draft a recipient's complaint that its seed is junk. With the recipient's signature it voids the epoch.

    Only the first 200 characters of ``detail`` are kept.
    """
    header = header_for(directory, issuer, issued_at=issued_at)
    return ChannelKeysComplained(header=header, channel=channel, epoch=epoch, detail=detail[:200])


def _find_epoch(directory: Directory, channel: str, number: int) -> Epoch:
    found = directory.channel(channel)
    if found is None:
        raise NotEntitled(f"there is no channel {channel[:80]!r}")
    epoch = found.epochs.get(number)
    if epoch is None:
        raise NotEntitled(f"channel '{channel}' has no epoch {number}")
    return epoch
