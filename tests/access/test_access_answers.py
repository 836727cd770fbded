"""Answers of the key access service: anything wrong in an answer convicts the service, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.answers import RecordRef, open_answer, open_collection_answer, share_of
from broker.access.requests import PreparedRequest, make_query, make_request, new_details
from broker.crypto.seal import seal_answer
from broker.errors import FormatError, NotEntitled, OpenError, PeerError, SignatureInvalid
from broker.participant.keyring import Keyring
from broker.wire.access import (
    AccessAnswer,
    BatchRef,
    CollectionAnswer,
    EntryRef,
    ItemShares,
    LogEntry,
    Receipt,
    ReceiptOutcome,
)
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import (
    Collected,
    CollectionStatus,
    LogItem,
    Operation,
    Positions,
    Reason,
    RecordItem,
    Signed,
    Verdict,
)
from broker.wire.terms import Purpose
from support.coalition import CARE, KAS, POLICE_A, POLICE_B, Coalition, receiving_key, signing_key

COALITION = Coalition.create()
KEYS = [receiving_key(POLICE_B)]
ALLOWED = Verdict.ALLOWED
DENIED = Verdict.DENIED


def prepared(*items: RecordItem | LogItem) -> PreparedRequest:
    """Make a request of POLICE_B."""
    return make_request(
        Keyring.of(POLICE_B, signing_key(POLICE_B), KEYS),
        COALITION.directory,
        channel="repatriation",
        operation=Operation.CONSULTATION,
        items=items,
        purpose=Purpose.INVESTIGATION,
        details=new_details(person="p", role="r", legal_basis="l", justification="j"),
        now=COALITION.now,
    )


def item(byte: int, *indexes: int) -> RecordItem:
    """Name records of a batch."""
    return RecordItem(topic="returns", offset=0, batch_id=bytes([byte]) * 32, indexes=bytes(indexes))


ASKED = prepared(item(1, 0, 3, 5), item(2, 7))
ENTRY = EntryRef(batch_id=bytes(32), partition=0, offset=4, index=0)
OUTCOMES = (
    ReceiptOutcome(item=0, indexes=b"\0\5", verdict=ALLOWED, reason=None, released=True),
    ReceiptOutcome(item=0, indexes=b"\3", verdict=ALLOWED, reason=Reason.ERASED, released=False),
    ReceiptOutcome(item=1, indexes=b"\7", verdict=DENIED, reason=Reason.HANDLING, released=False),
)
SHARES = (ItemShares(item=0, indexes=b"\0\5", release_shares=b"a" * 32 + b"b" * 32),)
POSITIONS = Positions(
    directory_size=COALITION.directory.size,
    directory_root=COALITION.directory.root,
    access_size=6,
    access_root=bytes(32),
    topics=(),
)
RECEIPT = Receipt(
    issuer=KAS,
    issued_at=COALITION.now,
    request_digest=ASKED.digest,
    entry=ENTRY,
    positions=POSITIONS,
    outcomes=OUTCOMES,
)


def sign(receipt: Receipt, by: str = KAS, kind: str = "receipt") -> Signed:
    """Sign a receipt."""
    return sign_content(signing_key(by), kind, COALITION.genesis, encode(receipt))


def sealed(answer: AccessAnswer, asked: PreparedRequest = ASKED) -> bytes:
    """Seal an answer, as it is sent."""
    return seal_answer(KEYS[0].public, encode(answer), asked.digest)


def answer(**changes: Any) -> AccessAnswer:
    """Make a good answer with some fields changed."""
    return replace(AccessAnswer(receipt=sign(RECEIPT), shares=SHARES, entries=()), **changes)


def receipt(**changes: Any) -> AccessAnswer:
    """Make a good answer with some fields of its receipt changed."""
    return answer(receipt=sign(replace(RECEIPT, **changes)))


def outcomes(*changed: ReceiptOutcome) -> AccessAnswer:
    """Make a good answer with these outcomes."""
    return receipt(outcomes=changed)


def test_a_good_answer() -> None:
    """A good answer gives outcomes and shares by item and index, and the place of the access entry."""
    found = open_answer(ASKED, sealed(answer()), KEYS, COALITION.directory)
    assert found.entry == ENTRY
    assert {ref: outcome.released for ref, outcome in found.outcomes.items()} == {
        RecordRef(0, 0): True,
        RecordRef(0, 5): True,
        RecordRef(0, 3): False,
        RecordRef(1, 7): False,
    }
    assert share_of(found, 0, 5) == b"b" * 32
    with pytest.raises(OpenError, match="was not released"):
        share_of(found, 0, 3)


def test_a_wholly_denied_answer_needs_no_entry() -> None:
    """A denial that is only counted has a receipt without an entry."""
    denied = tuple(
        ReceiptOutcome(item=i, indexes=x, verdict=DENIED, reason=Reason.NOT_MEMBER, released=False)
        for i, x in ((0, b"\0\3\5"), (1, b"\7"))
    )
    wholly = replace(RECEIPT, entry=None, positions=None, outcomes=denied)
    found = open_answer(ASKED, sealed(answer(receipt=sign(wholly), shares=())), KEYS, COALITION.directory)
    assert found.entry is None
    assert not found.shares


FIRST, WITHHELD, LAST = OUTCOMES

WRONG: list[tuple[AccessAnswer, type[PeerError], str]] = [
    (answer(receipt=sign(RECEIPT, by=POLICE_A)), SignatureInvalid, "no key that the directory lists"),
    (receipt(issuer=POLICE_A), NotEntitled, "is not the key access service"),
    (answer(receipt=sign(RECEIPT, kind="manifest")), FormatError, "expected 'receipt'"),
    (answer(receipt=replace(sign(RECEIPT), signatures=())), SignatureInvalid, "0 signatures"),
    (
        answer(receipt=replace(sign(RECEIPT), content=encode(replace(RECEIPT, issued_at=0)))),
        SignatureInvalid,
        "does not verify",
    ),
    (answer(receipt=replace(sign(RECEIPT), content=b"junk")), FormatError, "\\w"),
    (receipt(request_digest=bytes(32)), OpenError, "another request"),
    (outcomes(FIRST, LAST), FormatError, "do not cover"),
    (outcomes(), FormatError, "do not cover"),
    (outcomes(*OUTCOMES, LAST), FormatError, "two outcomes"),
    (outcomes(FIRST, replace(WITHHELD, indexes=b"\0\3"), LAST), FormatError, "two outcomes"),
    (outcomes(FIRST, replace(WITHHELD, indexes=b"\3\4"), LAST), FormatError, "do not cover"),
    (outcomes(FIRST, replace(WITHHELD, indexes=b""), LAST), FormatError, "0 indexes"),
    (outcomes(FIRST, WITHHELD, replace(LAST, item=2)), FormatError, "item 2 of 2"),
    (outcomes(FIRST, WITHHELD, replace(LAST, item=-1)), FormatError, "item -1 of 2"),
    (outcomes(FIRST, WITHHELD, replace(LAST, reason=None)), FormatError, "with reason None"),
    (outcomes(FIRST, WITHHELD, replace(LAST, released=True)), FormatError, "denied and released"),
    (outcomes(FIRST, replace(WITHHELD, reason=None), LAST), FormatError, "with reason None"),
    (outcomes(replace(FIRST, reason=Reason.ERASED), WITHHELD, LAST), FormatError, "with reason ERASED"),
    (receipt(entry=None, positions=None), FormatError, "without an access entry"),
    (receipt(entry=replace(ENTRY, partition=1)), FormatError, "partition 1"),
    (answer(shares=()), FormatError, "not exactly"),
    (answer(shares=(*SHARES, *SHARES)), FormatError, "two shares"),
    (
        answer(shares=(*SHARES, ItemShares(item=1, indexes=b"\7", release_shares=bytes(32)))),
        FormatError,
        "not exactly",
    ),
    (answer(shares=(replace(SHARES[0], release_shares=bytes(63)),)), FormatError, "63 bytes"),
    (answer(shares=(replace(SHARES[0], indexes=b"\0\3"),)), FormatError, "not exactly"),
    (
        answer(
            entries=(
                LogEntry(
                    offset=0,
                    index=0,
                    manifest=sign(RECEIPT),
                    entry=b"",
                    path=(),
                    body=b"",
                    body_key=None,
                    within=(),
                ),
            )
        ),
        FormatError,
        "where none were asked for",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_answers(wrong: AccessAnswer, error: type[PeerError], message: str) -> None:
    """A wrong signer, request, outcome, share or entry is found, and the error says which it is."""
    with pytest.raises(error, match=message):
        open_answer(ASKED, sealed(wrong), KEYS, COALITION.directory)


def test_answers_that_do_not_open() -> None:
    """An answer that is sealed to another agency, answers another request, or is cut short does not open."""
    good = sealed(answer())
    other = prepared(item(1, 0))
    cases: list[Callable[[], object]] = [
        lambda: open_answer(ASKED, good, [receiving_key(CARE)], COALITION.directory),
        lambda: open_answer(ASKED, good, [], COALITION.directory),
        lambda: open_answer(other, good, KEYS, COALITION.directory),
        lambda: open_answer(ASKED, good[:-1], KEYS, COALITION.directory),
        lambda: open_answer(ASKED, b"", KEYS, COALITION.directory),
    ]
    for case in cases:
        with pytest.raises(OpenError):
            case()
    with pytest.raises(FormatError, match="at most"):
        open_answer(ASKED, bytes(16_000_001), KEYS, COALITION.directory)


def test_an_older_receiving_key_still_opens() -> None:
    """An answer opens when any of the receiving keys fits."""
    keys = [receiving_key(CARE), receiving_key(POLICE_B)]
    assert open_answer(ASKED, sealed(answer()), keys, COALITION.directory).entry == ENTRY


def test_a_range_of_the_log_has_one_outcome() -> None:
    """A range of the access log is answered by one outcome without indexes."""
    asked = prepared(LogItem(start=0, end=9))
    outcome = ReceiptOutcome(item=0, indexes=b"", verdict=ALLOWED, reason=None, released=True)
    good = replace(RECEIPT, request_digest=asked.digest, outcomes=(outcome,))
    found = open_answer(
        asked, sealed(answer(receipt=sign(good), shares=()), asked), KEYS, COALITION.directory
    )
    assert list(found.outcomes) == [RecordRef(0, -1)]
    wrong = replace(good, outcomes=(replace(outcome, indexes=b"\0"),))
    with pytest.raises(FormatError, match="1 indexes"):
        open_answer(asked, sealed(answer(receipt=sign(wrong), shares=()), asked), KEYS, COALITION.directory)


@given(st.binary(max_size=300))
def test_any_plaintext_is_a_peer_error(data: bytes) -> None:
    """Any bytes that are sealed to us end in a PeerError."""
    with pytest.raises(PeerError):
        open_answer(ASKED, seal_answer(KEYS[0].public, data, ASKED.digest), KEYS, COALITION.directory)


def query(batches: int = 1) -> tuple[Signed, bytes]:
    """Make a collection query of POLICE_B."""
    refs = [BatchRef(topic="returns", offset=i, batch_id=bytes([i]) * 32) for i in range(batches)]
    key = signing_key(POLICE_B)
    directory = COALITION.directory
    return make_query(POLICE_B, key, directory, channel="repatriation", batches=refs, now=COALITION.now)


def collected(asked: Signed, *places: int, by: str = KAS, kind: str = "collection-answer") -> bytes:
    """Sign an answer about the batches with these numbers."""
    content = CollectionAnswer(
        issuer=KAS,
        issued_at=COALITION.now,
        query_digest=sha256(asked.content).digest(),
        batches=tuple(
            Collected(
                topic="returns",
                offset=i,
                batch_id=bytes([i]) * 32,
                count=1,
                status=CollectionStatus.COLLECTED,
                detail="",
            )
            for i in places
        ),
    )
    return encode(sign_content(signing_key(by), kind, COALITION.genesis, encode(content)))


def test_collection_answers() -> None:
    """A collection answer is about the batches of the query, in order, under the service's signature."""
    asked, _ = query(2)
    found = open_collection_answer(collected(asked, 0, 1), asked, COALITION.directory)
    assert [batch.offset for batch in found] == [0, 1]
    for wrong in (
        collected(asked, 1, 0),
        collected(asked, 0),
        collected(asked, 0, 1, 2),
        collected(query(2)[0], 0, 1),
        collected(asked, 0, 1, by=POLICE_A),
        collected(asked, 0, 1, kind="receipt"),
    ):
        with pytest.raises(PeerError):
            open_collection_answer(wrong, asked, COALITION.directory)


@given(st.binary(max_size=300))
def test_any_collection_answer_is_a_peer_error(data: bytes) -> None:
    """Any bytes that answer a query end in a PeerError."""
    with pytest.raises(PeerError):
        open_collection_answer(data, query()[0], COALITION.directory)
