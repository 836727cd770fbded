"""The keyring of one participant: its private keys, and the epoch keys that they open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.crypto.seal import ReceivingKey, epoch_key
from broker.crypto.sign import SigningKey
from broker.directory import Directory, EpochKey, Use, open_seed
from broker.directory.epochs import admit_key
from broker.errors import NotEntitled, OpenError
from broker.wire.statements import SealedSeed

__all__ = ["Keyring"]


@dataclass(slots=True)
class Keyring:
    """The name and the private keys of a participant, with every epoch key that was opened so far.

    Each epoch of a channel has a seed, which the directory holds sealed to each recipient; the epoch's
    private key follows from it. Opening a seed costs a decapsulation, so each is opened once.
    """

    name: str
    signing: SigningKey
    receiving: dict[bytes, ReceivingKey]
    """The receiving keys by key id, old ones included: seeds of old epochs are sealed to these."""
    broken: set[tuple[str, int, Use]] = field(default_factory=set)
    """The (channel, epoch, use) whose seeds do not give the directory's public key.

    This is a reason to complain; the statement is ``channel-keys-complained``.
    """
    _epochs: dict[tuple[str, int, Use], EpochKey] = field(default_factory=dict)
    _junk: dict[tuple[str, int, Use], tuple[SealedSeed, ...]] = field(default_factory=dict)
    """The seeds that did not open; others are tried when a member has granted the epoch anew."""

    @classmethod
    def of(cls, name: str, signing: SigningKey, receiving: Iterable[ReceivingKey]) -> Keyring:
        """Return the keyring of this name with these keys."""
        return cls(name, signing, {key.key_id: key for key in receiving})

    def epoch_key(self, directory: Directory, channel: str, epoch: int, use: Use) -> EpochKey | None:
        """Return our key for this use of an epoch; None if we are no recipient, or its seed is broken."""
        place = (channel, epoch, use)
        found = self._epochs.get(place)
        if found is None:
            seeds = _seeds(directory, channel, epoch, use, self.name)
            if not seeds or self._junk.get(place) is seeds:
                # Seeds that did not open are not tried again: anybody can write messages that claim this
                # epoch, and each would make us open the same junk. The comparison is by identity, because the
                # directory keeps the same tuple until a member grants the epoch anew.
                return None
            try:
                seed = open_seed(directory, channel, epoch, use, self.name, self.receiving)
            except NotEntitled:
                return None
            except OpenError:
                self.broken.add(place)
                self._junk[place] = seeds
                return None
            if seed is None:
                return None
            # A member has granted the epoch anew, so there is no reason to complain any more.
            self.broken.discard(place)
            found = EpochKey(
                channel=channel,
                epoch=epoch,
                use=use,
                key=epoch_key(seed),
                admit=admit_key(seed, directory.genesis),
                seed=seed,
            )
            self._epochs[place] = found
        return found


def _seeds(
    directory: Directory, channel: str, epoch: int, use: Use, name: str
) -> tuple[SealedSeed, ...] | None:
    named = directory.channel(channel)
    found = None if named is None else named.epochs.get(epoch)
    return None if found is None else found.seeds(use).get(name)
