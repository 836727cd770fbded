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

from broker.wire.statements import ChannelKind, JoiningRule, Mandate, SealedSeed
from broker.wire.terms import Purpose

__all__ = ["CHANNEL_NAME", "MAX_CHANNELS", "MAX_MEMBERS", "Channel", "Epoch", "Use", "newest_usable"]

CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of channels; the whole name must match."""

MAX_CHANNELS = 100_000
"""Channel numbers are smaller than this. Each number is a partition in every topic."""

MAX_MEMBERS = 128
"""Most members of a channel."""

Use = Literal["metadata", "content", "access"]
"""The use of an epoch's key: for manifests, for bodies, or for entries of the access log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The three keys of a channel from one publication to the next, and the seeds sealed for them."""

    number: int
    publisher: str
    metadata_key: bytes
    content_key: bytes
    access_key: bytes | None
    """None until the KAS confirms the epoch, because the KAS makes this key."""
    metadata_seeds: Map[str, tuple[SealedSeed, ...]]
    """Seeds by recipient; those granted later stand behind the first one."""
    content_seeds: Map[str, tuple[SealedSeed, ...]]
    access_seeds: Map[str, tuple[SealedSeed, ...]]
    confirmed_at: int | None
    """Size of the directory from which on the epoch may be used; None until it is confirmed."""
    complained: bool
    """True when a recipient could not open its seeds. The epoch is then void."""
    grants: Map[tuple[str, Use, str, bytes], int]
    """Place in the directory of each grant, by granter, use, recipient and the recipient's key id."""

    def public(self, use: Use) -> bytes | None:
        """Return the epoch's public key for this use; None for the access key of an unconfirmed epoch."""
        match use:
            case "metadata":
                return self.metadata_key
            case "content":
                return self.content_key
            case "access":
                return self.access_key

    def seeds(self, use: Use) -> Map[str, tuple[SealedSeed, ...]]:
        """Return the sealed seeds of this use, by recipient."""
        match use:
            case "metadata":
                return self.metadata_seeds
            case "content":
                return self.content_seeds
            case "access":
                return self.access_seeds

    def is_recipient(self, name: str) -> bool:
        """Tell whether any seed of this epoch was sealed to this name."""
        return name in self.metadata_seeds or name in self.content_seeds or name in self.access_seeds


def newest_usable(epochs: Map[int, Epoch], newest: int) -> int:
    """Return the newest epoch up to ``newest`` that is confirmed and not complained of, or -1."""
    # Epochs are numbered without gaps, so that counting down meets each of them.
    while newest >= 0 and (epochs[newest].complained or epochs[newest].confirmed_at is None):
        newest -= 1
    return newest


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
    """The epoch to publish under: the newest one that is confirmed and not complained of; -1 before it."""
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

        A batch may have been on its way when the newest epoch was confirmed. An epoch that was complained
        of, or never confirmed, is passed over, because nobody published under it. -1 when there is none.
        """
        return newest_usable(self.epochs, self.newest_confirmed - 1)
