"""Access requests and collection queries, as the reader and the publisher make them.

The details of an access (the person, the legal basis, the case) are not part of the request, which holds
only a commitment to them: so the request can be shown to members who may not know the details.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from broker.access.request_checks import (
    MAX_QUERIED,
    check_details,
    check_form,
    check_texts,
    details_commitment,
    names_others,
)
from broker.crypto.sign import SigningKey
from broker.directory import Directory
from broker.errors import RequestRefused, UsageError
from broker.participant.keyring import Keyring
from broker.wire.access import AccessDetails, AccessRequest, BatchRef, CollectionQuery
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import LogItem, Operation, RecordItem, Signed, TopicHead
from broker.wire.terms import Purpose

__all__ = ["PreparedRequest", "make_query", "make_request", "new_details"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A signed request as it is sent. Its answer is checked against ``request`` and ``digest``."""

    signed: Signed
    request: AccessRequest
    request_bytes: bytes
    details_bytes: bytes
    digest: bytes


def new_details(
    *,
    role: str,
    legal_basis: str,
    justification: str,
    person: str | None = None,
    case_reference: str | None = None,
    recipients: Sequence[str] = (),
) -> AccessDetails:
    """Make the details of an access, with a fresh blind so that their commitment reveals nothing.

    ``person`` is the agency's own pseudonym of its officer, which a consultation needs; ``recipients`` are
    the authorities that receive a disclosure. Raises UsageError when a text is missing or too long: the
    justification has at most 500 characters.
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
        check_texts(details)
    except RequestRefused as error:
        raise UsageError(error.message) from None
    return details


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
    seen: Sequence[TopicHead] = (),
) -> PreparedRequest:
    """Make a signed request to read these records, or a range of the access log.

    ``seen`` is how far the requester has read the partitions that it asks about. ``now`` is the time in
    microseconds. Raises UsageError when the service would refuse the request.
    """
    details_bytes = encode(details)
    request = AccessRequest(
        issuer=keyring.name,
        issued_at=now,
        directory_size=directory.size,
        directory_root=directory.root,
        seen=tuple(seen),
        nonce=secrets.token_bytes(16),
        operation=operation,
        channel=channel,
        items=tuple(items),
        purpose=purpose,
        mandate_ref=mandate_ref,
        passes_on=names_others(details, keyring.name),
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
    """Make a signed collection query and its bytes, for at most 256 batches of one channel."""
    if not 1 <= len(batches) <= MAX_QUERIED:
        raise UsageError(f"query for {len(batches)} batches, expected 1 to {MAX_QUERIED}")
    query = CollectionQuery(
        issuer=name, issued_at=now, nonce=secrets.token_bytes(16), channel=channel, batches=tuple(batches)
    )
    signed = sign_content(key, "collection-query", directory.genesis, encode(query))
    return signed, encode(signed)
