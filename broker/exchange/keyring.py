"""The keys of one participant, and what they open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import Directory, EpochKey, Use, epoch_keys
from broker.errors import NotEntitled, OpenError

__all__ = ["Keyring"]


@dataclass(slots=True)
class Keyring:
    """A participant's name and private keys; opens its epoch seeds once and keeps what they give.

    ``broken`` lists the (channel, epoch) whose seeds do not give the directory's public keys:
    reason to complain (the statement is ``channel-keys-complained``).
    """

    name: str
    signing: SigningKey
    receiving: dict[bytes, ReceivingKey]
    broken: set[tuple[str, int]] = field(default_factory=set)
    _epochs: dict[tuple[str, int], dict[Use, EpochKey]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, signing: SigningKey, receiving: Iterable[ReceivingKey]) -> Keyring:
        """The keyring with these keys."""
        return cls(name, signing, {key.key_id: key for key in receiving})

    def epoch_key(self, directory: Directory, channel: str, epoch: int, use: Use) -> EpochKey | None:
        """Our key for this use of an epoch; None where we were no recipient, or a seed is broken."""
        found = self._epochs.get((channel, epoch), {}).get(use)
        if found is not None or (channel, epoch) in self.broken:
            return found
        try:
            keys = epoch_keys(directory, channel, epoch, self.name, self.receiving)
        except OpenError:
            self.broken.add((channel, epoch))
            return None
        except NotEntitled:
            return None
        self._epochs[channel, epoch] = keys
        return keys.get(use)
