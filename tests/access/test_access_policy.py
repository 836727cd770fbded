"""The decision about a record: a table of every reason, and the order in which reasons are found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from broker.access.policy import (
    ALLOWED,
    RecordEntry,
    RecordState,
    decide,
    decide_log,
    decide_unknown,
    denied,
)
from broker.directory import Directory, drafts
from broker.wire.access import AccessRequest
from broker.wire.manifest import CollectionStatus, Operation, Reason
from broker.wire.terms import HandlingCode, Purpose, RecordTerms
from support.coalition import AUDITOR, CARE, DAY_US, JUSTICE, POLICE_A, POLICE_B, REHAB, Coalition
from support.placing import record_terms

COLLECTED = RecordState(status=CollectionStatus.COLLECTED)


@cache
def coalition(change: str = "") -> Coalition:
    """Return the coalition, after the named change."""
    found = Coalition.create()
    match change:
        case "suspended":
            found.suspend(POLICE_B)
        case "closed":
            statement = drafts.close_channel(found.directory, channel="repatriation", issued_at=found.now)
            found.add(statement, *found.authority_keys)
        case "left":
            statement_left = drafts.leave_channel(
                found.directory, channel="repatriation", agency=POLICE_B, issued_at=found.now
            )
            found.add(statement_left, found.signing[POLICE_B])
        case "dismissed":
            dismissed = drafts.dismiss_auditor(found.directory, auditor=AUDITOR, issued_at=found.now)
            found.add(dismissed, *found.authority_keys)
        case "narrow":
            found.open_channel(
                "narrow",
                3,
                [POLICE_A, POLICE_B, JUSTICE],
                record_types=["ReturnEvent"],
                purposes=[Purpose.INVESTIGATION],
            )
    return found


def asks(
    issuer: str = POLICE_B,
    purpose: Purpose = Purpose.INVESTIGATION,
    *,
    channel: str = "repatriation",
    operation: Operation = Operation.CONSULTATION,
    mandate_ref: str | None = None,
    passes_on: bool = False,
) -> AccessRequest:
    """Make a request, with the fields that the decision looks at."""
    return AccessRequest(
        issuer=issuer,
        issued_at=0,
        directory_size=0,
        directory_root=bytes(32),
        seen=(),
        nonce=bytes(16),
        operation=operation,
        channel=channel,
        items=(),
        purpose=purpose,
        mandate_ref=mandate_ref,
        passes_on=passes_on,
        details_commitment=bytes(32),
    )


def discloses(
    issuer: str = POLICE_B, purpose: Purpose = Purpose.INVESTIGATION, mandate: str | None = "XBB-2024-17"
) -> AccessRequest:
    """Make a disclosure request of a system, by default under POLICE_B's mandate."""
    return asks(issuer, purpose, operation=Operation.DISCLOSURE, mandate_ref=mandate)


def record(terms: RecordTerms | None = None, **changes: object) -> RecordEntry:
    """Describe a record of POLICE_A in the channel of all agencies."""
    entry = RecordEntry(
        topic="returns",
        partition=0,
        epoch=0,
        issuer=POLICE_A,
        record_type="ReturnEvent",
        terms=terms or terms_of(),
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


def terms_of(**changes: object) -> RecordTerms:
    """Make terms that are dated from the coalition's day."""
    return record_terms(coalition().day, **changes)  # type: ignore[arg-type]


def reason(
    request: AccessRequest,
    entry: RecordEntry | None = None,
    state: RecordState = COLLECTED,
    *,
    directory: Directory | None = None,
    now: int | None = None,
) -> Reason | None:
    """Return why a request is denied, or None when it is allowed."""
    found = coalition()
    decision = decide(
        request,
        entry or record(),
        directory or found.directory,
        state,
        found.now if now is None else now,
    )
    assert decision == (ALLOWED if decision.reason is None else denied(decision.reason))
    return decision.reason


H0 = HandlingCode.H0
H1 = HandlingCode.H1
H2 = HandlingCode.H2
H3 = HandlingCode.H3


@pytest.mark.parametrize(
    ("request_", "entry", "state", "expected"),
    [
        (asks(), record(), COLLECTED, None),
        (asks(POLICE_A), record(), COLLECTED, None),
        (asks(AUDITOR), record(), COLLECTED, Reason.NOT_MEMBER),
        (asks("XZZ:nobody"), record(), COLLECTED, Reason.NOT_MEMBER),
        (asks(channel="nowhere"), record(), COLLECTED, Reason.NOT_MEMBER),
        (asks(channel="xaa-xbb"), record(), COLLECTED, Reason.NOT_MEMBER),
        (asks(CARE, channel="xaa-xbb"), record(partition=1), COLLECTED, Reason.NOT_MEMBER),
        (asks(), record(), RecordState(status=CollectionStatus.UNKNOWN), Reason.NOT_COLLECTED),
        (asks(), record(), RecordState(status=CollectionStatus.REFUSED), Reason.NOT_COLLECTED),
        (asks(), record(epoch=1), COLLECTED, Reason.EPOCH_NOT_GRANTED),
        (asks(), record(record_type="NewEvent"), COLLECTED, Reason.RECORD_TYPE),
        (asks(purpose=Purpose.LAWFULNESS), record(), COLLECTED, Reason.PURPOSE_CHANNEL),
        (asks(purpose=Purpose.CHILD_PROTECTION), record(), COLLECTED, Reason.PURPOSE_RECORD),
        (asks(purpose=Purpose.PREVENTION), record(), COLLECTED, None),
        (
            asks(purpose=Purpose.INVESTIGATION),
            record(terms_of(purpose=Purpose.CHILD_PROTECTION)),
            COLLECTED,
            Reason.PURPOSE_RECORD,
        ),
        (
            asks(purpose=Purpose.REHAB_REINTEGRATION),
            record(terms_of(purpose=Purpose.CHILD_PROTECTION)),
            COLLECTED,
            Reason.PURPOSE_RECORD,
        ),
        (
            asks(purpose=Purpose.CHILD_PROTECTION),
            record(terms_of(purpose=Purpose.CHILD_PROTECTION)),
            COLLECTED,
            None,
        ),
        (discloses(), record(), COLLECTED, None),
        (discloses(mandate=None), record(), COLLECTED, Reason.MANDATE),
        (discloses(JUSTICE), record(), COLLECTED, Reason.MANDATE),
        (discloses(mandate="other"), record(), COLLECTED, Reason.MANDATE),
        (discloses(purpose=Purpose.PROSECUTION), record(), COLLECTED, Reason.MANDATE),
        (asks(operation=Operation.COMBINATION), record(), COLLECTED, Reason.MANDATE),
        (asks(), record(terms_of(codes=(H0,))), COLLECTED, None),
        (
            asks(purpose=Purpose.CHILD_PROTECTION),
            record(terms_of(codes=(H0,), purpose=Purpose.CHILD_PROTECTION)),
            COLLECTED,
            Reason.HANDLING,
        ),
        (
            asks(purpose=Purpose.PROSECUTION),
            record(terms_of(codes=(H1,))),
            COLLECTED,
            Reason.HANDLING,
        ),
        (asks(POLICE_A, Purpose.PROSECUTION), record(terms_of(codes=(H1,))), COLLECTED, None),
        (asks(), record(terms_of(codes=(H1, H2, H3))), COLLECTED, None),
        (asks(passes_on=True), record(terms_of(codes=(H1, H3))), COLLECTED, None),
        (asks(passes_on=True), record(terms_of(codes=(H2,))), COLLECTED, Reason.HANDLING),
        (replace(discloses(), passes_on=True), record(terms_of(codes=(H2,))), COLLECTED, Reason.HANDLING),
        (asks(POLICE_A, passes_on=True), record(terms_of(codes=(H2,))), COLLECTED, None),
        (asks(), record(terms_of(releasable_to=(JUSTICE,))), COLLECTED, Reason.NOT_RELEASABLE),
        (asks(JUSTICE), record(terms_of(releasable_to=(JUSTICE,))), COLLECTED, None),
        (asks(POLICE_A), record(terms_of(releasable_to=(JUSTICE,))), COLLECTED, None),
        (asks(), record(), replace(COLLECTED, restricted=True), Reason.RESTRICTED),
        (asks(purpose=Purpose.PROSECUTION), record(), replace(COLLECTED, restricted=True), None),
        (asks(purpose=Purpose.PENALTY_EXECUTION), record(), replace(COLLECTED, restricted=True), None),
        (asks(), record(), replace(COLLECTED, withdrawn=True), Reason.WITHDRAWN),
        (asks(POLICE_A), record(), replace(COLLECTED, withdrawn=True), Reason.WITHDRAWN),
        (asks(), record(), replace(COLLECTED, erased=True), Reason.ERASED),
    ],
)
def test_every_reason(
    request_: AccessRequest, entry: RecordEntry, state: RecordState, expected: Reason | None
) -> None:
    """Each condition of reading is tried fulfilled and not fulfilled."""
    assert reason(request_, entry, state) is expected


def test_expiry_is_the_first_instant_of_its_day() -> None:
    """A record can be read until the day in erase_by begins, in UTC."""
    entry = record(terms_of(erase_in_days=10))
    end = (coalition().day + 10) * DAY_US
    assert reason(asks(), entry, now=end - 1) is None
    assert reason(asks(), entry, now=end) is Reason.EXPIRED


def test_a_rectification_shortens_and_never_lengthens() -> None:
    """Reading ends at the record's own erase_by, or at an earlier one that its originator gave it later."""
    entry = record(terms_of(erase_in_days=10))
    day = coalition().day
    for given, last in ((day + 3, day + 3), (day + 30, day + 10)):
        state = replace(COLLECTED, erase_by=given)
        assert reason(asks(), entry, state, now=last * DAY_US - 1) is None
        assert reason(asks(), entry, state, now=last * DAY_US) is Reason.EXPIRED


def test_the_ceiling_counts_from_the_collection_where_that_is_earlier() -> None:
    """A manifest that is dated ahead keeps its record no longer than the ceiling after it was taken over."""
    found = coalition()
    day = found.day
    ceiling = found.directory.channels["repatriation"].ceiling_days
    entry = record(terms_of(erase_in_days=ceiling + 500))
    for listed, last in (
        (day, day + ceiling),
        (day + 400, day + ceiling + 400),
        (day + 900, day + ceiling + 500),
    ):
        state = replace(COLLECTED, listed_day=listed)
        assert reason(asks(), entry, state, now=last * DAY_US - 1) is None
        assert reason(asks(), entry, state, now=last * DAY_US) is Reason.EXPIRED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("suspended", Reason.SUSPENDED),
        ("closed", Reason.CHANNEL_CLOSED),
        ("left", Reason.NOT_MEMBER),
    ],
)
def test_the_directory_decides(change: str, expected: Reason) -> None:
    """The requester is looked at before the record: a suspended agency does not learn what exists."""
    directory = coalition(change).directory
    assert reason(asks(), directory=directory) is expected
    assert decide_unknown(asks(), directory, 0) == denied(expected)


def test_a_channels_own_limits() -> None:
    """A channel's own record types and purposes limit reading, whatever the manifest says."""
    directory = coalition("narrow").directory
    asked = asks(channel="narrow")
    entry = record(partition=3)
    assert reason(asked, entry, directory=directory) is None
    assert reason(replace(asked, purpose=Purpose.PREVENTION), entry, directory=directory) is (
        Reason.PURPOSE_CHANNEL
    )
    other = replace(entry, record_type="JusticeMeasure")
    assert reason(asked, other, directory=directory) is Reason.RECORD_TYPE


def test_unknown_records() -> None:
    """A record that does not exist is UNKNOWN_RECORD for members; others learn nothing about it."""
    directory = coalition().directory
    assert decide_unknown(asks(), directory, 0) == denied(Reason.UNKNOWN_RECORD)
    assert decide_unknown(asks("XZZ:nobody"), directory, 0) == denied(Reason.NOT_MEMBER)


def test_the_first_reason_is_the_answer() -> None:
    """A request with every fault is mended fault by fault, which shows the order of the reasons."""
    found = Coalition.create()
    found.suspend(POLICE_B)
    suspended = found.directory
    free = coalition().directory
    wrong = RecordState(status=CollectionStatus.REFUSED, restricted=True, withdrawn=True, erased=True)
    terms = terms_of(codes=(H1,), releasable_to=(JUSTICE,), erase_in_days=1)
    entry = record(terms, epoch=9, record_type="NewEvent")
    asked = asks("XZZ:nobody", Purpose.LAWFULNESS, operation=Operation.DISCLOSURE, mandate_ref=None)
    late = (coalition().day + 5) * DAY_US
    seen = [reason(asked, entry, wrong, directory=suspended, now=late)]
    asked = replace(asked, issuer=POLICE_B)
    seen.append(reason(asked, entry, wrong, directory=suspended, now=late))
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    wrong = replace(wrong, status=CollectionStatus.COLLECTED)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    entry = replace(entry, epoch=0)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    entry = replace(entry, record_type="ReturnEvent")
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    asked = replace(asked, purpose=Purpose.PROSECUTION)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    asked = replace(asked, operation=Operation.CONSULTATION)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    asked = replace(asked, purpose=Purpose.PREVENTION)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    entry = replace(entry, terms=replace(terms, handling=terms_of().handling))
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    wrong = replace(wrong, erased=False)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    wrong = replace(wrong, withdrawn=False)
    seen.append(reason(asked, entry, wrong, directory=free, now=late))
    seen.append(reason(asked, entry, wrong, directory=free))
    wrong = replace(wrong, restricted=False)
    seen.append(reason(asked, entry, wrong, directory=free))
    assert seen == [
        Reason.NOT_MEMBER,
        Reason.SUSPENDED,
        Reason.NOT_COLLECTED,
        Reason.EPOCH_NOT_GRANTED,
        Reason.RECORD_TYPE,
        Reason.PURPOSE_CHANNEL,
        Reason.MANDATE,
        Reason.HANDLING,
        Reason.NOT_RELEASABLE,
        Reason.ERASED,
        Reason.WITHDRAWN,
        Reason.EXPIRED,
        Reason.RESTRICTED,
        None,
    ]


@pytest.mark.parametrize(
    ("asked", "change", "expected"),
    [
        (asks(AUDITOR, Purpose.LAWFULNESS), "", None),
        (asks(AUDITOR, Purpose.CRIMINAL_PROCEEDINGS), "", None),
        (asks(POLICE_B, Purpose.SELF_MONITORING), "", None),
        (asks(AUDITOR, Purpose.INVESTIGATION), "", Reason.PURPOSE_CHANNEL),
        (discloses(AUDITOR, Purpose.LAWFULNESS), "", Reason.MANDATE),
        (asks(AUDITOR, Purpose.LAWFULNESS, channel="xaa-xbb"), "", Reason.NOT_MEMBER),
        (asks(REHAB, Purpose.LAWFULNESS, channel="xaa-xbb"), "", Reason.NOT_MEMBER),
        (asks(POLICE_B, Purpose.LAWFULNESS), "suspended", Reason.SUSPENDED),
        (asks(AUDITOR, Purpose.LAWFULNESS), "closed", Reason.CHANNEL_CLOSED),
        (asks(POLICE_B, Purpose.LAWFULNESS), "closed", Reason.CHANNEL_CLOSED),
        (asks(AUDITOR, Purpose.LAWFULNESS), "dismissed", Reason.NOT_MEMBER),
    ],
)
def test_reading_the_access_log(asked: AccessRequest, change: str, expected: Reason | None) -> None:
    """Auditors and members of the channel read its access log, for the four purposes of the law."""
    decision = decide_log(asked, coalition(change).directory, 0)
    assert decision == (ALLOWED if expected is None else denied(expected))
