"""Rules for the authority itself, for agencies and for auditors."""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from broker.crypto.sign import check_public_key, signing_key_id
from broker.directory.case import Case, check_issuer, check_name, check_text, known_party
from broker.directory.changes import (
    channels_of,
    claim_key,
    force_epochs,
    fresh_name,
    new_key,
    with_key,
    with_party,
)
from broker.directory.directory import Authority, Directory
from broker.directory.party import AGENCY_NAME, AUTHORITY, PLAIN_NAME, Party, PartyKind
from broker.errors import FormatError, NotEntitled, SignatureInvalid
from broker.wire.statements import (
    AgencyAdmitted,
    AgencyReinstated,
    AgencySuspended,
    AuditorAppointed,
    AuditorDismissed,
    AuthorityRotated,
    Genesis,
    KeyUse,
)

__all__ = [
    "MAX_AUTHORITY_KEYS",
    "agency_admitted",
    "agency_reinstated",
    "agency_suspended",
    "auditor_appointed",
    "auditor_dismissed",
    "authority_rotated",
    "genesis",
]

MAX_AUTHORITY_KEYS = 32


def genesis(case: Case, statement: Genesis) -> Directory:
    """All n keys sign: each proves that somebody holds it, and that its holder agrees to the others."""
    before = case.before
    if before.size != 0:
        raise NotEntitled("genesis is the first message of the directory, and there is one only")
    if before.pinned is not None and case.digest != before.pinned:
        raise NotEntitled(f"genesis is {case.digest.hex()}, expected the pinned {before.pinned.hex()}")
    check_issuer(statement.header, AUTHORITY)
    check_text(statement.coalition, "name of the coalition")
    keys = _authority_keys(statement.authority_keys, statement.threshold)
    if case.signers(keys) != keys.keys():
        raise SignatureInvalid(f"genesis must be signed by all {len(keys)} authority keys")
    after = before
    for key_id in keys:
        after = claim_key(after, key_id, AUTHORITY)
    authority = Authority(keys=statement.authority_keys, threshold=statement.threshold, last=case.digest)
    return replace(after, genesis=case.digest, coalition=statement.coalition, authority=authority)


def authority_rotated(case: Case, statement: AuthorityRotated) -> Directory:
    """k of the old keys, and every new one for itself."""
    check_issuer(statement.header, AUTHORITY)
    keys = _authority_keys(statement.authority_keys, statement.threshold)
    case.signed_by_authority(keys)
    after, old = case.before, case.before.authority
    for key_id, public in keys.items():
        if public not in old.keys:
            after = claim_key(after, key_id, AUTHORITY)
    authority = Authority(keys=statement.authority_keys, threshold=statement.threshold, last=old.last)
    return replace(after, authority=authority)


def _authority_keys(publics: tuple[bytes, ...], threshold: int) -> dict[bytes, bytes]:
    count = len(publics)
    if not 1 <= count <= MAX_AUTHORITY_KEYS:
        raise FormatError(f"{count} authority keys, expected 1 to {MAX_AUTHORITY_KEYS}")
    if len(set(publics)) != count:
        raise FormatError("an authority key is listed twice")
    if not count < 2 * threshold <= 2 * count:
        raise FormatError(f"threshold {threshold} of {count} keys, expected a majority")
    return {signing_key_id(check_public_key(public)): public for public in publics}


def agency_admitted(case: Case, statement: AgencyAdmitted) -> Directory:
    """The authority, and the agency's own key, which proves that it is held."""
    check_issuer(statement.header, AUTHORITY)
    name = check_name(statement.agency, AGENCY_NAME, "an agency")
    return _new_party(
        case, name, PartyKind.AGENCY, statement.name, statement.signing_key, statement.receiving_key
    )


def _new_party(
    case: Case, name: str, kind: PartyKind, title: str, signing_key: bytes, receiving_key: bytes
) -> Directory:
    before = case.before
    fresh_name(before, name)
    check_text(title, "name for people")
    signing = new_key(before, signing_key, KeyUse.SIGNING, now=case.now)
    case.signed_by_authority({signing.key_id: signing.public})
    receiving = new_key(before, receiving_key, KeyUse.RECEIVING, now=case.now)
    after = with_party(before, Party(name=name, kind=kind, title=title, suspended=False, keys=Map()))
    return with_key(with_key(after, name, signing), name, receiving)


def agency_suspended(case: Case, statement: AgencySuspended) -> Directory:
    """A suspended agency signs nothing and reads nothing; its channels need new keys."""
    check_issuer(statement.header, AUTHORITY)
    check_text(statement.reason, "reason")
    agency = _agency(case.before, statement.agency)
    if agency.suspended:
        raise NotEntitled(f"'{agency.name}' is suspended already")
    case.signed_by_authority()
    return _suspend(case.before, agency, suspended=True)


def agency_reinstated(case: Case, statement: AgencyReinstated) -> Directory:
    """A reinstated agency is a recipient again, from the next epoch on."""
    check_issuer(statement.header, AUTHORITY)
    agency = _agency(case.before, statement.agency)
    if not agency.suspended:
        raise NotEntitled(f"'{agency.name}' is not suspended")
    case.signed_by_authority()
    return _suspend(case.before, agency, suspended=False)


def _agency(directory: Directory, name: str) -> Party:
    agency = directory.agency(name)
    if agency is None:
        raise NotEntitled(f"there is no agency {name[:80]!r}")
    return agency


def _suspend(directory: Directory, party: Party, *, suspended: bool) -> Directory:
    after = with_party(directory, replace(party, suspended=suspended))
    return force_epochs(after, channels_of(after, party.name))


def auditor_appointed(case: Case, statement: AuditorAppointed) -> Directory:
    """The authority; at the first appointment the auditor's key too, later the same keys again."""
    check_issuer(statement.header, AUTHORITY)
    name = check_name(statement.auditor, PLAIN_NAME, "an auditor")
    channels = _channels(case.before, statement.channels)
    party = case.before.parties.get(name)
    if party is None:
        after = _new_party(
            case, name, PartyKind.AUDITOR, statement.name, statement.signing_key, statement.receiving_key
        )
    elif party.kind is not PartyKind.AUDITOR:
        raise NotEntitled(f"the name '{name}' is taken")
    else:
        _check_same_keys(party, statement)
        case.signed_by_authority()
        after = case.before
        if party.suspended:
            after = with_party(after, replace(party, suspended=False))
    return force_epochs(
        after,
        [channel for channel in channels if name not in after.channels[channel].auditors],
        lambda channel: replace(channel, auditors=channel.auditors | {name}),
    )


def _check_same_keys(party: Party, statement: AuditorAppointed) -> None:
    for public, use in (
        (statement.signing_key, KeyUse.SIGNING),
        (statement.receiving_key, KeyUse.RECEIVING),
    ):
        if public not in [key.public for key in party.active(use)]:
            raise NotEntitled(f"'{party.name}' is appointed with another {use.lower()} key than it has")


def auditor_dismissed(case: Case, statement: AuditorDismissed) -> Directory:
    """From some channels, or with none named from all, and then it signs nothing any more."""
    check_issuer(statement.header, AUTHORITY)
    name = statement.auditor
    if case.before.auditor(name) is None:
        raise NotEntitled(f"there is no auditor {name[:80]!r}")
    party = known_party(case.before, name)
    channels = _channels(case.before, statement.channels)
    for channel in channels:
        if name not in case.before.channels[channel].auditors:
            raise NotEntitled(f"{name[:80]!r} is no auditor of {channel[:80]!r}")
    case.signed_by_authority()
    after = case.before
    if not channels:
        channels = channels_of(after, name)
        after = with_party(after, replace(party, suspended=True))
    return force_epochs(after, channels, lambda channel: replace(channel, auditors=channel.auditors - {name}))


def _channels(directory: Directory, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise FormatError("a channel is listed twice")
    for name in names:
        channel = directory.channels.get(name)
        if channel is None:
            raise NotEntitled(f"there is no channel {name[:80]!r}")
        if not channel.is_open:
            raise NotEntitled(f"channel '{name}' is closed")
    return names
