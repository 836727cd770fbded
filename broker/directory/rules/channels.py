"""Rules for channels: how they are opened and closed, and how members join and leave.

The authority opens and closes channels and may remove members. It cannot add a member: an agency
that joins needs the consent of the members, by the rule with which the channel was opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from immutables import Map

from broker.clock import DAY_US
from broker.directory.case import Case, check_issuer, check_name, check_text, unsuspended_party
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
    "CONSENT_US",
    "MAX_CEILING_DAYS",
    "channel_closed",
    "channel_opened",
    "find_open_channel",
    "member_joined",
    "member_left",
]

MAX_CEILING_DAYS = 36_500
"""Most days for which a channel may let its records be kept: a hundred years."""
CONSENT_US = 30 * DAY_US
"""How long a consent to join counts: thirty days, in microseconds of the directory's clock."""
_MAX_RECORD_TYPES = 64
_MAX_MANDATES = 256
_MAX_LEGAL_BASIS = 500
"""Characters of a channel's legal basis."""

_RECORD_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_MANDATE_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/_.-]{0,62}")


def find_open_channel(directory: Directory, name: str) -> Channel:
    """Return the open channel of this name; raises NotEntitled when there is none or it is closed."""
    channel = directory.channels.get(name)
    if channel is None:
        raise NotEntitled(f"there is no channel {name[:80]!r}")
    if not channel.is_open:
        raise NotEntitled(f"channel '{name}' is closed")
    return channel


def channel_opened(case: Case, statement: ChannelOpened) -> Directory:
    """Open a channel: the authority signs.

    The members need not agree. They send nothing into a channel that they do not want, and can leave it.
    """
    before = case.before
    name = statement.channel
    check_name(name, CHANNEL_NAME, "a channel")
    check_issuer(statement.header, AUTHORITY)
    # Name and number of a closed channel are never used again. Its messages stay in its partitions, and an
    # old statement must never mean another channel.
    if name in before.channels:
        raise NotEntitled(f"the channel name '{name}' is taken")
    if not 0 <= statement.number < MAX_CHANNELS:
        raise FormatError(f"the channel number is {statement.number}, expected 0 to {MAX_CHANNELS - 1}")
    if statement.number in before.numbers:
        raise NotEntitled(f"the channel number {statement.number} is taken")
    if statement.kas is not None:
        raise FormatError("several key access services of a channel are reserved for a later version")
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
        published_size=0,
        complaints=Map(),
        departures=Map(),
    )
    return replace(with_channel(before, channel), numbers=before.numbers.set(channel.number, name))


def _check_members(directory: Directory, statement: ChannelOpened) -> None:
    count = len(statement.members)
    if statement.kind is ChannelKind.BILATERAL and count != 2:
        raise FormatError(f"a bilateral channel has {count} members, expected 2")
    if statement.kind is ChannelKind.MULTILATERAL and not 3 <= count <= MAX_MEMBERS:
        raise FormatError(f"a multilateral channel has {count} members, expected 3 to {MAX_MEMBERS}")
    _check_distinct(statement.members, "a member")
    _check_distinct(statement.auditors, "an auditor")
    for name in statement.members:
        if directory.agency(name) is None:
            raise NotEntitled(f"there is no agency {name[:80]!r}")
        unsuspended_party(directory, name)
    for name in statement.auditors:
        if directory.auditor(name) is None:
            raise NotEntitled(f"there is no auditor {name[:80]!r}")
        unsuspended_party(directory, name)


def _check_terms(statement: ChannelOpened) -> None:
    # Record types are checked by form alone: a type may come with a release that this participant does not
    # have yet, and the directory must be the same for everybody.
    count = len(statement.record_types)
    if not 1 <= count <= _MAX_RECORD_TYPES:
        raise FormatError(f"the channel allows {count} record types, expected 1 to {_MAX_RECORD_TYPES}")
    _check_distinct(statement.record_types, "a record type")
    for record_type in statement.record_types:
        check_name(record_type, _RECORD_TYPE, "a record type")
    if not statement.purposes:
        raise FormatError("the channel allows no purposes, expected at least one")
    _check_distinct(statement.purposes, "a purpose")
    for purpose in statement.purposes:
        if purpose in LOG_PURPOSES:
            raise FormatError(f"purpose {purpose} is for reading the access log only")
    check_text(statement.legal_basis, "legal basis", most=_MAX_LEGAL_BASIS)
    if not 1 <= statement.ceiling_days <= MAX_CEILING_DAYS:
        raise FormatError(f"the ceiling is {statement.ceiling_days} days, expected 1 to {MAX_CEILING_DAYS}")
    if len(statement.mandates) > _MAX_MANDATES:
        raise FormatError(
            f"the channel has {len(statement.mandates)} mandates, expected at most {_MAX_MANDATES}"
        )
    _check_distinct([mandate.ref for mandate in statement.mandates], "a mandate")
    for mandate in statement.mandates:
        _check_mandate(mandate, statement)


def _check_mandate(mandate: Mandate, statement: ChannelOpened) -> None:
    check_name(mandate.ref, _MANDATE_REF, "a mandate")
    if mandate.agency not in statement.members:
        raise FormatError(
            f"mandate {mandate.ref[:80]!r} is for {mandate.agency[:80]!r}, which is not a member"
        )
    if not mandate.purposes or not set(mandate.purposes) <= set(statement.purposes):
        raise FormatError(f"mandate {mandate.ref[:80]!r} is for purposes that the channel does not allow")
    _check_distinct(mandate.purposes, "a purpose")


def _check_distinct(values: Sequence[str], item: str) -> None:
    if len(set(values)) != len(values):
        raise FormatError(f"{item} is listed twice")


def channel_closed(case: Case, statement: ChannelClosed) -> Directory:
    """Close a channel for ever: the authority signs. Nothing can be published in it any more."""
    check_issuer(statement.header, AUTHORITY)
    channel = find_open_channel(case.before, statement.channel)
    case.signed_by_authority()
    return with_channel(case.before, replace(channel, is_open=False, needs_new_epoch=False))


def member_joined(case: Case, statement: MemberJoined) -> Directory:
    """Let an agency join a channel: the joiner signs, and as many members as the channel's rule asks.

    Each signature is a consent, given at the size of the directory that the header names. It counts for
    thirty days, and once: not again after the joiner has left the channel.

    The rule is ALL or MAJORITY. A suspended member counts as a member and cannot sign. While one is
    suspended nobody can join a channel whose rule is ALL, until that member is reinstated or has left.
    """
    before = case.before
    joiner = statement.agency
    check_issuer(statement.header, joiner)
    channel = find_open_channel(before, statement.channel)
    # A bilateral channel promises its two members that no third one ever joins, whatever signatures it
    # brings.
    if channel.kind is not ChannelKind.MULTILATERAL:
        raise NotEntitled(f"channel '{channel.name}' is bilateral: nobody joins it")
    if before.agency(joiner) is None:
        raise NotEntitled(f"there is no agency {joiner[:80]!r}")
    if joiner in channel.members:
        raise NotEntitled(f"'{joiner}' is a member of '{channel.name}' already")
    if len(channel.members) >= MAX_MEMBERS:
        raise NotEntitled(f"channel '{channel.name}' has {MAX_MEMBERS} members already")
    _check_fresh(case, channel, statement)
    _check_consent(case, channel, joiner)
    return force_epochs(
        before, [channel.name], lambda joined: replace(joined, members=joined.members | {joiner})
    )


def _check_fresh(case: Case, channel: Channel, statement: MemberJoined) -> None:
    # Stands against a spare file of consents, with which an agency that was expelled would join again.
    departed = channel.departures.get(statement.agency, 0)
    if statement.header.directory_size < departed:
        raise NotEntitled(
            f"the members consented before '{statement.agency}' left '{channel.name}': they must sign anew"
        )
    if case.is_older(statement.header, CONSENT_US):
        raise NotEntitled("the members consented more than thirty days ago: they must sign anew")


def _check_consent(case: Case, channel: Channel, joiner: str) -> None:
    parties = case.before.parties
    members = sorted(channel.members)
    keys = {joiner: case.active_keys(joiner)}
    # Stands against a puppet agency of the authority. If suspended members did not count, k holders could
    # suspend all members but one, and that one's consent would let the puppet in.
    keys |= {name: {} if parties[name].suspended else case.active_keys(name) for name in members}
    allowed = {key_id: public for own in keys.values() for key_id, public in own.items()}
    signers = case.signers(allowed)
    if not signers & keys[joiner].keys():
        raise SignatureInvalid(f"no active key of the joiner {joiner[:80]!r} signed this 'member-joined'")
    # Members are counted, not keys: a member that signs with two keys has consented once.
    missing = [name for name in members if not signers & keys[name].keys()]
    count = len(members)
    signed = count - len(missing)
    needed = count if channel.joining is JoiningRule.ALL else count // 2 + 1
    if signed < needed:
        raise SignatureInvalid(
            f"{signed} of {count} members signed, expected {needed}; missing: {', '.join(missing)}"
        )


def member_left(case: Case, statement: MemberLeft) -> Directory:
    """Remove a member from a channel: the agency itself signs, or the authority.

    With one member that helps, k holders of the authority could remove the other members and so let a puppet
    in. The removals stand in the directory for all to see before the puppet joins.
    """
    channel = find_open_channel(case.before, statement.channel)
    if statement.agency not in channel.members:
        raise NotEntitled(f"{statement.agency[:80]!r} is not a member of '{channel.name}'")
    if statement.header.issuer == AUTHORITY:
        case.signed_by_authority()
    else:
        check_issuer(statement.header, statement.agency)
        case.signed_by_party(statement.agency)
    name, size = statement.agency, case.before.size + 1
    return force_epochs(
        case.before,
        [channel.name],
        lambda left: replace(left, members=left.members - {name}, departures=left.departures.set(name, size)),
    )
