"""Channels: how they are opened and closed, and how members join and leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.crypto.sign import SigningKey
from broker.directory import drafts
from broker.errors import PeerError, SignatureInvalid
from broker.wire.encoding import Statement
from broker.wire.statements import (
    ChannelKind,
    ChannelOpened,
    JoiningRule,
    KeyUse,
    Mandate,
    MemberJoined,
    MemberLeft,
)
from broker.wire.terms import Purpose
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
    signing_key,
)

THREE = (POLICE_A, POLICE_B, JUSTICE)


@pytest.fixture
def coalition() -> Coalition:
    return Coalition.create()


def opened(c: Coalition, **changes: object) -> ChannelOpened:
    statement = drafts.open_channel(
        c.directory,
        channel="three",
        number=7,
        members=THREE,
        auditors=[AUDITOR],
        record_types=["ReturnEvent"],
        purposes=[Purpose.PREVENTION, Purpose.CHILD_PROTECTION],
        legal_basis="Exercise treaty, article 7",
        ceiling_days=365,
        issued_at=c.now,
        joining=JoiningRule.MAJORITY,
    )
    return replace(statement, **changes)  # type: ignore[arg-type]


def mandate(agency: str = POLICE_B, *purposes: Purpose, ref: str = "M-1") -> Mandate:
    return Mandate(ref=ref, agency=agency, purposes=purposes or (Purpose.PREVENTION,))


def joined(c: Coalition, agency: str = CARE, channel: str = "three") -> MemberJoined:
    return drafts.join_channel(c.directory, channel=channel, agency=agency, issued_at=c.now)


def left(c: Coalition, agency: str = BORDER, channel: str = "repatriation") -> MemberLeft:
    return drafts.leave_channel(c.directory, channel=channel, agency=agency, issued_at=c.now)


TWICE = (POLICE_A, POLICE_A, JUSTICE)
MANY = tuple(f"XAA:{i}" for i in range(129))

NOT_OPENED: dict[str, tuple[dict[str, object], str]] = {
    "a name in use": ({"channel": "xaa-xbb"}, "channel name 'xaa-xbb' is taken"),
    "a bad name": ({"channel": "-three"}, "is not a valid name of a channel"),
    "a long name": ({"channel": "x" * 64}, "is not a valid name of a channel"),
    "a number in use": ({"number": 1}, "channel number 1 is taken"),
    "a number below zero": ({"number": -1}, "channel number is -1"),
    "a number too large": ({"number": 100_000}, "channel number is 100000"),
    "bilateral of three": ({"kind": ChannelKind.BILATERAL}, "bilateral channel has 3"),
    "multilateral of two": ({"members": THREE[:2]}, "multilateral channel has 2"),
    "bilateral of one": ({"kind": ChannelKind.BILATERAL, "members": THREE[:1]}, "bilateral channel has 1"),
    "129 members": ({"members": MANY}, "multilateral channel has 129"),
    "a member twice": ({"members": TWICE}, "a member is listed twice"),
    "a member not admitted": ({"members": (*THREE, "XEE:police")}, "no agency 'XEE:police'"),
    "an auditor as member": ({"members": (*THREE, AUDITOR)}, "no agency 'auditor'"),
    "a suspended member": ({"members": (*THREE, REHAB)}, "'XDD:rehabilitation' is suspended"),
    "an auditor not appointed": ({"auditors": (KAS,)}, "no auditor 'kas'"),
    "an auditor twice": ({"auditors": (AUDITOR, AUDITOR)}, "an auditor is listed twice"),
    "no record types": ({"record_types": ()}, "0 record types"),
    "a record type twice": ({"record_types": ("A", "A")}, "a record type is listed twice"),
    "a bad record type": ({"record_types": ("A b",)}, "is not a valid name of a record type"),
    "no purposes": ({"purposes": ()}, "allows no purposes"),
    "a purpose of the log": ({"purposes": (Purpose.LAWFULNESS,)}, "for reading the access log only"),
    "a purpose twice": ({"purposes": (Purpose.PREVENTION,) * 2}, "a purpose is listed twice"),
    "no legal basis": ({"legal_basis": ""}, "legal basis has 0"),
    "no retention": ({"ceiling_days": 0}, "ceiling is 0 days"),
    "more than a century": ({"ceiling_days": 36_501}, "ceiling is 36501 days"),
    "a stranger's mandate": ({"mandates": (mandate(REHAB),)}, "which is not a member"),
    "a mandate for more": ({"mandates": (mandate(POLICE_B, Purpose.PROSECUTION),)}, "does not allow"),
    "a mandate twice": ({"mandates": (mandate(), mandate(POLICE_A))}, "a mandate is listed twice"),
    "a mandate without a name": ({"mandates": (mandate(ref=""),)}, "is not a valid name of a mandate"),
}


@pytest.mark.parametrize(("changes", "words"), NOT_OPENED.values(), ids=NOT_OPENED.keys())
def test_channel_is_not_opened(coalition: Coalition, changes: dict[str, object], words: str) -> None:
    """A channel that breaks a rule is not opened, and the error says which rule."""
    coalition.suspend(REHAB)
    error = coalition.try_add(opened(coalition, **changes), *coalition.authority_keys)
    assert isinstance(error, PeerError)
    assert words in error.message
    assert coalition.directory.channel("three") is None


def test_channel_is_opened(coalition: Coalition) -> None:
    """An open channel is found by name and number, and has no epoch yet."""
    statement = opened(coalition, mandates=(mandate(),))
    assert isinstance(coalition.try_add(statement, coalition.authority_keys[0]), SignatureInvalid)
    coalition.add(opened(coalition, mandates=(mandate(),)), *coalition.authority_keys)
    channel = coalition.directory.channel("three")
    assert channel is not None
    assert channel is coalition.directory.channel_at(7)
    assert channel.members == set(THREE)
    assert channel.mandates["M-1"] == mandate()
    assert (channel.newest_published, channel.newest_confirmed, channel.needs_new_epoch) == (-1, -1, True)
    assert channel.epoch is None


def test_channel_is_closed_for_good(coalition: Coalition) -> None:
    """A closed channel never changes again, and its name and number are not used again."""
    c = coalition
    c.add(drafts.close_channel(c.directory, channel="repatriation", issued_at=1), *c.authority_keys)
    channel = c.directory.channel("repatriation")
    assert channel is not None
    assert not channel.is_open
    refused: list[tuple[Statement, tuple[SigningKey, ...]]] = [
        (drafts.close_channel(c.directory, channel="repatriation", issued_at=1), c.authority_keys),
        (left(c), (c.signing[BORDER],)),
    ]
    for statement, keys in refused:
        assert "channel 'repatriation' is closed" in str(c.try_add(statement, *keys))
    assert "is taken" in str(c.try_add(opened(c, channel="repatriation"), *c.authority_keys))
    assert "is taken" in str(c.try_add(opened(c, number=0), *c.authority_keys))
    c.suspend(BORDER)
    channel = c.directory.channel("repatriation")
    assert channel is not None
    assert not channel.needs_new_epoch


@pytest.mark.parametrize(
    ("joining", "members", "counts"),
    [
        (JoiningRule.ALL, THREE, True),
        (JoiningRule.ALL, THREE[:2], False),
        (JoiningRule.MAJORITY, THREE[:2], True),
        (JoiningRule.MAJORITY, THREE[:1], False),
        (JoiningRule.MAJORITY, (), False),
    ],
)
def test_joining_needs_the_members_by_the_rule(
    coalition: Coalition, joining: JoiningRule, members: tuple[str, ...], counts: bool
) -> None:
    """A joiner needs all members or more than half of them, by the channel's rule."""
    coalition.add(opened(coalition, joining=joining), *coalition.authority_keys)
    keys = [coalition.signing[name] for name in (CARE, *members)]
    error = coalition.try_add(joined(coalition), *keys)
    channel = coalition.directory.channels["three"]
    assert (error is None) == counts
    assert (CARE in channel.members) == counts


def test_suspended_members_count_though_they_cannot_sign(coalition: Coalition) -> None:
    """An authority that suspends members cannot let an agency in with the consent of the others alone."""
    coalition.add(opened(coalition, joining=JoiningRule.ALL), *coalition.authority_keys)
    coalition.suspend(POLICE_B)
    keys = [coalition.signing[name] for name in (CARE, POLICE_A, JUSTICE)]
    error = coalition.try_add(joined(coalition), *keys)
    assert error is not None
    assert "2 of 3 members signed, expected 3; missing: XBB:police" in error.message
    coalition.reinstate(POLICE_B)
    coalition.add(joined(coalition), *keys, coalition.signing[POLICE_B])


NOT_JOINED: dict[str, tuple[Callable[[Coalition], tuple[Statement, tuple[SigningKey, ...]]], str]] = {
    "without the joiner": (
        lambda c: (joined(c), tuple(c.signing[name] for name in THREE)),
        "no active key of the joiner",
    ),
    "by two keys of one member": (
        lambda c: (joined(c), (c.signing[CARE], c.signing[POLICE_A], signing_key("second"))),
        "1 of 3 members signed, expected 2",
    ),
    "by the authority": (
        lambda c: (joined(c), (c.signing[CARE], *c.authority_keys)),
        "may not sign this",
    ),
    "of a member": (
        lambda c: (joined(c, POLICE_A), tuple(c.signing[name] for name in THREE)),
        "is a member of 'three' already",
    ),
    "of a bilateral channel": (
        lambda c: (joined(c, CARE, "xaa-xbb"), tuple(c.signing[n] for n in (CARE, POLICE_A, POLICE_B))),
        "is bilateral",
    ),
    "of a suspended agency": (
        lambda c: (joined(c, REHAB), tuple(c.signing[name] for name in (REHAB, *THREE))),
        "'XDD:rehabilitation' is suspended",
    ),
    "of an auditor": (
        lambda c: (joined(c, AUDITOR), tuple(c.signing[name] for name in (AUDITOR, *THREE))),
        "there is no agency 'auditor'",
    ),
    "of no channel": (
        lambda c: (joined(c, CARE, "none"), (c.signing[CARE],)),
        "there is no channel 'none'",
    ),
}


@pytest.mark.parametrize(("made", "words"), NOT_JOINED.values(), ids=NOT_JOINED.keys())
def test_not_joined(
    coalition: Coalition, made: Callable[[Coalition], tuple[Statement, tuple[SigningKey, ...]]], words: str
) -> None:
    """An agency joins with the right signatures only, and only a channel that can be joined."""
    c = coalition
    second = signing_key("second")
    c.add(opened(c), *c.authority_keys)
    statement = drafts.add_key(
        c.directory, party=POLICE_A, use=KeyUse.SIGNING, public_key=second.public, issued_at=c.now
    )
    c.add(statement, c.signing[POLICE_A], second, *c.authority_keys)
    c.suspend(REHAB)
    statement_, keys = made(c)
    error = c.try_add(statement_, *keys)
    assert isinstance(error, PeerError)
    assert words in error.message


def test_member_leaves(coalition: Coalition) -> None:
    """A member leaves by its own signature or the authority's, and a new epoch is due without it."""
    c = coalition
    for statement, keys, words in [
        (left(c), (c.signing[POLICE_A],), "may not sign this"),
        (left(c, POLICE_A, "xbb-xdd"), (c.signing[POLICE_A],), "is not a member of 'xbb-xdd'"),
    ]:
        assert words in str(c.try_add(statement, *keys))
    c.add(left(c), c.signing[BORDER])
    expelled = drafts.expel_member(c.directory, channel="repatriation", agency=CARE, issued_at=c.now)
    c.add(expelled, *c.authority_keys)
    channel = c.directory.channels["repatriation"]
    assert channel.members == {POLICE_A, POLICE_B, JUSTICE, REHAB}
    assert channel.needs_new_epoch
    assert not c.directory.channels["xaa-xbb"].needs_new_epoch
    assert {
        recipient.name for recipient in c.directory.recipients("repatriation", "content")
    } == channel.members
