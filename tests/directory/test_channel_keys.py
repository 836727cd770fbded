"""Channel keys: how epochs are published, confirmed, complained of, granted and opened (ATTACKS 16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.crypto.seal import SEALED_OVERHEAD
from broker.directory import (
    Epoch,
    OpenedSeed,
    complaint,
    confirm_channel_keys,
    drafts,
    epoch_keys,
    grant_epoch,
    header_for,
    make_channel_keys,
    open_seed,
)
from broker.directory.issuance import seal_halves
from broker.errors import NotEntitled, OpenError, PeerError
from broker.wire.statements import (
    ChannelKeysComplained,
    ChannelKeysConfirmed,
    ChannelKeysPublished,
    EpochGranted,
    KeyUse,
    SealedHalves,
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


def without(seeds: tuple[SealedHalves, ...], name: str) -> tuple[SealedHalves, ...]:
    return tuple(seed for seed in seeds if seed.recipient != name)


def changed(seeds: tuple[SealedHalves, ...], name: str, **changes: object) -> tuple[SealedHalves, ...]:
    return tuple(
        replace(seed, **changes) if seed.recipient == name else seed  # type: ignore[arg-type]
        for seed in seeds
    )


def with_junk(statement: ChannelKeysPublished, name: str) -> ChannelKeysPublished:
    """The statement with a content half for ``name`` that nobody can open."""
    junk = bytes(SEALED_OVERHEAD + 32)
    return replace(statement, content_halves=changed(statement.content_halves, name, sealed=junk))


Publication = Callable[[Coalition], ChannelKeysPublished]

NOT_PUBLISHED: dict[str, tuple[Publication, str, str]] = {
    "by no member": (lambda c: published(c, POLICE_A, "xbb-xdd"), POLICE_A, "is not a member of 'xbb-xdd'"),
    "by the KAS": (lambda c: published(c, KAS), KAS, "'kas' is not a member"),
    "with another's key": (published, JUSTICE, "may not sign this"),
    "an epoch again": (lambda c: replace(published(c), epoch=0), POLICE_A, "epoch is 0, expected 1"),
    "an epoch too far": (lambda c: replace(published(c), epoch=2), POLICE_A, "epoch is 2, expected 1"),
    "to a member less": (
        lambda c: replace(published(c), content_halves=without(published(c).content_halves, CARE)),
        POLICE_A,
        "content halves do not match the recipients: 'XCC:child-protection' has no half",
    ),
    "without the KAS": (
        lambda c: replace(published(c), metadata_halves=without(published(c).metadata_halves, KAS)),
        POLICE_A,
        "'kas' has no half",
    ),
    "content to the auditor": (
        lambda c: replace(published(c), content_halves=published(c).metadata_halves),
        POLICE_A,
        "'auditor' is not a recipient, 'kas' is not a recipient",
    ),
    "to a recipient twice": (
        lambda c: replace(published(c), content_halves=published(c).content_halves * 2),
        POLICE_A,
        "listed twice",
    ),
    "to another key": (
        lambda c: replace(
            published(c), content_halves=changed(published(c).content_halves, CARE, key_id=bytes(32))
        ),
        POLICE_A,
        "not sealed to its newest receiving key",
    ),
    "halves of another length": (
        lambda c: replace(
            published(c), content_halves=changed(published(c).content_halves, CARE, sealed=bytes(99))
        ),
        POLICE_A,
        "the sealed content half of 'XCC:child-protection' has 99 bytes",
    ),
    "equal halves": (
        lambda c: replace(published(c), content_commitment=bytes(32), metadata_commitment=bytes(32)),
        POLICE_A,
        "already registered, by 'repatriation metadata 1'",
    ),
    "a half of an epoch before": (
        lambda c: replace(published(c), content_commitment=epoch_of(c, 0).content.commitments[0]),
        POLICE_A,
        "already registered, by 'repatriation content 0'",
    ),
    "the service's half of another channel": (
        lambda c: replace(published(c), content_commitment=epoch_of(c, 0, "xaa-xbb").content.commitments[1]),
        POLICE_A,
        "already registered, by 'xaa-xbb content 0'",
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
    assert set(epoch_of(c, 2).metadata.offers) == names
    assert set(epoch_of(c, 2).content.offers) == names & channel.members


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
        lambda c: replace(confirmed(c), access_halves=without(confirmed(c).access_halves, AUDITOR)),
        KAS,
        "'auditor' has no half",
    ),
    "to a member too": (
        lambda c: replace(
            confirmed(c), access_halves=(*confirmed(c).access_halves, published(c).content_halves[0])
        ),
        KAS,
        "'XAA:border' is not a recipient",
    ),
    "no second half for a member": (
        lambda c: replace(confirmed(c), content_halves=without(confirmed(c).content_halves, CARE)),
        KAS,
        "'XCC:child-protection' has no half",
    ),
    "content to itself": (
        lambda c: replace(confirmed(c), content_halves=confirmed(c).metadata_halves),
        KAS,
        "'auditor' is not a recipient, 'kas' is not a recipient",
    ),
    "the member's half of metadata as its own of content": (
        lambda c: replace(confirmed(c), content_commitment=epoch_of(c, 1).metadata.commitments[0]),
        KAS,
        "already registered, by 'repatriation metadata 1'",
    ),
    "the member's half of metadata as the access seed": (
        lambda c: replace(confirmed(c), access_commitment=epoch_of(c, 1).metadata.commitments[0]),
        KAS,
        "already registered, by 'repatriation metadata 1'",
    ),
}


@pytest.mark.parametrize(("made", "signer", "words"), NOT_CONFIRMED.values(), ids=NOT_CONFIRMED.keys())
def test_confirmation_does_not_count(
    coalition: Coalition, made: Callable[[Coalition], ChannelKeysConfirmed], signer: str, words: str
) -> None:
    """Only the KAS confirms the newest epoch, with new halves sealed to exactly the recipients."""
    coalition.new_epoch(ALL, POLICE_A, confirm=False)
    error = coalition.try_add(made(coalition), coalition.signing[signer])
    assert isinstance(error, PeerError)
    assert words in error.message
    assert coalition.directory.channels[ALL].newest_confirmed == 0


def test_confirmed_once(coalition: Coalition) -> None:
    """An epoch is not confirmed a second time with other halves."""
    error = coalition.try_add(confirmed(coalition), coalition.signing[KAS])
    assert error is not None
    assert "is confirmed already" in error.message


def test_junk_is_complained_of_and_another_member_publishes(coalition: Coalition) -> None:
    """A complaint of junk keeps an epoch out of use, and another member publishes the next one at once."""
    c = coalition
    c.add(with_junk(published(c), CARE), c.signing[POLICE_A])
    assert open_seed(c.directory, ALL, 1, "content", CARE, c.keys_of(CARE)).junk[0].sealer == POLICE_A
    c.add(complained(c, epoch=1), c.signing[CARE])
    assert epoch_of(c, 1).complained
    assert c.directory.channels[ALL].needs_new_epoch
    assert "which has another one" in str(c.try_add(confirmed(c), c.signing[KAS]))
    assert "another member must publish the next one" in str(c.try_add(published(c), c.signing[POLICE_A]))
    c.new_epoch(ALL, JUSTICE)
    assert c.directory.channels[ALL].newest_confirmed == 2
    assert c.epoch_keys(ALL, 2, CARE).keys() == {"metadata", "content"}


def test_who_was_complained_of_may_publish_after_an_hour(coalition: Coalition) -> None:
    """When no other member publishes, one complaint does not stop a channel for longer than an hour."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, epoch=1), c.signing[CARE])
    c.wait(hours=0.99)
    assert "less than an hour ago" in str(c.try_add(published(c), c.signing[POLICE_A]))
    c.wait(hours=0.01)
    c.new_epoch(ALL, POLICE_A)
    assert c.directory.channels[ALL].newest_confirmed == 2


def test_different_halves_to_different_recipients_are_junk(coalition: Coalition) -> None:
    """A member that is sealed another half than the others reports the publisher (ATTACKS 16)."""
    c = coalition
    statement = published(c)
    care = [party for party in c.directory.recipients(ALL, "content") if party.name == CARE]
    (wrong,) = seal_halves(c.directory, ALL, 1, "content", b"m" * 32, care)
    content = changed(statement.content_halves, CARE, sealed=wrong.sealed)
    c.add(replace(statement, content_halves=content), c.signing[POLICE_A])
    c.add(confirmed(c), c.signing[KAS])
    with pytest.raises(OpenError, match="that 'XAA:police' sealed: does not fit the commitment"):
        epoch_keys(c.directory, ALL, 1, CARE, c.keys_of(CARE))
    assert epoch_keys(c.directory, ALL, 1, BORDER, c.keys_of(BORDER)).keys() == {"metadata", "content"}


def test_a_junk_half_of_the_service_is_reported_against_it(coalition: Coalition) -> None:
    """The half of the service is checked against its own commitment, and the service is named."""
    c = coalition
    c.add(published(c), c.signing[POLICE_A])
    junk = bytes(SEALED_OVERHEAD + 32)
    statement = confirmed(c)
    halves = changed(statement.content_halves, CARE, sealed=junk)
    c.add(replace(statement, content_halves=halves), c.signing[KAS])
    found = open_seed(c.directory, ALL, 1, "content", CARE, c.keys_of(CARE))
    assert found.key is None
    assert [one.sealer for one in found.junk] == [KAS]


def test_a_seed_needs_both_halves(coalition: Coalition) -> None:
    """Before the service confirms an epoch nobody has a seed of it, not even who published it."""
    c = coalition
    c.add(published(c), c.signing[POLICE_A])
    for name in (POLICE_A, CARE, AUDITOR, KAS):
        assert c.epoch_keys(ALL, 1, name) == {}
    assert "has no confirmed epoch 1" in str(
        c.try_add(replace(granted(c, recipient=CARE), epoch=1), c.signing[POLICE_A])
    )
    c.add(confirmed(c), c.signing[KAS])
    assert c.epoch_keys(ALL, 1, POLICE_A).keys() == {"metadata", "content"}


def test_who_left_before_the_confirmation_gets_no_seed(coalition: Coalition) -> None:
    """The second halves go to the recipients of the moment, and to none that joined since."""
    c = coalition
    c.add(published(c), c.signing[POLICE_A])
    _leave(c)
    _join(c)
    c.add(confirmed(c), c.signing[KAS])
    assert c.epoch_keys(ALL, 1, CARE) == {}
    assert c.epoch_keys(ALL, 1, "XEE:police") == {}
    assert c.epoch_keys(ALL, 1, BORDER).keys() == {"metadata", "content"}


def test_a_complaint_of_the_only_epoch_stops_nothing(coalition: Coalition) -> None:
    """Where a channel has no other epoch, the one that was complained of is confirmed and used."""
    c = coalition
    c.open_channel("four", 3, [POLICE_A, POLICE_B, CARE, REHAB], epoch=False)
    c.new_epoch("four", POLICE_A, confirm=False)
    c.add(complaint(c.directory, "four", 0, AUDITOR, detail="no key", issued_at=c.now), c.signing[AUDITOR])
    c.add(confirmed(c, "four"), c.signing[KAS])
    channel = c.directory.channels["four"]
    assert (channel.newest_confirmed, channel.needs_new_epoch) == (0, True)
    assert channel.epochs[0].void_from is None
    c.new_epoch("four", POLICE_B)
    channel = c.directory.channels["four"]
    assert channel.newest_confirmed == 1
    assert channel.epochs[0].void_from == channel.epochs[1].confirmed_at


def test_complaint_of_a_confirmed_epoch(coalition: Coalition) -> None:
    """After a complaint publishers use the epoch before until the next one is confirmed."""
    c = coalition
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, epoch=1), c.signing[CARE])
    assert c.directory.channels[ALL].newest_confirmed == 0
    c.new_epoch(ALL, JUSTICE)
    assert c.directory.channels[ALL].newest_confirmed == 2


@pytest.mark.parametrize(
    "change", [_leave, _join, lambda c: c.suspend(CARE)], ids=["left", "joined", "suspended"]
)
def test_a_complaint_leads_nobody_back_to_other_recipients(
    coalition: Coalition, change: Callable[[Coalition], None]
) -> None:
    """Nobody goes back to an epoch that a former member can open, or that a newer member cannot use."""
    c = coalition
    change(c)
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, JUSTICE, 1), c.signing[JUSTICE])
    assert c.directory.channels[ALL].newest_confirmed == 1
    assert epoch_of(c, 1).void_from is None
    c.new_epoch(ALL, POLICE_B)
    assert c.directory.channels[ALL].newest_confirmed == 2
    assert epoch_of(c, 1).void_from == epoch_of(c, 2).confirmed_at


def test_a_complaint_leads_nobody_back_to_a_revoked_key(coalition: Coalition) -> None:
    """An epoch that was sealed to a receiving key which is revoked since is not used again."""
    c = coalition
    statement = drafts.add_key(
        c.directory, party=CARE, use=KeyUse.RECEIVING, public_key=INBOX.public, issued_at=c.now
    )
    c.add(statement, c.signing[CARE], *c.authority_keys)
    old = c.receiving[CARE].key_id
    revoked = drafts.revoke_key(c.directory, party=CARE, key_id=old, since=0, issued_at=c.now)
    c.add(revoked, c.signing[CARE])
    c.new_epoch(ALL, POLICE_A)
    c.add(complained(c, JUSTICE, 1), c.signing[JUSTICE])
    assert c.directory.channels[ALL].newest_confirmed == 1


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
    assert "of 'repatriation' already" in str(c.try_add(complained(c, BORDER, 1), c.signing[BORDER]))


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
        metadata=keys["metadata"].halves,
        content=keys["content"].halves if content else None,
        issued_at=c.now,
    )


def granted_access(c: Coalition, recipient: str) -> EpochGranted:
    halves = c.epoch_keys(ALL, 0, KAS)["access"].halves
    to = [party for party in c.directory.recipients(ALL, "metadata") if party.name == recipient]
    return EpochGranted(
        header=header_for(c.directory, KAS, issued_at=c.now),
        channel=ALL,
        epoch=0,
        metadata_halves=(),
        content_halves=(),
        access_halves=seal_halves(c.directory, ALL, 0, "access", halves, to),
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
        metadata=None,
        content=None,
        access=c.epoch_keys(ALL, 0, KAS)["access"].halves,
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
    seeds = seal_halves(
        c.directory, ALL, 0, "metadata", bytes(64),
        [party for party in c.directory.recipients(ALL, "metadata") if party.name == "court"],
    )  # fmt: skip
    c.add(replace(junk, metadata_halves=seeds), c.signing[JUSTICE])
    with pytest.raises(OpenError, match=JUSTICE):
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
    assert keys["content"].halves == c.epoch_keys(ALL, 0, POLICE_A)["content"].halves
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
    assert len(epoch_of(c, 0).offers("content", CARE)) == 2


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
        (replace(good, epoch=9), POLICE_A, "has no confirmed epoch 9"),
        (
            replace(good, metadata_halves=(), content_halves=(), access_halves=()),
            POLICE_A,
            "the grant holds no seed",
        ),
        (
            replace(good, content_halves=changed(good.content_halves, "XEE:police", recipient=AUDITOR)),
            POLICE_A,
            "'auditor' is not a recipient of content seeds",
        ),
        (
            replace(good, content_halves=changed(good.content_halves, "XEE:police", key_id=bytes(32))),
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


def test_a_half_opens_in_its_place_only(coalition: Coalition) -> None:
    """A half that was sealed for one epoch does not open in another one."""
    c = coalition
    statement = published(c)
    old = epoch_of(c, 0).offers("content", CARE)[0][0].sealed
    c.add(
        replace(statement, content_halves=changed(statement.content_halves, CARE, sealed=old.sealed)),
        c.signing[POLICE_A],
    )
    (junk,) = open_seed(c.directory, ALL, 1, "content", CARE, c.keys_of(CARE)).junk
    assert junk.detail == "seal does not open with this key for this place"
    assert open_seed(c.directory, ALL, 0, "content", CARE, {}) == OpenedSeed(key=None, junk=())
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
