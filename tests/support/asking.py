"""Requests to the key access service, right ones and wrong ones, and its answers.

answer = await ask(world, kas, POLICE_B, [batch.item(0)])            # a right request
answer = await send(world, CARE, [item], issued_at=0)               # one with a changed field
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from broker.access.answers import Answer, open_answer
from broker.access.client import KeyAccess
from broker.access.request_checks import details_commitment, names_others
from broker.access.requests import PreparedRequest, make_request
from broker.clock import system_clock
from broker.crypto.sign import SigningKey
from broker.wire.access import AccessDetails, AccessRequest
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import LogItem, Operation, RecordItem, Signed
from broker.wire.terms import Purpose
from support.coalition import signing_key
from support.words import details as right_details
from support.world import CHANNEL, World

__all__ = ["ask", "deliver", "hostile_request", "post", "prepare", "send"]


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
    directory = world.directory
    made = replace(right_details(), **(details or {}))
    details_bytes = encode(made)
    request = AccessRequest(
        issuer=name,
        issued_at=system_clock(),
        directory_size=directory.size,
        directory_root=directory.root,
        seen=(),
        nonce=secrets.token_bytes(16),
        operation=Operation.CONSULTATION,
        channel=CHANNEL,
        items=tuple(items),
        purpose=Purpose.PUBLIC_SECURITY,
        mandate_ref=None,
        passes_on=names_others(made, name),
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


def prepare(
    world: World,
    name: str,
    items: Sequence[RecordItem | LogItem],
    *,
    channel: str = CHANNEL,
    purpose: Purpose = Purpose.INVESTIGATION,
    operation: Operation = Operation.CONSULTATION,
    mandate_ref: str | None = None,
    details: AccessDetails | None = None,
    now: int | None = None,
) -> PreparedRequest:
    """A right request that this participant signs."""
    return make_request(
        world.keyring(name),
        world.directory,
        channel=channel,
        operation=operation,
        items=items,
        purpose=purpose,
        mandate_ref=mandate_ref,
        details=details or right_details(),
        now=world.clock() if now is None else now,
    )


async def deliver(world: World, kas: KeyAccess, prepared: PreparedRequest) -> Answer:
    """Send a request and open its answer with the requester's keys."""
    sealed = await kas.access(prepared.request_bytes, prepared.details_bytes)
    keys = world.coalition.keys_of(prepared.request.issuer).values()
    return open_answer(prepared, sealed, keys, world.directory)


async def ask(
    world: World, kas: KeyAccess, name: str, items: Sequence[RecordItem | LogItem], **options: Any
) -> Answer:
    """Ask for these items by a right request; ``options`` are those of ``prepare``."""
    return await deliver(world, kas, prepare(world, name, items, **options))


async def post(world: World, name: str, prepared: PreparedRequest) -> Answer:
    """Send a request and open its answer with the keys of whom it names."""
    sealed = await world.kas.access(prepared.request_bytes, prepared.details_bytes)
    keys = world.coalition.keys_of(name).values()
    return open_answer(prepared, sealed, keys, world.directory)


async def send(world: World, name: str, items: Sequence[RecordItem | LogItem], **options: Any) -> Answer:
    """What is answered to a request of this participant, changed as told."""
    return await post(world, name, hostile_request(world, name, items, **options))
