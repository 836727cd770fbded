"""Attacks on the directory: statements rolled back, reordered, repeated, or made by the wrong issuer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.clock import DAY_US
from broker.crypto.sign import SigningKey
from broker.directory import Directory, complaint, drafts, make_channel_keys
from broker.errors import NotEntitled
from broker.verify.violations import Kind, Place
from broker.wire.encoding import Statement
from broker.wire.statements import ChannelKind, KeyUse, ServiceRole
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    KAS,
    POLICE_A,
    POLICE_B,
    PURPOSES,
    RECORD_TYPES,
    REHAB,
    receiving_key,
    signing_key,
)
from support.played import played
from support.simulator import Simulator
from support.world import CHANNEL, PAIR, World

Make = Callable[[Directory, int], Statement]
AUTHORITY = tuple(signing_key(f"authority {i}") for i in range(3))
PUPPET = "XZZ:puppet"
P = signing_key("puppet")


def at(offset: int) -> Place:
    """The place of a message of the directory."""
    return Place("directory", 0, offset)


# 10: the operator changes statements that count


@pytest.mark.parametrize("offset", [0, 1, 7, 15, 21])
def test_flip_a_statement(world: Simulator, offset: int) -> None:
    """10: The operator flips a bit of a statement that others have seen, and the statement is reported."""
    place = world.flip(at(offset))
    world.must_report(Kind.DIRECTORY_STATEMENT, place)


@pytest.mark.parametrize("close_up", [False, True])
def test_drop_a_statement(world: Simulator, close_up: bool) -> None:
    """10: The operator drops a statement; the hole, or the next statement after closing up, is reported."""
    place = world.drop(at(9), close_up=close_up)
    world.must_report(Kind.DIRECTORY_STATEMENT if close_up else Kind.OFFSET_MISSING, place)


def test_swap_two_statements(world: Simulator) -> None:
    """10: The operator exchanges two statements of the authority, whose chain breaks at the first."""
    place = world.swap(at(2), at(3))
    world.must_report(Kind.DIRECTORY_STATEMENT, place)


def test_change_an_append_time(world: Simulator) -> None:
    """10: The operator changes an append time, and the directory's root shows it."""
    place = world.overwrite(at(9), 12345, column="appended_at")
    report = world.replay()
    roots = [found.violation for found in report.violations if found.violation.caused_by is None]
    assert [root.place.topic for root in roots] == ["directory"], report.violations
    assert place.offset <= roots[0].place.offset <= place.offset + 1


def test_a_suspension_dropped(world: Simulator) -> None:
    """10: The operator drops a suspension, and a batch whose issuer had seen it is reported."""
    world.suspend(CARE)
    world.forge(issuer=BORDER)
    place = world.cut_tail(at(23))
    world.must_report(Kind.VIEW_UNKNOWN, Place("returns", 0, 26), delivers=False)
    assert place == at(23)


def test_a_suspension_swapped_with_its_end(world: Simulator) -> None:
    """10: The operator exchanges a suspension with the reinstatement that follows it."""
    world.suspend(CARE)
    world.say(lambda d, now: drafts.reinstate_agency(d, agency=CARE, issued_at=now))
    place = world.swap(at(23), at(24))
    world.must_report(Kind.DIRECTORY_STATEMENT, place)


def test_a_suspension_replayed(world: Simulator) -> None:
    """10: An old suspension after the reinstatement does not count: its ``previous`` is not the newest."""
    world.suspend(CARE)
    row = world.row(at(23))
    world.say(lambda d, now: drafts.reinstate_agency(d, agency=CARE, issued_at=now))
    place = world.append("directory", 0, (row.key, row.value))
    world.must_not_count(place, "previous")


@pytest.mark.parametrize("offset", [0, 5, 12, 22])
def test_a_statement_twice(world: Simulator, offset: int) -> None:
    """10: The operator appends a copy of a statement, and the copy does not count."""
    row = world.row(at(offset))
    place = world.append("directory", 0, (row.key, row.value))
    world.must_not_count(place, "")


def test_rolled_back_for_who_has_seen_more(world: Simulator) -> None:
    """5: An auditor that has seen more reports the place where an older directory ends."""
    place = world.cut_tail(at(20))
    report = world.replay(high_water=played().high_water)
    assert (report.violations[0].violation.kind, report.violations[0].violation.place) == (
        Kind.DIRECTORY_ROLLBACK,
        place,
    )
    assert all(found.violation.caused_by == place for found in report.violations[1:])


def test_rolled_back_for_who_is_new(world: Simulator) -> None:
    """5: A new auditor reports an older directory, since an access entry refers to a newer one."""
    place = world.cut_tail(at(22))
    world.must_report(Kind.DIRECTORY_ROLLBACK, place)


def test_rolled_back_for_the_service(world: Simulator) -> None:
    """5: The service does not start with an older directory than it has seen before."""
    world.cut_tail(at(22))
    with pytest.raises(NotEntitled, match="seen before"):
        world.read()


@pytest.mark.parametrize(
    "message", [(None, None), (b"", b""), (b"", None), (b"k", b"\xff" * 9), (b"", b"x" * 900_000)]
)
def test_raw_messages(world: Simulator, message: tuple[bytes | None, bytes | None]) -> None:
    """25, 26: A message that is not a statement does not count, and everything else goes on."""
    place = world.append("directory", 0, message)
    world.must_not_count(place, "")


# 12, 14: statements by an issuer without a right


def key_added(party: str, key: bytes, use: KeyUse = KeyUse.RECEIVING) -> Make:
    """The statement that adds a key to a party."""
    return lambda d, now: drafts.add_key(d, party=party, use=use, public_key=key, issued_at=now)


def admitted(key: bytes = signing_key(PUPPET).public, name: str = PUPPET) -> Make:
    """The statement that admits an agency."""
    receiving = receiving_key(PUPPET).public
    return lambda d, now: drafts.admit_agency(
        d, agency=name, title="Puppet", signing_key=key, receiving_key=receiving, issued_at=now
    )


def opened(**changes: Any) -> Make:
    """The statement that opens a channel."""
    fields: dict[str, Any] = {
        "channel": "new",
        "number": 3,
        "members": [POLICE_A, POLICE_B],
        "auditors": [AUDITOR],
        "record_types": RECORD_TYPES,
        "purposes": PURPOSES,
        "legal_basis": "none",
        "ceiling_days": 10,
        "kind": None,
        "mandates": (),
    }
    return lambda d, now: drafts.open_channel(d, **(fields | changes), issued_at=now)


def service(role: ServiceRole, key: bytes, use: KeyUse = KeyUse.SIGNING) -> Make:
    """The statement that announces a key of a service."""
    return lambda d, now: drafts.announce_service_key(
        d, service="puppet", role=role, use=use, public_key=key, issued_at=now
    )


SMALL = (  # of order 4, 1 and 2, and an encoding of 1 that is not canonical
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
)


@pytest.mark.parametrize("key", SMALL, ids=["zero", "one", "minus one", "too large"])
def test_a_small_order_key(world: Simulator, key: bytes) -> None:
    """14: A member cannot add a signing key of small order, or one whose encoding is not canonical."""
    place = world.say_anyway(key_added(CARE, key, KeyUse.SIGNING), signing_key(CARE))
    world.must_not_count(place, "")


@pytest.mark.parametrize("key", SMALL, ids=["zero", "one", "minus one", "too large"])
def test_a_small_order_key_at_admission(world: Simulator, key: bytes) -> None:
    """14: Two authorities cannot admit an agency with such a key."""
    place = world.say_anyway(admitted(key), *AUTHORITY[:2])
    world.must_not_count(place, "")


STATEMENTS: list[tuple[str, Make, tuple[SigningKey, ...]]] = [
    ("12: A admits a puppet alone", admitted(), (AUTHORITY[0], signing_key(PUPPET))),
    ("12: A signs twice with one key", admitted(), (AUTHORITY[0], AUTHORITY[0], signing_key(PUPPET))),
    ("14: a key without possession", admitted(), AUTHORITY[:2]),
    ("N admits itself", admitted(), (signing_key(PUPPET),)),
    ("a name that is not an agency's", admitted(name="../../etc"), (*AUTHORITY[:2], signing_key(PUPPET))),
    ("a name that is taken", admitted(name=CARE), (*AUTHORITY[:2], signing_key(PUPPET))),
    ("12: A adds a receiving key", key_added(CARE, receiving_key("x").public), AUTHORITY[:2]),
    ("M adds a key to another", key_added(CARE, receiving_key("x").public), (signing_key(BORDER),)),
    ("T adds a key unproved", key_added(CARE, signing_key("x").public, KeyUse.SIGNING), (signing_key(CARE),)),
    ("a receiving key cut short", key_added(CARE, bytes(100)), (signing_key(CARE),)),
    ("12: one A announces a KAS", service(ServiceRole.KAS, P.public), (AUTHORITY[0], P)),
    ("M announces a notary", service(ServiceRole.NOTARY, P.public), (signing_key(CARE), P)),
    ("M opens a channel", opened(), (signing_key(POLICE_A),)),
    ("12: A opens a channel alone", opened(), (AUTHORITY[0],)),
    (
        "three members in a bilateral channel",
        opened(members=[POLICE_A, POLICE_B, CARE], kind=ChannelKind.BILATERAL),
        AUTHORITY[:2],
    ),
    ("a number that is taken", opened(number=0), AUTHORITY[:2]),
    ("a negative number", opened(number=-1), AUTHORITY[:2]),
    ("a name that is a path", opened(channel="../../etc/passwd"), AUTHORITY[:2]),
    ("a name that is taken", opened(channel=PAIR), AUTHORITY[:2]),
    ("a member that was not admitted", opened(members=[POLICE_A, PUPPET]), AUTHORITY[:2]),
    ("one member", opened(members=[POLICE_A]), AUTHORITY[:2]),
    ("a record type twice", opened(record_types=["Unknown", "Unknown"]), AUTHORITY[:2]),
    (
        "A joins a third to a bilateral channel",
        lambda d, now: drafts.join_channel(d, channel=PAIR, agency=CARE, issued_at=now),
        (*AUTHORITY[:2], signing_key(CARE), signing_key(POLICE_A), signing_key(POLICE_B)),
    ),
    (
        "N joins a channel by itself",
        lambda d, now: drafts.join_channel(d, channel="xbb-xdd", agency=CARE, issued_at=now),
        (signing_key(CARE),),
    ),
    (
        "M suspends another",
        lambda d, now: drafts.suspend_agency(d, agency=CARE, reason="x", issued_at=now),
        (signing_key(POLICE_A),),
    ),
    (
        "A suspends alone",
        lambda d, now: drafts.suspend_agency(d, agency=CARE, reason="x", issued_at=now),
        (AUTHORITY[2],),
    ),
    (
        "M reinstates itself",
        lambda d, now: drafts.reinstate_agency(d, agency=CARE, issued_at=now),
        (signing_key(CARE),),
    ),
    (
        "A rotates itself away from the others",
        lambda d, now: drafts.rotate_authority(
            d, authority_keys=[AUTHORITY[0].public], threshold=1, issued_at=now
        ),
        (AUTHORITY[0],),
    ),
    (
        "A sets its threshold to 0",
        lambda d, now: drafts.rotate_authority(
            d, authority_keys=[key.public for key in AUTHORITY], threshold=0, issued_at=now
        ),
        AUTHORITY[:2],
    ),
    (
        "M appoints an auditor",
        lambda d, now: drafts.appoint_auditor(
            d,
            auditor="mine",
            title="mine",
            signing_key=signing_key("mine").public,
            receiving_key=receiving_key("mine").public,
            channels=[CHANNEL],
            issued_at=now,
        ),
        (signing_key(CARE), signing_key("mine")),
    ),
    (
        "M revokes another's key",
        lambda d, now: drafts.revoke_key(
            d, party=CARE, key_id=signing_key(CARE).key_id, since=1, issued_at=now
        ),
        (signing_key(BORDER),),
    ),
    (
        "K retires its key before its successor",
        lambda d, now: drafts.retire_key(
            d,
            party=KAS,
            key_id=signing_key(KAS).key_id,
            successor=signing_key(KAS).key_id,
            issued_at=now,
        ),
        (signing_key(KAS),),
    ),
    (
        "M announces an intake key",
        lambda d, now: drafts.announce_intake_key(
            d, service=KAS, public_key=receiving_key("mine").public, day=now // DAY_US + 9, issued_at=now
        ),
        (signing_key(CARE),),
    ),
    (
        "K announces a second key for a day",
        lambda d, now: drafts.announce_intake_key(
            d, service=KAS, public_key=receiving_key("mine").public, day=now // DAY_US, issued_at=now
        ),
        (signing_key(KAS),),
    ),
    (
        "K announces for the year 9999",
        lambda d, now: drafts.announce_intake_key(
            d, service=KAS, public_key=receiving_key("mine").public, day=2_932_896, issued_at=now
        ),
        (signing_key(KAS),),
    ),
    (
        "16: M publishes epochs without end",
        lambda d, now: make_channel_keys(d, CHANNEL, POLICE_A, now),
        (signing_key(POLICE_A),),
    ),
    (
        "N publishes a channel's keys",
        lambda d, now: replace(
            make_channel_keys(d, PAIR, POLICE_A, now),
            header=replace(make_channel_keys(d, PAIR, POLICE_A, now).header, issuer=CARE),
        ),
        (signing_key(CARE),),
    ),
    (
        "a suspension that nobody signed",
        lambda d, now: drafts.suspend_agency(d, agency=CARE, reason="x", issued_at=now),
        (),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "keys"), [case[1:] for case in STATEMENTS], ids=[case[0] for case in STATEMENTS]
)
def test_statements_that_do_not_count(world: Simulator, make: Make, keys: tuple[SigningKey, ...]) -> None:
    """12, 14, 16: A statement does not count without the right issuer and the signatures that it needs."""
    place = world.say_anyway(make, *keys)
    world.must_not_count(place, "")


@pytest.mark.parametrize(
    "header",
    [
        {"directory_size": 999},
        {"directory_size": 2**62},
        {"directory_size": -1},
        {"directory_root": bytes(32)},
        {"previous": bytes(32)},
        {"topic": "returns"},
        {"partition": 1},
        {"issuer": POLICE_A},
    ],
)
def test_a_header_that_lies(world: Simulator, header: dict[str, Any]) -> None:
    """10, 13: A statement does not count when its header names another view, place, chain or issuer."""

    def make(directory: Directory, now: int) -> Statement:
        made = drafts.suspend_agency(directory, agency=CARE, reason="x", issued_at=now)
        return replace(made, header=replace(made.header, **header))

    place = world.say_anyway(make, *AUTHORITY[:2])
    world.must_not_count(place, "")


# 16: halves


@pytest.mark.parametrize("sealed", [b"", b"j" * 1168])
def test_junk_halves(world: Simulator, sealed: bytes) -> None:
    """16: A recipient whose half is junk complains, and another member then publishes the next epoch."""
    world.suspend(CARE)  # a new epoch needs a reason, unless an hour has passed

    def make(directory: Directory, now: int) -> Statement:
        keys = make_channel_keys(directory, CHANNEL, POLICE_A, now)
        halves = list(keys.metadata_halves)
        halves[0] = replace(halves[0], sealed=sealed)
        return replace(keys, metadata_halves=tuple(halves))

    if not sealed:
        world.must_not_count(world.say_anyway(make, signing_key(POLICE_A)), "")
        return
    world.say(make, POLICE_A)
    broken = world.run(lambda w: cannot_open(w, 1))
    assert len(broken) == 1
    detail = "my half does not open"
    world.say(lambda d, now: complaint(d, CHANNEL, 1, broken[0], detail=detail, issued_at=now), broken[0])
    world.say(lambda d, now: make_channel_keys(d, CHANNEL, JUSTICE, now), JUSTICE)
    assert world.run(lambda w: cannot_open(w, 2)) == []
    assert world.replay().verified


async def cannot_open(world: World, epoch: int) -> list[str]:
    """The recipients that were sealed junk of this epoch."""
    found = []
    for name in (POLICE_A, POLICE_B, BORDER, JUSTICE, REHAB, AUDITOR, KAS):
        keyring = world.keyring(name)
        keyring.epoch_key(world.coalition.directory, CHANNEL, epoch, "metadata")
        found += [name] if keyring.junk else []
    return found
