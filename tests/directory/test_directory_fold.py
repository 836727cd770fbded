"""Rules that hold for every message of the directory, whatever it says (ATTACKS 10, 13 and 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.merkle import root_of_leaves
from broker.crypto.seal import PUBLIC_BYTES
from broker.directory import (
    Directory,
    apply,
    directory_message,
    drafts,
    fold,
    header_for,
    sign_statement,
)
from broker.errors import FormatError, NotEntitled, PeerError, SignatureInvalid
from broker.log.protocol import StoredMessage
from broker.wire.encoding import RESERVED_KINDS, STATEMENT_KINDS, encode, sign_content
from broker.wire.log_leaf import message_leaf
from broker.wire.manifest import Header, KeySignature, Signed
from broker.wire.statements import (
    AgencySuspended,
    ChannelOpened,
    ChannelServices,
    KeyUse,
    ServiceKeyAnnounced,
    ServiceRole,
)
from support.coalition import (
    AGENCIES,
    AUDITOR,
    BORDER,
    DAY_US,
    JUSTICE,
    KAS,
    POLICE_A,
    START_US,
    Coalition,
    receiving_key,
    signing_key,
)


@pytest.fixture
def coalition() -> Coalition:
    return Coalition.create()


def suspension(coalition: Coalition, agency: str = BORDER) -> AgencySuspended:
    return drafts.suspend_agency(
        coalition.directory, agency=agency, reason="exercise", issued_at=coalition.now
    )


def test_a_view_has_the_root_over_every_message_below_it(coalition: Coalition) -> None:
    """The root of a view covers every message below it, valid or not; one that changes nothing makes none."""
    before = coalition.directory
    coalition.append(b"garbage")
    coalition.append(None)
    assert coalition.directory is before
    assert coalition.history.size == before.size + 2
    assert coalition.history.root_at(before.size + 2) is None
    coalition.suspend(BORDER)
    leaves = [
        message_leaf(
            message.appended_at,
            message.key,
            None if message.value is None else sha256(message.value).digest(),
        )
        for message in coalition.messages
    ]
    assert coalition.directory.size == len(coalition.messages)
    assert coalition.directory.root == root_of_leaves(leaves)
    assert coalition.history.root_at(before.size) == before.root == root_of_leaves(leaves[: before.size])


@pytest.mark.parametrize("key", [None, b"k"])
def test_key_must_be_empty(coalition: Coalition, key: bytes | None) -> None:
    """A valid statement does not count when the key of its message is null or not empty."""
    value = directory_message(coalition.sign(suspension(coalition), *coalition.authority_keys))[1]
    assert isinstance(coalition.append(value, key=key), FormatError)
    assert coalition.directory.signer(BORDER, coalition.signing[BORDER].key_id)


@given(value=st.one_of(st.none(), st.binary(max_size=300)), at=st.integers(-(2**63), 2**63 - 1))
def test_any_bytes_change_nothing_and_never_raise(value: bytes | None, at: int) -> None:
    """Any bytes at any time end in our error, and the directory stays the same."""
    before = Coalition.create().directory
    after, error = fold(before, StoredMessage(before.size, b"", value, at), place=before.size)
    assert isinstance(error, PeerError)
    assert after is before


_NAMES = (*AGENCIES, AUDITOR, KAS, "repatriation", "zz", "XZZ:nobody", "")


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field of this type: names that somebody has and names that nobody has."""
    arguments = get_args(hint)
    if is_dataclass(hint):
        parts = get_type_hints(hint).items()
        return st.builds(hint, **{part: _values(part, kind) for part, kind in parts})  # type: ignore[arg-type]
    if arguments and type(None) in arguments:
        return st.none() | _values(name, next(part for part in arguments if part is not type(None)))
    if arguments:
        return st.lists(_values(name, arguments[0]), max_size=2).map(tuple)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if hint is bytes:
        if name in ("receiving_key", "metadata_key", "content_key", "access_key"):
            return st.just(bytes(PUBLIC_BYTES))
        if name == "sealed":
            return st.sampled_from([b"", bytes(1100)])
        some = [bytes(32), signing_key(BORDER).public]
        return st.sampled_from([*some, bytes(PUBLIC_BYTES)] if name == "public_key" else some)
    if hint is int:
        return st.sampled_from([0, 1, -1, 3, START_US // DAY_US, 2**31 - 1])
    return st.booleans() if hint is bool else st.sampled_from(_NAMES)


@pytest.mark.parametrize("kind", [kind for kind in STATEMENT_KINDS if kind not in RESERVED_KINDS])
@given(data=st.data())
def test_whatever_a_statement_names_it_never_raises(kind: str, data: st.DataObject) -> None:
    """A statement of any kind with any names ends in our error or counts, unsigned or signed by anybody."""
    coalition = Coalition.create()
    before = coalition.directory
    drawn = data.draw(_values("", STATEMENT_KINDS[kind]))
    named = next(
        (value for value in (getattr(drawn, part.name) for part in fields(drawn)) if isinstance(value, str)),
        "zz",
    )
    issuer = data.draw(st.just(named) | st.sampled_from(_NAMES))
    statement = replace(drawn, header=header_for(before, issuer, issued_at=coalition.now))
    keys = data.draw(st.sampled_from([(), coalition.authority_keys, (coalition.signing.get(issuer),)]))
    value = encode(sign_statement(statement, [key for key in keys if key], coalition.genesis))
    after, error = fold(before, StoredMessage(before.size, b"", value, coalition.now), place=before.size)
    assert isinstance(error, PeerError) if after is before else error is None


@pytest.mark.parametrize("name", ["zz", "XZZ:nobody", BORDER, AUDITOR, KAS])
@pytest.mark.parametrize("role", list(ServiceRole))
@pytest.mark.parametrize("use", list(KeyUse))
def test_a_service_key_that_nobody_signed_does_not_count(name: str, role: ServiceRole, use: KeyUse) -> None:
    """A stranger announces a key for a name that nobody has, or that is another party's."""
    coalition = Coalition.create()
    public = signing_key("new").public if use is KeyUse.SIGNING else receiving_key("new").public
    statement = ServiceKeyAnnounced(
        header=header_for(coalition.directory, name, issued_at=coalition.now),
        service=name,
        role=role,
        use=use,
        public_key=public,
        day=coalition.day + 1 if use is KeyUse.INTAKE else None,
    )
    assert isinstance(coalition.append(directory_message(coalition.sign(statement))[1]), PeerError)


@given(data=st.data())
def test_any_changed_byte_voids_a_statement(data: st.DataObject) -> None:
    """A statement with one changed byte, anywhere in a real directory, does not count."""
    messages = Coalition.create().messages
    place = data.draw(st.integers(0, len(messages) - 1))
    value = bytearray(messages[place].value or b"")
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    before = Coalition.create().history.at(place)
    _, error = fold(before, messages[place]._replace(value=bytes(value)), place=place)
    assert isinstance(error, PeerError)


def test_fold_is_deterministic(coalition: Coalition) -> None:
    """The same messages give the same directory at every size."""
    coalition.append(b"garbage")
    again = Coalition.replay(coalition.messages, coalition.genesis)
    assert [again.upto(size) for size in range(again.size + 1)] == [
        coalition.history.upto(size) for size in range(again.size + 1)
    ]


def test_apply_equals_fold(coalition: Coalition) -> None:
    """Applying a statement gives the same directory as folding its message, except for its root."""
    before = coalition.directory
    signed = coalition.add(suspension(coalition), *coalition.authority_keys)
    after = apply(before, signed, appended_at=coalition.now)
    assert after.with_root(coalition.directory.root) == coalition.directory
    with pytest.raises(NotEntitled, match="previous"):
        apply(coalition.directory, signed, appended_at=coalition.now)


def _header(**changes: object) -> Callable[[Header], Header]:
    return lambda header: replace(header, **changes)  # type: ignore[arg-type]


HEADERS: list[tuple[str, Callable[[Header], Header], str]] = [
    ("topic", _header(topic="returns"), "a directory statement has topic 'directory'"),
    ("partition", _header(partition=1), "a directory statement has topic 'directory'"),
    ("epoch", _header(epoch=0), "a directory statement has topic 'directory'"),
    ("stream", _header(stream=b"s" * 16), "a directory statement has topic 'directory'"),
    ("sequence", _header(sequence=1), "a directory statement has topic 'directory'"),
    ("size beyond the end", _header(directory_size=10_000), "directory_size is 10000, expected 0 to"),
    ("size below zero", _header(directory_size=-1), "directory_size is -1, expected 0 to"),
    ("another head", _header(directory_root=b"h" * 32), "the issuer saw another directory"),
    ("another size", _header(directory_size=3), "the issuer saw another directory"),
    ("another previous", _header(previous=b"p" * 32), "previous is"),
    ("no previous", _header(previous=bytes(32)), "previous is"),
    ("another issuer", _header(issuer=POLICE_A), "previous is"),
    ("another issuer, no previous", _header(issuer=POLICE_A, previous=bytes(32)), "issuer is 'XAA:police'"),
    ("an issuer of a megabyte", _header(issuer="x" * 900_000, previous=bytes(32)), "issuer is 'xxx"),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS]
)
def test_header_must_hold(coalition: Coalition, change: Callable[[Header], Header], words: str) -> None:
    """A statement of another place, of another view of the directory, or out of its chain does not count."""
    statement = suspension(coalition)
    error = coalition.try_add(replace(statement, header=change(statement.header)), *coalition.authority_keys)
    assert isinstance(error, PeerError)
    assert words in error.message
    assert len(error.message) < 500


def test_an_old_view_is_no_other_view(coalition: Coalition) -> None:
    """An agency that has not yet read the newest messages may still make a statement."""
    old = coalition.directory
    coalition.append(b"garbage")
    statement = drafts.leave_channel(old, channel="repatriation", agency=BORDER, issued_at=coalition.now)
    coalition.add(statement, coalition.signing[BORDER])


def test_kind_is_signed(coalition: Coalition) -> None:
    """A signature made for one kind of statement does not verify for another kind."""
    signed = coalition.sign(suspension(coalition), *coalition.authority_keys)
    assert isinstance(coalition.append(encode(replace(signed, kind="agency-reinstated"))), PeerError)
    error = coalition.append(encode(replace(signed, kind="manifest")))
    assert isinstance(error, FormatError)
    assert "is not a kind of directory statement" in error.message


def test_another_coalition_convinces_nobody(coalition: Coalition) -> None:
    """A statement of an exercise, by the same keys, does not count in production (ATTACKS 15)."""
    signed = sign_statement(suspension(coalition), coalition.authority_keys, b"x" * 32)
    error = coalition.append(encode(signed))
    assert isinstance(error, SignatureInvalid)


def test_operator_drops_a_suspension(coalition: Coalition) -> None:
    """A statement of the authority does not count when the one before it was dropped (ATTACKS 10)."""
    coalition.suspend(BORDER)
    coalition.suspend(JUSTICE)
    history = Coalition.replay(coalition.messages[:-2], coalition.genesis)
    error = history.extend(coalition.messages[-1])
    assert isinstance(error, NotEntitled)


def test_operator_drops_a_statement_and_others_notice(coalition: Coalition) -> None:
    """An agency's statement names a head that a directory without a suspension never had (ATTACKS 10)."""
    coalition.suspend(BORDER)
    coalition.new_epoch("repatriation", POLICE_A)
    history = Coalition.replay(coalition.messages[:-3], coalition.genesis)
    error = history.extend(coalition.messages[-2])
    assert isinstance(error, NotEntitled)
    assert "expected 0 to the directory's size" in error.message


def test_operator_reorders_and_repeats(coalition: Coalition) -> None:
    """A reinstatement does not count before its suspension, nor a suspension twice (ATTACKS 10)."""
    start = len(coalition.messages)
    coalition.suspend(BORDER)
    coalition.reinstate(BORDER)
    suspended, reinstated = coalition.messages[start:]
    history = Coalition.replay(coalition.messages[:start], coalition.genesis)
    assert isinstance(history.extend(reinstated), NotEntitled)
    again = Coalition.replay(coalition.messages, coalition.genesis)
    assert isinstance(again.extend(suspended), NotEntitled)
    assert not again.latest.parties[BORDER].suspended


@pytest.mark.parametrize("kind", sorted(RESERVED_KINDS))
def test_a_reserved_kind_does_not_count(coalition: Coalition, kind: str) -> None:
    """A statement of a kind that a later version fills is refused by name, whoever signed it."""
    key = coalition.authority_keys[0]
    signed = sign_content(key, kind, coalition.genesis, b"")
    error = coalition.append(directory_message(signed)[1])
    assert isinstance(error, FormatError)
    assert error.message == f"statements of kind '{kind}' are reserved for a later version"


def test_several_services_of_a_channel_are_reserved(coalition: Coalition) -> None:
    """An opening that names k of n key access services does not count in this version."""
    opened = next(made for made, _ in coalition.made if isinstance(made, ChannelOpened))
    again = coalition.updated(opened)
    assert isinstance(again, ChannelOpened)
    several = replace(
        again,
        channel="new",
        number=9,
        kas=ChannelServices(k=2, services=("kas", "kas-2")),
    )
    error = coalition.try_add(several, *coalition.authority_keys)
    assert isinstance(error, FormatError)
    assert "reserved for a later version" in error.message


def test_a_repeat_of_an_agency_does_not_count(coalition: Coalition) -> None:
    """The old departure of an agency does not count again after the agency has joined again."""
    leave = drafts.leave_channel(
        coalition.directory, channel="repatriation", agency=BORDER, issued_at=coalition.now
    )
    coalition.add(leave, coalition.signing[BORDER])
    left = coalition.messages[-1]
    join = drafts.join_channel(
        coalition.directory, channel="repatriation", agency=BORDER, issued_at=coalition.now
    )
    members = coalition.directory.channels["repatriation"].members
    coalition.add(join, *(coalition.signing[name] for name in [BORDER, *members]))
    error = coalition.append(left.value)
    assert isinstance(error, NotEntitled)
    assert "has counted already" in error.message


KEY = signing_key("authority 0")
IDENTITY = b"\x01" + bytes(31)

GENESES: list[tuple[str, dict[str, object], int, str]] = [
    ("threshold of no majority", {"threshold": 1}, 3, "threshold is 1 of 3 keys, expected 2 to 3"),
    ("threshold above n", {"threshold": 4}, 3, "threshold is 4 of 3 keys, expected 2 to 3"),
    ("no keys", {"authority_keys": (), "threshold": 0}, 0, "authority has 0 keys"),
    ("one key twice", {"authority_keys": (KEY.public, KEY.public)}, 1, "listed twice"),
    ("small order", {"authority_keys": (KEY.public, IDENTITY)}, 1, "small order"),
    ("a key without possession", {}, 2, "must be signed by all 3"),
    ("33 keys", {"authority_keys": tuple(bytes([i]) * 32 for i in range(33))}, 3, "authority has 33 keys"),
    ("no name", {"coalition": ""}, 3, "name of the coalition"),
]


@pytest.mark.parametrize(
    ("changes", "signers", "words"), [c[1:] for c in GENESES], ids=[c[0] for c in GENESES]
)
def test_genesis_must_be_sound(changes: dict[str, object], signers: int, words: str) -> None:
    """A genesis names distinct and usable keys, needs a majority of them, and all of them sign it."""
    keys = Coalition.found().all_authority_keys
    statement = drafts.found_coalition(
        coalition="Other", authority_keys=[key.public for key in keys], threshold=2, issued_at=1
    )
    statement = replace(statement, **changes)  # type: ignore[arg-type]
    signed = sign_statement(statement, keys[:signers], bytes(32))
    with pytest.raises(PeerError, match=words):
        apply(Directory.empty(), signed, appended_at=1)


def test_genesis_comes_first_and_once(coalition: Coalition) -> None:
    """A genesis counts as the first message only: neither behind another message nor a second time."""
    history = Coalition.replay([coalition.messages[1], coalition.messages[0]])
    assert history.latest.authority.keys == ()
    error = history.extend(coalition.messages[2])
    assert error is not None
    assert "did not begin with a genesis" in error.message
    error = coalition.append(coalition.messages[0].value)
    assert error is not None


def _genesis(coalition: Coalition) -> Signed:
    statement, keys = coalition.made[0]
    return coalition.sign(statement, *keys)


def test_pinned_genesis(coalition: Coalition) -> None:
    """A participant refuses a coalition that is not the one whose genesis it has pinned."""
    other = Coalition.replay(coalition.messages, b"g" * 32)
    assert other.latest.authority.keys == ()
    with pytest.raises(NotEntitled, match="expected the pinned 6767"):
        apply(Directory.empty(b"g" * 32), _genesis(coalition), appended_at=1)


def _resigned(signed: Signed, signatures: tuple[KeySignature, ...]) -> bytes:
    return encode(replace(signed, signatures=signatures))


def test_k_of_n_signatures(coalition: Coalition) -> None:
    """k distinct authority keys must sign, and no wrong or foreign signature may stand there (ATTACKS 12)."""
    key_1, key_2, key_3 = coalition.all_authority_keys
    statement = suspension(coalition)
    signed = coalition.sign(statement, key_1, key_2)
    first, second = signed.signatures
    stranger = coalition.sign(statement, signing_key("stranger")).signatures[0]
    agency = coalition.sign(statement, coalition.signing[JUSTICE]).signatures[0]
    wrong = replace(coalition.sign(statement, key_3).signatures[0], signature=bytes(64))
    for signatures, words in [
        ((), "has 0 of the 2 authority signatures"),
        ((first,), "has 1 of the 2 authority signatures"),
        ((first, first), "signed 'agency-suspended' twice"),
        ((first, second, second), "signed 'agency-suspended' twice"),
        ((first, second, stranger), "may not sign this"),
        ((first, agency), "may not sign this"),
        ((first, second, wrong), "does not verify"),
        ((first, replace(second, key_id=key_3.key_id)), "does not verify"),
    ]:
        error = coalition.append(_resigned(signed, signatures))
        assert isinstance(error, SignatureInvalid)
        assert words in error.message
    coalition.add(suspension(coalition), key_1, key_2, key_3)


def test_pinned_to_the_state_before(coalition: Coalition) -> None:
    """A key signs nothing before the statement that added it, and the history says since when it signs."""
    new = signing_key("new")
    statement = drafts.add_key(
        coalition.directory, party=BORDER, use=KeyUse.SIGNING, public_key=new.public, issued_at=1
    )
    coalition.add(statement, coalition.signing[BORDER], new, *coalition.authority_keys)
    size = coalition.directory.size
    assert coalition.history.at(size).signer(BORDER, new.key_id) == new.public
    with pytest.raises(NotEntitled, match="is not a signing key of 'XAA:border'"):
        coalition.history.at(size - 1).signer(BORDER, new.key_id)
