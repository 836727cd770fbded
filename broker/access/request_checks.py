"""Checks of access requests and collection queries, before anything is decided about them.

The key access service makes all of them, the replay makes them again for each access entry, and the
requester makes those that it can, before it signs. A request that fails a check cannot be judged at all:
it is refused with RequestRefused, and no entry is written. Whether a request that passes is granted is
decided in ``policy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from broker.avro.schema import default_store
from broker.directory import Directory, History, KeyState
from broker.directory.party import AGENCY_NAME
from broker.errors import FormatError, RequestRefused, SignatureInvalid
from broker.verify.entitlement import verify_signature
from broker.wire.access import AccessDetails, AccessRequest, CollectionQuery
from broker.wire.encoding import decode
from broker.wire.manifest import ACCESS_TOPIC, LogItem, Operation, RecordItem, Signed

__all__ = [
    "MAX_CLOCK_DIFFERENCE_US",
    "MAX_ITEMS",
    "MAX_LOG_RANGE",
    "MAX_QUERIED",
    "MAX_REQUEST_BYTES",
    "CheckedQuery",
    "CheckedRequest",
    "check_details",
    "check_form",
    "check_issuer",
    "check_query",
    "check_signed",
    "check_texts",
    "check_time",
    "details_commitment",
    "names_others",
    "parse_request",
]

MAX_ITEMS = 16
"""The most batches that a request names."""
MAX_QUERIED = 256
"""The most batches that a collection query names."""
MAX_LOG_RANGE = 1000
"""The most messages of the access log that a request names."""
MAX_REQUEST_BYTES = 65_536
"""The most bytes of a request, of its details, or of a query."""
MAX_CLOCK_DIFFERENCE_US = 5 * 60 * 1_000_000
"""The most microseconds between a request's time and the service's clock."""

_T = TypeVar("_T")
_MAX_RECIPIENTS = 128
_TEXTS = {"person": 100, "role": 100, "legal_basis": 200, "case_reference": 100, "justification": 500}
"""The most characters of each text of the details."""
_COMMITMENT = b"ftf-broker/v1/details"
_OPERATIONS = (Operation.CONSULTATION, Operation.DISCLOSURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """A request that can be judged, and its details.

    ``parse_request`` has checked its form, and ``check_issuer`` its signature. ``digest`` is the SHA-256 of
    the request's content: the receipt names it, and the answer is sealed for it.
    """

    signed: Signed
    request: AccessRequest
    details: AccessDetails
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuery:
    """A collection query that can be answered."""

    query: CollectionQuery
    digest: bytes


def parse_request(request_bytes: bytes, details_bytes: bytes, now: int) -> CheckedRequest:
    """Read a request from bytes and check all that needs no directory.

    (1) The Avro is strict and within limits, (2) the form is right, (3) the time is now, (4) the details
    are those that the request commits to. Raises RequestRefused, which says what is wrong.
    """
    signed = _decode(Signed, request_bytes)  # (1)
    if signed.kind != "access-request":
        raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'access-request'")
    request = _decode(AccessRequest, signed.content)
    check_form(request)  # (2)
    check_time(request.issued_at, now)  # (3)
    return CheckedRequest(
        signed=signed,
        request=request,
        details=check_details(request, details_bytes),  # (4)
        digest=sha256(signed.content).digest(),
    )


def check_issuer(checked: CheckedRequest, history: History) -> CheckedRequest:
    """Return the request, if its issuer signed it and saw the directory that we see.

    (5) Its issuer signed it with an active key, (6) its view of the directory is a beginning of ours. Raises
    RequestRefused, which says what is wrong.
    """
    request = checked.request
    check_signed(checked.signed, request.issuer, history.latest)  # (5)
    if request.directory_size > history.size:
        raise RequestRefused(f"directory size {request.directory_size} is beyond {history.size}")  # (6)
    # An operator who shows the requester one directory and the service another is noticed here.
    if history.root_at(request.directory_size) != request.directory_root:
        raise RequestRefused(f"{request.issuer[:60]!r} saw another directory")
    return checked


def check_query(query_bytes: bytes, history: History, now: int) -> CheckedQuery:
    """Read a collection query from bytes and check it. Raises RequestRefused, which says what is wrong."""
    signed = _decode(Signed, query_bytes)
    if signed.kind != "collection-query":
        raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'collection-query'")
    query = _decode(CollectionQuery, signed.content)
    if not 1 <= len(query.batches) <= MAX_QUERIED:
        raise RequestRefused(f"query for {len(query.batches)} batches, expected 1 to {MAX_QUERIED}")
    check_time(query.issued_at, now)
    check_signed(signed, query.issuer, history.latest)
    return CheckedQuery(query=query, digest=sha256(signed.content).digest())


def check_form(request: AccessRequest) -> AccessRequest:
    """Check the form of a request by itself, and return it.

    (1) It has 1 to 16 items: records, or one range of the access log, (2) each batch once, in a record
    topic, (3) its indexes ascend and are distinct, (4) its operation reads, (5) it names a mandate for a
    disclosure and only then, (6) its texts are short, (7) it names how far the requester has read each
    partition once. Raises RequestRefused, which says what is wrong.
    """
    topics = {head.topic for head in request.seen}
    if len(topics) != len(request.seen) or not topics <= {ACCESS_TOPIC, *default_store().topics}:
        raise RequestRefused(
            f"{len(request.seen)} logs seen, expected each of the channel's logs once"
        )  # (7)
    if not 1 <= len(request.items) <= MAX_ITEMS:
        raise RequestRefused(f"request for {len(request.items)} items, expected 1 to {MAX_ITEMS}")  # (1)
    batches = [item.batch_id for item in request.items if isinstance(item, RecordItem)]
    if len(batches) != len(request.items) and len(request.items) != 1:
        raise RequestRefused("a range of the access log is asked for alone")
    if len(set(batches)) != len(batches):
        raise RequestRefused("a batch is asked for twice")  # (2)
    for item in request.items:
        if isinstance(item, LogItem):
            if not 0 <= item.start < item.end <= item.start + MAX_LOG_RANGE:
                raise RequestRefused(f"range {item.start} to {item.end}, expected at most {MAX_LOG_RANGE}")
        else:
            _check_item(item)
    if request.operation not in _OPERATIONS:
        raise RequestRefused(f"operation {request.operation}, expected CONSULTATION or DISCLOSURE")  # (4)
    if (request.operation is Operation.DISCLOSURE) != (request.mandate_ref is not None):
        raise RequestRefused(f"{request.operation} with mandate {request.mandate_ref!r:.120}")  # (5)
    for name, text in (("channel", request.channel), ("mandate", request.mandate_ref or "-")):
        if not 1 <= len(text) <= 100:  # (6)
            raise RequestRefused(f"{name} of {len(text)} characters, expected 1 to 100")
    return request


def _check_item(item: RecordItem) -> None:
    if item.topic not in default_store().topics:
        raise RequestRefused(f"topic {item.topic[:40]!r} holds no records")
    if item.offset < 0:
        raise RequestRefused(f"offset {item.offset}, expected 0 or more")
    if not item.indexes or list(item.indexes) != sorted(set(item.indexes)):
        raise RequestRefused("indexes are not ascending and distinct")  # (3)


def names_others(details: AccessDetails, issuer: str) -> bool:
    """Tell whether the details name a recipient beyond the requester itself.

    A request says so in ``passes_on``, because a replay decides again without its details.
    """
    return any(name != issuer for name in details.recipients)


def details_commitment(details_bytes: bytes) -> bytes:
    """Return the commitment of a request to its details: SHA-256(label | Avro(AccessDetails))."""
    return sha256(_COMMITMENT + details_bytes).digest()


def check_details(request: AccessRequest, details_bytes: bytes) -> AccessDetails:
    """Return the details, if they are the ones that the request commits to, and within their limits.

    Raises RequestRefused, which says what is wrong.
    """
    if details_commitment(details_bytes) != request.details_commitment:
        raise RequestRefused("details do not match the commitment")
    details = _decode(AccessDetails, details_bytes)
    check_texts(details)
    if request.passes_on != names_others(details, request.issuer):
        raise RequestRefused(f"passes_on is {request.passes_on}, and the details say otherwise")
    if request.operation is Operation.CONSULTATION and details.person is None:
        raise RequestRefused("a consultation needs a person")
    return details


def check_signed(signed: Signed, issuer: str, directory: Directory) -> None:
    """Raise RequestRefused unless ``issuer`` signed this, under one signature with an active key.

    A suspended agency passes here on purpose: its request is judged and denied as SUSPENDED, and so leaves
    a trace.
    """
    try:
        verify_signature(directory, signed, issuer)
    except SignatureInvalid as error:
        raise RequestRefused(error.message) from None
    key = directory.parties[issuer].keys[signed.signatures[0].key_id]
    if key.state is not KeyState.ACTIVE:
        raise RequestRefused(f"{key.key_id.hex()} is no active signing key of '{issuer[:60]}'")


def _decode(cls: type[_T], data: bytes) -> _T:
    if len(data) > MAX_REQUEST_BYTES:
        raise RequestRefused(f"{len(data)} bytes, at most {MAX_REQUEST_BYTES}")
    try:
        return decode(cls, data)
    except FormatError as error:
        raise RequestRefused(f"malformed {cls.__name__}: {error.message}") from None


def check_time(issued_at: int, now: int) -> None:
    """Raise RequestRefused when a request's time is too far from the service's clock, before or behind.

    So an old request, which somebody overheard or kept, is not decided a second time.
    """
    if abs(issued_at - now) > MAX_CLOCK_DIFFERENCE_US:
        seconds = abs(issued_at - now) // 1_000_000
        raise RequestRefused(
            f"the request's time differs from the service's by {seconds} seconds, at most 300",
            hint="check this host's clock; a request is not kept for later",
        )


def check_texts(details: AccessDetails) -> None:
    """Raise RequestRefused when a text of the details is empty or too long, or a recipient has no name."""
    for name, longest in _TEXTS.items():
        text: str | None = getattr(details, name)
        if text is not None and not 1 <= len(text.strip()) <= len(text) <= longest:
            raise RequestRefused(f"{name} of {len(text)} characters, expected 1 to {longest}")
    if len(details.recipients) > _MAX_RECIPIENTS:
        raise RequestRefused(f"{len(details.recipients)} recipients, at most {_MAX_RECIPIENTS}")
    if any(AGENCY_NAME.fullmatch(name) is None for name in details.recipients):
        raise RequestRefused("a recipient is no authority's name")
