"""The journal: entries that must be in the access log, alarms, and how much of the directory was seen."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from broker.directory import HighWater
from broker.errors import OperatorError
from broker.log.protocol import Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.services.kas.denials import Denials
from broker.services.kas.journal import Alarm, Journal, is_in_log

ACCESS = Partition("access", 0)
MESSAGES = [(b"k", b"v"), (b"k2", b"v2")]


def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    """Entries are kept whole, by offset, for each partition."""
    with Journal(tmp_path / "journal.db") as journal:
        journal.record(0, 4, b"b" * 32, MESSAGES)
        journal.record(0, 2, b"a" * 32, MESSAGES[:1])
        journal.record(1, 9, b"c" * 32, MESSAGES)
    with Journal(tmp_path / "journal.db") as journal:
        last = journal.last(0)
        assert last is not None
        assert (last.terms.offset, last.end, last.terms.batch_id) == (4, 6, b"b" * 32)
        assert [(message.key, message.value) for message in last.terms.messages] == MESSAGES
        assert [entry.terms.offset for entry in journal.after(0, None)] == [2, 4]
        assert journal.after(0, journal.after(0, None)[0]) == [last]
        assert journal.last(2) is None
        journal.mark_late(last)
        assert [entry.terms.offset for entry in journal.after(0, None)] == [2]
        journal.forget(0, 3)
        assert journal.after(0, None) == []
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600


def test_two_batches_at_one_offset_are_both_given(tmp_path: Path) -> None:
    """Two batches at one offset, from before and after a cut, are both given, however they are paged."""
    with Journal(tmp_path / "journal.db") as journal:
        for batch_id in (b"a" * 32, b"b" * 32, b"c" * 32):
            journal.record(0, 4, batch_id, MESSAGES)
        found = []
        entry = None
        while chunk := journal.after(0, entry, limit=1):
            found += [journalled.terms.batch_id for journalled in chunk]
            entry = chunk[-1]
        assert found == [b"a" * 32, b"b" * 32, b"c" * 32]
        at = journal.at(0, 4)
        assert at is not None
        assert at.terms.batch_id == b"c" * 32
        assert journal.at(0, 5) is None


async def test_in_the_log_means_those_very_messages(tmp_path: Path) -> None:
    """A batch with other bytes, at another place, or with a message missing is not in the log."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        await log.ensure("access", 1)
        await log.append(ACCESS, [Message(key, value) for key, value in MESSAGES])
        with Journal(tmp_path / "journal.db") as journal:
            for offset, messages, expected in (
                (0, MESSAGES, True),
                (0, MESSAGES[:1], True),
                (1, MESSAGES[1:], True),
                (1, MESSAGES, False),
                (0, [MESSAGES[0], (b"k2", b"other")], False),
                (0, [*MESSAGES, (b"k3", b"v3")], False),
                (7, MESSAGES, False),
            ):
                journal.record(offset, offset, bytes(32), messages)
                (entry,) = journal.after(offset, None)
                found = await is_in_log(log, type(entry)(entry.id, 0, entry.terms))
                assert found is expected
                journal.mark_late(entry)


def test_alarms_stay_until_acknowledged(tmp_path: Path) -> None:
    """The first alarm of a channel stays open, in every process, until an operator acknowledges it."""
    path = tmp_path / "journal.db"
    with Journal(path) as first, Journal(path) as second:
        first.raise_alarm(Alarm(0, "the access log was cut", 1))
        first.raise_alarm(Alarm(0, "again", 2))
        assert second.alarm(0) == Alarm(0, "the access log was cut", 1)
        assert second.alarm(1) is None
        assert [journal.alarms_ever(0) for journal in (first, second)] == [1, 1]
        second.acknowledge(0)
        assert first.alarms() == []
        first.raise_alarm(Alarm(0, "a second time", 3))
        assert [alarm.detail for alarm in second.alarms()] == ["a second time"]
        assert second.alarms_ever(0) == 2


def test_the_directorys_mark_never_falls(tmp_path: Path) -> None:
    """The largest size that was ever seen is remembered."""
    path = tmp_path / "journal.db"
    with Journal(path) as journal:
        assert journal.high_water() is None
        for size in (5, 9, 7):
            journal.saw_directory(HighWater(size=size, root=bytes([size]) * 32))
    with Journal(path) as journal:
        assert journal.high_water() == HighWater(size=9, root=bytes([9]) * 32)


def test_a_journal_that_cannot_be_used_is_the_operators(tmp_path: Path) -> None:
    """A folder in its place, junk in the file, or a row that was altered is an OperatorError."""
    with pytest.raises(OperatorError, match="cannot open"):
        Journal(tmp_path)
    (tmp_path / "junk").write_bytes(b"no database" * 500)
    with pytest.raises(OperatorError, match="cannot open"):
        Journal(tmp_path / "junk")
    with Journal(tmp_path / "journal.db") as journal:
        journal.record(0, 0, bytes(32), MESSAGES)
        with sqlite3.connect(tmp_path / "journal.db") as db:
            db.execute("UPDATE entry SET terms = x'00'")
        db.close()
        with pytest.raises(OperatorError, match="altered"):
            journal.last(0)
    with pytest.raises(OperatorError, match="failed"):
        journal.last(0)


def test_denials_are_counted_by_the_minute() -> None:
    """A first denial is logged whole, those within a minute are counted, until there is a quiet minute."""
    second = 1_000_000
    denials = Denials()
    assert denials.is_first("x", 0)
    denials.logged("x", 0)
    for at in (10 * second, 20 * second):
        assert not denials.is_first("x", at)
        denials.count("x", at)
    assert denials.is_first("y", 20 * second)
    assert denials.due(59 * second) == []
    (terms,) = denials.due(60 * second)
    assert (terms.agency, terms.count, terms.first_at, terms.last_at) == ("x", 2, 10 * second, 20 * second)
    denials.settled(terms, 60 * second)
    assert not denials.is_first("x", 61 * second)
    assert denials.due(200 * second) == []
    assert denials.is_first("x", 120 * second)
    denials.forget_quiet(120 * second)
    assert denials.is_first("x", 120 * second)
