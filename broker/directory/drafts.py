"""Drafts of directory statements: each function puts one together, ready to be signed.

A draft names the directory that it was made from, so it should be signed and appended soon: a draft of the
authority no longer counts once the authority has made another statement. Nothing here checks whether a
draft would count; ``rules`` says that, and ``fold.apply`` tells. ``issuance.sign_statement`` signs it.

``issued_at`` is the issuer's clock in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.directory.directory import Directory
from broker.directory.issuance import authority_header, header_for
from broker.wire import statements as s
from broker.wire.terms import Purpose

__all__ = [
    "add_key",
    "admit_agency",
    "announce_intake_key",
    "announce_service_key",
    "appoint_auditor",
    "close_channel",
    "dismiss_auditor",
    "expel_member",
    "found_coalition",
    "join_channel",
    "leave_channel",
    "open_channel",
    "recover_key",
    "reinstate_agency",
    "retire_key",
    "revoke_key",
    "rotate_authority",
    "suspend_agency",
    "tell_time",
]


def found_coalition(
    *, coalition: str, authority_keys: Sequence[bytes], threshold: int, issued_at: int
) -> s.Genesis:
    """Draft the genesis of a coalition; all authority keys must sign it."""
    return s.Genesis(
        header=authority_header(Directory.empty(), issued_at),
        coalition=coalition,
        authority_keys=tuple(authority_keys),
        threshold=threshold,
    )


def rotate_authority(
    directory: Directory, *, authority_keys: Sequence[bytes], threshold: int, issued_at: int
) -> s.AuthorityRotated:
    """Draft new keys for the authority; k of the old keys and all of the new ones must sign it."""
    return s.AuthorityRotated(
        header=authority_header(directory, issued_at),
        authority_keys=tuple(authority_keys),
        threshold=threshold,
    )


def admit_agency(
    directory: Directory, *, agency: str, title: str, signing_key: bytes, receiving_key: bytes, issued_at: int
) -> s.AgencyAdmitted:
    """Draft the admission of an agency; the authority and the agency's new key must sign it."""
    return s.AgencyAdmitted(
        header=authority_header(directory, issued_at),
        agency=agency,
        name=title,
        signing_key=signing_key,
        receiving_key=receiving_key,
    )


def suspend_agency(directory: Directory, *, agency: str, reason: str, issued_at: int) -> s.AgencySuspended:
    """Draft the suspension of an agency; the authority must sign it."""
    return s.AgencySuspended(header=authority_header(directory, issued_at), agency=agency, reason=reason)


def reinstate_agency(directory: Directory, *, agency: str, issued_at: int) -> s.AgencyReinstated:
    """Draft the end of a suspension; the authority must sign it."""
    return s.AgencyReinstated(header=authority_header(directory, issued_at), agency=agency)


def add_key(
    directory: Directory, *, party: str, use: s.KeyUse, public_key: bytes, issued_at: int
) -> s.KeyAdded:
    """Draft a further key of an agency or auditor.

    An active key of the party must sign it, and the new key too if it is a signing key. It takes effect at
    once if the authority signs as well, and 72 hours later otherwise.
    """
    header = header_for(directory, party, issued_at=issued_at)
    return s.KeyAdded(header=header, agency=party, use=use, public_key=public_key, recovery=False)


def recover_key(
    directory: Directory, *, party: str, use: s.KeyUse, public_key: bytes, issued_at: int
) -> s.KeyAdded:
    """Draft a key for an agency or auditor that has lost its keys; it takes effect 72 hours later.

    The authority must sign it, and the new key too if it is a signing key.
    """
    header = authority_header(directory, issued_at)
    return s.KeyAdded(header=header, agency=party, use=use, public_key=public_key, recovery=True)


def retire_key(
    directory: Directory, *, party: str, key_id: bytes, successor: bytes, issued_at: int
) -> s.KeyRetired:
    """Draft the retirement of a key; an active key of the party must sign it.

    For a signing key that is this key or an older one. It counts only when the successor took effect a day or
    more before it.
    """
    header = header_for(directory, party, issued_at=issued_at)
    return s.KeyRetired(header=header, agency=party, key_id=key_id, successor=successor)


def revoke_key(
    directory: Directory,
    *,
    party: str,
    key_id: bytes,
    since: int,
    issued_at: int,
    by_authority: bool = False,
) -> s.KeyRevoked:
    """Draft the revocation of a key, which is distrusted from directory size ``since`` on.

    This key itself must sign it, or an older signing key of the party. With ``by_authority`` the authority
    must sign it instead.
    """
    header = (
        authority_header(directory, issued_at)
        if by_authority
        else header_for(directory, party, issued_at=issued_at)
    )
    return s.KeyRevoked(header=header, agency=party, key_id=key_id, since=since)


def open_channel(
    directory: Directory,
    *,
    channel: str,
    number: int,
    members: Sequence[str],
    auditors: Sequence[str],
    record_types: Sequence[str],
    purposes: Sequence[Purpose],
    legal_basis: str,
    ceiling_days: int,
    issued_at: int,
    kind: s.ChannelKind | None = None,
    joining: s.JoiningRule = s.JoiningRule.ALL,
    mandates: Sequence[s.Mandate] = (),
) -> s.ChannelOpened:
    """Draft the opening of a channel; the authority must sign it.

    Without ``kind``, a channel of two members is bilateral and any other one multilateral.
    """
    by_count = s.ChannelKind.BILATERAL if len(members) == 2 else s.ChannelKind.MULTILATERAL
    return s.ChannelOpened(
        header=authority_header(directory, issued_at),
        channel=channel,
        number=number,
        kind=kind or by_count,
        members=tuple(members),
        auditors=tuple(auditors),
        record_types=tuple(record_types),
        purposes=tuple(purposes),
        legal_basis=legal_basis,
        ceiling_days=ceiling_days,
        joining=joining,
        mandates=tuple(mandates),
        kas=None,
    )


def close_channel(directory: Directory, *, channel: str, issued_at: int) -> s.ChannelClosed:
    """Draft the closing of a channel; the authority must sign it."""
    return s.ChannelClosed(header=authority_header(directory, issued_at), channel=channel)


def join_channel(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberJoined:
    """Draft the joining of an agency to a channel.

    The joiner must sign it, and as many members as the channel's rule asks.
    """
    header = header_for(directory, agency, issued_at=issued_at)
    return s.MemberJoined(header=header, channel=channel, agency=agency)


def leave_channel(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberLeft:
    """Draft the departure of a member from a channel; the agency itself must sign it."""
    header = header_for(directory, agency, issued_at=issued_at)
    return s.MemberLeft(header=header, channel=channel, agency=agency)


def expel_member(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberLeft:
    """Draft the removal of a member from a channel; the authority must sign it."""
    return s.MemberLeft(header=authority_header(directory, issued_at), channel=channel, agency=agency)


def appoint_auditor(
    directory: Directory,
    *,
    auditor: str,
    title: str,
    signing_key: bytes,
    receiving_key: bytes,
    issued_at: int,
    channels: Sequence[str] = (),
) -> s.AuditorAppointed:
    """Draft the appointment of an auditor to channels.

    The authority must sign it, and the first time the auditor's signing key too.
    """
    return s.AuditorAppointed(
        header=authority_header(directory, issued_at),
        auditor=auditor,
        name=title,
        signing_key=signing_key,
        receiving_key=receiving_key,
        channels=tuple(channels),
    )


def dismiss_auditor(
    directory: Directory, *, auditor: str, issued_at: int, channels: Sequence[str] = ()
) -> s.AuditorDismissed:
    """Draft the dismissal of an auditor from these channels, or from all; the authority must sign it."""
    header = authority_header(directory, issued_at)
    return s.AuditorDismissed(header=header, auditor=auditor, channels=tuple(channels))


def announce_service_key(
    directory: Directory,
    *,
    service: str,
    role: s.ServiceRole,
    use: s.KeyUse,
    public_key: bytes,
    issued_at: int,
) -> s.ServiceKeyAnnounced:
    """Draft a signing or receiving key of a service.

    The authority must sign it, and the new key too if it is a signing key. With a signature by an active key
    of the role it takes effect at once, as the role's first key does; otherwise 72 hours later.
    """
    return s.ServiceKeyAnnounced(
        header=authority_header(directory, issued_at),
        service=service,
        role=role,
        use=use,
        public_key=public_key,
        day=None,
    )


def announce_intake_key(
    directory: Directory, *, service: str, public_key: bytes, day: int, issued_at: int
) -> s.ServiceKeyAnnounced:
    """Draft an intake key of the key access service, which must sign it.

    ``day`` is counted from 1970-01-01 and lies at most 15 days ahead.
    """
    return s.ServiceKeyAnnounced(
        header=header_for(directory, service, issued_at=issued_at),
        service=service,
        role=s.ServiceRole.KAS,
        use=s.KeyUse.INTAKE,
        public_key=public_key,
        day=day,
    )


def tell_time(directory: Directory, *, service: str, issued_at: int) -> s.DirectoryClock:
    """Draft a clock of the directory; the key access service must sign it."""
    return s.DirectoryClock(header=header_for(directory, service, issued_at=issued_at))
