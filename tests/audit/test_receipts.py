"""Receipts that an agency kept, against the access log: whatever was answered must have its entry there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from immutables import Map

from broker.access.answers import Answer
from broker.access.bound_positions import BoundPositions
from broker.audit.channel_trees import ChannelTrees
from broker.audit.index import Index
from broker.audit.receipt_check import MAX_LINE_BYTES, KeptReceipts, difference, read_kept
from broker.audit.replay import ReplayReport, replay
from broker.directory import Directory, History, KeyState
from broker.errors import UsageError
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.participant import Participant
from broker.services.kas.entries import AccessWriter, WrittenEntry
from broker.subscribe.receipts import ReceiptFile
from broker.verify.violations import Kind, Place
from broker.wire.access import EntryRef, Receipt, ReceiptOutcome
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.manifest import (
    AccessTerms,
    ErasureTerms,
    LogItem,
    Reason,
    RecordItem,
    RecordOutcome,
    Signed,
    Terms,
    Verdict,
)
from broker.wire.terms import Purpose, Target
from support.asking import deliver, prepare
from support.audit_log import auditor
from support.coalition import AUDITOR, KAS, POLICE_A, POLICE_B, signing_key
from support.forgery import positions_of
from support.looking import cut
from support.placing import place
from support.world import World

ALLOWED, DENIED = Verdict.ALLOWED, Verdict.DENIED
Kept = tuple[Signed, Signed]


async def ask(
    world: World, kas: object, items: Sequence[RecordItem | LogItem], **options: object
) -> tuple[Kept, Answer]:
    """Read; what a subscriber keeps of it, and the answer."""
    name = str(options.pop("name", POLICE_B))
    prepared = prepare(world, name, items, **options)  # type: ignore[arg-type]
    answer = await deliver(world, kas, prepared)  # type: ignore[arg-type]
    return (prepared.signed, answer.signed), answer


def changed(world: World, kept: Kept, **changes: object) -> Kept:
    """A receipt that says something else, signed by the service itself."""
    receipt = replace(decode(Receipt, kept[1].content), **changes)  # type: ignore[arg-type]
    return kept[0], sign_content(signing_key(KAS), "receipt", world.coalition.genesis, encode(receipt))


async def replayed(world: World, *kept: Kept, name: str = AUDITOR) -> ReplayReport:
    """What a replay with these receipts finds."""
    async with await SqliteLog.open(world.folder / "log.db") as log:
        follower = await DirectoryFollower.start(log, world.coalition.genesis)
        with KeptReceipts(follower.history) as receipts:
            for number, (request, receipt) in enumerate(kept):
                receipts.take(f"kept:{number}", request, receipt)
            participant = Participant(log=log, follower=follower, keyring=auditor(name))
            return await replay(participant, receipts=receipts)


def roots(report: ReplayReport) -> list[tuple[Kind, Place]]:
    """The violations that follow from no other."""
    found = [one.violation for one in report.violations if one.violation.caused_by is None]
    return [(one.kind, one.place) for one in found]


async def test_honest_receipts_have_their_entries(tmp_path: Path) -> None:
    """Released, denied, and a range of the access log: every receipt agrees with its entry."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        first, _ = await ask(world, kas, [batch.item(0, 1, 2)])
        denied, _ = await ask(world, kas, [batch.item(0)], purpose=Purpose.REHAB_REINTEGRATION)
        own, _ = await ask(world, kas, [LogItem(start=0, end=9)], name=AUDITOR, purpose=Purpose.LAWFULNESS)
        report = await replayed(world, first, denied, own)
        assert (report.verified, report.receipts, report.receipts_not_compared) == (True, 3, 0)


async def test_a_tail_cut_after_a_release_is_found_by_its_receipt(tmp_path: Path) -> None:
    """The log alone shows nothing; a receipt binds it up to its entry, and nobody is accused of the cut."""
    async with World.still(tmp_path) as world:
        async with world.service() as kas:
            batch = await place(world, POLICE_A, 3)
            first, _ = await ask(world, kas, [batch.item(0)])
            world.advance(2)
            second, answer = await ask(world, kas, [batch.item(1, 2)])
        assert answer.entry is not None
        cut(world, "access", 0, answer.entry.offset)
        assert (await replayed(world, first)).verified
        report = await replayed(world, first, second)
        assert roots(report) == [(Kind.LOG_FORKED, Place("access", 0, answer.entry.offset))]
        assert report.by_kind.keys() == {Kind.LOG_FORKED}


async def test_an_entry_that_is_put_back_late_satisfies_its_receipt(tmp_path: Path) -> None:
    """The cut is the violation, told by the LATE entry; the receipt is covered by what it contains."""
    async with World.still(tmp_path) as world:
        async with world.service() as kas:
            batch = await place(world, POLICE_A, 3)
            kept, answer = await ask(world, kas, [batch.item(0)])
        assert answer.entry is not None
        cut(world, "access", 0, answer.entry.offset)
        async with world.service() as kas:
            await kas.collect()
        report = await replayed(world, kept)
        assert {kind for kind, _ in roots(report)} == {Kind.LATE_ENTRY}
        assert report.receipts == 1


async def test_an_altered_entry_is_why_its_receipt_has_none(tmp_path: Path) -> None:
    """One manipulation is one root."""
    async with World.still(tmp_path) as world:
        async with world.service() as kas:
            batch = await place(world, POLICE_A, 3)
            kept, answer = await ask(world, kas, [batch.item(0)])
        assert answer.entry is not None
        where = ("ftf.access", 0, answer.entry.offset)
        with sqlite3.connect(world.folder / "log.db") as db:
            db.execute(
                "UPDATE message SET value = substr(value, 1, length(value) - 3) || x'0badff'"
                " WHERE topic = ? AND partition = ? AND offset = ?",
                where,
            )
        db.close()
        report = await replayed(world, kept)
        assert len(roots(report)) == 1
        assert Kind.LOG_FORKED in report.by_kind
        assert Kind.RECEIPT_WITHOUT_ENTRY not in report.by_kind


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"offset": 90}, Kind.RECEIPT_INVALID, "its entry stands at"),
        ({"index": 7}, Kind.RECEIPT_WITHOUT_ENTRY, "its entry, record 7"),
        ({"index": -1}, Kind.RECEIPT_WITHOUT_ENTRY, "its entry, record -1"),
        ({"batch_id": bytes(32)}, Kind.RECEIPT_WITHOUT_ENTRY, "is not in the log"),
        ({"offset": 2**63 - 1, "batch_id": bytes(32)}, Kind.RECEIPT_WITHOUT_ENTRY, "is not in the log"),
        ({"offset": -(2**63), "batch_id": bytes(32)}, Kind.RECEIPT_WITHOUT_ENTRY, "is not in the log"),
    ],
)
async def test_a_receipt_that_names_another_place(
    tmp_path: Path, change: dict[str, object], kind: Kind, says: str
) -> None:
    """The service signed that its entry stands where it does not."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        kept, answer = await ask(world, kas, [batch.item(0)])
        assert answer.entry is not None
        entry = replace(answer.entry, **change)  # type: ignore[arg-type]
        report = await replayed(world, changed(world, kept, entry=entry))
        assert roots(report) == [(kind, Place("access", 0, entry.offset))]
        assert says in report.violations[0].violation.detail


async def test_released_without_an_entry(tmp_path: Path) -> None:
    """A receipt that names no entry may only deny."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        kept, answer = await ask(world, kas, [batch.item(0)])
        assert answer.entry is not None
        denied = ReceiptOutcome(
            item=0, indexes=b"\0", verdict=DENIED, reason=Reason.NOT_MEMBER, released=False
        )
        fine = changed(world, kept, entry=None, outcomes=(denied,))
        report = await replayed(world, fine, changed(world, kept, entry=None))
        assert [kind for kind, _ in roots(report)] == [Kind.RECEIPT_WITHOUT_ENTRY]
        assert report.violations[0].violation.detail == "kept:1: says released, and names no entry"


async def test_released_although_the_entry_says_denied(tmp_path: Path) -> None:
    """What was given away must be what was logged."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        kept, answer = await ask(world, kas, [batch.item(0)], purpose=Purpose.REHAB_REINTEGRATION)
        assert answer.entry is not None
        given = ReceiptOutcome(item=0, indexes=b"\0", verdict=ALLOWED, reason=None, released=True)
        report = await replayed(world, changed(world, kept, outcomes=(given,)))
        assert roots(report) == [(Kind.RECEIPT_INVALID, Place("access", 0, answer.entry.offset))]
        assert (
            "says ALLOWED for record 0 of item 0, its entry DENIED (PURPOSE_"
            in report.violations[0].violation.detail
        )


def _outcome(
    indexes: bytes = b"\0", verdict: Verdict = ALLOWED, reason: Reason | None = None, released: bool = True
) -> ReceiptOutcome:
    return ReceiptOutcome(item=0, indexes=indexes, verdict=verdict, reason=reason, released=released)


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        ((_outcome(), _outcome(b"\1", DENIED, Reason.EXPIRED, False)), None),
        (
            (_outcome(b"\0", ALLOWED, Reason.ERASED, False), _outcome(b"\1", DENIED, Reason.EXPIRED, False)),
            None,
        ),
        ((_outcome(),), "says nothing for record 1 of item 0, its entry DENIED (EXPIRED)"),
        ((_outcome(b"\0\1"),), "says ALLOWED for record 1 of item 0, its entry DENIED (EXPIRED)"),
        (
            (_outcome(), _outcome(b"\1", DENIED, Reason.ERASED, False)),
            "says DENIED (ERASED) for record 1 of item 0, its entry DENIED (EXPIRED)",
        ),
        ((_outcome(), _outcome(b"\1", DENIED, Reason.EXPIRED, True)), "says denied and released"),
        (
            (_outcome(), _outcome(b"\0\1", DENIED, Reason.EXPIRED, False)),
            "says two things of record 0 of item 0",
        ),
        (
            (_outcome(), _outcome(b"\1", DENIED, Reason.EXPIRED, False), _outcome(b"\2")),
            "says ALLOWED for record 2 of item 0, its entry nothing",
        ),
    ],
)
def test_what_a_receipt_may_say_of_its_entry(outcomes: tuple[ReceiptOutcome, ...], wrong: str | None) -> None:
    """The same for every record, but that what was allowed may have been withheld."""
    request = Signed(kind="access-request", content=b"r", signatures=())
    logged = (
        RecordOutcome(item=0, indexes=b"\0", verdict=ALLOWED, reason=None),
        RecordOutcome(item=0, indexes=b"\1", verdict=DENIED, reason=Reason.EXPIRED),
    )
    terms = AccessTerms(request=request, outcomes=logged)
    receipt = Receipt(
        issuer=KAS,
        issued_at=0,
        request_digest=_digest(b"r"),
        entry=None,
        positions=None,
        outcomes=outcomes,
    )
    assert difference(receipt, terms) == wrong
    other = replace(receipt, request_digest=_digest(b"other"))
    assert difference(other, terms) == "its entry is about another request"


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()


async def test_released_behind_an_erasure(tmp_path: Path) -> None:
    """An entry decided before the erasure may stand behind it; then nothing may be released any more."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A, 3)
        async with world.service() as kas:
            await kas.collect()
            before, answer = await ask(world, kas, [batch.item(2)])
        assert answer.entry is not None
        before_it = await positions_of(world)
        writer = AccessWriter(world.log, KAS, signing_key(KAS), 0)
        key = world.coalition.epoch_keys("repatriation", 0, KAS)["access"]

        async def write(terms: Terms) -> WrittenEntry:
            now = world.clock()
            items = [(terms, None)]
            return await writer.write(
                world.directory, key, b"m" * 32, items, positions=before_it, now=now, end=0
            )

        target = Target(batch_id=batch.batch_id, index=0)
        await write(ErasureTerms(targets=(target,), order=None))
        request = prepare(world, POLICE_B, [batch.item(0, 1)])
        outcome = RecordOutcome(item=0, indexes=b"\0\1", verdict=ALLOWED, reason=None)
        entry = await write(AccessTerms(request=request.signed, outcomes=(outcome,)))
        ref = EntryRef(batch_id=entry.batch.batch_id, partition=0, offset=entry.offset, index=0)
        kept = changed(world, (request.signed, before[1]), entry=ref, request_digest=request.digest)
        withheld = changed(
            world, kept, outcomes=(_outcome(b"\0", ALLOWED, Reason.ERASED, False), _outcome(b"\1"))
        )
        given = changed(world, kept, outcomes=(_outcome(b"\0\1"),))
        report = await replayed(world, before, withheld, given)
        assert roots(report) == [(Kind.RECEIPT_INVALID, Place("access", 0, entry.offset))]
        detail = "kept:2: says released for record 0 of item 0, which was erased before"
        assert report.violations[0].violation.detail == detail


async def test_whoever_cannot_open_the_access_log_still_sees_that_it_was_cut(tmp_path: Path) -> None:
    """A member compares nothing with entries that are sealed to others, and misses those that are gone."""
    async with World.still(tmp_path) as world:
        async with world.service() as kas:
            batch = await place(world, POLICE_A, 3)
            kept, answer = await ask(world, kas, [batch.item(0)])
        assert answer.entry is not None
        report = await replayed(world, kept, name=POLICE_B)
        assert (report.verified, report.receipts, report.receipts_not_compared) == (True, 0, 1)
        assert (report.access_unread, report.counts.uncollected) == (("repatriation",), 0)
        cut(world, "access", 0, answer.entry.offset)
        report = await replayed(world, kept, name=POLICE_B)
        assert roots(report) == [(Kind.LOG_FORKED, Place("access", 0, answer.entry.offset))]


async def test_a_receipt_proves_nothing_without_the_signature_of_the_service(tmp_path: Path) -> None:
    """Forged, altered, or beside another request: the line is told, and nobody is accused."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        kept, _ = await ask(world, kas, [batch.item(0)])
        other, _ = await ask(world, kas, [batch.item(1)])
        genesis = world.coalition.genesis
        forged = sign_content(signing_key(POLICE_B), "receipt", genesis, kept[1].content)
        altered = replace(kept[1], content=other[1].content)
        for wrong in ((kept[0], forged), (kept[0], altered), (other[0], kept[1]), (kept[1], kept[0])):
            with pytest.raises(UsageError, match=r"^kept:0: "):
                await replayed(world, wrong)


async def test_a_receipt_under_a_revoked_key_is_not_compared(tmp_path: Path) -> None:
    """Whoever stole the key could have made it; under a key that was merely retired it counts."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 3)
        kept, _ = await ask(world, kas, [batch.item(0)])
        history = (await DirectoryFollower.start(world.log, world.coalition.genesis)).history
        for state, counted in ((KeyState.REVOKED, 0), (KeyState.RETIRED, 1)):
            latest = history.latest
            service = latest.parties[KAS]
            keys = Map({key_id: replace(key, state=state) for key_id, key in service.keys.items()})
            later = replace(latest, parties=latest.parties.set(KAS, replace(service, keys=keys)))
            ending = _Ending(history, later)
            with (
                KeptReceipts(ending) as receipts,
                Index(0) as index,
                ChannelTrees(ending, ["returns"]) as trees,
            ):
                receipts.take("kept", *kept)
                receipts.conclude(index, trees, BoundPositions(trees), lambda one: one.place)
                assert (receipts.compared, receipts.not_compared) == (counted, 1 - counted)


class _Ending(History):
    """A history that goes on with this directory."""

    def __init__(self, before: History, then: Directory) -> None:
        last = replace(then, size=before.latest.size + 1)
        self._values = [*before._values, last]
        self._sizes = [*before._sizes, last.size]


def test_a_file_of_receipts_is_read_line_by_line(tmp_path: Path) -> None:
    """What a subscriber keeps is read back with the place of each; a line that is none is named."""
    path = tmp_path / "x.receipts"
    signed = [Signed(kind="receipt", content=bytes([i]), signatures=()) for i in range(4)]
    file = ReceiptFile.open(path)
    file.add(signed[0], signed[1])
    file.add(signed[2], signed[3])
    file.close()
    assert list(read_kept(path)) == [(f"{path}:1", *signed[:2]), (f"{path}:2", *signed[2:])]
    good = path.read_bytes()
    for junk in (
        b"{\n",
        b"[]\n",
        b'{"request": "AA==", "receipt": 3}\n',
        b"\xff\n",
        b"x" * (MAX_LINE_BYTES + 1),
    ):
        path.write_bytes(good + junk)
        with pytest.raises(UsageError) as caught:
            list(read_kept(path))
        assert caught.value.message.startswith(f"{path}:3: ")
    with pytest.raises(UsageError, match="cannot read"):
        list(read_kept(tmp_path / "none"))
