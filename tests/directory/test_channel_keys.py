"""Channel keys: how epochs are published, confirmed, complained of, granted and opened (ATTACKS 16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.hashes import SHA256

from broker.crypto.seal import SEALED_OVERHEAD, epoch_key
from broker.directory import (
    Epoch,
    complaint,
    confirm_channel_keys,
    drafts,
    epoch_keys,
    grant_epoch,
    header_for,
    make_channel_keys,
    open_seed,
)
from broker.directory.issuance import seal_seed
from broker.errors import NotEntitled, OpenError, PeerError
from broker.wire.statements import (
    ChannelKeysComplained,
    ChannelKeysConfirmed,
    ChannelKeysPublished,
    EpochGranted,
    KeyUse,
    SealedSeed,
)
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    KAS,
    POLICE_A,
    POLICE_B,
    REHAB,
    Coalition,
    receiving_key,
    signing_key,
)

ALL = "repatriation"
INBOX = receiving_key("inbox")


@pytest.fixture
def coalition() -> Coalition:
    """An hour after everything was set up, so that an epoch may follow."""
    coalition = Coalition.create()
    coalition.wait(hours=1)
    return coalition


def published(c: Coalition, publisher: str = POLICE_A, channel: str = ALL) -> ChannelKeysPublished:
    return make_channel_keys(c.directory, channel, publisher, c.now)


def confirmed(c: Coalition, channel: str = ALL) -> ChannelKeysConfirmed:
    return confirm_channel_keys(c.directory, channel, KAS, c.now)


def complained(
    c: Coalition, issuer: str = CARE, epoch: int = 0, detail: str = "no key"
) -> ChannelKeysComplained:
    return complaint(c.directory, ALL, epoch, issuer, detail=detail, issued_at=c.now)


def epoch_of(c: Coalition, number: int, channel: str = ALL) -> Epoch:
    return c.directory.channels[channel].epochs[number]


def without(seeds: tuple[SealedSeed, ...], name: str) -> tuple[SealedSeed, ...]:
    return tuple(seed for seed in seeds if seed.recipient != name)


def changed(seeds: tuple[SealedSeed, ...], name: str, **changes: object) -> tuple[SealedSeed, ...]:
    return tuple(
        replace(seed, **changes) if seed.recipient == name else seed  # type: ignore[arg-type]
        for seed in seeds
    )


def with_junk(statement: ChannelKeysPublished, name: str) -> ChannelKeysPublished:
    """The statement with a content seed for ``name`` that nobody can open."""
    junk = bytes(SEALED_OVERHEAD + 32)
    return replace(statement, content_seeds=changed(statement.content_seeds, name, sealed=junk))


Publication = Callable[[Coalition], ChannelKeysPublished]

NOT_PUBLISHED: dict[str, tuple[Publication, str, str]] = {
    "by no member": (lambda c: published(c, POLICE_A, "xbb-xdd"), POLICE_A, "is not a member of 'xbb-xdd'"),
    "by the KAS": (lambda c: published(c, KAS), KAS, "'kas' is not a member"),
    "with another's key": (published, JUSTICE, "may not sign this"),
    "an epoch again": (lambda c: replace(published(c), epoch=0), POLICE_A, "epoch is 0, expected 1"),
    "an epoch too far": (lambda c: replace(published(c), epoch=2), POLICE_A, "epoch is 2, expected 1"),
    "to a member less": (
        lambda c: replace(published(c), content_seeds=without(published(c).content_seeds, CARE)),
        POLICE_A,
        "content seeds do not match the recipients: 'XCC:child-protection' has no seed",
    ),
    "without the KAS": (
        lambda c: replace(published(c), metadata_seeds=without(published(c).metadata_seeds, KAS)),
        POLICE_A,
        "'kas' has no seed",
    ),
    "content to the auditor": (
        lambda c: replace(published(c), content_seeds=published(c).metadata_seeds),
        POLICE_A,
        "'auditor' is not a recipient, 'kas' is not a recipient",
    ),
    "to a recipient twice": (
        lambda c: replace(published(c), content_seeds=published(c).content_seeds * 2),
        POLICE_A,
        "listed twice",
    ),
    "to another key": (
        lambda c: replace(
            published(c), content_seeds=changed(published(c).content_seeds, CARE, key_id=bytes(32))
        ),
        POLICE_A,
        "not sealed to its newest receiving key",
    ),
    "seeds of another length": (
        lambda c: replace(
            published(c), content_seeds=changed(published(c).content_seeds, CARE, sealed=bytes(99))
        ),
        POLICE_A,
        "the sealed seed of 'XCC:child-protection' has 99 bytes",
    ),
    "equal keys": (
        lambda c: replace(
            published(c), content_key=epoch_key(b"s" * 32).public, metadata_key=epoch_key(b"s" * 32).public
        ),
        POLICE_A,
        "already registered, by 'repatriation metadata 1'",
    ),
    "the keys of an epoch before": (
        lambda c: replace(published(c), content_key=epoch_of(c, 0).content_key),
        POLICE_A,
        "already registered, by 'repatriation content 0'",
    ),
    "the keys of another channel": (
        lambda c: replace(published(c), content_key=epoch_of(c, 0, "xaa-xbb").content_key),
        POLICE_A,
        "already registered, by 'xaa-xbb content 0'",
    ),
    "a member's own key": (
        lambda c: replace(published(c), content_key=c.receiving[POLICE_A].public),
        POLICE_A,
        "already registered, by 'XAA:police'",
    ),
    "a key of zeros": (
        lambda c: replace(published(c), content_key=bytes(1216)),
        POLICE_A,
        "hybrid public key",
    ),
}


@pytest.mark.parametrize(("made", "signer", "words"), NOT_PUBLISHED.values(), ids=NOT_PUBLISHED.keys())
def test_channel_keys_do_not_count(coalition: Coalition, made: Publication, signer: str, words: str) -> None:
    """Channel keys count only by a member, for the next epoch, and sealed to exactly the recipients."""
    error = coalition.try_add(made(coalition), coalition.signing[signer])
    assert isinstance(error, PeerError)
    assert words in error.message
    assert coalition.directory.channels[ALL].newest_published == 0


def test_first_in_log_order_counts(coalition: Coalition) -> None:
    """When two members publish the same epoch the first one in the log counts."""
    first = published(coalition, POLICE_A)
    second = published(coalition, JUSTICE)
    coalition.add(first, coalition.signing[POLICE_A])
    assert "epoch is 1, expected 2" in str(coalition.try_add(second, coalition.signing[JUSTICE]))
    channel = coalition.directory.channels[ALL]
    assert (channel.newest_published, channel.newest_confirmed) == (1, 0)
    coalition.add(confirmed(coalition), coalition.signing[KAS])
    channel = coalition.directory.channels[ALL]
    assert channel.newest_confirmed == 1
    assert epoch_of(coalition, 1).publisher == POLICE_A
    confirmed_at = epoch_of(coalition, 1).confirmed_at
    assert confirmed_at is not None
    assert coalition.history.upto(confirmed_at - 1).channels[ALL].newest_confirmed == 0
    assert confirmed_at <= coalition.directory.size
    assert channel.epoch == epoch_of(coalition, 1)


def test_one_epoch_an_hour(coalition: Coalition) -> None:
    """A channel whose recipients stay the same has at most one new epoch an hour (ATTACKS 16)."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    c.wait(hours=0.99)
    assert "less than an hour ago" in str(c.try_add(published(c, JUSTICE), c.signing[JUSTICE]))
    c.wait(hours=0.01)
    c.add(published(c, JUSTICE), c.signing[JUSTICE])


def _leave(c: Coalition) -> None:
    c.add(drafts.leave_channel(c.directory, channel=ALL, agency=CARE, issued_at=1), c.signing[CARE])


def _dismiss(c: Coalition) -> None:
    c.add(
        drafts.dismiss_auditor(c.directory, auditor=AUDITOR, channels=[ALL], issued_at=1), *c.authority_keys
    )


def _revoke(c: Coalition, party: str) -> None:
    key_id = c.signing[party].key_id
    statement = drafts.revoke_key(c.directory, party=party, key_id=key_id, since=0, issued_at=1)
    c.add(statement, c.signing[party])


def _appoint(c: Coalition) -> None:
    c.add_auditor("court", [ALL])


def _join(c: Coalition) -> None:
    c.add_agency("XEE:police")
    statement = drafts.join_channel(c.directory, channel=ALL, agency="XEE:police", issued_at=c.now)
    c.add(statement, *(c.signing[name] for name in ("XEE:police", *c.directory.channels[ALL].members)))


@pytest.mark.parametrize(
    "change",
    [
        _leave,
        _dismiss,
        _join,
        _appoint,
        lambda c: c.suspend(CARE),
        lambda c: _revoke(c, CARE),
        lambda c: _revoke(c, AUDITOR),
        lambda c: _revoke(c, KAS),
    ],
    ids=["left", "dismissed", "joined", "appointed", "suspended", "member key", "auditor key", "KAS key"],
)
def test_change_of_recipients_forces_an_epoch(
    coalition: Coalition, change: Callable[[Coalition], None]
) -> None:
    """A new epoch is due at once when a recipient comes, goes or loses a key."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    assert not c.directory.channels[ALL].needs_new_epoch
    change(c)
    assert c.directory.channels[ALL].needs_new_epoch
    c.new_epoch(ALL, JUSTICE, confirm=False)
    channel = c.directory.channels[ALL]
    assert not channel.needs_new_epoch
    names = {
        name for name in channel.members | channel.auditors | {KAS} if not c.directory.parties[name].suspended
    }
    assert set(epoch_of(c, 2).metadata_seeds) == names
    assert set(epoch_of(c, 2).content_seeds) == names & channel.members


def test_a_suspended_member_publishes_nothing(coalition: Coalition) -> None:
    """Channel keys of a suspended member do not count, and none are sealed to it."""
    coalition.suspend(POLICE_A)
    error = coalition.try_add(published(coalition), coalition.signing[POLICE_A])
    assert error is not None
    assert "is suspended" in error.message
    coalition.reinstate(POLICE_A)
    coalition.add(published(coalition), coalition.signing[POLICE_A])


def test_no_keys_without_a_kas() -> None:
    """Channel keys do not count while no key access service has a receiving key."""
    c = Coalition.found()
    for name in (POLICE_A, POLICE_B):
        c.add_agency(name)
    c.open_channel("pair", 0, [POLICE_A, POLICE_B], auditors=[], epoch=False)
    error = c.try_add(published(c, POLICE_A, "pair"), c.signing[POLICE_A])
    assert error is not None
    assert "no key access service" in error.message


NOT_CONFIRMED: dict[str, tuple[Callable[[Coalition], ChannelKeysConfirmed], str, str]] = {
    "by a member": (confirmed, POLICE_A, "may not sign this"),
    "an older epoch": (lambda c: replace(confirmed(c), epoch=0), KAS, "epoch 0 is not the newest"),
    "an epoch to come": (lambda c: replace(confirmed(c), epoch=2), KAS, "epoch 2 is not the newest"),
    "without the auditor": (
        lambda c: replace(confirmed(c), access_seeds=without(confirmed(c).access_seeds, AUDITOR)),
        KAS,
        "'auditor' has no seed",
    ),
    "to a member too": (
        lambda c: replace(
            confirmed(c), access_seeds=(*confirmed(c).access_seeds, published(c).content_seeds[0])
        ),
        KAS,
        "'XAA:border' is not a recipient",
    ),
    "the metadata key": (
        lambda c: replace(confirmed(c), access_key=epoch_of(c, 1).metadata_key),
        KAS,
        "already registered, by 'repatriation metadata 1'",
    ),
}


@pytest.mark.parametrize(("made", "signer", "words"), NOT_CONFIRMED.values(), ids=NOT_CONFIRMED.keys())
def test_confirmation_does_not_count(
    coalition: Coalition, made: Callable[[Coalition], ChannelKeysConfirmed], signer: str, words: str
) -> None:
    """Only the KAS confirms the newest epoch, with a new key sealed to exactly the auditors and itself."""
    coalition.new_epoch(ALL, POLICE_A, confirm=False)
    error = coalition.try_add(made(coalition), coalition.signing[signer])
    assert isinstance(error, PeerError)
    assert words in error.message
    assert coalition.directory.channels[ALL].newest_confirmed == 0


def test_confirmed_once(coalition: Coalition) -> None:
    """An epoch is not confirmed a second time with another access key."""
    error = coalition.try_add(confirmed(coalition), coalition.signing[KAS])
    assert error is not None
    assert "is confirmed already" in error.message


def test_junk_is_complained_of_and_another_member_publishes(coalition: Coalition) -> None:
    """A complaint of junk voids the epoch, and another member publishes the next one at once."""
    c = coalition
    c.add(with_junk(published(c), CARE), c.signing[POLICE_A])
    with pytest.raises(OpenError):
        open_seed(c.directory, ALL, 1, "content", CARE, c.keys_of(CARE))
    c.add(complained(c, epoch=1), c.signing[CARE])
    assert epoch_of(c, 1).complained
    assert c.directory.channels[ALL].needs_new_epoch
    assert "is void: a recipient complained of it" in str(c.try_add(confirmed(c), c.signing[KAS]))
    assert "another member must publish the next one" in str(c.try_add(published(c), c.signing[POLICE_A]))
    c.new_epoch(ALL, JUSTICE)
    assert c.directory.channels[ALL].newest_confirmed == 2
    assert c.epoch_keys(ALL, 2, CARE).keys() == {"metadata", "content"}


def test_equal_seeds_for_both_uses_are_junk(coalition: Coalition) -> None:
    """A member that is sealed the metadata seed as its content seed finds another public key (ATTACKS 16)."""
    c = coalition
    statement = published(c)
    seed = b"m" * 32
    care = [party for party in c.directory.recipients(ALL, "content") if party.name == CARE]
    (wrong,) = seal_seed(c.directory, ALL, 1, "content", seed, care)
    content = changed(statement.content_seeds, CARE, sealed=wrong.sealed)
    c.add(replace(statement, content_seeds=content), c.signing[POLICE_A])
    with pytest.raises(OpenError, match="gives another public key"):
        epoch_keys(c.directory, ALL, 1, CARE, c.keys_of(CARE))


def test_complaint_of_a_confirmed_epoch(coalition: Coalition) -> None:
    """Publishers use the epoch before a void one until the next epoch is confirmed."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, epoch=1), c.signing[CARE])
    assert c.directory.channels[ALL].newest_confirmed == 0
    c.new_epoch(ALL, JUSTICE)
    assert c.directory.channels[ALL].newest_confirmed == 2


def test_two_cannot_publish_epochs_without_end(coalition: Coalition) -> None:
    """Two members that publish and complain in turn may complain once an hour (ATTACKS 16)."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, JUSTICE, 1), c.signing[JUSTICE])
    c.new_epoch(ALL, JUSTICE)
    c.add(complained(c, POLICE_A, 2), c.signing[POLICE_A])
    c.new_epoch(ALL, POLICE_A)
    assert "less than an hour ago" in str(c.try_add(complained(c, JUSTICE, 3), c.signing[JUSTICE]))
    c.wait(hours=1)
    c.add(complained(c, JUSTICE, 3), c.signing[JUSTICE])


def test_complaint_does_not_count(coalition: Coalition) -> None:
    """A complaint counts only by a recipient, only of the newest epoch, and only once."""
    c = coalition
    c.add_agency("XEE:police")
    c.new_epoch(ALL, POLICE_A)
    for statement, signer, words in [
        (complained(c, "XEE:police", 1), "XEE:police", "is not a recipient of epoch 1"),
        (complained(c, CARE, 0), CARE, "epoch 0 is not the newest"),
        (complained(c, CARE, 1), BORDER, "may not sign this"),
        (complained(c, CARE, 1, ""), CARE, "detail has 0"),
    ]:
        assert words in str(c.try_add(statement, c.signing[signer]))
    _leave(c)
    assert "no longer takes part in" in str(c.try_add(complained(c, CARE, 1), c.signing[CARE]))
    c.add(complained(c, AUDITOR, 1), c.signing[AUDITOR])
    assert "is void already" in str(c.try_add(complained(c, BORDER, 1), c.signing[BORDER]))


def granted(
    c: Coalition, granter: str = POLICE_A, recipient: str = "XEE:police", *, content: bool = True
) -> EpochGranted:
    keys = c.epoch_keys(ALL, 0, POLICE_A)
    return grant_epoch(
        c.directory,
        ALL,
        0,
        granter=granter,
        recipient=recipient,
        metadata_seed=keys["metadata"].seed,
        content_seed=keys["content"].seed if content else None,
        issued_at=c.now,
    )


def granted_access(c: Coalition, recipient: str) -> EpochGranted:
    seed = c.epoch_keys(ALL, 0, KAS)["access"].seed
    to = [party for party in c.directory.recipients(ALL, "metadata") if party.name == recipient]
    return EpochGranted(
        header=header_for(c.directory, KAS, issued_at=c.now),
        channel=ALL,
        epoch=0,
        metadata_seeds=(),
        content_seeds=(),
        access_seeds=seal_seed(c.directory, ALL, 0, "access", seed, to),
    )


def test_the_service_grants_a_new_auditor_the_access_log(coalition: Coalition) -> None:
    """A new auditor opens older access entries once the KAS has granted it their epoch."""
    c = coalition
    _appoint(c)
    c.add(granted_access(c, "court"), c.signing[KAS])
    assert c.epoch_keys(ALL, 0, "court").keys() == {"access"}
    made = grant_epoch(
        c.directory,
        ALL,
        0,
        granter=KAS,
        recipient="court",
        metadata_seed=None,
        content_seed=None,
        access_seed=c.epoch_keys(ALL, 0, KAS)["access"].seed,
        issued_at=c.now,
    )
    assert "'kas' has granted 'court' the access seed of epoch 0 already" in str(
        c.try_add(made, c.signing[KAS])
    )


def test_a_grant_of_junk_does_not_bar_another_grant(coalition: Coalition) -> None:
    """A member that grants junk first does not keep an auditor from an earlier epoch."""
    c = coalition
    _appoint(c)
    junk = granted(c, granter=JUSTICE, recipient="court", content=False)
    seeds = seal_seed(
        c.directory, ALL, 0, "metadata", bytes(32),
        [party for party in c.directory.recipients(ALL, "metadata") if party.name == "court"],
    )  # fmt: skip
    c.add(replace(junk, metadata_seeds=seeds), c.signing[JUSTICE])
    with pytest.raises(OpenError):
        c.epoch_keys(ALL, 0, "court")
    c.add(granted(c, recipient="court", content=False), c.signing[POLICE_A])
    assert c.epoch_keys(ALL, 0, "court").keys() == {"metadata"}


def test_epoch_is_granted_to_who_joined_later(coalition: Coalition) -> None:
    """A new member has no key of earlier epochs until another member grants them."""
    c = coalition
    _join(c)
    assert c.epoch_keys(ALL, 0, "XEE:police") == {}
    c.add(granted(c), c.signing[POLICE_A])
    keys = c.epoch_keys(ALL, 0, "XEE:police")
    assert keys["content"].key.public == epoch_of(c, 0).content_key
    assert "'XEE:police' the metadata seed of epoch 0 already" in str(
        c.try_add(granted(c), c.signing[POLICE_A])
    )


def test_epoch_is_granted_to_a_new_auditor_and_a_new_key(coalition: Coalition) -> None:
    """A new auditor is granted metadata, and an agency with a new receiving key its epochs again."""
    c = coalition
    _appoint(c)
    c.add(granted(c, recipient="court", content=False), c.signing[POLICE_A])
    assert c.epoch_keys(ALL, 0, "court").keys() == {"metadata"}
    statement = drafts.add_key(
        c.directory, party=CARE, use=KeyUse.RECEIVING, public_key=INBOX.public, issued_at=c.now
    )
    c.add(statement, c.signing[CARE], *c.authority_keys)
    c.add(granted(c, recipient=CARE), c.signing[POLICE_A])
    only_new = epoch_keys(c.directory, ALL, 0, CARE, {INBOX.key_id: INBOX})
    assert only_new.keys() == {"metadata", "content"}
    assert len(epoch_of(c, 0).content_seeds[CARE]) == 2


def test_grant_does_not_count(coalition: Coalition) -> None:
    """A grant counts only by a party that has the seeds, and only to a recipient of the same use."""
    c = coalition
    _join(c)
    good = granted(c)
    for statement, signer, words in [
        (granted(c, "XEE:police"), "XEE:police", "has no metadata seed of epoch 0 to grant"),
        (granted(c, KAS), KAS, "may grant access seeds only"),
        (granted(c, AUDITOR), AUDITOR, "'auditor' is not a member"),
        (
            replace(granted_access(c, AUDITOR), header=good.header),
            POLICE_A,
            "'XAA:police' has no access seed of epoch 0 to grant",
        ),
        (granted_access(c, POLICE_B), KAS, "'XBB:police' is not a recipient of access seeds"),
        (good, JUSTICE, "may not sign this"),
        (replace(good, epoch=9), POLICE_A, "has no epoch 9"),
        (
            replace(good, metadata_seeds=(), content_seeds=(), access_seeds=()),
            POLICE_A,
            "the grant holds no seed",
        ),
        (
            replace(good, content_seeds=changed(good.content_seeds, "XEE:police", recipient=AUDITOR)),
            POLICE_A,
            "'auditor' is not a recipient of content seeds",
        ),
        (
            replace(good, content_seeds=changed(good.content_seeds, "XEE:police", key_id=bytes(32))),
            POLICE_A,
            "not sealed to its newest receiving key",
        ),
    ]:
        assert words in str(c.try_add(statement, c.signing[signer]))


def test_who_opens_what(coalition: Coalition) -> None:
    """Members open metadata and content, auditors and the KAS metadata and access, others nothing."""
    opened = {name: coalition.epoch_keys("xbb-xdd", 0, name).keys() for name in coalition.receiving}
    assert opened[JUSTICE] == opened[REHAB] == {"metadata", "content"}
    assert opened[AUDITOR] == opened[KAS] == {"metadata", "access"}
    assert opened[POLICE_A] == set()
    found = coalition.epoch_keys("xbb-xdd", 0, JUSTICE)["metadata"]
    assert repr(found) == "EpochKey('xbb-xdd', 0, 'metadata')"


def test_admit_key_is_hkdf_of_the_seed(coalition: Coalition) -> None:
    """admit = HKDF-SHA-256(ikm = seed, salt = genesis, info = "ftf-broker/v1/admit", 32), RFC 5869."""
    found = coalition.epoch_keys(ALL, 0, KAS)["access"]

    def mac(key: bytes, data: bytes) -> bytes:
        made = hmac.HMAC(key, SHA256())
        made.update(data)
        return made.finalize()

    prk = mac(coalition.genesis, found.seed)
    assert found.admit == mac(prk, b"ftf-broker/v1/admit\x01")
    assert sha256(found.seed).digest() != found.admit


def test_seed_opens_in_its_place_only(coalition: Coalition) -> None:
    """A seed that was sealed for one epoch does not open in another one."""
    c = coalition
    statement = published(c)
    old = epoch_of(c, 0).content_seeds[CARE][0]
    c.add(
        replace(statement, content_seeds=changed(statement.content_seeds, CARE, sealed=old.sealed)),
        c.signing[POLICE_A],
    )
    with pytest.raises(OpenError, match="does not open with this key for this place"):
        open_seed(c.directory, ALL, 1, "content", CARE, c.keys_of(CARE))
    assert open_seed(c.directory, ALL, 0, "content", CARE, {}) is None
    with pytest.raises(NotEntitled, match="has no epoch 9"):
        open_seed(c.directory, ALL, 9, "content", CARE, {})
    with pytest.raises(NotEntitled, match="no channel 'none'"):
        open_seed(c.directory, "none", 0, "content", CARE, {})


def test_a_stolen_revoked_key_publishes_nothing(coalition: Coalition) -> None:
    """A statement is judged at its place in the log: a revoked key cannot date it back (ATTACKS 11)."""
    c = coalition
    before = published(c)
    _revoke(c, POLICE_A)
    assert isinstance(c.try_add(before, c.signing[POLICE_A]), PeerError)
    assert signing_key(POLICE_A) == c.signing[POLICE_A]
