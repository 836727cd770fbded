"""Statements drafted for the directory as it is, to be signed by those whom the rules ask.

Each says in its first line who must sign.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.directory.directory import NO_DIGEST, Directory
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
]


def found_coalition(
    *, coalition: str, authority_keys: Sequence[bytes], threshold: int, issued_at: int
) -> s.Genesis:
    """Signed by all authority keys."""
    return s.Genesis(
        header=authority_header(Directory.empty(), issued_at),
        coalition=coalition,
        authority_keys=tuple(authority_keys),
        threshold=threshold,
    )


def rotate_authority(
    directory: Directory, *, authority_keys: Sequence[bytes], threshold: int, issued_at: int
) -> s.AuthorityRotated:
    """Signed by k of the old keys and all of the new ones."""
    return s.AuthorityRotated(
        header=authority_header(directory, issued_at),
        authority_keys=tuple(authority_keys),
        threshold=threshold,
    )


def admit_agency(
    directory: Directory, *, agency: str, title: str, signing_key: bytes, receiving_key: bytes, issued_at: int
) -> s.AgencyAdmitted:
    """Signed by the authority and by the agency's new key."""
    return s.AgencyAdmitted(
        header=authority_header(directory, issued_at),
        agency=agency,
        name=title,
        signing_key=signing_key,
        receiving_key=receiving_key,
    )


def suspend_agency(directory: Directory, *, agency: str, reason: str, issued_at: int) -> s.AgencySuspended:
    """Signed by the authority."""
    return s.AgencySuspended(header=authority_header(directory, issued_at), agency=agency, reason=reason)


def reinstate_agency(directory: Directory, *, agency: str, issued_at: int) -> s.AgencyReinstated:
    """Signed by the authority."""
    return s.AgencyReinstated(header=authority_header(directory, issued_at), agency=agency)


def add_key(
    directory: Directory, *, party: str, use: s.KeyUse, public_key: bytes, issued_at: int
) -> s.KeyAdded:
    """Signed by an active key of the agency or auditor, and by the new key if it is a signing key."""
    header = header_for(directory, party, issued_at=issued_at)
    return s.KeyAdded(header=header, agency=party, use=use, public_key=public_key, recovery=False)


def recover_key(
    directory: Directory, *, party: str, use: s.KeyUse, public_key: bytes, issued_at: int
) -> s.KeyAdded:
    """Signed by the authority, and by the new key if it is a signing key; in force 72 hours later."""
    header = authority_header(directory, issued_at)
    return s.KeyAdded(header=header, agency=party, use=use, public_key=public_key, recovery=True)


def retire_key(
    directory: Directory, *, party: str, key_id: bytes, successor: bytes, issued_at: int
) -> s.KeyRetired:
    """Signed by an active key of the party, a day after the successor was added."""
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
    """Signed by another active key of the party, by the key itself, or by the authority."""
    header = (
        authority_header(directory, issued_at)
        if by_authority
        else header_for(directory, party, issued_at=issued_at, previous=NO_DIGEST)
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
    """Signed by the authority; of two members a channel is bilateral, unless said otherwise."""
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
    )


def close_channel(directory: Directory, *, channel: str, issued_at: int) -> s.ChannelClosed:
    """Signed by the authority."""
    return s.ChannelClosed(header=authority_header(directory, issued_at), channel=channel)


def join_channel(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberJoined:
    """Signed by the joiner and by the members whom the channel's rule asks."""
    header = header_for(directory, agency, issued_at=issued_at)
    return s.MemberJoined(header=header, channel=channel, agency=agency)


def leave_channel(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberLeft:
    """Signed by the agency itself."""
    header = header_for(directory, agency, issued_at=issued_at)
    return s.MemberLeft(header=header, channel=channel, agency=agency)


def expel_member(directory: Directory, *, channel: str, agency: str, issued_at: int) -> s.MemberLeft:
    """Signed by the authority."""
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
    """Signed by the authority, and the first time by the auditor's key."""
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
    """Signed by the authority; without channels, from all of them."""
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
    """Signed by the authority, by a new signing key itself, and by an old key of the role.

    Without that of an old key it is in force 72 hours later, unless it is the role's first.
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
    """Signed by the key access service; at most 15 days before its day."""
    return s.ServiceKeyAnnounced(
        header=header_for(directory, service, issued_at=issued_at),
        service=service,
        role=s.ServiceRole.KAS,
        use=s.KeyUse.INTAKE,
        public_key=public_key,
        day=day,
    )
