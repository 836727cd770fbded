"""Channels, and the epochs of their keys.

A channel has an epoch for each set of keys that was published for it. Epochs are numbered from 0. A
publisher uses the newest epoch that the key access service (KAS) has confirmed and of which no recipient
has complained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from immutables import Map

from broker.wire.statements import ChannelKind, JoiningRule, Mandate, SealedHalves
from broker.wire.terms import Purpose

__all__ = [
    "CHANNEL_NAME",
    "MAX_CHANNELS",
    "MAX_MEMBERS",
    "Channel",
    "Epoch",
    "EpochSeed",
    "Offer",
    "Part",
    "Use",
]

CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of channels; the whole name must match."""

MAX_CHANNELS = 100_000
"""Channel numbers are smaller than this. Each number is a partition in every topic."""

MAX_MEMBERS = 128
"""Most members of a channel."""

Use = Literal["metadata", "content", "access"]
"""The use of an epoch's seed: for manifests, for bodies, or for entries of the access log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one party sealed to a recipient: its own half of a seed, or in a grant all halves."""

    sealer: str
    statement: bytes
    """The digest of the statement that holds it."""
    sealed: SealedHalves


Offer = tuple[Part, ...]
"""The parts from which one recipient can have a seed: the member's half and the service's, or one grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSeed:
    """What the directory holds of one seed of an epoch."""

    commitments: tuple[bytes, ...]
    """One for each half: the member's, then the service's. The access seed has the service's half alone."""
    offers: Map[str, tuple[Offer, ...]]
    """What was sealed to each recipient; grants stand behind what it was sealed at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The seeds of a channel from one publication to the next, as commitments and as sealed halves."""

    number: int
    publisher: str
    metadata: EpochSeed
    content: EpochSeed
    access: EpochSeed | None
    """None until the KAS confirms the epoch, because the KAS draws this seed."""
    confirmed_at: int | None
    """Size of the directory from which on the epoch may be used; None until it is confirmed."""
    complained: bool
    """True when a recipient could not open its halves. Publishers then use another epoch, if there is one."""
    void_from: int | None
    """Size of the directory from which on there was a complaint and another epoch to publish under.

    A batch whose publisher had seen that much is void. None while the epoch may be used.
    """
    grants: Map[tuple[str, Use, str, bytes], bytes]
    """The digest of each grant's statement, by granter, use, recipient and the recipient's key id."""

    def seed(self, use: Use) -> EpochSeed | None:
        """Return the seed of this use; None for the access seed of an unconfirmed epoch."""
        match use:
            case "metadata":
                return self.metadata
            case "content":
                return self.content
            case "access":
                return self.access

    def offers(self, use: Use, name: str) -> tuple[Offer, ...]:
        """Return what was sealed to this recipient of the seed of this use."""
        seed = self.seed(use)
        return () if seed is None else seed.offers.get(name, ())

    def is_recipient(self, name: str) -> bool:
        """Tell whether a half of any seed of this epoch was sealed to this name."""
        seeds = (self.metadata, self.content, self.access)
        return any(seed is not None and name in seed.offers for seed in seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel: which agencies share which records, on which legal basis, and under which keys."""

    name: str
    number: int
    """The channel's partition in every topic."""
    kind: ChannelKind
    members: frozenset[str]
    auditors: frozenset[str]
    record_types: frozenset[str]
    purposes: frozenset[Purpose]
    legal_basis: str
    ceiling_days: int
    """Most days for which a record of this channel may be kept."""
    joining: JoiningRule
    mandates: Map[str, Mandate]
    is_open: bool
    epochs: Map[int, Epoch]
    newest_published: int
    """-1 before the first epoch."""
    newest_confirmed: int
    """The epoch to publish under; -1 before the first.

    It is the newest one that is confirmed. After a complaint of it, it is the newest one before that is for
    the same recipients and that nobody complained of, if there is one.
    """
    needs_new_epoch: bool
    """True when the recipients or their keys changed since the newest epoch, or when it was complained of."""
    published_size: int
    """Size of the directory behind the newest published epoch."""
    complaints: Map[tuple[str, str], int]
    """Size of the directory behind the last complaint, by recipient and by the publisher of whom it
    complained."""
    departures: Map[str, int]
    """Size of the directory behind the departure of each former member."""

    @property
    def epoch(self) -> Epoch | None:
        """The epoch to publish under, or None."""
        return self.epochs.get(self.newest_confirmed)

    @property
    def oldest_accepted(self) -> int:
        """The oldest epoch that a batch may still name: the usable one before the epoch to publish under.

        A batch may have been on its way when the newest epoch was confirmed. An epoch that was never
        confirmed is passed over, because nobody published under it; so is one that was complained of, because
        then the one before it was used for longer. -1 when there is none.
        """
        number = self.newest_confirmed - 1
        # Epochs are numbered without gaps, so that counting down meets each of them.
        while number >= 0 and (self.epochs[number].complained or self.epochs[number].confirmed_at is None):
            number -= 1
        return number
