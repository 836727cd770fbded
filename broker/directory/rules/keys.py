"""Rules for keys: who may add, retire, revoke and announce them, and when they take effect.

    added by                            signed by                                      takes effect
    the agency or auditor itself        an active key of it, and the new key           72 hours later
    the same, and the authority         these, and k of the authority                  at once
    the authority (recovery)            k of the authority, and the new key            72 hours later
    the authority (a service's key)     k, the new key, and an old key of the role     at once
    the same without an old key         k, and the new key                             72 hours later
    a service (intake key)              an active key of it                            at once, for its day

The new key signs only when it is a signing key, because a receiving key cannot sign. The first key of a
role takes effect at once: nobody can be pushed aside by it. The clock is that of ``directory.clocks``.

The 72 hours stand against k holders of the authority who act alone, and against the thief of one key.
Everybody can see the new key for three days, and the owner of the name can revoke it before it takes effect.

A signing key ends itself and what was added after it, never an older key. So the thief of a young key cannot
lock its owner out: the older key, or the authority, ends the young one.

A signing key of a service ends itself only, and every other key of a service falls by the authority. Intake
keys are in force at once. So the thief of a service's key could otherwise revoke the intake key of a day and
announce its own, again and again. A day that is announced stays with its key, and the thief's first key is in
force after the days that the service has announced.
"""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from broker.clock import DAY_US, day_of
from broker.crypto.sign import signing_key_id
from broker.directory.case import Case, check_issuer, check_name, unsuspended_party
from broker.directory.changes import (
    channels_of,
    check_name_is_free,
    force_epochs,
    make_key,
    with_key,
    with_new_key,
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
    "INTAKE_DAYS_AHEAD",
    "MAX_INTAKE_KEYS",
    "VOUCHER_US",
    "key_added",
    "key_retired",
    "key_revoked",
    "service_key_announced",
]

INTAKE_DAYS_AHEAD = 15
"""Most days from the announcement of an intake key to its day."""

MAX_INTAKE_KEYS = 4096
"""Most intake keys that one signing key may ever announce: one a day for eleven years. The bound is for a
key and not for its service, so that a thief uses up the room of the stolen key, which must fall anyway."""

VOUCHER_US = 30 * DAY_US
"""How long the authority's signatures put an agency's own new key in force at once: thirty days."""


def key_added(case: Case, statement: KeyAdded) -> Directory:
    """Add a key of an agency or auditor: one of its active keys signs, or the authority (recovery).

    The key is pending for 72 hours, unless both sign.
    """
    before = case.before
    name = statement.agency
    party = before.agency(name) or before.auditor(name)
    if party is None:
        raise NotEntitled(f"there is no agency or auditor {name[:80]!r}")
    if statement.use is KeyUse.INTAKE:
        raise FormatError(f"'{name}' cannot have an intake key, only the key access service has them")
    key = make_key(before, statement.public_key, statement.use, added_at=statement.header.issued_at)
    pending = replace(key, state=KeyState.PENDING)
    # Proof of possession: a new signing key signs its own registration. Otherwise a party could register
    # somebody else's public key and claim what the owner of that key signs.
    itself = {key.key_id: key.public} if key.use is KeyUse.SIGNING else {}
    if statement.recovery:
        # A suspended party can be recovered too. The key of its recovery still signs nothing before the
        # reinstatement.
        check_issuer(statement.header, AUTHORITY)
        case.signed_by_authority(itself)
        return with_new_key(before, name, pending)
    check_issuer(statement.header, name)
    holders = {signing_key_id(public): public for public in before.authority.keys}
    signers = case.signed_by_party(name, itself, holders)
    # The age stands against a signed file that was never used, which somebody finds years later.
    if len(signers & holders.keys()) >= before.authority.threshold and not case.is_older(
        statement.header, VOUCHER_US
    ):
        return with_new_key(before, name, key)
    # Stands against the thief of one key, whose own key would at once read what is published next. The
    # vouchers are remembered so that what the thief adds falls with the stolen key when it is revoked.
    vouchers = signers & case.active_keys(name).keys() - itself.keys()
    return with_new_key(before, name, replace(pending, vouchers=vouchers))


def key_retired(case: Case, statement: KeyRetired) -> Directory:
    """Retire a key of a party: one of its active keys signs, a day or more after its successor took effect.

    For a signing key that is the key itself or an older one.
    """
    name = statement.agency
    check_issuer(statement.header, name)
    party = unsuspended_party(case.before, name)
    key = _key_of(party, statement.key_id)
    successor = _key_of(party, statement.successor)
    for named in (key, successor):
        if named.state is not KeyState.ACTIVE:
            raise NotEntitled(f"key {named.key_id.hex()} of '{name}' is {named.state.lower()}, not active")
    _check_succession(key, successor)
    # For a day others may still seal to the old key, because they have not read of the new one yet.
    if not case.before.clocks.have_passed(DAY_US, since=successor.active_size + 1):
        raise NotEntitled(
            f"the successor, key {successor.key_id.hex()}, took effect less than a day ago "
            "by the directory's clock"
        )
    signers = case.signed_by_party(name)
    # A receiving key has a successor, so that its party goes on reading whoever retires it.
    if key.use is KeyUse.SIGNING:
        _check_may_end(party, signers, key)
    return with_key(case.before, name, replace(key, state=KeyState.RETIRED))


def _check_succession(key: Key, successor: Key) -> None:
    if key.use is KeyUse.INTAKE:
        raise NotEntitled("an intake key cannot be retired, because it is for one day only")
    if successor.use is not key.use:
        raise NotEntitled(f"a {successor.use.lower()} key cannot succeed a {key.use.lower()} key")
    if successor.key_id == key.key_id:
        raise NotEntitled(f"key {key.key_id.hex()} cannot succeed itself")


def key_revoked(case: Case, statement: KeyRevoked) -> Directory:
    """Revoke a key: the key itself signs, a signing key that is older than it, or the authority.

    ``since`` is the size of the directory from which on the key is distrusted. The authority may put it back
    later, never forward. Statements that were judged before stay as they were judged: a revocation takes back
    no signature.
    """
    before = case.before
    name = statement.agency
    party = before.parties.get(name)
    if party is None:
        raise NotEntitled(f"nobody in the directory is called {name[:80]!r}")
    key = _key_of(party, statement.key_id)
    if not 0 <= statement.since <= before.size:
        raise FormatError(f"since is {statement.since}, expected 0 to the directory's size {before.size}")
    is_by_authority = statement.header.issuer == AUTHORITY
    # Stands against a thief of another key, who would put ``since`` forward again, and against a party that
    # would revoke one key as often as the directory has messages.
    if key.untrusted_from is not None and not (is_by_authority and statement.since < key.untrusted_from):
        raise NotEntitled(f"key {key.key_id.hex()} is revoked already, since {key.untrusted_from}")
    if is_by_authority:
        case.signed_by_authority()
    else:
        check_issuer(statement.header, name)
        # A retired key may not revoke itself. A finder of an old key could otherwise revoke it since the
        # beginning, and with it every key of the party that it ever vouched for.
        is_pending = key.use is KeyUse.SIGNING and key.state is KeyState.PENDING
        itself = {key.key_id: key.public} if is_pending else {}
        signers = case.signers({**case.active_keys(name), **itself})
        if not signers:
            raise SignatureInvalid(f"no key of {name[:80]!r} signed this 'key-revoked'")
        _check_may_end(party, signers, key)
    after = _revoke(before, party, replace(key, state=KeyState.REVOKED, untrusted_from=statement.since))
    # Stands against a thief, and against k holders of the authority, who would shut a party out from all that
    # is published next.
    if before.receiving_keys(name) and not after.receiving_keys(name):
        raise NotEntitled(f"this would take the last receiving key of '{name}': a successor must be in force")
    return after


def _check_may_end(party: Party, signers: frozenset[bytes], key: Key) -> None:
    """Raise NotEntitled unless the key itself, or a signing key that is older, is among the signers.

    An older key of a service does not do.
    """
    if key.key_id in signers:
        return
    if party.kind not in (PartyKind.AGENCY, PartyKind.AUDITOR):
        raise NotEntitled(
            f"key {key.key_id.hex()} of service '{party.name}' falls by itself, or by the authority"
        )
    for signer in (party.keys[key_id] for key_id in signers):
        # The signing and the receiving key of an admission are equally old.
        together = key.use is not KeyUse.SIGNING and signer.added_size == key.added_size
        if signer.added_size < key.added_size or together:
            return
    raise NotEntitled(
        f"key {key.key_id.hex()} of '{party.name}' is older than the key that signed: it falls by itself, "
        "by an older signing key, or by the authority"
    )


def _revoke(before: Directory, party: Party, revoked: Key) -> Directory:
    """Return the directory after a key was revoked, and every key with it that has lost its vouchers."""
    # (1) Find every key that falls.
    keys = party.keys.set(revoked.key_id, revoked)
    fallen = {revoked.key_id}
    # Only a signing key vouches for others. To revoke any other key costs the same however many there are.
    if revoked.use is KeyUse.SIGNING:
        keys, with_it = _without_vouchers(party, keys)
        fallen |= with_it
    # (2) Take them out of what was planned: pending keys never become active, and days are free again.
    after = _forget_intake_keys(before, party.name, fallen)
    after = replace(after, pending=tuple(entry for entry in after.pending if entry.key_id not in fallen))
    after = with_party(after, replace(party, keys=keys))
    after = with_key(after, party.name, keys[revoked.key_id])
    # (3) A thief of a key that was in force may have opened seeds, with that key or with one that it added,
    # so new epochs are due. A key that was still pending, and an intake key, open no seeds.
    was_in_force = any(
        party.keys[key_id].state in (KeyState.ACTIVE, KeyState.RETIRED)
        and party.keys[key_id].use is not KeyUse.INTAKE
        for key_id in fallen
    )
    return force_epochs(after, channels_of(after, party.name)) if was_in_force else after


def _without_vouchers(party: Party, keys: Map[bytes, Key]) -> tuple[Map[bytes, Key], set[bytes]]:
    """Return a party's keys after those fell that have lost their vouchers, and the ids of these.

    Each is distrusted from the moment it was added.
    """
    fallen: set[bytes] = set()
    # A voucher was there before the key that it vouched for. So one pass in the order in which keys were
    # added finds all that fall. A thief's chain of thousands of keys costs one pass, not one for each.
    for key in sorted(party.keys.values(), key=lambda key: key.added_size):
        may_fall = key.untrusted_from is None or key.untrusted_from > key.added_size
        if may_fall and _has_lost_vouchers(key, keys):
            keys = keys.set(key.key_id, replace(key, state=KeyState.REVOKED, untrusted_from=key.added_size))
            fallen.add(key.key_id)
    return keys, fallen


def _has_lost_vouchers(key: Key, keys: Map[bytes, Key]) -> bool:
    """Tell whether every key that vouched for this one was distrusted already when it was added."""
    # The authority vouched for a key without vouchers, and no key of the party takes that away.
    if not key.vouchers:
        return False
    vouchers = [keys[key_id] for key_id in key.vouchers]
    return all(
        voucher.untrusted_from is not None and voucher.untrusted_from <= key.added_size
        for voucher in vouchers
    )


def _forget_intake_keys(directory: Directory, service: str, fallen: set[bytes]) -> Directory:
    keys = directory.intake_keys
    days = directory.intake_days
    for key_id in fallen & set(keys):
        days = days.delete((service, keys[key_id].day))
        keys = keys.delete(key_id)
    return replace(directory, intake_keys=keys, intake_days=days)


def service_key_announced(case: Case, statement: ServiceKeyAnnounced) -> Directory:
    """Announce a key of a service: the authority signs for signing and receiving keys.

    The service itself signs for an intake key.
    """
    name = statement.service
    check_name(name, PLAIN_NAME, "a service")
    role = PartyKind(statement.role.value)
    party = case.before.parties.get(name)
    if party is None:
        check_name_is_free(case.before, name)
    elif party.kind is not role:
        raise NotEntitled(f"the name '{name}' is taken")
    if statement.use is KeyUse.INTAKE:
        return _intake_key_announced(case, statement)
    check_issuer(statement.header, AUTHORITY)
    if statement.day is not None:
        raise FormatError(f"a {statement.use.lower()} key must not have a day, only an intake key has one")
    service = party or Party(name=name, kind=role, title=name, suspended=False, keys=Map())
    return _service_key_announced(case, statement, service)


def _service_key_announced(case: Case, statement: ServiceKeyAnnounced, party: Party) -> Directory:
    before = case.before
    # The keys of every service in this role, not of this name alone. Otherwise k holders of the authority
    # could put a key access service of theirs in charge at once, under a new name.
    of_role = [
        key
        for other in before.parties.values()
        if other.kind is party.kind
        for key in other.keys.values()
        if key.use is KeyUse.SIGNING
    ]
    if statement.use is KeyUse.RECEIVING and not of_role:
        raise NotEntitled(f"the first key of a {party.kind} must be a signing key")
    key = make_key(before, statement.public_key, statement.use, added_at=statement.header.issued_at)
    itself = {key.key_id: key.public} if key.use is KeyUse.SIGNING else {}
    # A pending key of the role does not count as an old key. Otherwise a puppet service could skip the 72
    # hours by signing for its next key with a key that is still pending.
    old = {known.key_id: known.public for known in of_role if known.state is KeyState.ACTIVE}
    signers = case.signed_by_authority(itself, optional=old)
    # Keys of the role that are all revoked still make a new one wait. Otherwise k holders could revoke the
    # service's keys first.
    if of_role and not signers & old.keys() - itself.keys():
        key = replace(key, state=KeyState.PENDING)
    after = before if party.name in before.parties else with_party(before, party)
    return with_new_key(after, party.name, key)


def _intake_key_announced(case: Case, statement: ServiceKeyAnnounced) -> Directory:
    before = case.before
    name = statement.service
    day = statement.day
    check_issuer(statement.header, name)
    # Anybody may append this statement, with a name that nobody has and without a signature.
    party = unsuspended_party(before, name)
    if statement.role is not ServiceRole.KAS:
        raise NotEntitled(
            f"'{name}' is a {statement.role.lower()}, only a key access service has intake keys"
        )
    if day is None:
        raise FormatError("an intake key must have a day")
    # Yesterday is allowed, because the statement may have been signed before midnight. The bound ahead
    # stands against a thief of the service's key who announces keys for years to come.
    newest = before.clocks.newest
    today = day_of(statement.header.issued_at if newest is None else newest.issued_at)
    first = today - 1
    last = today + INTAKE_DAYS_AHEAD
    if not first <= day <= last:
        raise NotEntitled(f"the intake key is for day {day} since 1970-01-01, expected {first} to {last}")
    # The first key of a day stays. Publishers that have read it and those that read later seal to one key.
    if (name, day) in before.intake_days:
        raise NotEntitled(f"'{name}' has announced an intake key for day {day} already")
    vouchers = case.signed_by_party(name)
    held = [key for key in party.keys.values() if key.use is KeyUse.INTAKE]
    for voucher in vouchers:
        if sum(voucher in key.vouchers for key in held) >= MAX_INTAKE_KEYS:
            raise NotEntitled(f"key {voucher.hex()} has announced {MAX_INTAKE_KEYS} intake keys already")
    key = make_key(
        before,
        statement.public_key,
        KeyUse.INTAKE,
        added_at=statement.header.issued_at,
        vouchers=vouchers,
        day=day,
    )
    after = with_new_key(before, name, key)
    intake = IntakeKey(key_id=key.key_id, public=key.public, day=day, service=name)
    return replace(
        after,
        intake_keys=after.intake_keys.set(key.key_id, intake),
        intake_days=after.intake_days.set((name, day), key.key_id),
    )


def _key_of(party: Party, key_id: bytes) -> Key:
    key = party.keys.get(key_id)
    if key is None:
        raise NotEntitled(f"'{party.name}' has no key {key_id.hex()}")
    return key
