"""Requests to the key access service that no honest requester makes, and what it answers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from broker.access.answers import Answer, open_answer
from broker.access.request_checks import details_commitment
from broker.access.requests import PreparedRequest, new_details
from broker.clock import system_clock
from broker.crypto.sign import SigningKey
from broker.wire.access import AccessRequest
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import LogItem, Operation, RecordItem, Signed
from broker.wire.terms import Purpose
from support.coalition import signing_key
from support.exchange import CHANNEL, World

__all__ = ["hostile_request", "post", "send"]


def hostile_request(
    world: World,
    name: str,
    items: Sequence[RecordItem | LogItem],
    *,
    key: SigningKey | None = None,
    details: dict[str, Any] | None = None,
    kind: str = "access-request",
    genesis: bytes | None = None,
    other_details: bytes | None = None,
    **changes: Any,
) -> PreparedRequest:
    """A request of this participant with any field changed, signed with any key; nothing is checked."""
    directory = world.coalition.directory
    words: dict[str, Any] = {
        "person": "officer-17",
        "role": "analyst",
        "legal_basis": "Exercise treaty, article 7",
        "justification": "Follow-up of a return",
    }
    made = replace(new_details(**words), **(details or {}))
    details_bytes = encode(made)
    request = AccessRequest(
        issuer=name,
        issued_at=system_clock(),
        directory_size=directory.size,
        directory_head=directory.head,
        nonce=secrets.token_bytes(16),
        operation=Operation.CONSULTATION,
        channel=CHANNEL,
        items=tuple(items),
        purpose=Purpose.PUBLIC_SECURITY,
        mandate_ref=None,
        details_commitment=details_commitment(details_bytes),
    )
    request = replace(request, **changes)
    content = encode(request)
    signed: Signed = sign_content(key or signing_key(name), kind, genesis or directory.genesis, content)
    return PreparedRequest(
        signed=signed,
        request=request,
        request_bytes=encode(signed),
        details_bytes=other_details or details_bytes,
        digest=sha256(content).digest(),
    )


async def post(world: World, name: str, prepared: PreparedRequest) -> Answer:
    """Send a request and open its answer with the keys of whom it names."""
    sealed = await world.kas.access(prepared.request_bytes, prepared.details_bytes)
    keys = world.coalition.keys_of(name).values()
    return open_answer(prepared, sealed, keys, world.coalition.directory)


async def send(world: World, name: str, items: Sequence[RecordItem | LogItem], **options: Any) -> Answer:
    """What is answered to a request of this participant, changed as told."""
    return await post(world, name, hostile_request(world, name, items, **options))
