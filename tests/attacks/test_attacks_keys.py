"""Attacks with a stolen key, with dates, and with consents that were kept: who has them gains no time."""

from __future__ import annotations

import os
import secrets
from typing import get_args

import pytest

from broker.crypto.epoch import EpochKeys, epoch_seed
from broker.crypto.lock import context_of
from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import (
    History,
    Use,
    confirm_channel_keys,
    directory_message,
    drafts,
    make_channel_keys,
)
from broker.errors import NotEntitled
from broker.participant.keyring import Keyring
from broker.wire.envelope import open_manifest, parse_envelope
from broker.wire.statements import KeyUse
from support.coalition import (
    AGENCIES,
    AUDITOR,
    BORDER,
    CARE,
    DAY_US,
    HOUR_US,
    KAS,
    POLICE_A,
    POLICE_B,
    Coalition,
    receiving_key,
    signing_key,
)
from support.partition_log import PartitionLog

PUPPET, SECOND = signing_key("puppet"), signing_key("second")
GUEST = "XEE:guest"


@pytest.fixture
def coalition() -> Coalition:
    return Coalition.create()


def recover(c: Coalition, party: str = BORDER) -> None:
    """k holders of the authority give a party a key of their own."""
    made = drafts.recover_key(
        c.directory, party=party, use=KeyUse.SIGNING, public_key=PUPPET.public, issued_at=c.now
    )
    c.add(made, *c.authority_keys, PUPPET)


def add(
    c: Coalition, public: bytes, *signers: SigningKey, use: KeyUse = KeyUse.SIGNING, party: str = BORDER
) -> None:
    """A party adds a key of its own."""
    made = drafts.add_key(c.directory, party=party, use=use, public_key=public, issued_at=c.now)
    c.add(made, *signers)


def revoke(c: Coalition, key_id: bytes, *signers: SigningKey, by_authority: bool = False) -> str:
    """Try to revoke a key; why it does not count, or nothing."""
    made = drafts.revoke_key(
        c.directory,
        party=BORDER,
        key_id=key_id,
        since=c.directory.size,
        issued_at=c.now,
        by_authority=by_authority,
    )
    return str(c.try_add(made, *signers) or "")


# dates


def test_garbage_that_is_dated_ahead_ends_no_wait(coalition: Coalition) -> None:
    """2: One dated message by anybody who may append does not end the 72 hours of everybody."""
    c = coalition
    recover(c)
    c.tell_time()
    told = c.now
    c.append(b"garbage by anybody", at=told + 73 * HOUR_US)
    c.suspend(CARE)
    c.append(b"more of it", at=told)
    assert [entry.key_id for entry in c.directory.pending] == [PUPPET.key_id]


def test_an_announcement_that_is_dated_back_ends_no_wait(coalition: Coalition) -> None:
    """2b: The operator dates an announcement back into a quiet directory, and helps nobody."""
    c = coalition
    announced_at = c.now
    recover(c)
    c.advance(hours=80)
    c.tell_time()
    assert c.messages[-2].appended_at < announced_at + 2 * HOUR_US
    assert c.directory.pending != ()


def test_the_operator_alone_ends_no_wait(coalition: Coalition) -> None:
    """2: Whatever append times the operator gives to the true clocks, their own times must pass."""
    c = coalition
    recover(c)
    told = c.now
    for hours in range(72):
        c.tell_time(issued_at=told + hours * HOUR_US, at=told + (hours - 36) * 1000 * HOUR_US)
    assert c.directory.pending != ()


def test_the_service_alone_ends_no_wait(coalition: Coalition) -> None:
    """2: Whatever times a turned service signs, the append times must pass."""
    c = coalition
    recover(c)
    told = c.now
    for hours in range(72):
        c.tell_time(issued_at=told + (hours - 36) * 1000 * HOUR_US, at=told + hours * HOUR_US)
    assert c.directory.pending != ()


def test_a_host_that_is_a_day_ahead_stops_nobody(coalition: Coalition) -> None:
    """Section 2: After one command on such a host everybody goes on, and every replay agrees."""
    c = coalition
    today = c.now
    c.tell_time(issued_at=today + DAY_US, at=today + DAY_US)
    c.suspend(CARE)
    c.now = today
    c.tell_time()
    c.new_epoch("repatriation", POLICE_A)
    replayed = History.replay(c.messages, c.genesis).latest
    assert replayed == c.directory
    assert replayed.channels["repatriation"].newest_confirmed == 1


# stolen keys


def test_a_thief_of_a_signing_key_reads_nothing_new(coalition: Coalition) -> None:
    """a: The thief adds a receiving key, and the next epoch is not sealed to it."""
    c = coalition
    mine = ReceivingKey.generate()
    c.suspend(CARE)  # a new epoch may follow
    add(c, mine.public, c.signing[POLICE_B], use=KeyUse.RECEIVING, party=POLICE_B)
    c.new_epoch("repatriation", POLICE_A)
    (offer,) = c.directory.channels["repatriation"].epochs[1].offers("content", POLICE_B)
    assert {part.sealed.key_id for part in offer} == {c.receiving[POLICE_B].key_id}
    assert [entry.key_id for entry in c.directory.pending] == [mine.key_id]


def test_a_thief_of_a_signing_key_publishes_an_epoch_and_reads_nothing(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a: The thief knows its halves of the next epoch, and the service's halves are sealed past it."""
    c = coalition
    mine = ReceivingKey.generate()
    c.suspend(CARE)  # a new epoch may follow
    add(c, mine.public, c.signing[POLICE_B], use=KeyUse.RECEIVING, party=POLICE_B)
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        drawn.append(os.urandom(size))
        return drawn[-1]

    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_bytes", draw)
        made = make_channel_keys(c.directory, "repatriation", POLICE_B, c.now)
    c.add(made, c.signing[POLICE_B])
    c.add(confirm_channel_keys(c.directory, "repatriation", KAS, c.now), c.signing[KAS])
    batch = PartitionLog(c).publish(POLICE_A, 1)
    envelope = parse_envelope(*batch.messages[0])
    assert envelope is not None
    assert envelope.epoch == 1
    keyring = Keyring.of(POLICE_B, c.signing[POLICE_B], [mine])
    uses: tuple[Use, ...] = get_args(Use)
    assert [keyring.epoch_key(c.directory, "repatriation", 1, use) for use in uses] == [None] * 3
    metadata, content = drawn
    context = context_of(c.genesis, "returns", 0, 1, POLICE_A, envelope.manifest_id)
    _, right = c.member_keys("repatriation", 1)
    for guess in ((metadata,), (metadata, bytes(32)), (metadata, metadata), (metadata, content)):
        seed = epoch_seed(c.genesis, "repatriation", 1, "metadata", guess)
        keys = EpochKeys.of(seed, c.genesis)
        assert open_manifest(envelope, topic="returns", partition=0, keys=keys) is None
        seed = epoch_seed(c.genesis, "repatriation", 1, "content", (content, *guess[1:]))
        assert EpochKeys.of(seed, c.genesis).member_share(context) != right.member_share(context)
    # With the service's halves the same attempt succeeds, so the test can fail.
    halves = c.epoch_keys("repatriation", 1, POLICE_A)["metadata"].halves
    seed = epoch_seed(c.genesis, "repatriation", 1, "metadata", (metadata, halves[32:]))
    keys = EpochKeys.of(seed, c.genesis)
    assert open_manifest(envelope, topic="returns", partition=0, keys=keys) is not None


def test_the_service_is_sealed_no_half_of_content(coalition: Coalition) -> None:
    """a: The service draws one half of the content seed, and is never given the member's."""
    epoch = coalition.directory.channels["repatriation"].epochs[0]
    assert KAS not in epoch.content.offers
    assert AUDITOR not in epoch.content.offers
    assert KAS in epoch.metadata.offers


def test_a_thief_of_a_younger_key_locks_nobody_out(coalition: Coalition) -> None:
    """4: A younger key revokes and retires neither the older key nor the receiving key."""
    c = coalition
    old, receiving = c.signing[BORDER], c.receiving[BORDER]
    add(c, SECOND.public, old, SECOND, *c.authority_keys)
    c.wait(hours=25)
    for key_id in (old.key_id, receiving.key_id):
        assert "is older than the key that signed" in revoke(c, key_id, SECOND)
    made = drafts.retire_key(
        c.directory, party=BORDER, key_id=old.key_id, successor=SECOND.key_id, issued_at=c.now
    )
    assert "is older than the key that signed" in str(c.try_add(made, SECOND))
    assert c.directory.signer(BORDER, old.key_id) == old.public
    assert revoke(c, SECOND.key_id, old) == ""


def test_a_thief_of_the_only_key_shuts_nobody_out(coalition: Coalition) -> None:
    """4b: Neither the thief nor the authority takes the last receiving key of a party."""
    c = coalition
    old, receiving = c.signing[BORDER], c.receiving[BORDER]
    assert "the last receiving key" in revoke(c, receiving.key_id, old)
    assert "the last receiving key" in revoke(c, receiving.key_id, *c.authority_keys, by_authority=True)
    names = [recipient.name for recipient in c.directory.recipients("repatriation", "content")]
    assert BORDER in names
    add(c, receiving_key("next").public, old, *c.authority_keys, use=KeyUse.RECEIVING)
    assert revoke(c, receiving.key_id, old) == ""


def test_a_key_that_falls_with_its_voucher_leaves_the_last_receiving_key(coalition: Coalition) -> None:
    """4b: A revocation that would take the last receiving key along does not count either."""
    c = coalition
    old, first = c.signing[BORDER], c.receiving[BORDER]
    since = c.directory.size
    add(c, receiving_key("next").public, old, use=KeyUse.RECEIVING)
    c.wait(hours=96)
    made = drafts.retire_key(
        c.directory,
        party=BORDER,
        key_id=first.key_id,
        successor=receiving_key("next").key_id,
        issued_at=c.now,
    )
    c.wait(hours=24)
    c.add(made, old)
    falls = drafts.revoke_key(c.directory, party=BORDER, key_id=old.key_id, since=since, issued_at=c.now)
    assert "the last receiving key" in str(c.try_add(falls, old))


def test_a_minority_of_the_authority_puts_no_key_in_force(coalition: Coalition) -> None:
    """4: One holder of the authority who helps a thief shortens no wait."""
    c = coalition
    add(c, SECOND.public, c.signing[BORDER], SECOND, c.authority_keys[0])
    assert [entry.key_id for entry in c.directory.pending] == [SECOND.key_id]


def test_a_thief_fills_the_room_and_the_authority_recovers(coalition: Coalition) -> None:
    """Flood: A thief's pending keys have a bound, and leave room for what the authority adds."""
    c = coalition
    key = c.signing[BORDER]
    for number in range(4):
        flood = signing_key(f"flood {number}")
        add(c, flood.public, key, flood)
    made = drafts.add_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=SECOND.public, issued_at=c.now
    )
    assert "has 4 pending keys" in str(c.try_add(made, key, SECOND))
    for number in range(27):
        c.wait(hours=72)
        flood = signing_key(f"more {number}")
        add(c, flood.public, key, flood)
    made = drafts.add_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=SECOND.public, issued_at=c.now
    )
    assert "has 32 keys" in str(c.try_add(made, key, SECOND))
    recover(c)
    assert revoke(c, key.key_id, *c.authority_keys, by_authority=True) == ""


# consents


def test_a_spare_consent_lets_nobody_join_again(coalition: Coalition) -> None:
    """j: A file of consents that was made twice does not let an expelled agency join again."""
    c = coalition
    c.add_agency(GUEST)
    signers = [c.signing[name] for name in (*AGENCIES, GUEST)]
    files = []
    for _ in range(3):
        c.advance(seconds=1)
        files.append(drafts.join_channel(c.directory, channel="repatriation", agency=GUEST, issued_at=c.now))
    used, spare, late = files
    c.add(used, *signers)
    c.add(
        drafts.expel_member(c.directory, channel="repatriation", agency=GUEST, issued_at=c.now),
        *c.authority_keys,
    )
    assert "they must sign anew" in str(c.try_add(spare, *signers))
    c.wait(hours=24 * 300)
    assert "they must sign anew" in str(c.try_add(late, *signers))
    assert GUEST not in c.directory.channels["repatriation"].members
    again = drafts.join_channel(c.directory, channel="repatriation", agency=GUEST, issued_at=c.now)
    c.add(again, *signers)
    assert GUEST in c.directory.channels["repatriation"].members


def test_a_file_that_nobody_used_puts_no_key_in_force_years_later(coalition: Coalition) -> None:
    """4: The authority's signatures under an agency's new key count for thirty days."""
    c = coalition
    made = drafts.add_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=SECOND.public, issued_at=c.now
    )
    c.wait(hours=24 * 31)
    c.add(made, c.signing[BORDER], SECOND, *c.authority_keys)
    with pytest.raises(NotEntitled, match="is pending"):
        c.directory.signer(BORDER, SECOND.key_id)
    assert c.directory.kas_name == KAS


@pytest.mark.parametrize("redated", [False, True])
def test_a_true_clock_that_was_kept_back_ends_no_wait(redated: bool) -> None:
    """35: The operator keeps a true clock back, and appends it behind an announcement of days later."""
    coalition = Coalition.create()
    began = coalition.now
    told = drafts.tell_time(coalition.directory, service=KAS, issued_at=began)
    kept = directory_message(coalition.sign(told, coalition.signing[KAS]))[1]
    coalition.advance(hours=96)
    coalition.tell_time()
    puppet = signing_key("puppet")
    coalition.add(
        drafts.recover_key(
            coalition.directory,
            party=BORDER,
            use=KeyUse.SIGNING,
            public_key=puppet.public,
            issued_at=coalition.now,
        ),
        *coalition.authority_keys,
        puppet,
    )
    now = coalition.now
    assert coalition.append(kept, at=began if redated else now) is None
    coalition.now = now
    coalition.advance(seconds=60)
    coalition.tell_time()
    assert [entry.key_id for entry in coalition.directory.pending] == [puppet.key_id]
    coalition.wait(hours=73)
    assert coalition.directory.pending == ()


def test_a_thief_of_the_service_s_key_takes_over_no_day(coalition: Coalition) -> None:
    """The thief cannot revoke the intake key of a day to announce its own."""
    c = coalition
    day = c.day
    stolen = c.signing[KAS]
    puppet = drafts.announce_intake_key(
        c.directory, service=KAS, public_key=receiving_key("puppet").public, day=day, issued_at=c.now
    )
    key_id = c.directory.intake_days[KAS, day]
    made = drafts.revoke_key(c.directory, party=KAS, key_id=key_id, since=c.directory.size, issued_at=c.now)
    assert "falls by itself, or by the authority" in str(c.try_add(made, stolen))
    assert "has announced an intake key" in str(c.try_add(puppet, stolen))
    # The thief can end the stolen key, and all that it announced with it. Then it announces nothing more.
    made = drafts.revoke_key(c.directory, party=KAS, key_id=stolen.key_id, since=0, issued_at=c.now)
    c.add(made, stolen)
    assert c.directory.intake_key(day) is None
    assert "may not sign" in str(c.try_add(puppet, stolen))
