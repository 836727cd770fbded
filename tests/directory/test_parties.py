"""The authority, agencies, auditors, services and their keys (ATTACKS 10, 12 and 14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from immutables import Map

from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import Key, KeyState, changes, drafts
from broker.directory.rules import keys
from broker.errors import NotEntitled, PeerError, SignatureInvalid
from broker.wire.encoding import Statement
from broker.wire.statements import (
    KeyAdded,
    KeyRetired,
    KeyRevoked,
    KeyUse,
    ServiceKeyAnnounced,
    ServiceRole,
)
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    KAS,
    NOTARY,
    POLICE_A,
    Coalition,
    receiving_key,
    signing_key,
)

NEW = signing_key("new")
NEWER = signing_key("newer")
STRANGER = signing_key("stranger")
INBOX = receiving_key("inbox")
IDENTITY = b"\x01" + bytes(31)
NOT_CANONICAL = b"\xff" * 31 + b"\x7f"
Made = tuple[Statement, tuple[SigningKey, ...]]


@pytest.fixture
def coalition() -> Coalition:
    return Coalition.create()


def admit(
    c: Coalition, name: str = "XEE:police", signing: bytes = NEW.public, title: str = "Police of XEE"
) -> Statement:
    return drafts.admit_agency(
        c.directory,
        agency=name,
        title=title,
        signing_key=signing,
        receiving_key=INBOX.public,
        issued_at=c.now,
    )


def key_added(
    c: Coalition, public: bytes = NEW.public, *, party: str = BORDER, use: KeyUse = KeyUse.SIGNING
) -> KeyAdded:
    return drafts.add_key(c.directory, party=party, use=use, public_key=public, issued_at=c.now)


def recovered(
    c: Coalition, public: bytes = NEW.public, *, party: str = BORDER, use: KeyUse = KeyUse.SIGNING
) -> KeyAdded:
    return drafts.recover_key(c.directory, party=party, use=use, public_key=public, issued_at=c.now)


def revoked(c: Coalition, key_id: bytes, *, since: int = 0, by_authority: bool = False) -> KeyRevoked:
    return drafts.revoke_key(
        c.directory, party=BORDER, key_id=key_id, since=since, issued_at=c.now, by_authority=by_authority
    )


def retired(c: Coalition, key_id: bytes, successor: bytes) -> KeyRetired:
    return drafts.retire_key(c.directory, party=BORDER, key_id=key_id, successor=successor, issued_at=c.now)


def announced(
    c: Coalition,
    public: bytes = NEW.public,
    *,
    service: str = KAS,
    role: ServiceRole = ServiceRole.KAS,
    use: KeyUse = KeyUse.SIGNING,
) -> ServiceKeyAnnounced:
    return drafts.announce_service_key(
        c.directory, service=service, role=role, use=use, public_key=public, issued_at=c.now
    )


def intake(c: Coalition, day: int, public: bytes = INBOX.public, service: str = KAS) -> ServiceKeyAnnounced:
    return drafts.announce_intake_key(
        c.directory, service=service, public_key=public, day=day, issued_at=c.now
    )


def suspend(c: Coalition, agency: str = BORDER, reason: str = "exercise") -> Statement:
    return drafts.suspend_agency(c.directory, agency=agency, reason=reason, issued_at=c.now)


def rotate(c: Coalition, *keys: SigningKey, threshold: int = 2) -> Statement:
    return drafts.rotate_authority(
        c.directory, authority_keys=[key.public for key in keys], threshold=threshold, issued_at=c.now
    )


def appoint(
    c: Coalition,
    name: str = "court",
    signing: SigningKey = NEW,
    receiving: ReceivingKey = INBOX,
    channels: tuple[str, ...] = (),
) -> Statement:
    return drafts.appoint_auditor(
        c.directory,
        auditor=name,
        title="Court of audit",
        signing_key=signing.public,
        receiving_key=receiving.public,
        channels=channels,
        issued_at=c.now,
    )


def own(c: Coalition, name: str = BORDER) -> SigningKey:
    return c.signing[name]


def auth(c: Coalition, *more: SigningKey) -> tuple[SigningKey, ...]:
    return (*c.authority_keys, *more)


REFUSED: dict[str, tuple[Callable[[Coalition], Made], str]] = {
    # authority rotated
    "rotation without a new key's signature": (
        lambda c: (rotate(c, NEW, NEWER), auth(c, NEW)),
        "must sign this 'authority-rotated' itself",
    ),
    "rotation by the new keys alone": (
        lambda c: (rotate(c, NEW, NEWER), (NEW, NEWER)),
        "0 of the 2 authority",
    ),
    "rotation to an agency's key": (
        lambda c: (rotate(c, own(c), NEW), auth(c, own(c), NEW)),
        "already registered, by 'XAA:border'",
    ),
    "rotation to a small threshold": (
        lambda c: (rotate(c, NEW, NEWER, threshold=1), auth(c, NEW, NEWER)),
        "threshold is 1 of 2 keys",
    ),
    "rotation by one of the old keys": (
        lambda c: (rotate(c, NEW, NEWER), (c.authority_keys[0], NEW, NEWER)),
        "1 of the 2 authority",
    ),
    # agency admitted
    "puppet of one authority key": (lambda c: (admit(c), (c.authority_keys[0], NEW)), "1 of the 2 authority"),
    "agency without possession of its key": (lambda c: (admit(c), auth(c)), "must sign this"),
    "agency with a key of small order": (lambda c: (admit(c, signing=IDENTITY), auth(c, NEW)), "small order"),
    "agency with a key in another form": (
        lambda c: (admit(c, signing=NOT_CANONICAL), auth(c, NEW)),
        "non-canonical",
    ),
    "agency with the key of another": (
        lambda c: (admit(c, signing=own(c).public), auth(c, own(c))),
        "already registered, by 'XAA:border'",
    ),
    "agency with an authority key": (
        lambda c: (admit(c, signing=c.authority_keys[0].public), auth(c)),
        "already registered, by 'authority'",
    ),
    "agency with a name that is taken": (lambda c: (admit(c, BORDER), auth(c, NEW)), "is taken"),
    "agency with a bad name": (
        lambda c: (admit(c, "xee:police"), auth(c, NEW)),
        "is not a valid name of an agency",
    ),
    "agency with a line break": (
        lambda c: (admit(c, "XEE:police\n"), auth(c, NEW)),
        "is not a valid name of",
    ),
    "agency without a title": (lambda c: (admit(c, title=""), auth(c, NEW)), "name for people has 0"),
    "agency by a stranger too": (lambda c: (admit(c), auth(c, NEW, STRANGER)), "may not sign this"),
    # suspended, reinstated
    "suspension of nobody": (
        lambda c: (suspend(c, "XEE:police"), auth(c)),
        "there is no agency 'XEE:police'",
    ),
    "suspension of an auditor": (lambda c: (suspend(c, AUDITOR), auth(c)), "there is no agency 'auditor'"),
    "suspension with a long reason": (lambda c: (suspend(c, reason="x" * 201), auth(c)), "reason has 201"),
    "suspension by an agency": (lambda c: (suspend(c), (own(c, POLICE_A),)), "may not sign this"),
    "reinstatement of who is not suspended": (
        lambda c: (drafts.reinstate_agency(c.directory, agency=BORDER, issued_at=c.now), auth(c)),
        "is not suspended",
    ),
    # auditors
    "auditor called authority": (lambda c: (appoint(c, "authority"), auth(c, NEW)), "'authority' is taken"),
    "auditor with a service's name": (lambda c: (appoint(c, KAS), auth(c, NEW)), "'kas' is taken"),
    "auditor without possession": (lambda c: (appoint(c), auth(c)), "must sign this"),
    "auditor with a bad name": (
        lambda c: (appoint(c, "Court"), auth(c, NEW)),
        "is not a valid name of an auditor",
    ),
    "auditor of no channel": (lambda c: (appoint(c, channels=("x",)), auth(c, NEW)), "no channel 'x'"),
    "auditor appointed with other keys": (
        lambda c: (appoint(c, AUDITOR), auth(c)),
        "with a signing key that is not one of its active keys",
    ),
    "auditor appointed with another receiving key": (
        lambda c: (appoint(c, AUDITOR, own(c, AUDITOR)), auth(c)),
        "with a receiving key that is not one of its active keys",
    ),
    "dismissal of nobody": (
        lambda c: (drafts.dismiss_auditor(c.directory, auditor="x", issued_at=c.now), auth(c)),
        "there is no auditor 'x'",
    ),
    # keys added
    "key without possession": (lambda c: (key_added(c), (own(c),)), "must sign this 'key-added' itself"),
    "key vouched for by itself": (lambda c: (key_added(c), (NEW,)), "no active key of 'XAA:border' signed"),
    "key vouched for by another agency": (lambda c: (key_added(c), (own(c, JUSTICE), NEW)), "may not sign"),
    "key by the authority at once": (lambda c: (key_added(c), auth(c, NEW)), "no active key of"),
    "key of small order": (lambda c: (key_added(c, IDENTITY), (own(c),)), "small order"),
    "key of another length": (lambda c: (key_added(c, bytes(31)), (own(c),)), "of 31 bytes"),
    "receiving key of zeros": (
        lambda c: (key_added(c, bytes(1216), use=KeyUse.RECEIVING), (own(c),)),
        "hybrid public key",
    ),
    "receiving key of another length": (
        lambda c: (key_added(c, bytes(32), use=KeyUse.RECEIVING), (own(c),)),
        "hybrid public key of 32 bytes",
    ),
    "receiving key of another agency": (
        lambda c: (key_added(c, c.receiving[CARE].public, use=KeyUse.RECEIVING), (own(c),)),
        "already registered, by 'XCC:child-protection'",
    ),
    "intake key of an agency": (
        lambda c: (key_added(c, INBOX.public, use=KeyUse.INTAKE), (own(c),)),
        "'XAA:border' cannot have an intake key",
    ),
    "key of nobody": (
        lambda c: (key_added(c, party="XEE:police"), (NEW,)),
        "no agency or auditor 'XEE:police'",
    ),
    "key of a service": (
        lambda c: (key_added(c, party=KAS), (own(c, KAS), NEW)),
        "no agency or auditor 'kas'",
    ),
    "recovery by a minority": (lambda c: (recovered(c), (c.authority_keys[0], NEW)), "1 of the 2 authority"),
    "recovery without possession": (lambda c: (recovered(c), auth(c)), "must sign this 'key-added' itself"),
    # keys revoked
    "revocation by another agency": (
        lambda c: (revoked(c, own(c).key_id), (own(c, JUSTICE),)),
        "may not sign this",
    ),
    "revocation by nobody": (
        lambda c: (revoked(c, own(c).key_id), ()),
        "no key of 'XAA:border' signed",
    ),
    "revocation by a minority": (
        lambda c: (revoked(c, own(c).key_id, by_authority=True), c.authority_keys[:1]),
        "1 of the 2 authority",
    ),
    "revocation of a key it does not have": (
        lambda c: (revoked(c, own(c, JUSTICE).key_id), (own(c),)),
        "'XAA:border' has no key",
    ),
    "revocation since tomorrow": (
        lambda c: (revoked(c, own(c).key_id, since=c.directory.size + 1), (own(c),)),
        "expected 0 to the directory's size",
    ),
    # service keys
    "service key by a minority": (
        lambda c: (announced(c), (c.authority_keys[0], NEW)),
        "1 of the 2 authority",
    ),
    "service key by the service alone": (
        lambda c: (announced(c), (own(c, KAS), NEW)),
        "0 of the 2 authority",
    ),
    "service key without possession": (lambda c: (announced(c), auth(c, own(c, KAS))), "must sign this"),
    "service key under another role": (
        lambda c: (announced(c, role=ServiceRole.WITNESS), auth(c, NEW)),
        "'kas' is taken",
    ),
    "service called authority": (
        lambda c: (announced(c, service="authority"), auth(c, NEW)),
        "'authority' is taken",
    ),
    "service key vouched for by another role": (
        lambda c: (announced(c), auth(c, NEW, own(c, NOTARY))),
        "may not sign this",
    ),
    "receiving key before any signing key": (
        lambda c: (
            announced(c, INBOX.public, service="w", role=ServiceRole.WITNESS, use=KeyUse.RECEIVING),
            auth(c),
        ),
        "the first key of a WITNESS must be a signing key",
    ),
    "signing key with a day": (
        lambda c: (replace(announced(c), day=c.day), auth(c, NEW)),
        "must not have a day",
    ),
    "intake key without a day": (
        lambda c: (replace(intake(c, 0), day=None), (own(c, KAS),)),
        "must have a day",
    ),
    "intake key too far ahead": (lambda c: (intake(c, c.day + 16), (own(c, KAS),)), "intake key is for day"),
    "intake key of the past": (lambda c: (intake(c, c.day - 2), (own(c, KAS),)), "intake key is for day"),
    "second intake key of a day": (lambda c: (intake(c, c.day), (own(c, KAS),)), "announced an intake key"),
    "intake key by the authority": (lambda c: (intake(c, c.day + 9), auth(c)), "may not sign this"),
    "intake key of a notary": (
        lambda c: (replace(intake(c, c.day + 9, service=NOTARY), role=ServiceRole.NOTARY), (own(c, NOTARY),)),
        "only a key access service has intake keys",
    ),
}


@pytest.mark.parametrize(("made", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(coalition: Coalition, made: Callable[[Coalition], Made], words: str) -> None:
    """A statement about a party or a key that breaks a rule does not count, and the error says why."""
    statement, keys = made(coalition)
    before = coalition.directory
    error = coalition.try_add(statement, *keys)
    assert isinstance(error, PeerError)
    assert words in error.message
    assert coalition.directory.parties == before.parties
    assert coalition.directory.authority == before.authority


def test_authority_rotates(coalition: Coalition) -> None:
    """After a rotation the new keys sign for the authority, and the old ones no longer."""
    old = coalition.authority_keys
    coalition.add(rotate(coalition, old[0], NEW, NEWER, threshold=3), *old, NEW, NEWER)
    assert coalition.directory.authority.keys == (old[0].public, NEW.public, NEWER.public)
    assert isinstance(coalition.try_add(suspend(coalition), *old), SignatureInvalid)
    coalition.add(suspend(coalition), old[0], NEW, NEWER)
    error = coalition.try_add(rotate(coalition, old[1], NEW), old[0], NEW, NEWER, old[1])
    assert error is not None
    assert "already registered, by 'authority'" in error.message


def test_agency_is_admitted(coalition: Coalition) -> None:
    """An admitted agency has a signing key and a receiving key."""
    coalition.add(admit(coalition), *auth(coalition, NEW))
    agency = coalition.directory.agency("XEE:police")
    assert agency is not None
    assert (agency.name, agency.title, agency.suspended) == ("XEE:police", "Police of XEE", False)
    assert coalition.directory.signer("XEE:police", NEW.key_id) == NEW.public
    assert coalition.directory.receiving_key("XEE:police") == (INBOX.key_id, INBOX.public)


def test_suspended_agency_signs_nothing(coalition: Coalition) -> None:
    """A suspended agency signs nothing, not even for its own keys, until it is reinstated."""
    key_id = own(coalition).key_id
    coalition.suspend(BORDER)
    with pytest.raises(NotEntitled, match="'XAA:border' is suspended"):
        coalition.directory.signer(BORDER, key_id)
    for statement in (key_added(coalition), revoked(coalition, key_id)):
        error = coalition.try_add(statement, own(coalition), NEW)
        assert error is not None
        assert "is suspended" in error.message
    assert "is suspended already" in str(coalition.try_add(suspend(coalition), *auth(coalition)))
    coalition.reinstate(BORDER)
    assert coalition.directory.signer(BORDER, key_id) == own(coalition).public


def test_signer_says_what_is_wrong(coalition: Coalition) -> None:
    """The error says why an issuer may not sign with a key."""
    for issuer, key_id, words in [
        ("XEE:police", NEW.key_id, "nobody in the directory is called 'XEE:police'"),
        (BORDER, NEW.key_id, "is not a signing key of 'XAA:border'"),
        (BORDER, coalition.receiving[BORDER].key_id, "is not a signing key of 'XAA:border'"),
        ("authority", coalition.authority_keys[0].key_id, "nobody in the directory is called 'authority'"),
    ]:
        with pytest.raises(NotEntitled, match=words):
            coalition.directory.signer(issuer, key_id)


def test_auditor_is_appointed_and_dismissed(coalition: Coalition) -> None:
    """A dismissed auditor signs nothing once it has left all channels, and may be appointed again."""
    c = coalition
    c.add(appoint(c, channels=("xaa-xbb", "xbb-xdd")), *auth(c, NEW))
    c.add(drafts.dismiss_auditor(c.directory, auditor="court", channels=["xbb-xdd"], issued_at=1), *auth(c))
    assert {channel.name for channel in c.directory.channels.values() if "court" in channel.auditors} == {
        "xaa-xbb"
    }
    assert c.directory.signer("court", NEW.key_id) == NEW.public
    again = drafts.dismiss_auditor(c.directory, auditor="court", channels=["xbb-xdd"], issued_at=1)
    assert "is not an auditor of 'xbb-xdd'" in str(c.try_add(again, *auth(c)))
    c.add(drafts.dismiss_auditor(c.directory, auditor="court", issued_at=1), *auth(c))
    assert not any("court" in channel.auditors for channel in c.directory.channels.values())
    with pytest.raises(NotEntitled, match="suspended"):
        c.directory.signer("court", NEW.key_id)
    c.add(appoint(c, channels=("xaa-xbb",)), *auth(c))
    assert c.directory.signer("court", NEW.key_id) == NEW.public


def test_key_is_added_by_its_owner(coalition: Coalition) -> None:
    """A key for which itself, an active key and the authority signed is active at once."""
    coalition.add(key_added(coalition), *auth(coalition, own(coalition), NEW))
    assert coalition.directory.signer(BORDER, NEW.key_id) == NEW.public
    coalition.add(key_added(coalition, INBOX.public, use=KeyUse.RECEIVING), *auth(coalition, NEW))
    assert coalition.directory.receiving_key(BORDER) == (INBOX.key_id, INBOX.public)
    assert len(coalition.directory.receiving_keys(BORDER)) == 2
    error = coalition.try_add(key_added(coalition), own(coalition), NEW)
    assert error is not None
    assert "already registered" in error.message


def test_number_of_keys_is_bounded(coalition: Coalition) -> None:
    """A party has at most 32 active keys for one use."""
    for i in range(31):
        key = signing_key(f"key {i}")
        coalition.add(key_added(coalition, key.public), *auth(coalition, own(coalition), key))
    error = coalition.try_add(key_added(coalition), own(coalition), NEW)
    assert error is not None
    assert "32 keys for signing already" in error.message


@pytest.mark.parametrize(("hours", "in_force"), [(71.9, False), (72.1, True)])
def test_recovery_waits_72_hours(coalition: Coalition, hours: float, in_force: bool) -> None:
    """A key that only the authority signed for is pending for 72 hours (ATTACKS 12)."""
    coalition.add(recovered(coalition), *auth(coalition, NEW))
    (pending,) = coalition.directory.pending
    assert (pending.party, pending.key_id) == (BORDER, NEW.key_id)
    assert pending.size == coalition.directory.size
    coalition.wait(hours=hours)
    assert (coalition.directory.pending == ()) == in_force
    if in_force:
        assert coalition.directory.signer(BORDER, NEW.key_id) == NEW.public
    else:
        with pytest.raises(NotEntitled, match="is pending"):
            coalition.directory.signer(BORDER, NEW.key_id)


def test_agency_revokes_a_recovery_that_it_did_not_ask_for(coalition: Coalition) -> None:
    """A pending key never takes effect when its agency revokes it within the 72 hours (ATTACKS 12)."""
    coalition.add(recovered(coalition), *auth(coalition, NEW))
    coalition.add(revoked(coalition, NEW.key_id), own(coalition))
    assert coalition.directory.pending == ()
    coalition.wait(hours=100)
    with pytest.raises(NotEntitled, match="is revoked"):
        coalition.directory.signer(BORDER, NEW.key_id)


def test_key_is_retired_a_day_after_its_successor(coalition: Coalition) -> None:
    """A key may be retired a day after its successor was added, and keys that it vouched for stay."""
    coalition.add(key_added(coalition), *auth(coalition, own(coalition), NEW))
    statement = retired(coalition, own(coalition).key_id, NEW.key_id)
    assert "less than a day ago" in str(coalition.try_add(statement, own(coalition)))
    coalition.wait(hours=24)
    for wrong, words in [
        (retired(coalition, own(coalition).key_id, own(coalition).key_id), "cannot succeed"),
        (retired(coalition, own(coalition).key_id, coalition.receiving[BORDER].key_id), "cannot succeed"),
        (retired(coalition, own(coalition).key_id, NEWER.key_id), "has no key"),
    ]:
        assert words in str(coalition.try_add(wrong, NEW))
    error = coalition.try_add(retired(coalition, own(coalition).key_id, NEW.key_id), NEW)
    assert "is older than the key that signed" in str(error)
    coalition.add(retired(coalition, own(coalition).key_id, NEW.key_id), own(coalition))
    with pytest.raises(NotEntitled, match="is retired"):
        coalition.directory.signer(BORDER, own(coalition).key_id)
    assert coalition.directory.signer(BORDER, NEW.key_id) == NEW.public
    assert not coalition.directory.channels["repatriation"].needs_new_epoch
    again = retired(coalition, own(coalition).key_id, NEW.key_id)
    assert "is retired, not active" in str(coalition.try_add(again, NEW))


def test_revocation_takes_what_a_key_alone_vouched_for(coalition: Coalition) -> None:
    """A revoked key takes the keys that it alone vouched for since, and their keys in turn."""
    early, thief, thief_2, shared = (signing_key(n) for n in ("early", "thief", "thief 2", "shared"))
    c = coalition
    key = own(coalition)
    c.add(key_added(c, early.public), key, early)
    c.wait(hours=72)
    since = c.directory.size
    c.add(key_added(c, thief.public), key, thief)
    c.wait(hours=72)
    c.add(key_added(c, thief_2.public), thief, thief_2)
    c.wait(hours=72)
    c.add(key_added(c, INBOX.public, use=KeyUse.RECEIVING), thief_2)
    c.add(key_added(c, shared.public), key, early, shared)
    c.wait(hours=72)
    c.add(revoked(c, key.key_id, since=since), key)
    held = c.directory.parties[BORDER].keys
    states = {added: held[added.key_id].state for added in (key, early, thief, thief_2, shared)}
    fallen = [KeyState.REVOKED, KeyState.ACTIVE, KeyState.REVOKED, KeyState.REVOKED, KeyState.ACTIVE]
    assert list(states.values()) == fallen
    assert c.directory.receiving_key(BORDER) == (c.receiving[BORDER].key_id, c.receiving[BORDER].public)
    assert c.directory.channels["repatriation"].needs_new_epoch
    assert not c.directory.channels["xaa-xbb"].needs_new_epoch
    again = revoked(c, key.key_id, since=since, by_authority=True)
    assert "revoked already" in str(c.try_add(again, *auth(c)))
    c.add(revoked(c, key.key_id, since=0, by_authority=True), *auth(c))
    with pytest.raises(NotEntitled, match="is revoked"):
        c.directory.signer(BORDER, early.key_id)
    with pytest.raises(NotEntitled, match="is revoked"):
        c.directory.signer(BORDER, shared.key_id)


def test_key_is_revoked_by_itself_and_by_the_authority(coalition: Coalition) -> None:
    """A stolen key can be revoked by the key itself and by the authority."""
    coalition.add(revoked(coalition, own(coalition).key_id, since=coalition.directory.size), own(coalition))
    with pytest.raises(NotEntitled, match="is revoked"):
        coalition.directory.signer(BORDER, own(coalition).key_id)
    key = own(coalition, JUSTICE)
    statement = replace(revoked(coalition, key.key_id, by_authority=True), agency=JUSTICE)
    coalition.add(statement, *auth(coalition))
    with pytest.raises(NotEntitled, match="is revoked"):
        coalition.directory.signer(JUSTICE, key.key_id)


def test_a_retired_key_revokes_nothing(coalition: Coalition) -> None:
    """A retired key that somebody finds cannot revoke itself, nor the later keys with it."""
    c = coalition
    old = own(coalition)
    c.add(key_added(c), *auth(c, old, NEW))
    c.wait(hours=25)
    c.add(retired(c, old.key_id, NEW.key_id), old)
    assert "may not sign this 'key-revoked'" in str(c.try_add(revoked(c, old.key_id), old))
    assert c.directory.signer(BORDER, NEW.key_id) == NEW.public
    assert "is older than the key that signed" in str(c.try_add(revoked(c, old.key_id), NEW))
    c.add(revoked(c, old.key_id, since=c.directory.size, by_authority=True), *auth(c))
    assert c.directory.signer(BORDER, NEW.key_id) == NEW.public


def test_a_long_chain_of_keys_falls_at_once(coalition: Coalition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain of keys, each of which vouched for the next one, falls in one pass."""
    c = coalition
    key = own(coalition)
    chain = [key, *(signing_key(f"chain {i}") for i in range(30))]
    for voucher, added in pairwise(chain):
        c.add(key_added(c, added.public), voucher, added)
        c.wait(hours=72)
    asked = 0

    def counted(checked: Key, among: Map[bytes, Key]) -> bool:
        nonlocal asked
        asked += 1
        return has_lost_vouchers(checked, among)

    has_lost_vouchers = keys._has_lost_vouchers
    monkeypatch.setattr(keys, "_has_lost_vouchers", counted)
    c.add(revoked(c, key.key_id), key)
    fallen = [added for added in c.directory.parties[BORDER].keys.values() if added.vouchers]
    assert all(added.untrusted_from == added.added_size for added in fallen)
    assert asked <= 2 * len(chain)


def test_a_party_adds_so_many_keys_and_is_still_recovered(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party cannot add keys without end, and the authority can still recover it."""
    monkeypatch.setattr(changes, "MAX_KEYS", 3)
    c = coalition
    key = own(coalition)
    for name in ("one", "two"):
        extra = signing_key(name)
        c.add(key_added(c, extra.public), key, extra)
        c.add(revoked(c, extra.key_id, since=c.directory.size), key)
    assert "has had 3 keys for signing" in str(c.try_add(key_added(c), key, NEW))
    c.add(recovered(c), *auth(c), NEW)


def test_the_authority_adds_keys_up_to_a_maximum(coalition: Coalition) -> None:
    """Keys that only the authority signed for have room beside the party's own, but not without end."""
    for i in range(63):
        key = signing_key(f"recovery {i}")
        coalition.add(recovered(coalition, key.public), *auth(coalition, key))
    error = coalition.try_add(recovered(coalition), *auth(coalition, NEW))
    assert error is not None
    assert "64 keys for signing already" in error.message


def test_a_key_of_a_service_has_a_maximum_of_intake_keys(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief announces no intake keys without end, and the service's next key has room of its own."""
    c = coalition
    monkeypatch.setattr(keys, "MAX_INTAKE_KEYS", len(c.directory.intake_keys))
    error = c.try_add(intake(c, c.day + 9), own(c, KAS))
    assert error is not None
    assert "intake keys already" in error.message
    c.add(announced(c), *auth(c, NEW, own(c, KAS)))
    c.add(intake(c, c.day + 9), NEW)


def test_a_key_of_a_service_falls_by_itself_or_by_the_authority(coalition: Coalition) -> None:
    """No other key of a service revokes or retires one of its keys, however old it is."""
    c = coalition
    c.add(announced(c), *auth(c, NEW, own(c, KAS)))
    c.add(intake(c, c.day + 9), NEW)
    receiving = c.directory.receiving_keys(KAS)[0].key_id
    for key_id in (NEW.key_id, INBOX.key_id, receiving):
        statement = replace(revoked(c, key_id), agency=KAS)
        statement = replace(statement, header=replace(statement.header, issuer=KAS))
        assert "falls by itself, or by the authority" in str(c.try_add(statement, own(c, KAS)))
    c.wait(hours=25)
    retires = drafts.retire_key(
        c.directory, party=KAS, key_id=NEW.key_id, successor=own(c, KAS).key_id, issued_at=c.now
    )
    assert "falls by itself, or by the authority" in str(c.try_add(retires, own(c, KAS)))
    c.add(replace(revoked(c, INBOX.key_id, by_authority=True), agency=KAS), *auth(c))
    c.add(intake(c, c.day + 9, receiving_key("other").public), NEW)


def test_only_the_authority_puts_a_revocation_back(coalition: Coalition) -> None:
    """A party revokes a key once, and not once for each message of the directory."""
    c = coalition
    c.add(key_added(c), *auth(c, own(c), NEW))
    since = c.directory.size
    c.add(revoked(c, NEW.key_id, since=since), own(c))
    assert "is revoked already" in str(c.try_add(revoked(c, NEW.key_id, since=since - 1), own(c)))
    c.add(revoked(c, NEW.key_id, since=since - 1, by_authority=True), *auth(c))
    assert "is revoked already" in str(
        c.try_add(revoked(c, NEW.key_id, since=since - 1, by_authority=True), *auth(c))
    )


def test_revoked_yesterday_is_not_unsigned(coalition: Coalition) -> None:
    """A revoked key is still active in the directory of a size before its revocation."""
    size = coalition.directory.size
    coalition.add(revoked(coalition, own(coalition).key_id), own(coalition))
    assert coalition.history.at(size).signer(BORDER, own(coalition).key_id) == own(coalition).public


def test_service_key_with_an_old_one(coalition: Coalition) -> None:
    """A new key of a service is active at once when an old key of its role has signed for it."""
    coalition.add(announced(coalition), *auth(coalition, NEW, own(coalition, KAS)))
    assert coalition.directory.signer(KAS, NEW.key_id) == NEW.public
    assert coalition.directory.kas_name == KAS
    coalition.add(announced(coalition, INBOX.public, use=KeyUse.RECEIVING), *auth(coalition, NEW))
    assert coalition.directory.receiving_key(KAS) == (INBOX.key_id, INBOX.public)


def test_another_kas_waits_72_hours(coalition: Coalition) -> None:
    """A KAS that only the authority signed for is pending for 72 hours (ATTACKS 12)."""
    c = coalition
    c.add(announced(c, service="puppet"), *auth(c, NEW))
    c.add(announced(c, INBOX.public, service="puppet", use=KeyUse.RECEIVING), *auth(c))
    assert [entry.party for entry in c.directory.pending] == ["puppet", "puppet"]
    assert c.directory.kas_name == KAS
    assert KAS in {recipient.name for recipient in c.directory.recipients("xaa-xbb", "access")}
    error = c.try_add(announced(c, NEWER.public, service="puppet"), *auth(c, NEWER, NEW))
    assert isinstance(error, SignatureInvalid)
    c.wait(hours=72)
    assert c.directory.kas_name == "puppet"
    assert {recipient.name for recipient in c.directory.recipients("xaa-xbb", "access")} == {
        AUDITOR,
        "puppet",
    }
    assert all(channel.needs_new_epoch for channel in c.directory.channels.values())


def test_pending_kas_is_revoked_by_the_authority(coalition: Coalition) -> None:
    """The authority can revoke a pending service key, and the KAS stays the one in charge."""
    c = coalition
    c.add(announced(c, service="puppet"), *auth(c, NEW))
    statement = replace(revoked(c, NEW.key_id, by_authority=True), agency="puppet")
    c.add(statement, *auth(c))
    c.wait(hours=100)
    assert c.directory.kas_name == KAS


def test_intake_keys(coalition: Coalition) -> None:
    """The KAS announces intake keys up to 15 days ahead, and the first key of a day counts."""
    day = coalition.day + 15
    coalition.add(intake(coalition, day), own(coalition, KAS))
    found = coalition.directory.intake_key(day)
    assert found is not None
    assert (found.key_id, found.public, found.day, found.service) == (INBOX.key_id, INBOX.public, day, KAS)
    assert coalition.directory.intake_keys[INBOX.key_id] == found
    assert coalition.directory.intake_key(day + 1) is None


def test_intake_keys_fall_with_the_key_that_vouched(coalition: Coalition) -> None:
    """A revoked KAS key takes its intake keys with it, and their days may get other keys."""
    c = coalition
    day = c.day + 5
    c.add(announced(c), *auth(c, NEW, own(c, KAS)))
    since = c.directory.size
    c.add(intake(c, day), own(c, KAS))
    statement = drafts.revoke_key(
        c.directory, party=KAS, key_id=own(c, KAS).key_id, since=since, issued_at=c.now
    )
    assert "falls by itself, or by the authority" in str(c.try_add(statement, NEW))
    c.add(statement, own(c, KAS))
    assert c.directory.intake_key(day) is None
    assert INBOX.key_id not in c.directory.intake_keys
    assert c.directory.intake_key(c.day) is not None
    c.add(intake(c, day, receiving_key("other").public), NEW)
    assert c.directory.intake_key(day) is not None
