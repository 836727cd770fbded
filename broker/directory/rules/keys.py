"""Rules for keys: who may add, retire, revoke and announce them, and when they take effect.

    added by                            signatures                              takes effect
    the agency or auditor itself        an active key of it, and the new one    at once
    the authority (recovery)            k of the authority, and the new one     72 hours later
    the authority (a service's key)     k, the new one, an old one of the role  at once
    the same without an old one         k, the new one                          72 hours later
    a service (intake key)              an active key of it                     at once, for its day

"The new one" signs where it can, which a receiving key cannot. A role's first key has no old one to
wait for. Time is append time.
"""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from broker.directory.case import Case, check_issuer, check_name, known_party
from broker.directory.changes import (
    channels_of,
    force_epochs,
    fresh_name,
    new_key,
    settle_key,
    with_key,
    with_party,
)
from broker.directory.directory import Directory
from broker.directory.party import (
    AUTHORITY,
    PLAIN_NAME,
    IntakeKey,
    Key,
    KeyState,
    Party,
    PartyKind,
)
from broker.errors import FormatError, NotEntitled, SignatureInvalid
from broker.wire.statements import (
    KeyAdded,
    KeyRetired,
    KeyRevoked,
    KeyUse,
    ServiceKeyAnnounced,
    ServiceRole,
)

__all__ = [
    "DAY_US",
    "HOUR_US",
    "INTAKE_DAYS_AHEAD",
    "PENDING_US",
    "key_added",
    "key_retired",
    "key_revoked",
    "mature",
    "service_key_announced",
]

HOUR_US = 3600 * 1_000_000
DAY_US = 24 * HOUR_US
PENDING_US = 72 * HOUR_US
"""What nobody but the authority vouches for is seen this long before it takes effect."""

INTAKE_DAYS_AHEAD = 15
"""Days between an intake key's announcement and its day, at most."""


def mature(directory: Directory, now: int) -> Directory:
    """The directory at this append time: what was pending long enough has taken effect."""
    due = [entry for entry in directory.pending if entry.active_at <= now]
    if not due:
        return directory
    waiting = tuple(entry for entry in directory.pending if entry.active_at > now)
    after = replace(directory, pending=waiting)
    for entry in due:
        key = after.parties[entry.party].keys[entry.key_id]
        active = replace(key, state=KeyState.ACTIVE, active_size=directory.size)
        after = settle_key(after, entry.party, active)
    return after


def key_added(case: Case, statement: KeyAdded) -> Directory:
    """By the party itself, or by the authority in the open for 72 hours."""
    before, name = case.before, statement.agency
    party = before.agency(name) or before.auditor(name)
    if party is None:
        raise NotEntitled(f"there is no agency or auditor {name[:80]!r}")
    if statement.use is KeyUse.INTAKE:
        raise FormatError(f"'{name}' is no key access service and takes nothing in")
    key = new_key(before, statement.public_key, statement.use, now=case.now)
    itself = {key.key_id: key.public} if key.use is KeyUse.SIGNING else {}
    if statement.recovery:
        check_issuer(statement.header, AUTHORITY)
        case.signed_by_authority(itself)
        key = replace(key, state=KeyState.PENDING, active_at=case.now + PENDING_US)
    else:
        check_issuer(statement.header, name)
        key = replace(key, vouchers=case.signed_by_party(name, itself))
    return with_key(before, name, key)


def key_retired(case: Case, statement: KeyRetired) -> Directory:
    """By the party itself, once its successor has been known for a day."""
    name = statement.agency
    check_issuer(statement.header, name)
    party = known_party(case.before, name)
    key, successor = _key(party, statement.key_id), _key(party, statement.successor)
    for one in (key, successor):
        if one.state is not KeyState.ACTIVE:
            raise NotEntitled(f"key {one.key_id.hex()} of '{name}' is {one.state.lower()}, not active")
    if key.use is KeyUse.INTAKE or successor.use is not key.use or successor.key_id == key.key_id:
        raise NotEntitled(f"a {successor.use.lower()} key cannot succeed this {key.use.lower()} key")
    if case.now < successor.added_at + DAY_US:
        raise NotEntitled(f"successor of '{name}' was added less than a day before")
    case.signed_by_party(name)
    return settle_key(case.before, name, replace(key, state=KeyState.RETIRED))


def key_revoked(case: Case, statement: KeyRevoked) -> Directory:
    """By an active key of the party, by the key itself while it is pending, or by the authority.

    Not by a retired key: what it vouched for stands, or else who finds an old key could revoke it since
    the beginning, and every key of the party with it.
    """
    before, name = case.before, statement.agency
    party = before.parties.get(name)
    if party is None:
        raise NotEntitled(f"nobody in the directory is called {name[:80]!r}")
    key = _key(party, statement.key_id)
    if not 0 <= statement.since <= before.size:
        raise FormatError(f"since {statement.since} is no size of a directory of {before.size}")
    if key.untrusted_from is not None and key.untrusted_from <= statement.since:
        raise NotEntitled(f"key {key.key_id.hex()} is revoked already, since {key.untrusted_from}")
    if statement.header.issuer == AUTHORITY:
        case.signed_by_authority()
    else:
        check_issuer(statement.header, name)
        is_pending = key.use is KeyUse.SIGNING and key.state is KeyState.PENDING
        itself = {key.key_id: key.public} if is_pending else {}
        if not case.signers({**case.active_keys(name), **itself}):
            raise SignatureInvalid(f"no signature by a key of {name[:80]!r} on 'key-revoked'")
    return _fall(before, party, replace(key, state=KeyState.REVOKED, untrusted_from=statement.since))


def _fall(before: Directory, party: Party, revoked: Key) -> Directory:
    """Revoke a key, and with it every key whose vouchers are all revoked since before they vouched."""
    keys, fallen = party.keys.set(revoked.key_id, revoked), {revoked.key_id}
    # Who vouched was there before: in the order in which keys were added, one pass finds all that fall.
    for key in sorted(party.keys.values(), key=lambda one: one.added_size):
        falls = key.untrusted_from is None or key.untrusted_from > key.added_size
        if falls and _stands_on_nothing(key, keys):
            gone = replace(key, state=KeyState.REVOKED, untrusted_from=key.added_size)
            keys = keys.set(key.key_id, gone)
            fallen.add(key.key_id)
    after = _forget_intake(before, party.name, fallen)
    after = replace(after, pending=tuple(entry for entry in after.pending if entry.key_id not in fallen))
    effective = any(
        party.keys[key_id].state in (KeyState.ACTIVE, KeyState.RETIRED)
        and party.keys[key_id].use is not KeyUse.INTAKE
        for key_id in fallen
    )
    after = with_party(after, replace(party, keys=keys))
    after = settle_key(after, party.name, keys[revoked.key_id])
    return force_epochs(after, channels_of(after, party.name)) if effective else after


def _stands_on_nothing(key: Key, keys: Map[bytes, Key]) -> bool:
    if not key.vouchers:
        return False  # the authority vouched for it
    vouchers = [keys[key_id] for key_id in key.vouchers]
    return all(one.untrusted_from is not None and one.untrusted_from <= key.added_size for one in vouchers)


def _forget_intake(directory: Directory, service: str, fallen: set[bytes]) -> Directory:
    keys, days = directory.intake_keys, directory.intake_days
    for key_id in fallen & set(keys):
        day = keys[key_id].day
        keys, days = keys.delete(key_id), days.delete((service, day))
    return replace(directory, intake_keys=keys, intake_days=days)


def service_key_announced(case: Case, statement: ServiceKeyAnnounced) -> Directory:
    """Signing and receiving keys by the authority, intake keys by the service itself."""
    name, role = check_name(statement.service, PLAIN_NAME, "a service"), PartyKind(statement.role.value)
    party = case.before.parties.get(name)
    if party is None:
        fresh_name(case.before, name)
    elif party.kind is not role:
        raise NotEntitled(f"the name '{name}' is taken")
    if statement.use is KeyUse.INTAKE:
        return _intake_announced(case, statement)
    check_issuer(statement.header, AUTHORITY)
    if statement.day is not None:
        raise FormatError(f"a {statement.use.lower()} key has no day")
    return _announced(case, statement, party or _service(name, role))


def _service(name: str, role: PartyKind) -> Party:
    return Party(name=name, kind=role, title=name, suspended=False, keys=Map())


def _announced(case: Case, statement: ServiceKeyAnnounced, party: Party) -> Directory:
    before = case.before
    of_role = [
        key
        for other in before.parties.values()
        if other.kind is party.kind
        for key in other.keys.values()
        if key.use is KeyUse.SIGNING
    ]
    if statement.use is KeyUse.RECEIVING and not of_role:
        raise NotEntitled(f"the first key of a {party.kind} is a signing key")
    key = new_key(before, statement.public_key, statement.use, now=case.now)
    itself = {key.key_id: key.public} if key.use is KeyUse.SIGNING else {}
    old = {one.key_id: one.public for one in of_role if one.state is KeyState.ACTIVE}
    signers = case.signed_by_authority(itself, optional=old)
    if of_role and not signers & old.keys() - itself.keys():
        key = replace(key, state=KeyState.PENDING, active_at=case.now + PENDING_US)
    after = before if party.name in before.parties else with_party(before, party)
    return with_key(after, party.name, key)


def _intake_announced(case: Case, statement: ServiceKeyAnnounced) -> Directory:
    before, name, day = case.before, statement.service, statement.day
    check_issuer(statement.header, name)
    if statement.role is not ServiceRole.KAS:
        raise NotEntitled(f"'{name}' is a {statement.role.lower()} and takes nothing in")
    if day is None:
        raise FormatError("an intake key has a day")
    today = case.now // DAY_US
    if not today - 1 <= day <= today + INTAKE_DAYS_AHEAD:  # yesterday: it may be signed before midnight
        raise NotEntitled(f"intake key for day {day}, expected {today - 1} to {today + INTAKE_DAYS_AHEAD}")
    if (name, day) in before.intake_days:
        raise NotEntitled(f"'{name}' has announced an intake key for day {day} already")
    vouchers = case.signed_by_party(name)
    key = new_key(before, statement.public_key, KeyUse.INTAKE, now=case.now, vouchers=vouchers, day=day)
    after = with_key(before, name, key)
    intake = IntakeKey(key_id=key.key_id, public=key.public, day=day, service=name)
    return replace(
        after,
        intake_keys=after.intake_keys.set(key.key_id, intake),
        intake_days=after.intake_days.set((name, day), key.key_id),
    )


def _key(party: Party, key_id: bytes) -> Key:
    key = party.keys.get(key_id)
    if key is None:
        raise NotEntitled(f"{key_id.hex()} is no key of '{party.name}'")
    return key
