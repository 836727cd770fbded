"""The statements of the directory, as values.

The schemas in ``schemas/protocol`` say what each field means, and ``directory/rules`` who may say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.wire.manifest import Header
from broker.wire.terms import Purpose

__all__ = [
    "AgencyAdmitted",
    "AgencyReinstated",
    "AgencySuspended",
    "AuditorAppointed",
    "AuditorDismissed",
    "AuthorityRotated",
    "ChannelClosed",
    "ChannelKeysComplained",
    "ChannelKeysConfirmed",
    "ChannelKeysPublished",
    "ChannelKind",
    "ChannelOpened",
    "EpochGranted",
    "Genesis",
    "JoiningRule",
    "KeyAdded",
    "KeyRetired",
    "KeyRevoked",
    "KeyUse",
    "Mandate",
    "MemberJoined",
    "MemberLeft",
    "SealedSeed",
    "ServiceKeyAnnounced",
    "ServiceRole",
]


class ChannelKind(StrEnum):
    """BILATERAL: exactly two members, never more."""

    BILATERAL = "BILATERAL"
    MULTILATERAL = "MULTILATERAL"


class JoiningRule(StrEnum):
    """How many members must sign when somebody joins."""

    ALL = "ALL"
    MAJORITY = "MAJORITY"


class KeyUse(StrEnum):
    """What a key is for."""

    SIGNING = "SIGNING"
    RECEIVING = "RECEIVING"
    INTAKE = "INTAKE"


class ServiceRole(StrEnum):
    """Which service a key belongs to."""

    KAS = "KAS"
    NOTARY = "NOTARY"
    WITNESS = "WITNESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSeed:
    """An epoch seed sealed to one recipient."""

    recipient: str
    key_id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """A standing mandate for DISCLOSURE to a system."""

    ref: str
    agency: str
    purposes: tuple[Purpose, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """Founds a coalition; participants pin its hash."""

    header: Header
    coalition: str
    authority_keys: tuple[bytes, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityRotated:
    """Replaces the authority's keys."""

    header: Header
    authority_keys: tuple[bytes, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyAdmitted:
    """Admits an agency with its first keys."""

    header: Header
    agency: str
    name: str
    signing_key: bytes
    receiving_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencySuspended:
    """Suspends an agency."""

    header: Header
    agency: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyReinstated:
    """Ends a suspension."""

    header: Header
    agency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAdded:
    """Adds a key to an agency or auditor."""

    header: Header
    agency: str
    use: KeyUse
    public_key: bytes
    recovery: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRetired:
    """Retires a key, at least a day after its successor was added."""

    header: Header
    agency: str
    key_id: bytes
    successor: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked:
    """Revokes a key and what it alone vouched for since."""

    header: Header
    agency: str
    key_id: bytes
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOpened:
    """Opens a channel."""

    header: Header
    channel: str
    number: int
    kind: ChannelKind
    members: tuple[str, ...]
    auditors: tuple[str, ...]
    record_types: tuple[str, ...]
    purposes: tuple[Purpose, ...]
    legal_basis: str
    ceiling_days: int
    joining: JoiningRule
    mandates: tuple[Mandate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelClosed:
    """Closes a channel; nothing is published there any more."""

    header: Header
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJoined:
    """An agency joins a multilateral channel."""

    header: Header
    channel: str
    agency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLeft:
    """An agency leaves a channel."""

    header: Header
    channel: str
    agency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditorAppointed:
    """Appoints an auditor to channels."""

    header: Header
    auditor: str
    name: str
    signing_key: bytes
    receiving_key: bytes
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditorDismissed:
    """Dismisses an auditor from channels."""

    header: Header
    auditor: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKeyAnnounced:
    """Announces a key of the KAS, notary or witness."""

    header: Header
    service: str
    role: ServiceRole
    use: KeyUse
    public_key: bytes
    day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysPublished:
    """A member publishes the keys of an epoch."""

    header: Header
    channel: str
    epoch: int
    metadata_key: bytes
    content_key: bytes
    metadata_seeds: tuple[SealedSeed, ...]
    content_seeds: tuple[SealedSeed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysConfirmed:
    """The KAS confirms an epoch and publishes its access key."""

    header: Header
    channel: str
    epoch: int
    access_key: bytes
    access_seeds: tuple[SealedSeed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysComplained:
    """A recipient's seeds do not give the public keys."""

    header: Header
    channel: str
    epoch: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochGranted:
    """A member, or of access seeds the key access service, grants an earlier epoch to a later recipient."""

    header: Header
    channel: str
    epoch: int
    metadata_seeds: tuple[SealedSeed, ...]
    content_seeds: tuple[SealedSeed, ...]
    access_seeds: tuple[SealedSeed, ...]
