"""Channels and the epochs of their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from immutables import Map

from broker.wire.statements import ChannelKind, JoiningRule, Mandate, SealedSeed
from broker.wire.terms import Purpose

__all__ = ["CHANNEL_NAME", "MAX_CHANNELS", "MAX_MEMBERS", "Channel", "Epoch", "Use", "newest_usable"]

CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of channels; match it whole."""

MAX_CHANNELS = 100_000
"""Channel numbers are below this; each is a partition in every topic."""

MAX_MEMBERS = 128
"""Members of a channel."""

Use = Literal["metadata", "content", "access"]
"""Which of an epoch's three keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The keys of a channel from one publication to the next; seeds include those granted later."""

    number: int
    publisher: str
    metadata_key: bytes
    content_key: bytes
    access_key: bytes | None
    metadata_seeds: Map[str, tuple[SealedSeed, ...]]
    content_seeds: Map[str, tuple[SealedSeed, ...]]
    access_seeds: Map[str, tuple[SealedSeed, ...]]
    confirmed_at: int | None
    """Directory size from which the epoch may be used."""
    complained: bool
    """A recipient could not open its seeds: the epoch is void."""
    grants: Map[tuple[str, Use, str, bytes], int]
    """Who granted the seed of which use to which recipient's which key, and where in the directory."""

    def public(self, use: Use) -> bytes | None:
        """The epoch's public key for this use; None for an access key not yet published."""
        match use:
            case "metadata":
                return self.metadata_key
            case "content":
                return self.content_key
            case "access":
                return self.access_key

    def seeds(self, use: Use) -> Map[str, tuple[SealedSeed, ...]]:
        """Who was sealed the seed of this use."""
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
    """The newest epoch, from ``newest`` downwards, that is confirmed and not complained of; -1 if none."""
    while newest >= 0 and (epochs[newest].complained or epochs[newest].confirmed_at is None):
        newest -= 1
    return newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Who shares what with whom, on which legal basis, and under which keys."""

    name: str
    number: int
    """Its partition in every topic."""
    kind: ChannelKind
    members: frozenset[str]
    auditors: frozenset[str]
    record_types: frozenset[str]
    purposes: frozenset[Purpose]
    legal_basis: str
    ceiling_days: int
    joining: JoiningRule
    mandates: Map[str, Mandate]
    is_open: bool
    epochs: Map[int, Epoch]
    newest_published: int
    """-1 where there is none."""
    newest_confirmed: int
    """The newest epoch that is confirmed and not complained of: the one to publish under; -1 where none."""
    needs_new_epoch: bool
    """Somebody left, came, was suspended or dismissed, a key was revoked, or a complaint stands."""
    published_at: int
    """Append time of the newest published epoch, in microseconds."""
    complaints: Map[tuple[str, str], int]
    """When each recipient last complained of each publisher, by append time."""

    @property
    def epoch(self) -> Epoch | None:
        """The epoch to publish under."""
        return self.epochs.get(self.newest_confirmed)

    @property
    def one_before(self) -> int:
        """The epoch before the one to publish under, which batches on their way may still bear.

        One that was complained of, or never confirmed, is none: nobody published under it.
        """
        return newest_usable(self.epochs, self.newest_confirmed - 1)
