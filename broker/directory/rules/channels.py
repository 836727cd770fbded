"""Rules for channels: opened, closed, joined and left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from immutables import Map

from broker.directory.case import Case, check_issuer, check_name, check_text, known_party
from broker.directory.changes import force_epochs, with_channel
from broker.directory.channel import CHANNEL_NAME, MAX_CHANNELS, MAX_MEMBERS, Channel
from broker.directory.directory import Directory
from broker.directory.party import AUTHORITY
from broker.errors import FormatError, NotEntitled, SignatureInvalid
from broker.wire.statements import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    JoiningRule,
    Mandate,
    MemberJoined,
    MemberLeft,
)
from broker.wire.terms import LOG_PURPOSES

__all__ = [
    "MAX_CEILING_DAYS",
    "channel_closed",
    "channel_opened",
    "member_joined",
    "member_left",
    "open_channel",
]

MAX_CEILING_DAYS = 36_500
MAX_RECORD_TYPES = 64
MAX_MANDATES = 256
MAX_LEGAL_BASIS = 500
"""Characters."""

_RECORD_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_MANDATE_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/_.-]{0,62}")


def open_channel(directory: Directory, name: str) -> Channel:
    """The channel of this name if it is open; else NotEntitled."""
    channel = directory.channels.get(name)
    if channel is None:
        raise NotEntitled(f"there is no channel {name[:80]!r}")
    if not channel.is_open:
        raise NotEntitled(f"channel '{name}' is closed")
    return channel


def channel_opened(case: Case, statement: ChannelOpened) -> Directory:
    """By the authority; name and number are used once and never again."""
    before, name = case.before, check_name(statement.channel, CHANNEL_NAME, "a channel")
    check_issuer(statement.header, AUTHORITY)
    if name in before.channels:
        raise NotEntitled(f"the channel name '{name}' is taken")
    if not 0 <= statement.number < MAX_CHANNELS:
        raise FormatError(f"channel number {statement.number}, expected 0 to {MAX_CHANNELS - 1}")
    if statement.number in before.numbers:
        raise NotEntitled(f"the channel number {statement.number} is taken")
    _check_members(before, statement)
    _check_terms(statement)
    case.signed_by_authority()
    channel = Channel(
        name=name,
        number=statement.number,
        kind=statement.kind,
        members=frozenset(statement.members),
        auditors=frozenset(statement.auditors),
        record_types=frozenset(statement.record_types),
        purposes=frozenset(statement.purposes),
        legal_basis=statement.legal_basis,
        ceiling_days=statement.ceiling_days,
        joining=statement.joining,
        mandates=Map({mandate.ref: mandate for mandate in statement.mandates}),
        is_open=True,
        epochs=Map(),
        newest_published=-1,
        newest_confirmed=-1,
        needs_new_epoch=True,
        published_at=0,
        complaints=Map(),
    )
    return replace(with_channel(before, channel), numbers=before.numbers.set(channel.number, name))


def _check_members(directory: Directory, statement: ChannelOpened) -> None:
    count = len(statement.members)
    if statement.kind is ChannelKind.BILATERAL and count != 2:
        raise FormatError(f"bilateral channel of {count} members, expected 2")
    if statement.kind is ChannelKind.MULTILATERAL and not 3 <= count <= MAX_MEMBERS:
        raise FormatError(f"multilateral channel of {count} members, expected 3 to {MAX_MEMBERS}")
    _distinct(statement.members, "a member")
    _distinct(statement.auditors, "an auditor")
    for name in statement.members:
        if directory.agency(name) is None:
            raise NotEntitled(f"there is no agency {name[:80]!r}")
        known_party(directory, name)
    for name in statement.auditors:
        if directory.auditor(name) is None:
            raise NotEntitled(f"there is no auditor {name[:80]!r}")
        known_party(directory, name)


def _check_terms(statement: ChannelOpened) -> None:
    if not 1 <= len(statement.record_types) <= MAX_RECORD_TYPES:
        raise FormatError(f"{len(statement.record_types)} record types, expected 1 to {MAX_RECORD_TYPES}")
    _distinct(statement.record_types, "a record type")
    for record_type in statement.record_types:
        check_name(record_type, _RECORD_TYPE, "a record type")
    if not statement.purposes:
        raise FormatError("a channel without purposes")
    _distinct(statement.purposes, "a purpose")
    for purpose in statement.purposes:
        if purpose in LOG_PURPOSES:
            raise FormatError(f"purpose {purpose} is for reading the access log only")
    check_text(statement.legal_basis, "legal basis", most=MAX_LEGAL_BASIS)
    if not 1 <= statement.ceiling_days <= MAX_CEILING_DAYS:
        raise FormatError(f"ceiling of {statement.ceiling_days} days, expected 1 to {MAX_CEILING_DAYS}")
    if len(statement.mandates) > MAX_MANDATES:
        raise FormatError(f"{len(statement.mandates)} mandates, expected at most {MAX_MANDATES}")
    _distinct([mandate.ref for mandate in statement.mandates], "a mandate")
    for mandate in statement.mandates:
        _check_mandate(mandate, statement)


def _check_mandate(mandate: Mandate, statement: ChannelOpened) -> None:
    check_name(mandate.ref, _MANDATE_REF, "a mandate")
    if mandate.agency not in statement.members:
        raise FormatError(f"mandate {mandate.ref[:80]!r} is for {mandate.agency[:80]!r}, which is no member")
    if not mandate.purposes or not set(mandate.purposes) <= set(statement.purposes):
        raise FormatError(f"mandate {mandate.ref[:80]!r} is for purposes that the channel does not allow")
    _distinct(mandate.purposes, "a purpose")


def _distinct(values: Sequence[str], what: str) -> None:
    if len(set(values)) != len(values):
        raise FormatError(f"{what} is listed twice")


def channel_closed(case: Case, statement: ChannelClosed) -> Directory:
    """By the authority; nothing is published there any more, and it is never opened again."""
    check_issuer(statement.header, AUTHORITY)
    channel = open_channel(case.before, statement.channel)
    case.signed_by_authority()
    return with_channel(case.before, replace(channel, is_open=False, needs_new_epoch=False))


def member_joined(case: Case, statement: MemberJoined) -> Directory:
    """By the joiner and by as many members as the channel's rule asks.

    A suspended member counts and cannot sign: else the authority would suspend all but one, and that
    one would let anybody in. Until it is reinstated, or has left, nobody joins where the rule is ALL.
    """
    before, joiner = case.before, statement.agency
    check_issuer(statement.header, joiner)
    channel = open_channel(before, statement.channel)
    if channel.kind is not ChannelKind.MULTILATERAL:
        raise NotEntitled(f"channel '{channel.name}' is bilateral: nobody joins it")
    if before.agency(joiner) is None:
        raise NotEntitled(f"there is no agency {joiner[:80]!r}")
    if joiner in channel.members:
        raise NotEntitled(f"'{joiner}' is a member of '{channel.name}' already")
    if len(channel.members) >= MAX_MEMBERS:
        raise NotEntitled(f"channel '{channel.name}' has {MAX_MEMBERS} members already")
    _check_consent(case, channel, joiner)
    return force_epochs(before, [channel.name], lambda one: replace(one, members=one.members | {joiner}))


def _check_consent(case: Case, channel: Channel, joiner: str) -> None:
    parties = case.before.parties
    members = sorted(channel.members)
    keys = {joiner: case.active_keys(joiner)}
    keys |= {name: {} if parties[name].suspended else case.active_keys(name) for name in members}
    allowed = {key_id: public for own in keys.values() for key_id, public in own.items()}
    signers = case.signers(allowed)
    if not signers & keys[joiner].keys():
        raise SignatureInvalid(f"no signature by an active key of the joiner {joiner[:80]!r}")
    missing = [name for name in members if not signers & keys[name].keys()]
    needed = len(members) if channel.joining is JoiningRule.ALL else len(members) // 2 + 1
    if len(members) - len(missing) < needed:
        raise SignatureInvalid(
            f"{len(members) - len(missing)} of {needed} members signed; missing: {', '.join(missing)}"
        )


def member_left(case: Case, statement: MemberLeft) -> Directory:
    """By the agency itself, or by the authority."""
    channel = open_channel(case.before, statement.channel)
    if statement.agency not in channel.members:
        raise NotEntitled(f"{statement.agency[:80]!r} is no member of '{channel.name}'")
    if statement.header.issuer == AUTHORITY:
        case.signed_by_authority()
    else:
        check_issuer(statement.header, statement.agency)
        case.signed_by_party(statement.agency)
    return force_epochs(
        case.before, [channel.name], lambda one: replace(one, members=one.members - {statement.agency})
    )
