"""Access requests: the checks by their maker and by the service, before anything is decided (attack 22)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.request_checks import (
    MAX_CLOCK_DIFFERENCE_US,
    MAX_ITEMS,
    MAX_LOG_RANGE,
    MAX_REQUEST_BYTES,
    CheckedRequest,
    check_form,
    check_issuer,
    check_query,
    check_signed,
    details_commitment,
    names_others,
    parse_request,
)
from broker.access.requests import make_query, make_request, new_details
from broker.crypto.sign import SigningKey
from broker.directory import History, drafts
from broker.errors import RequestRefused, UsageError
from broker.participant.keyring import Keyring
from broker.wire.access import AccessDetails, AccessRequest, BatchRef
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import LogItem, Operation, RecordItem, Signed
from broker.wire.statements import KeyUse
from broker.wire.terms import Purpose
from support.coalition import CARE, POLICE_A, POLICE_B, Coalition, receiving_key, signing_key

COALITION = Coalition.create()
NOW = COALITION.now
ITEM = RecordItem(topic="returns", offset=0, batch_id=bytes(32), indexes=b"\x00\x01")
DETAILS = new_details(person="p", role="r", legal_basis="l", justification="j")


def request(**changes: Any) -> AccessRequest:
    """Make a request that can be judged, with some fields changed."""
    good = AccessRequest(
        issuer=POLICE_B,
        issued_at=NOW,
        directory_size=COALITION.directory.size,
        directory_root=COALITION.directory.root,
        seen=(),
        nonce=bytes(16),
        operation=Operation.CONSULTATION,
        channel="repatriation",
        items=(ITEM,),
        purpose=Purpose.INVESTIGATION,
        mandate_ref=None,
        passes_on=False,
        details_commitment=details_commitment(encode(DETAILS)),
    )
    return replace(good, **changes)


def signed(content: AccessRequest, key: SigningKey | None = None, kind: str = "access-request") -> Signed:
    """Sign a request."""
    return sign_content(key or signing_key(POLICE_B), kind, COALITION.genesis, encode(content))


def check_request(data: bytes, details: bytes, history: History, now: int) -> CheckedRequest:
    """Make both checks, as the service does."""
    return check_issuer(parse_request(data, details, now), history)


def refusal(statement: Signed, details: AccessDetails | bytes = DETAILS, now: int = NOW) -> str:
    """Return why the service refuses a request."""
    data = details if isinstance(details, bytes) else encode(details)
    with pytest.raises(RequestRefused) as refused:
        check_request(encode(statement), data, COALITION.history, now)
    return refused.value.message


def test_a_request_that_can_be_judged() -> None:
    """A request of make_request passes the service's checks, with its details."""
    keyring = Keyring.of(POLICE_B, signing_key(POLICE_B), [receiving_key(POLICE_B)])
    prepared = make_request(
        keyring,
        COALITION.directory,
        channel="repatriation",
        operation=Operation.CONSULTATION,
        items=[ITEM],
        purpose=Purpose.INVESTIGATION,
        details=DETAILS,
        now=NOW,
    )
    for now in (NOW - MAX_CLOCK_DIFFERENCE_US, NOW + MAX_CLOCK_DIFFERENCE_US):
        checked = check_request(prepared.request_bytes, prepared.details_bytes, COALITION.history, now)
        assert checked.request == prepared.request
        assert checked.details == DETAILS
        assert checked.digest == prepared.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": ()}, "0 items"),
        ({"items": tuple(replace(ITEM, batch_id=bytes([i]) * 32) for i in range(17))}, "17 items"),
        ({"items": (ITEM, replace(ITEM, topic="justice"))}, "asked for twice"),
        ({"items": (ITEM, LogItem(start=0, end=1))}, "asked for alone"),
        ({"items": (LogItem(start=0, end=1), LogItem(start=1, end=2))}, "asked for alone"),
        ({"items": (LogItem(start=0, end=MAX_LOG_RANGE + 1),)}, "range 0"),
        ({"items": (LogItem(start=5, end=5),)}, "range 5"),
        ({"items": (LogItem(start=-1, end=5),)}, "range -1"),
        ({"items": (replace(ITEM, topic="access"),)}, "holds no records"),
        ({"items": (replace(ITEM, offset=-1),)}, "offset -1"),
        ({"items": (replace(ITEM, indexes=b""),)}, "ascending and distinct"),
        ({"items": (replace(ITEM, indexes=b"\1\0"),)}, "ascending and distinct"),
        ({"items": (replace(ITEM, indexes=b"\1\1"),)}, "ascending and distinct"),
        ({"operation": Operation.ERASURE}, "operation ERASURE"),
        ({"operation": Operation.DISCLOSURE}, "DISCLOSURE with mandate None"),
        ({"mandate_ref": "M-1"}, "CONSULTATION with mandate 'M-1'"),
        ({"channel": ""}, "channel of 0 characters"),
        ({"channel": "c" * 101}, "channel of 101 characters"),
        ({"issued_at": NOW - MAX_CLOCK_DIFFERENCE_US - 1}, "differs from the service's"),
        ({"issued_at": NOW + MAX_CLOCK_DIFFERENCE_US + 1}, "differs from the service's"),
        ({"directory_size": COALITION.directory.size + 1}, "is beyond"),
        ({"directory_size": -1}, "saw another directory"),
        ({"directory_root": bytes(32)}, "saw another directory"),
        ({"directory_size": 1}, "saw another directory"),
        ({"issuer": POLICE_A}, "no key that the directory lists"),
        ({"issuer": "XZZ:nobody"}, "no key that the directory lists"),
        ({"details_commitment": bytes(32)}, "do not match the commitment"),
    ],
)
def test_requests_that_cannot_be_judged(changes: dict[str, Any], message: str) -> None:
    """A wrong form, limit, time, view, signer or commitment is refused, and the refusal says which it is."""
    assert message in refusal(signed(request(**changes)))


def test_signatures_that_do_not_count() -> None:
    """A signature by another key, over other bytes, of another kind, or one of two does not count."""
    good = signed(request())
    assert "no key that the directory lists" in refusal(signed(request(), signing_key(CARE)))
    assert "does not verify" in refusal(replace(good, content=encode(request(nonce=b"\1" * 16))))
    assert "2 signatures" in refusal(replace(good, signatures=good.signatures * 2))
    assert "0 signatures" in refusal(replace(good, signatures=()))
    assert "kind" in refusal(signed(request(), kind="receipt"))
    assert "malformed" in refusal(replace(good, content=good.content + b"\0"))


def test_details_that_do_not_count() -> None:
    """Details of another request, of another form, or beyond their limits are refused."""
    other = new_details(person="p", role="r", legal_basis="l", justification="j")
    assert "commitment" in refusal(signed(request()), other)
    trailing = encode(DETAILS) + b"\0"
    committed = request(details_commitment=details_commitment(trailing))
    assert "malformed" in refusal(signed(committed), trailing)
    assert f"at most {MAX_REQUEST_BYTES}" in refusal_of(bytes(MAX_REQUEST_BYTES + 1))
    for wrong, message in (
        (replace(DETAILS, person=None), "needs a person"),
        (replace(DETAILS, justification="j" * 501), "justification of 501"),
        (replace(DETAILS, role=""), "role of 0"),
        (replace(DETAILS, legal_basis="  "), "legal_basis of 2"),
        (replace(DETAILS, case_reference="c" * 101), "case_reference of 101"),
        (replace(DETAILS, recipients=("nobody",)), "recipient"),
        (replace(DETAILS, recipients=(POLICE_A,) * 129), "129 recipients"),
        (replace(DETAILS, recipients=(POLICE_B, POLICE_A)), "passes_on is False"),
    ):
        committed = request(details_commitment=details_commitment(encode(wrong)))
        assert message in refusal(signed(committed), wrong)


def test_a_request_says_whether_the_record_is_passed_on() -> None:
    """A recipient other than the requester makes passes_on true, and the requester itself does not."""
    for recipients, expected in (((), False), ((POLICE_B,), False), ((POLICE_B, CARE), True)):
        details = replace(DETAILS, recipients=recipients)
        assert names_others(details, POLICE_B) is expected
    assert "passes_on is True" in refusal(signed(request(passes_on=True)))


def refusal_of(details: bytes) -> str:
    """Return why details are refused, though their request commits to them."""
    return refusal(signed(request(details_commitment=details_commitment(details))), details)


def test_keys_that_are_no_longer_active() -> None:
    """A retired or revoked key signs no request; a suspended agency's key does, and it is denied later."""
    coalition = Coalition.create()
    coalition.suspend(POLICE_B)
    check_signed(signed(request()), POLICE_B, coalition.directory)
    successor = signing_key("a second key")
    coalition.reinstate(POLICE_B)
    coalition.add(
        drafts.add_key(
            coalition.directory,
            party=POLICE_B,
            use=KeyUse.SIGNING,
            public_key=successor.public,
            issued_at=coalition.now,
        ),
        signing_key(POLICE_B),
        successor,
        *coalition.authority_keys,
    )
    coalition.add(
        drafts.revoke_key(
            coalition.directory,
            party=POLICE_B,
            key_id=signing_key(POLICE_B).key_id,
            since=coalition.directory.size - 1,
            issued_at=coalition.now,
        ),
        signing_key(POLICE_B),
    )
    with pytest.raises(RequestRefused, match="no active signing key"):
        check_signed(signed(request()), POLICE_B, coalition.directory)
    with pytest.raises(RequestRefused, match="no key that the directory lists"):
        check_signed(signed(request(), receiving_as_signing()), POLICE_B, coalition.directory)


def receiving_as_signing() -> SigningKey:
    """Return a key that the directory does not know."""
    return signing_key("unknown to all")


def test_callers_are_told_before_they_send() -> None:
    """A request that the service would refuse is a UsageError for its maker."""
    keyring = Keyring.of(POLICE_B, signing_key(POLICE_B), [receiving_key(POLICE_B)])
    with pytest.raises(UsageError, match="0 items"):
        make_request(
            keyring,
            COALITION.directory,
            channel="repatriation",
            operation=Operation.CONSULTATION,
            items=[],
            purpose=Purpose.INVESTIGATION,
            details=DETAILS,
            now=NOW,
        )
    with pytest.raises(UsageError, match="justification of 501 characters, expected 1 to 500"):
        new_details(role="r", legal_basis="l", justification="j" * 501)
    ref = BatchRef(topic="returns", offset=0, batch_id=bytes(32))
    with pytest.raises(UsageError, match="257 batches"):
        make_query(
            POLICE_A, signing_key(POLICE_A), COALITION.directory, channel="c", batches=[ref] * 257, now=NOW
        )


def test_the_blind_differs_each_time() -> None:
    """Equal details make different commitments."""
    texts = {"person": "p", "role": "r", "legal_basis": "l", "justification": "j"}
    made = {details_commitment(encode(new_details(**texts))) for _ in range(8)}
    assert len(made) == 8


def test_sixteen_whole_batches_fit() -> None:
    """The largest request is within the limits."""
    items = tuple(
        replace(ITEM, batch_id=bytes([i]) * 32, indexes=bytes(range(256))) for i in range(MAX_ITEMS)
    )
    assert check_form(request(items=items)).items == items
    assert len(encode(signed(request(items=items)))) < MAX_REQUEST_BYTES


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_refused(data: bytes, details: bytes) -> None:
    """Any bytes end in a refusal, never in another exception."""
    with pytest.raises(RequestRefused):
        check_request(data, details, COALITION.history, NOW)
    with pytest.raises(RequestRefused):
        check_query(data, COALITION.history, NOW)


@given(st.data())
def test_any_change_of_a_byte_is_refused(data: st.DataObject) -> None:
    """A request is refused when one byte of it or of its details was changed."""
    good = bytearray(encode(signed(request())))
    details = bytearray(encode(DETAILS))
    target = data.draw(st.sampled_from([good, details]))
    place = data.draw(st.integers(0, len(target) - 1))
    target[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RequestRefused):
        check_request(bytes(good), bytes(details), COALITION.history, NOW)
