"""The statements of the directory, as values.

The schemas in ``schemas/protocol`` say what each field means, and ``directory/rules`` who may say it. The
names of the fields and their order are the bytes: neither may change.
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
    "ChannelServices",
    "DirectoryClock",
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
    "SealedHalves",
    "ServiceKeyAnnounced",
    "ServiceRole",
]


class ChannelKind(StrEnum):
    """The two kinds of a channel. A BILATERAL channel has exactly two members, and never more."""

    BILATERAL = "BILATERAL"
    MULTILATERAL = "MULTILATERAL"


class JoiningRule(StrEnum):
    """How many members must sign when an agency joins a channel."""

    ALL = "ALL"
    MAJORITY = "MAJORITY"


class KeyUse(StrEnum):
    """The use of a key."""

    SIGNING = "SIGNING"
    RECEIVING = "RECEIVING"
    INTAKE = "INTAKE"


class ServiceRole(StrEnum):
    """The service that a key belongs to: key access, notary or witness."""

    KAS = "KAS"
    NOTARY = "NOTARY"
    WITNESS = "WITNESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHalves:
    """One half of an epoch's seed, or in a grant all halves of it, sealed to one recipient."""

    recipient: str
    key_id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """The standing mandate of an agency's system. A request for DISCLOSURE quotes it by ``ref``."""

    ref: str
    agency: str
    purposes: tuple[Purpose, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The founding of a coalition. Every participant pins the hash of this statement."""

    header: Header
    coalition: str
    authority_keys: tuple[bytes, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityRotated:
    """The authority replaces its keys."""

    header: Header
    authority_keys: tuple[bytes, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyAdmitted:
    """An agency is admitted, with its first keys."""

    header: Header
    agency: str
    name: str
    signing_key: bytes
    receiving_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencySuspended:
    """An agency is suspended."""

    header: Header
    agency: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyReinstated:
    """The suspension of an agency ends."""

    header: Header
    agency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAdded:
    """An agency or auditor gets a further key."""

    header: Header
    agency: str
    use: KeyUse
    public_key: bytes
    recovery: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRetired:
    """A key is retired, at least a day after its successor was added."""

    header: Header
    agency: str
    key_id: bytes
    successor: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked:
    """A key is revoked: from directory size ``since`` on, it and what it alone vouched for is not trusted."""

    header: Header
    agency: str
    key_id: bytes
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelServices:
    """The key access services of a channel, ``k`` of which release together; for a later version."""

    k: int
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOpened:
    """A channel is opened. ``number`` is its partition in every topic."""

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
    kas: ChannelServices | None
    """Reserved for a later version. A statement in which it is not None does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelClosed:
    """A channel is closed, and nothing is published there any more."""

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
    """An auditor is appointed to channels."""

    header: Header
    auditor: str
    name: str
    signing_key: bytes
    receiving_key: bytes
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditorDismissed:
    """An auditor is dismissed from channels."""

    header: Header
    auditor: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKeyAnnounced:
    """A service gets a key. ``day`` is for intake keys only: the day on which the key is used."""

    header: Header
    service: str
    role: ServiceRole
    use: KeyUse
    public_key: bytes
    day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryClock:
    """The key access service says the time, which is the header's ``issued_at``."""

    header: Header


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysPublished:
    """A member publishes an epoch: its halves of two seeds, sealed to those who may read."""

    header: Header
    channel: str
    epoch: int
    metadata_commitment: bytes
    content_commitment: bytes
    metadata_halves: tuple[SealedHalves, ...]
    content_halves: tuple[SealedHalves, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysConfirmed:
    """The key access service confirms an epoch with its own halves, and with the half of the access seed."""

    header: Header
    channel: str
    epoch: int
    metadata_commitment: bytes
    content_commitment: bytes
    access_commitment: bytes
    metadata_halves: tuple[SealedHalves, ...]
    content_halves: tuple[SealedHalves, ...]
    access_halves: tuple[SealedHalves, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeysComplained:
    """A recipient complains that what was sealed to it does not fit the epoch's commitments."""

    header: Header
    channel: str
    epoch: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochGranted:
    """A later recipient is granted all halves of an earlier epoch's seeds, by a member or by the service."""

    header: Header
    channel: str
    epoch: int
    metadata_halves: tuple[SealedHalves, ...]
    content_halves: tuple[SealedHalves, ...]
    access_halves: tuple[SealedHalves, ...]
