"""Rules for the authority, for agencies and for auditors.

The authority founds the coalition, admits and suspends agencies, and appoints and dismisses auditors. All
of its statements need k of its n keys, where k is a majority: two groups of its holders can never decide
against each other, and a minority decides nothing.
"""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from broker.crypto.sign import check_public_key, signing_key_id
from broker.directory.case import Case, check_issuer, check_name, check_text, unsuspended_party
from broker.directory.changes import (
    channels_of,
    check_name_is_free,
    force_epochs,
    make_key,
    register_key,
    with_new_key,
    with_party,
)
from broker.directory.directory import Authority, Directory
from broker.directory.party import AGENCY_NAME, AUTHORITY, PLAIN_NAME, Party, PartyKind
from broker.directory.rules.channels import find_open_channel
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
"""Most keys of the authority."""


def genesis(case: Case, statement: Genesis) -> Directory:
    """Found the coalition: all n authority keys sign the first message of the directory."""
    before = case.before
    # Stands against a second genesis, with which an operator would put its own authority in place.
    if before.size != 0:
        raise NotEntitled(
            f"the genesis must be the first message of the directory, not message {before.size + 1}"
        )
    # Stands against another coalition, such as an exercise, that is shown in place of this one.
    if before.pinned is not None and case.digest != before.pinned:
        raise NotEntitled(
            f"the genesis has digest {case.digest.hex()}, expected the pinned {before.pinned.hex()}"
        )
    check_issuer(statement.header, AUTHORITY)
    check_text(statement.coalition, "name of the coalition")
    keys = _authority_keys(statement.authority_keys, statement.threshold)
    # k signatures are not enough here. All n sign, so that each key proves that somebody holds it, and each
    # holder agrees to the other keys.
    if case.signers(keys) != keys.keys():
        raise SignatureInvalid(f"the genesis must be signed by all {len(keys)} authority keys")
    after = before
    for key_id in keys:
        after = register_key(after, key_id, AUTHORITY)
    # ``fold`` sets ``last``, here as for every statement of the authority.
    last = before.authority.last
    authority = Authority(keys=statement.authority_keys, threshold=statement.threshold, last=last)
    return replace(after, genesis=case.digest, coalition=statement.coalition, authority=authority)


def authority_rotated(case: Case, statement: AuthorityRotated) -> Directory:
    """Replace the authority's keys: k of the old keys sign, and every new key for itself."""
    check_issuer(statement.header, AUTHORITY)
    keys = _authority_keys(statement.authority_keys, statement.threshold)
    # Every new key signs. Otherwise k holders could name keys that nobody holds, and the authority could
    # never sign again.
    case.signed_by_authority(keys)
    old = case.before.authority
    after = case.before
    for key_id, public in keys.items():
        # A key that the authority dropped stays registered, so that no thief can bring it back.
        if public not in old.keys:
            after = register_key(after, key_id, AUTHORITY)
    authority = Authority(keys=statement.authority_keys, threshold=statement.threshold, last=old.last)
    return replace(after, authority=authority)


def _authority_keys(publics: tuple[bytes, ...], threshold: int) -> dict[bytes, bytes]:
    """Check the authority's keys and threshold, and return the public keys by key id."""
    count = len(publics)
    if not 1 <= count <= MAX_AUTHORITY_KEYS:
        raise FormatError(f"the authority has {count} keys, expected 1 to {MAX_AUTHORITY_KEYS}")
    # Stands against a holder who counts as two of the k.
    if len(set(publics)) != count:
        raise FormatError("an authority key is listed twice")
    # Stands against a minority of the authority: two groups of k holders always have a holder in common.
    majority = count // 2 + 1
    if not majority <= threshold <= count:
        raise FormatError(f"the threshold is {threshold} of {count} keys, expected {majority} to {count}")
    # Stands against keys of small order, under which one signature fits every message.
    return {signing_key_id(check_public_key(public)): public for public in publics}


def agency_admitted(case: Case, statement: AgencyAdmitted) -> Directory:
    """Admit an agency with its first two keys: the authority signs, and the agency's new signing key.

    A puppet agency of the authority is admitted by the same k signatures. It reads nothing until the
    members of a channel let it in (``channels.member_joined``).
    """
    check_issuer(statement.header, AUTHORITY)
    check_name(statement.agency, AGENCY_NAME, "an agency")
    return _with_new_party(case, PartyKind.AGENCY, statement.agency, statement)


def _with_new_party(
    case: Case, kind: PartyKind, name: str, statement: AgencyAdmitted | AuditorAppointed
) -> Directory:
    before = case.before
    check_name_is_free(before, name)
    check_text(statement.name, "name for people")
    signing = make_key(before, statement.signing_key, KeyUse.SIGNING, added_at=statement.header.issued_at)
    # Proof of possession: the new key signs. Otherwise the authority, or a party that asks to be admitted,
    # could register the public key of somebody else and claim what the owner of that key signs.
    case.signed_by_authority({signing.key_id: signing.public})
    receiving = make_key(
        before, statement.receiving_key, KeyUse.RECEIVING, added_at=statement.header.issued_at
    )
    party = Party(name=name, kind=kind, title=statement.name, suspended=False, keys=Map())
    after = with_party(before, party)
    after = with_new_key(after, name, signing)
    return with_new_key(after, name, receiving)


def agency_suspended(case: Case, statement: AgencySuspended) -> Directory:
    """Suspend an agency: the authority signs.

    A suspended agency signs nothing and reads nothing, and its channels need new keys. It stays a member:
    see ``channels.member_joined`` for why that matters.
    """
    check_issuer(statement.header, AUTHORITY)
    check_text(statement.reason, "reason")
    agency = _agency(case.before, statement.agency)
    if agency.suspended:
        raise NotEntitled(f"'{agency.name}' is suspended already")
    case.signed_by_authority()
    return _set_suspended(case.before, agency, suspended=True)


def agency_reinstated(case: Case, statement: AgencyReinstated) -> Directory:
    """End the suspension of an agency: the authority signs. It is a recipient from the next epoch on."""
    check_issuer(statement.header, AUTHORITY)
    agency = _agency(case.before, statement.agency)
    if not agency.suspended:
        raise NotEntitled(f"'{agency.name}' is not suspended")
    case.signed_by_authority()
    return _set_suspended(case.before, agency, suspended=False)


def _agency(directory: Directory, name: str) -> Party:
    agency = directory.agency(name)
    if agency is None:
        raise NotEntitled(f"there is no agency {name[:80]!r}")
    return agency


def _set_suspended(directory: Directory, party: Party, *, suspended: bool) -> Directory:
    after = with_party(directory, replace(party, suspended=suspended))
    return force_epochs(after, channels_of(after, party.name))


def auditor_appointed(case: Case, statement: AuditorAppointed) -> Directory:
    """Appoint an auditor to channels: the authority signs.

    The first appointment brings the auditor's keys, and the new signing key signs too. A later one names
    keys that the auditor has, adds channels, and ends a dismissal.
    """
    check_issuer(statement.header, AUTHORITY)
    name = statement.auditor
    check_name(name, PLAIN_NAME, "an auditor")
    channels = _open_channels(case.before, statement.channels)
    party = case.before.parties.get(name)
    if party is None:
        after = _with_new_party(case, PartyKind.AUDITOR, name, statement)
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
    # Stands against an authority that gives a known auditor a key of its own: new keys of an auditor come by
    # the rules of keys, where everybody who must vouches for them or 72 hours pass.
    for public, use in (
        (statement.signing_key, KeyUse.SIGNING),
        (statement.receiving_key, KeyUse.RECEIVING),
    ):
        if public not in [key.public for key in party.active(use)]:
            raise NotEntitled(
                f"'{party.name}' is appointed with a {use.lower()} key that is not one of its active keys"
            )


def auditor_dismissed(case: Case, statement: AuditorDismissed) -> Directory:
    """Dismiss an auditor from some channels, or from all when the statement names none: the authority signs.

    An auditor that is dismissed from all channels signs nothing any more.
    """
    check_issuer(statement.header, AUTHORITY)
    name = statement.auditor
    if case.before.auditor(name) is None:
        raise NotEntitled(f"there is no auditor {name[:80]!r}")
    party = unsuspended_party(case.before, name)
    channels = _open_channels(case.before, statement.channels)
    for channel in channels:
        if name not in case.before.channels[channel].auditors:
            raise NotEntitled(f"{name[:80]!r} is not an auditor of {channel[:80]!r}")
    case.signed_by_authority()
    after = case.before
    if not channels:
        channels = channels_of(after, name)
        after = with_party(after, replace(party, suspended=True))
    return force_epochs(after, channels, lambda channel: replace(channel, auditors=channel.auditors - {name}))


def _open_channels(directory: Directory, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names after checking that each is an open channel, and listed once."""
    if len(set(names)) != len(names):
        raise FormatError("a channel is listed twice")
    for name in names:
        find_open_channel(directory, name)
    return names
