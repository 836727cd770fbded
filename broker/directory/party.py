"""Who takes part, and the keys that are theirs.

A party is an agency, an auditor or a service; all share one namespace. A key has one state:

    PENDING ──72 h──▶ ACTIVE ──▶ RETIRED
       └────────────────┴───────────┴────▶ REVOKED

A retired key signs nothing new, and what it vouched for stands. A revoked key takes with it what it
alone vouched for since it was no longer trusted.
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
"""The issuer of the authority's statements; nobody else may be called so."""

AGENCY_NAME = re.compile(r"[A-Z][A-Z0-9]{1,7}:[a-z0-9-]{1,40}")
"""``<state or organisation>:<id>``; match it whole."""

PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
"""Names of auditors and services; match it whole."""

MAX_ACTIVE_KEYS = 32
"""Active and pending keys of one party and use; a statement's signatures stay cheap to check."""

MAX_KEYS = 4096
"""Keys for one use that a party may ever have added itself, revoked ones counted too."""


class PartyKind(StrEnum):
    """What a party is; the last three are the service roles."""

    AGENCY = "AGENCY"
    AUDITOR = "AUDITOR"
    KAS = "KAS"
    NOTARY = "NOTARY"
    WITNESS = "WITNESS"


class KeyState(StrEnum):
    """What a key may be used for now."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A public key of a party; times are append times in microseconds, sizes those of the directory."""

    key_id: bytes
    public: bytes
    use: KeyUse
    state: KeyState
    added_size: int
    """Place in the directory of the statement that added it."""
    added_at: int
    active_at: int
    """When it took effect; of a pending key, when it will."""
    active_size: int
    """Place of the message with which it took effect; of two active keys the larger is the newer."""
    vouchers: frozenset[bytes]
    """Keys of the same party that signed for it; empty where the authority did."""
    untrusted_from: int | None = None
    """Of a revoked key: the place from which on what it alone vouched for falls with it."""
    day: int | None = None
    """Of an intake key: its day, counted from 1970-01-01."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """An agency, an auditor or a service; ``suspended`` is also what a dismissed auditor is."""

    name: str
    kind: PartyKind
    title: str
    suspended: bool
    keys: Map[bytes, Key]

    def active(self, use: KeyUse) -> tuple[Key, ...]:
        """The keys of this use in force, the newest first."""
        found = [key for key in self.keys.values() if key.use is use and key.state is KeyState.ACTIVE]
        return tuple(sorted(found, key=lambda key: (-key.active_size, key.key_id)))


Agency = Party
"""A party of kind AGENCY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingKey:
    """A key that everybody can see 72 hours before it takes effect."""

    party: str
    key_id: bytes
    active_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeKey:
    """The key to which publishers seal release secrets on one day."""

    key_id: bytes
    public: bytes
    day: int
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Somebody who must be able to open an epoch's seeds, and the key to seal them to."""

    name: str
    key_id: bytes
    public: bytes
