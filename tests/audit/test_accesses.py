"""Who read what, when and why: the auditor's question, and its own trace in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from broker.access.client import KeyAccess
from broker.access.requests import new_details
from broker.audit.accesses import Access, accesses
from broker.crypto.seal import answer_info, open_sealed, seal
from broker.errors import Denied, OpenError
from broker.formats.access import AccessAnswer, AccessDetails
from broker.formats.batch import open_manifest, parse_envelope
from broker.formats.manifest import AccessTerms, LogItem, Operation, Reason, Signed, Verdict
from broker.formats.protocol import decode, encode
from broker.formats.terms import Purpose
from broker.log.protocol import Partition
from broker.participant.follower import DirectoryFollower
from support.coalition import AUDITOR, JUSTICE, POLICE_A, POLICE_B, REHAB
from support.kas import World


def _why() -> AccessDetails:
    return new_details(
        person="auditor-3", role="auditor", legal_basis="LED art. 25(3)", justification="yearly audit"
    )


async def _asked(world: World, kas: KeyAccess, **options: Any) -> list[Access]:
    follower = await DirectoryFollower.start(world.log, world.coalition.genesis)
    keyring = world.keyring(options.pop("name", AUDITOR))
    options = dict[str, Any](purpose=Purpose.LAWFULNESS, details=_why, clock=world.clock) | options
    return [one async for one in accesses(world.log, follower, keyring, kas, **options)]


def _who(found: Sequence[Access]) -> list[tuple[str, str]]:
    return [(one.channel, one.request.issuer) for one in found]


async def test_every_access_with_the_person_and_the_reason(tmp_path: Path) -> None:
    """The auditor learns who read which record, and why, and reads no record itself."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 3)
        await world.read(kas, POLICE_B, [batch.item(0, 2)])
        await world.read(kas, REHAB, [batch.item(1)], purpose=Purpose.REHAB_REINTEGRATION)
        found = await _asked(world, kas)
        assert _who(found) == [("repatriation", POLICE_B), ("repatriation", REHAB)]
        first, second = found
        assert first.details is not None
        assert (first.details.person, first.details.justification) == ("officer-17", "case 1")
        assert [(one.item, one.indexes, one.verdict) for one in first.disclosures] == [
            (batch.item(0, 2), b"\x00\x02", Verdict.ALLOWED)
        ]
        assert [(one.verdict, one.reason) for one in second.disclosures] == [
            (Verdict.DENIED, Reason.PURPOSE_RECORD)
        ]


async def test_the_question_is_logged_and_is_answered_next_time(tmp_path: Path) -> None:
    """Reading the access log is an access: the auditor's own name stands in it from then on."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 1)
        await world.read(kas, POLICE_B, [batch.item(0)])
        await _asked(world, kas)
        found = await _asked(world, kas)
        assert _who(found) == [("repatriation", POLICE_B), ("repatriation", AUDITOR)]
        last = found[-1]
        assert isinstance(last.disclosures[0].item, LogItem)
        assert last.details == replace(_why(), blind=last.details.blind if last.details else b"")
        assert last.request.operation is Operation.CONSULTATION


async def test_by_record_agency_and_time(tmp_path: Path) -> None:
    """Each filter narrows, and a range without a wanted entry is not asked for."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        one, two = await world.publish(POLICE_A, 2), await world.publish(JUSTICE, 1, topic="justice")
        await world.read(kas, POLICE_B, [one.item(0)])
        world.advance(60)
        middle = world.now
        await world.read(kas, POLICE_B, [one.item(1), two.item(0)])
        await world.read(kas, REHAB, [one.item(0)])
        before = len(await world.terms())
        record_id = await _record_id(world, 1)
        assert [a.at > middle for a in await _asked(world, kas, record_id=record_id)] == [True]
        assert len(await world.terms()) == before + 1
        assert _who(await _asked(world, kas, agency=REHAB)) == [("repatriation", REHAB)]
        assert len(await _asked(world, kas, until=middle)) == 1
        assert len(await _asked(world, kas, since=middle, agency=POLICE_B)) == 1
        asked = len(await world.terms())
        assert await _asked(world, kas, agency="XCC:child-protection") == []
        assert len(await world.terms()) == asked


async def _record_id(world: World, index: int) -> bytes:
    """The id of a record in the first batch."""
    (first, *_) = [m async for m in world.log.read(Partition("returns", 0), 0)]
    envelope = parse_envelope(first.key, first.value)
    assert envelope is not None
    key = world.coalition.epoch_keys("repatriation", envelope.epoch, AUDITOR)["metadata"]
    opened = open_manifest(
        envelope, genesis=world.coalition.genesis, topic="returns", partition=0, key=key.key
    )
    return opened.entries.record_ids[index * 16 : index * 16 + 16]


@pytest.mark.parametrize("purpose", [Purpose.INVESTIGATION, Purpose.PREVENTION])
async def test_for_the_four_purposes_only(purpose: Purpose, tmp_path: Path) -> None:
    """LED art. 25(2) names what logs may be read for; all else is denied."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 1)
        await world.read(kas, POLICE_B, [batch.item(0)])
        with pytest.raises(Denied):
            await _asked(world, kas, purpose=purpose)


async def test_who_is_no_auditor_asks_nothing(tmp_path: Path) -> None:
    """A member sees its own accesses through the service, not everybody's through this."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        with pytest.raises(Denied):
            await _asked(world, kas, name=POLICE_A, channels=["repatriation"])
        assert await _asked(world, kas, name=POLICE_A) == []


async def test_many_accesses_are_asked_for_range_by_range(tmp_path: Path) -> None:
    """More entries than one range holds: several questions, every access once and in order."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 1)
        for _ in range(505):
            await world.read(kas, POLICE_B, [batch.item(0)])
        found = await _asked(world, kas)
        assert len(found) == 505
        assert [one.offset for one in found] == sorted({one.offset for one in found})
        assert all(one.details is not None for one in found)
        entries = [one for one in await world.terms() if isinstance(one, AccessTerms)]
        assert len(entries) == 507


class _Swapping:
    """A service that answers with the first entry's evidence for every entry."""

    def __init__(self, world: World, kas: KeyAccess) -> None:
        self._world = world
        self._kas = kas

    async def access(self, request: bytes, details: bytes) -> bytes:
        """The answer, its entries exchanged."""
        sealed = await self._kas.access(request, details)
        (key,) = self._world.coalition.keys_of(AUDITOR).values()
        info = answer_info(sha256(decode(Signed, request).content).digest())
        answer = decode(AccessAnswer, open_sealed(key, sealed, info))
        accesses_only = [one for one in answer.entries if one.offset >= 2]
        first = accesses_only[0]
        lies = tuple(replace(first, offset=one.offset) for one in accesses_only)
        return seal(key.public, encode(replace(answer, entries=lies)), info)

    async def collections(self, query: bytes) -> bytes:
        """Not asked here."""
        return await self._kas.collections(query)


async def test_another_entry_s_details_are_not_believed(tmp_path: Path) -> None:
    """What the service answers must be the very entry that the log holds."""
    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 2)
        await world.read(kas, POLICE_B, [batch.item(0)])
        await world.read(kas, REHAB, [batch.item(1)])
        with pytest.raises(OpenError):
            await _asked(world, _Swapping(world, kas))
