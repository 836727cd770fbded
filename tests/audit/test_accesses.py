"""Who read what, when and why: the auditor's question, and its own trace in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from broker.access.client import KeyAccess
from broker.access.requests import new_details
from broker.audit.accesses import Access, accesses
from broker.clock import DAY_US
from broker.crypto.seal import open_sealed_answer, seal_answer
from broker.directory import drafts
from broker.errors import Denied, OpenError, PeerError
from broker.log.protocol import Log, Message, Partition, StoredMessage
from broker.participant.keyring import Keyring
from broker.services.kas.entries import AccessWriter, month_of
from broker.services.kas.journal import Journal
from broker.services.kas.service import KeyAccessService
from broker.wire.access import AccessAnswer, AccessDetails, LogEntry
from broker.wire.encoding import decode, encode
from broker.wire.envelope import open_manifest, parse_envelope
from broker.wire.manifest import AccessTerms, LogItem, Operation, Reason, Signed, Verdict
from broker.wire.statements import KeyUse, ServiceRole
from broker.wire.terms import Action, Purpose
from support.asking import ask, deliver, prepare
from support.audit_log import replayed_file
from support.coalition import AUDITOR, JUSTICE, KAS, POLICE_A, POLICE_B, REHAB, receiving_key, signing_key
from support.forgery import positions_of
from support.looking import access_terms
from support.placing import place, place_order
from support.words import details
from support.world import World


def _why() -> AccessDetails:
    return new_details(
        person="auditor-3", role="auditor", legal_basis="LED art. 25(3)", justification="yearly audit"
    )


async def _asked(world: World, kas: KeyAccess, **options: Any) -> list[Access]:
    participant = await world.participant(options.pop("name", AUDITOR))
    options = dict[str, Any](purpose=Purpose.LAWFULNESS, details=_why) | options
    return [access async for access in accesses(participant, kas, **options)]


def _who(found: Sequence[Access]) -> list[tuple[str, str]]:
    return [(one.channel, one.request.issuer) for one in found]


async def test_every_access_with_the_person_and_the_reason(tmp_path: Path) -> None:
    """The auditor learns who read which record, and why, and reads no record itself."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        await ask(world, kas, POLICE_B, [batch.item(0, 2)])
        await ask(world, kas, REHAB, [batch.item(1)], purpose=Purpose.REHAB_REINTEGRATION)
        found = await _asked(world, kas)
        assert _who(found) == [("repatriation", POLICE_B), ("repatriation", REHAB)]
        first, second = found
        assert first.details is not None
        assert (first.details.person, first.details.justification) == ("officer-17", "Follow-up of a return")
        assert [(one.item, one.indexes, one.verdict) for one in first.disclosures] == [
            (batch.item(0, 2), b"\x00\x02", Verdict.ALLOWED)
        ]
        assert [(one.verdict, one.reason) for one in second.disclosures] == [
            (Verdict.DENIED, Reason.PURPOSE_RECORD)
        ]


async def test_the_question_is_logged_and_is_answered_next_time(tmp_path: Path) -> None:
    """Reading the access log is an access: the auditor's own name stands in it from then on."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 1)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        await _asked(world, kas)
        found = await _asked(world, kas)
        assert _who(found) == [("repatriation", POLICE_B), ("repatriation", AUDITOR)]
        last = found[-1]
        assert isinstance(last.disclosures[0].item, LogItem)
        assert last.details == replace(_why(), blind=last.details.blind if last.details else b"")
        assert last.request.operation is Operation.CONSULTATION


@pytest.mark.parametrize("name", [AUDITOR, POLICE_A])
async def test_entries_of_one_request_count_once(tmp_path: Path, name: str) -> None:
    """A repeated request is no further access; where it was decided otherwise, it is shown as a repeat."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        prepared = prepare(world, POLICE_B, [batch.item(0, 1)])
        for _ in range(3):
            await deliver(world, kas, prepared)
        await place_order(world, Action.WITHDRAW, batch.target(0))
        for _ in range(2):
            await deliver(world, kas, prepared)
        found = await _asked(world, kas, name=name, agency=POLICE_B, purpose=Purpose.LAWFULNESS)
        assert [access.is_repeat for access in found] == [False, True]
        assert [len(access.disclosures) for access in found] == [1, 2]
        report = await replayed_file(world.folder / "log.db", genesis=world.coalition.genesis)
        assert report.counts.access_entries == 2  # with the question itself


async def test_by_record_agency_and_time(tmp_path: Path) -> None:
    """Each filter narrows, and a range without a wanted entry is not asked for."""
    async with World.still(tmp_path) as world, world.service() as kas:
        one, two = await place(world, POLICE_A, 2), await place(world, POLICE_A, 1, topic="justice")
        await ask(world, kas, POLICE_B, [one.item(0)])
        world.advance(60)
        middle = world.now
        await ask(world, kas, POLICE_B, [one.item(1), two.item(0)])
        await ask(world, kas, REHAB, [one.item(0)])
        before = len(await access_terms(world))
        record_id = await _record_id(world, 1)
        assert [a.at > middle for a in await _asked(world, kas, record_id=record_id)] == [True]
        assert len(await access_terms(world)) == before + 1
        assert _who(await _asked(world, kas, agency=REHAB)) == [("repatriation", REHAB)]
        assert len(await _asked(world, kas, until=middle)) == 1
        assert len(await _asked(world, kas, since=middle, agency=POLICE_B)) == 1
        asked = len(await access_terms(world))
        assert await _asked(world, kas, agency="XCC:child-protection") == []
        assert len(await access_terms(world)) == asked


async def _record_id(world: World, index: int) -> bytes:
    """The id of a record in the first batch."""
    (first, *_) = [m async for m in world.log.read(Partition("returns", 0), 0)]
    envelope = parse_envelope(first.key, first.value)
    assert envelope is not None
    key = world.coalition.epoch_keys("repatriation", envelope.epoch, AUDITOR)["metadata"]
    opened = open_manifest(envelope, topic="returns", partition=0, keys=key.keys)
    assert opened is not None
    return opened.entries.record_id(index)


@pytest.mark.parametrize("purpose", [Purpose.INVESTIGATION, Purpose.PREVENTION])
async def test_for_the_four_purposes_only(purpose: Purpose, tmp_path: Path) -> None:
    """LED art. 25(2) names what logs may be read for; all else is denied."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 1)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        with pytest.raises(Denied):
            await _asked(world, kas, purpose=purpose)


async def test_who_takes_no_part_asks_nothing(tmp_path: Path) -> None:
    """Neither auditor nor member of a channel: nothing is asked, and nothing logged."""
    async with World.still(tmp_path) as world, world.service() as kas:
        with pytest.raises(Denied):
            await _asked(world, kas, name=REHAB, channels=["xaa-xbb"])
        with pytest.raises(Denied):
            await _asked(world, kas, name=POLICE_A, channels=["xaa-xbb", "nowhere"])
        assert await access_terms(world, 1) == []


async def test_many_accesses_are_asked_for_range_by_range(tmp_path: Path) -> None:
    """More entries than one range holds: several questions, every access once and in order."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 1)
        for _ in range(505):
            await ask(world, kas, POLICE_B, [batch.item(0)])
        found = await _asked(world, kas)
        assert len(found) == 505
        assert [one.offset for one in found] == sorted({one.offset for one in found})
        assert all(one.details is not None for one in found)
        entries = [one for one in await access_terms(world) if isinstance(one, AccessTerms)]
        assert len(entries) == 507


Entries = tuple[LogEntry, ...]


class _Lying:
    """A service that answers this participant with other entries than it has."""

    def __init__(self, world: World, kas: KeyAccess, name: str, lie: Callable[[Entries], Entries]) -> None:
        self._keys = world.coalition.keys_of(name)
        self._kas = kas
        self._lie = lie

    async def access(self, request: bytes, details: bytes) -> bytes:
        """The answer, its entries exchanged."""
        sealed = await self._kas.access(request, details)
        (key,) = self._keys.values()
        digest = sha256(decode(Signed, request).content).digest()
        answer = decode(AccessAnswer, open_sealed_answer(key, sealed, digest))
        changed = encode(replace(answer, entries=self._lie(answer.entries)))
        return seal_answer(key.public, changed, digest)

    async def collections(self, query: bytes) -> bytes:
        """Not asked here."""
        return await self._kas.collections(query)


def _first_for_all(entries: Entries) -> Entries:
    accesses_only = [one for one in entries if one.offset >= 2]
    return tuple(replace(accesses_only[0], offset=one.offset) for one in accesses_only)


async def test_another_entry_s_details_are_not_believed(tmp_path: Path) -> None:
    """What the service answers must be the very entry that the log holds."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        await ask(world, kas, REHAB, [batch.item(1)])
        for name in (AUDITOR, POLICE_A):
            with pytest.raises(OpenError):
                await _asked(world, _Lying(world, kas, name, _first_for_all), name=name)


# Members


async def test_an_originator_learns_who_read_what_it_shared(tmp_path: Path) -> None:
    """A member is given the accesses to its own records, and its own accesses: nobody else's, and logged."""
    async with World.still(tmp_path) as world, world.service() as kas:
        ours, theirs = await place(world, POLICE_A, 2), await place(world, JUSTICE, 1, topic="justice")
        await ask(world, kas, POLICE_B, [ours.item(0)])
        await ask(world, kas, POLICE_B, [theirs.item(0)])
        await ask(world, kas, POLICE_A, [theirs.item(0)])
        await ask(world, kas, REHAB, [ours.item(1)], purpose=Purpose.REHAB_REINTEGRATION)
        entries = len(await access_terms(world))
        found = await _asked(world, kas, name=POLICE_A, channels=["repatriation"])
        assert _who(found) == [("repatriation", one) for one in (POLICE_B, POLICE_A, REHAB)]
        assert found[0].details is not None
        assert (found[0].details.person, found[0].details.justification) == (
            "officer-17",
            "Follow-up of a return",
        )
        assert found[0].disclosures[0].item == ours.item(0)
        assert len(await access_terms(world)) == entries + 1
        audited = await _asked(world, kas)
        assert [one for one in audited if one in found] == found
        assert audited[-1].request.issuer == POLICE_A


async def test_a_member_asks_by_record_agency_and_time(tmp_path: Path) -> None:
    """Each filter narrows what a member is told; where no such record is, nothing is asked."""
    async with World.still(tmp_path) as world, world.service() as kas:
        one = await place(world, POLICE_A, 2)
        await ask(world, kas, POLICE_B, [one.item(0)])
        world.advance(60)
        middle = world.now
        await ask(world, kas, REHAB, [one.item(1)])
        by_police = {"name": POLICE_A, "channels": ["repatriation"]}
        record_id = await _record_id(world, 1)
        assert [a.request.issuer for a in await _asked(world, kas, record_id=record_id, **by_police)] == [
            REHAB
        ]
        assert _who(await _asked(world, kas, agency=REHAB, **by_police)) == [("repatriation", REHAB)]
        assert len(await _asked(world, kas, until=middle, **by_police)) == 1
        assert len(await _asked(world, kas, since=middle, agency=REHAB, **by_police)) == 1
        asked = len(await access_terms(world))
        assert await _asked(world, kas, record_id=bytes(16), **by_police) == []
        assert len(await access_terms(world)) == asked
        assert await _asked(world, kas, until=middle - DAY_US, **by_police) == []


class Redated:
    """A log whose operator gives every message of the access log a date of its own choice."""

    def __init__(self, log: Log, date: Callable[[int], int]) -> None:
        self._log = log
        self._date = date

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, partition: Partition, start: int, **options: Any) -> AsyncIterator[StoredMessage]:
        async for message in self._log.read(partition, start, **options):
            is_altered = partition.topic == "access"
            yield message._replace(appended_at=self._date(message.offset)) if is_altered else message


@pytest.mark.parametrize("date", [lambda offset: 1000, lambda offset: (100 - offset) * 10**12])
async def test_no_date_of_the_log_hides_an_access(tmp_path: Path, date: Callable[[int], int]) -> None:
    """What an originator is told does not depend on append times, which the log's operator could choose."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        for _ in range(2):
            world.advance(10 * 86_400)
            await ask(world, kas, POLICE_B, [batch.item(0)])
        participant = await world.participant(POLICE_A, log=cast(Log, Redated(world.log, date)))
        options: dict[str, Any] = {"agency": POLICE_B, "since": world.now - DAY_US, "details": _why}
        asked = accesses(participant, kas, purpose=Purpose.LAWFULNESS, **options)
        assert [access.at > world.now - DAY_US async for access in asked] == [True]


async def test_a_member_of_channels_asks_in_each_that_is_open(tmp_path: Path) -> None:
    """Without a channel's name all that it is a member of are asked, but for closed ones."""
    async with World.still(tmp_path) as world, world.service() as kas:
        for channel in (0, 1):
            batch = await place(world, POLICE_A, channel=channel)
            name = world.directory.numbers[channel]
            await ask(world, kas, POLICE_B, [batch.item(0)], channel=name)
        found = await _asked(world, kas, name=POLICE_A)
        assert _who(found) == [("repatriation", POLICE_B), ("xaa-xbb", POLICE_B)]
        closing = drafts.close_channel(world.directory, channel="xaa-xbb", issued_at=world.clock())
        await world.say(closing)
        assert _who(await _asked(world, kas, name=POLICE_A, agency=POLICE_B)) == [("repatriation", POLICE_B)]


async def test_a_member_s_many_accesses_are_asked_for_range_by_range(tmp_path: Path) -> None:
    """More entries than one range holds: every access once and in order, no range asked for twice."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 1)
        for _ in range(505):
            await ask(world, kas, POLICE_B, [batch.item(0)])
        found = await _asked(world, kas, name=POLICE_A, channels=["repatriation"])
        assert len(found) == 505
        assert [one.offset for one in found] == sorted({one.offset for one in found})
        entries = [one for one in await access_terms(world) if isinstance(one, AccessTerms)]
        assert len(entries) == 507


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        (lambda entries: entries[::-1], "not in order"),
        (lambda entries: (entries[0], entries[0]), "not in order"),
        (
            lambda entries: tuple(replace(one, offset=one.offset + 1000) for one in entries),
            "outside of the range",
        ),
        (
            lambda entries: tuple(replace(one, offset=one.offset + 1) for one in entries),
            "not stand in the log",
        ),
        (lambda entries: tuple(replace(one, body=entries[0].body) for one in entries), "not the one"),
        (lambda entries: tuple(replace(one, body_key=bytes(32)) for one in entries), "does not unlock"),
    ],
)
async def test_what_a_member_is_told_is_proved(
    lie: Callable[[Entries], Entries], expected: str, tmp_path: Path
) -> None:
    """Entries of elsewhere, twice, in another order, or which the log does not hold convict the service."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        await ask(world, kas, REHAB, [batch.item(1)])
        with pytest.raises(PeerError, match=expected):
            await _asked(world, _Lying(world, kas, POLICE_A, lie), name=POLICE_A)


async def test_a_copy_in_the_log_is_no_second_access(tmp_path: Path) -> None:
    """Whoever can write to the access log may repeat an entry: a member is told of it once."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 1)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        stored = [one async for one in world.log.read(Partition("access", 0), 2)]
        for _ in range(600):  # into the next range too
            await world.log.append(Partition("access", 0), [Message(one.key, one.value) for one in stored])
        found = await _asked(world, kas, name=POLICE_A, channels=["repatriation"])
        assert _who(found) == [("repatriation", POLICE_B)]


async def test_an_entry_dated_back_by_a_stolen_key_is_not_told(tmp_path: Path) -> None:
    """A key of the service that was revoked dates nothing back into a range that a member asks for."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A, 1)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
        before = world.directory
        announced = drafts.announce_service_key(
            before,
            service=KAS,
            role=ServiceRole.KAS,
            use=KeyUse.SIGNING,
            public_key=signing_key("new").public,
            issued_at=world.now,
        )
        keys = (*world.coalition.authority_keys, signing_key(KAS), signing_key("new"))
        await world.coalition.add_to(world.log, announced, *keys)
        await world.say(
            drafts.revoke_key(
                world.directory,
                party=KAS,
                key_id=signing_key(KAS).key_id,
                since=world.directory.size,
                issued_at=world.now,
                by_authority=True,
            )
        )
        keyring = Keyring.of(KAS, signing_key("new"), [receiving_key(KAS)])
        with Journal(tmp_path / "journal.db") as journal:
            participant = replace(await world.participant(KAS), keyring=keyring)
            service = KeyAccessService(participant, world.keystore(), journal)
            async with service as kas:
                await ask(world, kas, POLICE_B, [batch.item(0)])
                terms = next(one for one in await access_terms(world) if isinstance(one, AccessTerms))
                key = world.coalition.epoch_keys("repatriation", 0, KAS)["access"]
                month_key = world.keystore().access_key(month_of(world.now), 0)
                thief = AccessWriter(world.log, KAS, signing_key(KAS), 0)
                item = (terms, details())
                positions = await positions_of(world)
                now = world.clock()
                forged = await thief.write(
                    before, key, month_key, [item], positions=positions, now=now, end=0
                )
                just_there = LogItem(start=forged.offset, end=forged.offset + 2)
                answer = await ask(world, kas, POLICE_A, [just_there], purpose=Purpose.LAWFULNESS)
                assert answer.entries == ()
                all_before = LogItem(start=0, end=forged.offset)
                answer = await ask(world, kas, POLICE_A, [all_before], purpose=Purpose.LAWFULNESS)
                assert len(answer.entries) == 2


async def test_an_access_that_nobody_asked_for_is_not_believed(tmp_path: Path) -> None:
    """An entry whose request its issuer did not sign convicts the service, though it stands in the log."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A, 1)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            terms = next(one for one in await access_terms(world) if isinstance(one, AccessTerms))
            forged = replace(terms.request.signatures[0], signature=bytes(64))
            request = replace(terms.request, signatures=(forged,))
            key = world.coalition.epoch_keys("repatriation", 0, KAS)["access"]
            writer = AccessWriter(world.log, KAS, signing_key(KAS), 0)
            month_key = world.keystore().access_key(month_of(world.now), 0)
            lie = replace(terms, request=request)
            now = world.clock()
            positions = await positions_of(world)
            items = [(lie, details())]
            await writer.write(world.directory, key, month_key, items, positions=positions, now=now, end=0)
            with pytest.raises(PeerError, match="signature"):
                await _asked(world, kas, name=POLICE_A, channels=["repatriation"])
