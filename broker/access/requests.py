"""Access requests: made by who wants to read, checked by the key access service and by replay.

A request that fails a check here cannot be judged at all and is refused; whether one that passes
is granted is for ``policy`` to say. The details (who, on what legal basis, for which case) are not
part of the request: it holds a commitment to them, so that it can be shown to who may not know them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from broker.avro.schema import default_store
from broker.crypto.sign import SigningKey, verify
from broker.directory import Directory, History, KeyState
from broker.directory.party import AGENCY_NAME
from broker.errors import FormatError, RequestRefused, SignatureInvalid, UsageError
from broker.participant.keyring import Keyring
from broker.wire.access import AccessDetails, AccessRequest, BatchRef, CollectionQuery
from broker.wire.batch import sign_content
from broker.wire.encoding import decode, encode
from broker.wire.manifest import LogItem, Operation, RecordItem, Signed
from broker.wire.statements import KeyUse
from broker.wire.terms import Purpose

__all__ = [
    "MAX_CLOCK_DIFFERENCE_US",
    "MAX_ITEMS",
    "MAX_LOG_RANGE",
    "MAX_REQUEST_BYTES",
    "CheckedQuery",
    "CheckedRequest",
    "PreparedRequest",
    "check_details",
    "check_form",
    "check_issuer",
    "check_query",
    "check_signed",
    "check_time",
    "details_commitment",
    "log_item",
    "make_query",
    "make_request",
    "new_details",
    "parse_request",
]

MAX_ITEMS = 16
"""Batches in a request."""
MAX_QUERIED = 256
"""Batches in a collection query."""
MAX_LOG_RANGE = 1000
"""Messages of the access log in a request."""
MAX_REQUEST_BYTES = 65_536
"""Bytes of a request, of its details, or of a query."""
MAX_CLOCK_DIFFERENCE_US = 5 * 60 * 1_000_000
"""Between a request's time and the service's clock, in microseconds."""

_T = TypeVar("_T")
_MAX_RECIPIENTS = 128
_TEXTS = {"person": 100, "role": 100, "legal_basis": 200, "case_reference": 100, "justification": 500}
"""Characters of each text of the details."""
_COMMITMENT = b"ftf-broker/v1/details"
_OPERATIONS = (Operation.CONSULTATION, Operation.DISCLOSURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A signed request as it is sent, with what its answer is checked against."""

    signed: Signed
    request: AccessRequest
    request_bytes: bytes
    details_bytes: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """A request that can be judged, and its details."""

    signed: Signed
    request: AccessRequest
    details: AccessDetails
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuery:
    """A collection query by who may ask."""

    query: CollectionQuery
    digest: bytes


# making


def new_details(
    *,
    role: str,
    legal_basis: str,
    justification: str,
    person: str | None = None,
    case_reference: str | None = None,
    recipients: Sequence[str] = (),
) -> AccessDetails:
    """The details of an access, with a fresh blind so that their commitment tells nothing.

    ``person`` is the agency's own pseudonym of its officer, required for a consultation;
    ``recipients`` are the authorities that a disclosure goes to. UsageError where a text is
    missing or too long: the justification has at most 500 characters.
    """
    details = AccessDetails(
        blind=secrets.token_bytes(32),
        person=person,
        role=role,
        legal_basis=legal_basis,
        case_reference=case_reference,
        justification=justification,
        recipients=tuple(recipients),
    )
    try:
        _check_texts(details)
    except RequestRefused as error:
        raise UsageError(error.message) from None
    return details


def details_commitment(details_bytes: bytes) -> bytes:
    """What a request says of its details: H(label | Avro(AccessDetails))."""
    return sha256(_COMMITMENT + details_bytes).digest()


def log_item(start: int, end: int) -> LogItem:
    """A range of the access log, at most MAX_LOG_RANGE messages; ask again behind the last entry answered."""
    return LogItem(start=start, end=min(end, start + MAX_LOG_RANGE))


def make_request(
    keyring: Keyring,
    directory: Directory,
    *,
    channel: str,
    operation: Operation,
    items: Sequence[RecordItem | LogItem],
    purpose: Purpose,
    details: AccessDetails,
    now: int,
    mandate_ref: str | None = None,
) -> PreparedRequest:
    """A signed request to read these records, or a range of the access log; ``now`` in microseconds.

    UsageError says what the service would refuse.
    """
    details_bytes = encode(details)
    request = AccessRequest(
        issuer=keyring.name,
        issued_at=now,
        directory_size=directory.size,
        directory_head=directory.head,
        nonce=secrets.token_bytes(16),
        operation=operation,
        channel=channel,
        items=tuple(items),
        purpose=purpose,
        mandate_ref=mandate_ref,
        details_commitment=details_commitment(details_bytes),
    )
    try:
        check_form(request)
        check_details(request, details_bytes)
    except RequestRefused as error:
        raise UsageError(error.message) from None
    content = encode(request)
    signed = sign_content(keyring.signing, "access-request", directory.genesis, content)
    return PreparedRequest(
        signed=signed,
        request=request,
        request_bytes=encode(signed),
        details_bytes=details_bytes,
        digest=sha256(content).digest(),
    )


def make_query(
    name: str, key: SigningKey, directory: Directory, *, channel: str, batches: Sequence[BatchRef], now: int
) -> tuple[Signed, bytes]:
    """A signed collection query and its bytes, for at most 256 batches of one channel."""
    if not 1 <= len(batches) <= MAX_QUERIED:
        raise UsageError(f"query for {len(batches)} batches, expected 1 to {MAX_QUERIED}")
    query = CollectionQuery(
        issuer=name, issued_at=now, nonce=secrets.token_bytes(16), channel=channel, batches=tuple(batches)
    )
    signed = sign_content(key, "collection-query", directory.genesis, encode(query))
    return signed, encode(signed)


# checking


def parse_request(request: bytes, details: bytes, now: int) -> CheckedRequest:
    """The request in these bytes, judged as far as no directory is needed; RequestRefused says why not.

    (1) strict bytes, within limits, (2) its form, (3) its time, (4) the details are those that it
    commits to.
    """
    signed = _decode(Signed, request)  # (1)
    if signed.kind != "access-request":
        raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'access-request'")
    content = _decode(AccessRequest, signed.content)
    check_form(content)  # (2)
    check_time(content.issued_at, now)  # (3)
    return CheckedRequest(
        signed=signed,
        request=content,
        details=check_details(content, details),  # (4)
        digest=sha256(signed.content).digest(),
    )


def check_issuer(parsed: CheckedRequest, history: History) -> CheckedRequest:
    """The request, if (5) its view of the directory is a prefix of ours and (6) its issuer signed it."""
    content = parsed.request
    head = history.head_at(content.directory_size)
    if head is None:
        raise RequestRefused(f"directory size {content.directory_size} is beyond {history.size}")  # (5)
    if head != content.directory_head:
        raise RequestRefused(f"{content.issuer[:60]!r} saw another directory")
    check_signed(parsed.signed, content.issuer, history.latest)  # (6)
    return parsed


def check_query(query: bytes, history: History, now: int) -> CheckedQuery:
    """The collection query in these bytes, if it can be answered; RequestRefused says why not."""
    signed = _decode(Signed, query)
    if signed.kind != "collection-query":
        raise RequestRefused(f"kind {signed.kind[:40]!r}, expected 'collection-query'")
    content = _decode(CollectionQuery, signed.content)
    if not 1 <= len(content.batches) <= MAX_QUERIED:
        raise RequestRefused(f"query for {len(content.batches)} batches, expected 1 to {MAX_QUERIED}")
    check_time(content.issued_at, now)
    check_signed(signed, content.issuer, history.latest)
    return CheckedQuery(query=content, digest=sha256(signed.content).digest())


def check_form(request: AccessRequest) -> AccessRequest:
    """What can be said of a request by itself; RequestRefused for what no request may look like.

    (1) 1 to 16 items: records, or one range of the log, (2) each batch once, in a record topic,
    (3) indexes ascending and distinct, (4) an operation that reads, (5) a mandate for a disclosure.
    """
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
        if not 1 <= len(text) <= 100:
            raise RequestRefused(f"{name} of {len(text)} characters, expected 1 to 100")
    return request


def _check_item(item: RecordItem) -> None:
    if item.topic not in default_store().topics:
        raise RequestRefused(f"topic {item.topic[:40]!r} holds no records")
    if item.offset < 0:
        raise RequestRefused(f"offset {item.offset}")
    if not item.indexes or list(item.indexes) != sorted(set(item.indexes)):
        raise RequestRefused("indexes are not ascending and distinct")  # (3)


def check_details(request: AccessRequest, details: bytes) -> AccessDetails:
    """The details, if they are those that the request commits to, whole and within their limits."""
    if details_commitment(details) != request.details_commitment:
        raise RequestRefused("details do not match the commitment")
    content = _decode(AccessDetails, details)
    _check_texts(content)
    if request.operation is Operation.CONSULTATION and content.person is None:
        raise RequestRefused("a consultation needs a person")
    return content


def check_signed(signed: Signed, issuer: str, directory: Directory) -> None:
    """Raise RequestRefused unless ``issuer``, suspended or not, signed this with an active key.

    A suspended agency's request is judged, and denied as SUSPENDED: it leaves a trace.
    """
    if len(signed.signatures) != 1:
        raise RequestRefused(f"{len(signed.signatures)} signatures, expected 1")
    (one,) = signed.signatures
    party = directory.parties.get(issuer)
    key = party.keys.get(one.key_id) if party else None
    if key is None or key.use is not KeyUse.SIGNING or key.state is not KeyState.ACTIVE:
        raise RequestRefused(f"{one.key_id.hex()} is no active signing key of '{issuer[:60]}'")
    try:
        verify(key.public, signed.kind, directory.genesis, signed.content, one.signature)
    except SignatureInvalid as error:
        raise RequestRefused(f"'{issuer}': {error.message}") from None


def _decode(cls: type[_T], data: bytes) -> _T:
    if len(data) > MAX_REQUEST_BYTES:
        raise RequestRefused(f"{len(data)} bytes, at most {MAX_REQUEST_BYTES}")
    try:
        return decode(cls, data)
    except FormatError as error:
        raise RequestRefused(f"malformed {cls.__name__}: {error.message}") from None


def check_time(issued_at: int, now: int) -> None:
    """Raise RequestRefused where a request's time is too far from the service's."""
    if abs(issued_at - now) > MAX_CLOCK_DIFFERENCE_US:
        seconds = abs(issued_at - now) // 1_000_000
        raise RequestRefused(
            f"the request's time differs from the service's by {seconds} seconds, at most 300",
            hint="check this host's clock; a request is not kept for later",
        )


def _check_texts(details: AccessDetails) -> None:
    for name, longest in _TEXTS.items():
        text: str | None = getattr(details, name)
        if text is not None and not 1 <= len(text.strip()) <= len(text) <= longest:
            raise RequestRefused(f"{name} of {len(text)} characters, expected 1 to {longest}")
    if len(details.recipients) > _MAX_RECIPIENTS:
        raise RequestRefused(f"{len(details.recipients)} recipients, at most {_MAX_RECIPIENTS}")
    if any(AGENCY_NAME.fullmatch(name) is None for name in details.recipients):
        raise RequestRefused("a recipient is no authority's name")
