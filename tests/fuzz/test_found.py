"""What the long runs of the fuzzer found, each as a test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.audit.accesses import accesses
from broker.wire.manifest import AccessTerms
from broker.wire.terms import Purpose
from support.coalition import AUDITOR, POLICE_B
from support.forgery import enter
from support.looking import access_terms
from support.words import details
from support.world import World


@pytest.mark.parametrize("issued_at", [2**59, 2**63 - 1, -(2**63)])
async def test_an_entry_of_a_year_that_no_calendar_has(tmp_path: Path, issued_at: int) -> None:
    """Whoever asks for accesses is answered, though the service's key has signed an impossible time."""
    async with World.open(tmp_path) as world:
        await world.publish(1)
        await world.read()
        (read,) = [terms for terms in await access_terms(world) if isinstance(terms, AccessTerms)]
        await enter(world, read, issued_at=issued_at)
        auditor = await world.participant(AUDITOR)
        asked = accesses(auditor, world.kas, purpose=Purpose.LAWFULNESS, details=details)
        assert [access.request.issuer async for access in asked] == [POLICE_B]
