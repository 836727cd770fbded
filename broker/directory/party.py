"""Parties and their keys.

A party is an agency, an auditor or a service. All parties share one namespace. A key is in one state:

    PENDING ──72 h──▶ ACTIVE ──▶ RETIRED
       └────────────────┴───────────┴────▶ REVOKED

A retired key signs nothing new, and the keys that it vouched for stay. A revoked key is distrusted from
one size of the directory on: keys that it alone vouched for from that size on are revoked with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from immutables import Map

from broker.wire.statements import KeyUse

__all__ = [
    "AGENCY_NAME",
    "AUTHORITY",
    "MAX_ACTIVE_KEYS",
    "MAX_KEYS",
    "MAX_PENDING_KEYS",
    "PLAIN_NAME",
    "Agency",
    "IntakeKey",
    "Key",
    "KeyState",
    "Party",
    "PartyKind",
    "PendingKey",
    "Recipient",
]

AUTHORITY = "authority"
"""The issuer of the authority's statements. No party may have this name."""

AGENCY_NAME = re.compile(r"[A-Z][A-Z0-9]{1,7}:[a-z0-9-]{1,40}")
"""Names of agencies, ``<state or organisation>:<id>``; the whole name must match."""

PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
"""Names of auditors and services; the whole name must match."""

MAX_ACTIVE_KEYS = 32
"""Most active and pending keys of one party for one use, so that signatures stay cheap to check."""

MAX_KEYS = 4096
"""Most keys for one use that a party may ever add itself; revoked and retired keys are counted too."""

MAX_PENDING_KEYS = 4
"""Most keys of one use that a party may have added itself and that are still pending."""


class PartyKind(StrEnum):
    """The kind of a party. The last three are the roles of a service."""

    AGENCY = "AGENCY"
    AUDITOR = "AUDITOR"
    KAS = "KAS"
    NOTARY = "NOTARY"
    WITNESS = "WITNESS"


class KeyState(StrEnum):
    """The state of a key, which says what it may be used for now."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A public key of a party. Sizes are sizes of the directory."""

    key_id: bytes
    public: bytes
    use: KeyUse
    state: KeyState
    added_size: int
    """Size of the directory before the statement that added the key."""
    added_at: int
    """When the statement that added the key was signed, in microseconds by its issuer's clock; for people."""
    active_size: int
    """Size of the directory before the message with which the key took effect. The largest is the newest."""
    vouchers: frozenset[bytes]
    """Ids of the party's own keys that signed for this key; empty when the authority signed for it."""
    untrusted_from: int | None = None
    """For a revoked key: the size from which on it is distrusted."""
    day: int | None = None
    """For an intake key: its day, counted from 1970-01-01."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """An agency, an auditor or a service. An auditor dismissed from all channels counts as suspended."""

    name: str
    kind: PartyKind
    title: str
    suspended: bool
    keys: Map[bytes, Key]

    def active(self, use: KeyUse) -> tuple[Key, ...]:
        """Return the active keys for this use, the newest first."""
        found = [key for key in self.keys.values() if key.use is use and key.state is KeyState.ACTIVE]
        # Keys that took effect with one message are ordered by their ids, so that everybody finds the same
        # newest key.
        return tuple(sorted(found, key=lambda key: (-key.active_size, key.key_id)))


Agency = Party
"""A party whose kind is AGENCY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingKey:
    """A key that everybody can see in the directory for 72 hours before it takes effect."""

    party: str
    key_id: bytes
    size: int
    """Size of the directory behind the announcement: the first clock from there on begins the 72 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeKey:
    """The public key to which publishers seal release secrets on one day."""

    key_id: bytes
    public: bytes
    day: int
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A party that must be able to open an epoch's seeds, and the key to which they are sealed."""

    name: str
    key_id: bytes
    public: bytes
