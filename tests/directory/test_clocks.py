"""The clock of the directory: time passes by what the key access service signs, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.directory import KeyState, drafts, may_tell_time, waits_for_clock
from broker.directory.rules import channels
from broker.errors import NotEntitled, SignatureInvalid
from broker.wire.statements import KeyUse, ServiceRole
from support.coalition import (
    AGENCIES,
    BORDER,
    DAY_US,
    HOUR_US,
    KAS,
    NOTARY,
    POLICE_A,
    START_US,
    Coalition,
    signing_key,
)

NEW = signing_key("new")
GUEST = "XEE:guest"


@pytest.fixture
def coalition() -> Coalition:
    """A coalition in which a key of the border police has just been announced."""
    c = Coalition.create()
    announced = drafts.add_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=NEW.public, issued_at=c.now
    )
    c.add(announced, c.signing[BORDER], NEW)
    return c


def is_pending(c: Coalition) -> bool:
    return c.directory.parties[BORDER].keys[NEW.key_id].state is KeyState.PENDING


@pytest.mark.parametrize(
    ("issued_hours", "appended_hours", "pending"),
    [(72, 72, False), (71.9, 80, True), (80, 71.9, True), (-72, 80, True), (80, -72, True), (72, 720, False)],
)
def test_both_times_must_pass(
    coalition: Coalition, issued_hours: float, appended_hours: float, pending: bool
) -> None:
    """The service alone, or the log alone, cannot end the 72 hours."""
    c = coalition
    c.tell_time()
    first = c.directory.clocks.newest
    assert first is not None
    c.tell_time(
        issued_at=first.issued_at + round(issued_hours * HOUR_US),
        at=first.appended_at + round(appended_hours * HOUR_US),
    )
    assert is_pending(c) is pending


def test_the_first_clock_behind_the_announcement_begins_the_wait(coalition: Coalition) -> None:
    """One clock after a long silence ends nothing, since nobody knows when the announcement was made."""
    c = coalition
    c.advance(hours=1000)
    c.tell_time()
    assert is_pending(c)
    c.wait(hours=71)
    assert is_pending(c)
    c.wait(hours=1)
    assert not is_pending(c)
    assert c.directory.signer(BORDER, NEW.key_id) == NEW.public


def test_a_clock_before_the_announcement_does_not_begin_the_wait() -> None:
    """A clock that the service appended before the announcement says nothing about it."""
    c = Coalition.create()
    c.wait(hours=100)
    announced = drafts.recover_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=NEW.public, issued_at=1
    )
    c.add(announced, *c.authority_keys, NEW)
    c.advance(hours=100)
    c.tell_time()
    assert is_pending(c)


def test_no_other_date_changes_the_directory(coalition: Coalition) -> None:
    """Statements and garbage that are dated years ahead, and a clock that falls, change no wait."""
    c = coalition
    c.tell_time()
    told, years = c.now, 10 * 365 * DAY_US
    c.append(b"garbage by anybody", at=told + years)
    statement = drafts.suspend_agency(c.directory, agency=POLICE_A, reason="x", issued_at=told + years)
    c.add(statement, *c.authority_keys, at=told + years)
    assert is_pending(c)
    c.now = told
    c.wait(hours=71)
    assert is_pending(c)


def test_a_clock_that_was_wrong_is_put_right(coalition: Coalition) -> None:
    """A host whose clock is years ahead delays nothing that is announced after it was put right."""
    c = Coalition.create()
    right, years = c.now, 10 * 365 * DAY_US
    c.tell_time(issued_at=right + years, at=right + years)
    c.now = right
    announced = drafts.recover_key(
        c.directory, party=BORDER, use=KeyUse.SIGNING, public_key=NEW.public, issued_at=1
    )
    c.add(announced, *c.authority_keys, NEW)
    c.wait(hours=72)
    assert not is_pending(c)


def test_who_may_tell_the_time(coalition: Coalition) -> None:
    """The key access service in charge tells the time, and nobody else."""
    c = coalition
    assert may_tell_time(c.directory, KAS)
    for name in (BORDER, NOTARY):
        assert not may_tell_time(c.directory, name)
        told = drafts.tell_time(c.directory, service=name, issued_at=c.now)
        error = c.try_add(told, c.signing[name])
        assert isinstance(error, NotEntitled)
        assert "is not the key access service" in error.message
    told = drafts.tell_time(c.directory, service=KAS, issued_at=c.now)
    assert isinstance(c.try_add(told), SignatureInvalid)
    assert isinstance(c.try_add(told, c.signing[BORDER]), SignatureInvalid)
    assert c.directory.clocks.newest is None


def test_a_service_that_lost_its_keys_comes_back() -> None:
    """While no service has a key in force, the pending one tells the time, or would be pending for ever."""
    c = Coalition.create()
    announced = drafts.announce_service_key(
        c.directory,
        service="kas-2",
        role=ServiceRole.KAS,
        use=KeyUse.SIGNING,
        public_key=NEW.public,
        issued_at=c.now,
    )
    c.add(announced, *c.authority_keys, NEW)
    told = drafts.tell_time(c.directory, service="kas-2", issued_at=c.now)
    assert isinstance(c.try_add(told, NEW), NotEntitled)
    revoked = drafts.revoke_key(
        c.directory,
        party=KAS,
        key_id=c.signing[KAS].key_id,
        since=c.directory.size,
        issued_at=c.now,
        by_authority=True,
    )
    c.add(revoked, *c.authority_keys)
    for _ in range(2):
        c.add(drafts.tell_time(c.directory, service="kas-2", issued_at=c.now), NEW)
        assert c.directory.kas_name == ("kas-2" if c.now > START_US + 72 * HOUR_US else KAS)
        c.advance(hours=72)
    assert c.directory.kas_name == "kas-2"


def test_what_waits(coalition: Coalition) -> None:
    """A pending key, an epoch of less than an hour and a successor of less than a day wait for a clock."""
    c = coalition
    assert waits_for_clock(c.directory)
    c.wait(hours=72)
    assert waits_for_clock(c.directory)  # the key is in force now, and succeeds an older one
    c.wait(hours=24)
    assert not waits_for_clock(c.directory)
    c.suspend(POLICE_A)
    c.new_epoch("repatriation", BORDER)
    assert waits_for_clock(c.directory)
    c.wait(hours=1)
    assert not waits_for_clock(c.directory)


def _joining(c: Coalition) -> None:
    if GUEST not in c.directory.parties:
        c.add_agency(GUEST)


@pytest.mark.parametrize(("days", "counts"), [(29, True), (31, False)])
def test_a_consent_counts_for_thirty_days(days: int, counts: bool) -> None:
    """A consent to join that is older than thirty days by the directory's clock does not count."""
    c = Coalition.create()
    _joining(c)
    join = drafts.join_channel(c.directory, channel="repatriation", agency=GUEST, issued_at=c.now)
    c.wait(hours=24 * days)
    error = c.try_add(join, *(c.signing[name] for name in (*AGENCIES, GUEST)))
    assert (error is None) is counts
    if error is not None:
        assert "more than thirty days ago" in error.message


def test_a_consent_cannot_be_dated_ahead() -> None:
    """The size that a consent names bounds its age, whatever time it says."""
    c = Coalition.create()
    _joining(c)
    join = drafts.join_channel(
        c.directory, channel="repatriation", agency=GUEST, issued_at=c.now + 300 * DAY_US
    )
    c.wait(hours=24 * 31)
    error = c.try_add(join, *(c.signing[name] for name in (*AGENCIES, GUEST)))
    assert error is not None
    assert channels.CONSENT_US == 30 * DAY_US


def test_intake_days_count_by_the_newest_clock() -> None:
    """A thief of the service's key cannot announce for next year by a date of its own making."""
    c = Coalition.create()
    c.tell_time()
    statement = drafts.announce_intake_key(
        c.directory, service=KAS, public_key=c.receiving[BORDER].public, day=c.day + 365, issued_at=c.now
    )
    ahead = replace(statement, header=replace(statement.header, issued_at=c.now + 365 * DAY_US))
    for forged in (statement, ahead):
        error = c.try_add(forged, c.signing[KAS])
        assert error is not None
        assert "the intake key is for day" in error.message
