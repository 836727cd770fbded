"""The keyring of one participant: its private keys, and the epoch keys that they open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import Channel, Directory, EpochKey, JunkHalf, Offer, Use, open_seed
from broker.logger import get_logger

__all__ = ["Keyring"]

_log = get_logger("broker.participant")


@dataclass(slots=True)
class Keyring:
    """The name and the private keys of a participant, with every epoch key that was opened so far.

    The directory holds the halves of each epoch's seeds sealed to each recipient, and the keys follow from
    them. Opening a half costs a decapsulation, so each is opened once.
    """

    name: str
    signing: SigningKey
    receiving: dict[bytes, ReceivingKey]
    """The receiving keys by key id, old ones included: halves of old epochs are sealed to these."""
    junk: dict[tuple[bytes, Use], JunkHalf] = field(default_factory=dict)
    """What was sealed to us and is junk, by the digest of the statement that holds it, and by use.

    This is a report against who sealed it, and where no other offer is right a reason to complain; the
    statement is ``channel-keys-complained``.
    """
    _epochs: dict[tuple[str, int, Use], EpochKey] = field(default_factory=dict)
    _tried: dict[tuple[str, int, Use], tuple[Offer, ...]] = field(default_factory=dict)
    """The offers that gave no key; more are tried when the epoch is confirmed or granted anew."""

    @classmethod
    def of(cls, name: str, signing: SigningKey, receiving: Iterable[ReceivingKey]) -> Keyring:
        """Return the keyring of this name with these keys."""
        return cls(name, signing, {key.key_id: key for key in receiving})

    def junk_of(self, directory: Directory, channel: Channel) -> list[JunkHalf]:
        """Open all epochs of a channel that were sealed to us; return what of it is junk, by its place."""
        uses: tuple[Use, ...] = get_args(Use)
        for epoch in channel.epochs:
            for use in uses:
                self.epoch_key(directory, channel.name, epoch, use)
        found = [half for half in self.junk.values() if half.channel == channel.name]
        return sorted(found, key=lambda half: directory.applied[half.statement])

    def epoch_key(self, directory: Directory, channel: str, epoch: int, use: Use) -> EpochKey | None:
        """Return our key for this use of an epoch; None if we are no recipient, or were sealed junk alone."""
        place = (channel, epoch, use)
        found = self._epochs.get(place)
        if found is not None:
            return found
        offers = _offers(directory, channel, epoch, use, self.name)
        if not offers or self._tried.get(place) is offers:
            # What did not open is not tried again: anybody can write messages that claim this epoch, and each
            # would make us open the same junk. The comparison is by identity, because the directory keeps the
            # same tuple until something is added to it.
            return None
        opened = open_seed(directory, channel, epoch, use, self.name, self.receiving)
        for half in opened.junk:
            self._report(half)
        if opened.key is None:
            self._tried[place] = offers
            return None
        self._epochs[place] = opened.key
        return opened.key

    def _report(self, half: JunkHalf) -> None:
        if (half.statement, half.use) in self.junk:
            return
        self.junk[half.statement, half.use] = half
        _log.warning(
            "sealed channel keys are junk",
            sealer=half.sealer,
            channel=half.channel,
            epoch=half.epoch,
            use=half.use,
            detail=half.detail,
        )


def _offers(directory: Directory, channel: str, epoch: int, use: Use, name: str) -> tuple[Offer, ...]:
    named = directory.channel(channel)
    found = None if named is None else named.epochs.get(epoch)
    return () if found is None else found.offers(use, name)
