"""What a replay says: the counts, the contract's JSON, what is known, how far it is, in flat memory."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from pathlib import Path

import pytest

from broker.audit.causes import MAX_LISTED, Known, Ledger
from broker.audit.replay import Progress, replay
from broker.audit.report import known_from_json, to_json
from broker.directory import HighWater
from broker.errors import UsageError
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.participant import Participant
from broker.verify.violations import Kind, Place, Violation
from support.asking import ask
from support.audit_log import alter, auditor, copy_of, played, replayed_file
from support.coalition import AUDITOR, POLICE_A, POLICE_B
from support.placing import place
from support.world import World

_FLIP = "UPDATE message SET value = x'02ff' WHERE topic = 'ftf.returns' AND partition = 0 AND offset = 2"


def _flip(db: sqlite3.Connection) -> None:
    db.execute(_FLIP)


async def test_the_json_has_what_operators_script_against(tmp_path: Path) -> None:
    """Topics by their names in the log's own table, a place for each cause, and the counts."""
    path = copy_of(played().path, tmp_path)
    alter(path, _flip)
    report = await replayed_file(path)
    async with await SqliteLog.open(path) as log:
        shown = json.loads(json.dumps(to_json(report, log)))
    assert shown["verified"] is False
    assert (shown["records"], shown["access_entries"]) == (played().records - 3, played().accesses)
    first, *rest = shown["violations"]
    place = {"topic": "ftf.returns", "partition": 0, "offset": 2}
    assert first == {
        "kind": "body-altered",
        **place,
        "detail": "body 1 of the batch at offset 0 was altered",
        "count": 1,
        "caused_by": None,
    }
    assert rest
    assert all(one["caused_by"] == place for one in rest)
    assert shown["violation_count"] == len(shown["violations"])
    assert sum(shown["violations_by_kind"].values()) == shown["violation_count"]


async def test_known_violations_are_shown_and_do_not_count(tmp_path: Path) -> None:
    """With what was dealt with named, the log verifies; another manipulation is found all the same."""
    path = copy_of(played().path, tmp_path)
    alter(path, _flip)
    report = await replayed_file(path)
    async with await SqliteLog.open(path) as log:
        known = known_from_json(to_json(report, log), log)
        root_only = known_from_json([to_json(report, log)["violations"][0]], log)
    again = await replayed_file(path, known=known)
    assert again.verified
    assert len(again.violations) == len(report.violations)
    assert all(violation.known for violation in again.violations)
    partly = await replayed_file(path, known=root_only)
    assert [violation.known for violation in partly.violations].count(True) == 1
    assert not partly.verified
    alter(path, lambda db: db.execute("DELETE FROM message WHERE topic = 'ftf.justice' AND offset = 1"))
    third = await replayed_file(path, known=known)
    assert not third.verified
    fresh = [one.violation for one in third.violations if not one.known]
    assert (fresh[0].place, fresh[0].caused_by) == (Place("justice", 0, 1), None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"violations": 3},
        [3],
        [{"kind": "no-kind", "topic": "ftf.returns", "partition": 0, "offset": 1}],
        [{"kind": "unaccounted", "topic": "returns", "partition": 0, "offset": 1}],
        [{"kind": "unaccounted", "topic": "ftf.returns", "partition": "0", "offset": 1}],
        [{"kind": "unaccounted", "topic": "ftf.returns", "partition": 0}],
        [{"kind": "unaccounted", "topic": "ftf.returns", "partition": 0, "offset": 1, "count": "x"}],
        [{"kind": ["unaccounted"], "topic": "ftf.returns", "partition": 0, "offset": 1}],
    ],
)
async def test_a_file_of_known_violations_that_is_none(value: object) -> None:
    """Whatever else the file holds is the caller's error, never taken for nothing known."""
    async with await SqliteLog.open(played().path) as log:
        with pytest.raises(UsageError):
            known_from_json(value, log)


def test_a_known_run_covers_no_more_than_it_did() -> None:
    """Garbage that grew since somebody dealt with it counts again."""
    place = Place("returns", 0, 5)
    ledger = Ledger([Known(kind=Kind.UNACCOUNTED, place=place, count=2)])
    ledger.report(Violation(kind=Kind.UNACCOUNTED, place=place, detail="", count=2))
    assert ledger.open == 0
    ledger.report(Violation(kind=Kind.UNACCOUNTED, place=place, detail="", count=3))
    assert ledger.open == 1


def test_a_new_loss_does_not_hide_behind_an_old_root() -> None:
    """What follows from a known violation counts unless it is named too, and each name stands for one."""
    root, lost = Place("returns", 0, 5), Place("returns", 0, 90)
    ledger = Ledger([Known(kind=Kind.UNACCOUNTED, place=root)])
    ledger.report(Violation(kind=Kind.UNACCOUNTED, place=root, detail=""))
    assert ledger.open == 0
    ledger.report(Violation(kind=Kind.STREAM_GAP, place=lost, detail="", caused_by=root))
    assert (ledger.open, ledger.listed[-1].known) == (1, False)
    ledger.report(Violation(kind=Kind.UNACCOUNTED, place=root, detail="another"))
    assert ledger.open == 2


def test_a_thousand_violations_are_listed_and_all_are_counted() -> None:
    """However much is wrong, the answer stays readable and memory bounded."""
    ledger = Ledger()
    for offset in range(MAX_LISTED + 500):
        ledger.report(Violation(kind=Kind.UNACCOUNTED, place=Place("returns", 0, offset), detail=""))
    assert len(ledger.listed) == MAX_LISTED
    assert (ledger.total, ledger.open, ledger.by_kind[Kind.UNACCOUNTED]) == (1500, 1500, 1500)


async def test_progress_goes_up_to_the_end() -> None:
    """A progress bar can be drawn: done never falls, and ends at the total."""
    told: list[Progress] = []
    async with await SqliteLog.open(played().path) as log:
        follower = await DirectoryFollower.start(log, played().genesis)
        report = await replay(
            Participant(log=log, follower=follower, keyring=auditor()), progress=told.append
        )
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == told[-1].total == report.messages
    assert {one.now.topic for one in told} >= {"returns", "access"}


async def test_one_channel_or_all() -> None:
    """A channel can be replayed alone; one that there is not, or whose keys are not held, is an error."""
    one = await replayed_file(played().path, channels=["xaa-xbb", "xaa-xbb"])
    assert (one.channels, one.counts.records, one.counts.access_entries) == (("xaa-xbb",), 2, 1)
    with pytest.raises(UsageError):
        await replayed_file(played().path, channels=["no-such"])
    async with await SqliteLog.open(played().path) as log:
        follower = await DirectoryFollower.start(log, played().genesis)
        with pytest.raises(UsageError):
            await replay(Participant(log=log, follower=follower, keyring=auditor("nobody")))


async def test_a_member_replays_the_records_and_the_access_log_is_opaque_to_it() -> None:
    """Who holds no access key verifies what it can; what it cannot open is counted, no violation."""
    async with await SqliteLog.open(played().path) as log:
        follower = await DirectoryFollower.start(log, played().genesis)
        report = await replay(
            Participant(log=log, follower=follower, keyring=auditor(POLICE_A)), channels=["xaa-xbb"]
        )
    assert report.violations == ()
    assert (report.counts.records, report.counts.access_entries) == (2, 0)
    assert report.counts.opaque > 0


async def test_less_of_the_directory_than_was_seen_before() -> None:
    """The auditor's own high-water mark convicts a directory that was rolled back or exchanged."""
    mark = played().high_water
    more = await replayed_file(played().path, high_water=HighWater(size=mark.size + 1, root=mark.root))
    other = await replayed_file(played().path, high_water=HighWater(size=mark.size, root=bytes(32)))
    for report in (more, other):
        (found,) = report.violations
        assert found.violation.kind is Kind.DIRECTORY_ROLLBACK
        assert not report.verified


async def test_memory_stays_flat(tmp_path: Path) -> None:
    """Four times as many batches of one take no more memory: what is remembered lies in a file."""
    grown: list[int] = []
    async with World.still(tmp_path) as world, world.service() as kas:
        for count in (200, 500):
            for _ in range(count):
                await place(world, POLICE_A, 1)
            await kas.collect()
            last = await place(world, POLICE_A, 1)
            await ask(world, kas, POLICE_B, [last.item(0)])
            participant = await world.participant(AUDITOR)
            await replay(participant)
            tracemalloc.start()
            report = await replay(participant)
            grown.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert report.verified
    assert grown[1] < grown[0] * 1.5
