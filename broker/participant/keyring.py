"""The keys of one participant, and what they open."""

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
    """A participant's name and private keys; opens its epoch seeds once and keeps what they give.

    ``broken`` lists the (channel, epoch, use) whose seeds do not give the directory's public keys:
    reason to complain (the statement is ``channel-keys-complained``).
    """

    name: str
    signing: SigningKey
    receiving: dict[bytes, ReceivingKey]
    broken: set[tuple[str, int, Use]] = field(default_factory=set)
    _epochs: dict[tuple[str, int, Use], EpochKey] = field(default_factory=dict)
    _junk: dict[tuple[str, int, Use], tuple[SealedSeed, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, signing: SigningKey, receiving: Iterable[ReceivingKey]) -> Keyring:
        """The keyring with these keys."""
        return cls(name, signing, {key.key_id: key for key in receiving})

    def epoch_key(self, directory: Directory, channel: str, epoch: int, use: Use) -> EpochKey | None:
        """Our key for this use of an epoch; None where we were no recipient, or its seed is broken."""
        place = (channel, epoch, use)
        found = self._epochs.get(place)
        if found is None:
            seeds = _seeds(directory, channel, epoch, use, self.name)
            if not seeds or self._junk.get(place) is seeds:
                return None  # whoever claims this epoch would have us try them for every message
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
            self.broken.discard(place)  # a member granted the epoch anew
            found = self._epochs[place] = EpochKey(
                channel=channel,
                epoch=epoch,
                use=use,
                key=epoch_key(seed),
                admit=admit_key(seed, directory.genesis),
                seed=seed,
            )
        return found


def _seeds(
    directory: Directory, channel: str, epoch: int, use: Use, name: str
) -> tuple[SealedSeed, ...] | None:
    found = directory.channel(channel)
    of_epoch = None if found is None else found.epochs.get(epoch)
    return None if of_epoch is None else of_epoch.seeds(use).get(name)
