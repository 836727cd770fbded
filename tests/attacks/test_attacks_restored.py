"""The log is restored, cut, emptied or made anew: everybody is told by name, and nothing new is skipped."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.services.kas import channel_service
from support.cli_coalition import BORDER, CHANNEL, POLICE, READING, CliCoalition
from support.command_line import Transcript
from support.process import Process
from support.sessions import Sessions


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """A coalition on the embedded log, whose service looks again at once."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    monkeypatch.setattr(channel_service, "LOOK_AGAIN_S", (0.0,))
    return Sessions(CliCoalition.create(tmp_path))


def log_file(people: Sessions) -> Path:
    """The file of the log."""
    return people.place.folder / "log.db"


def sql(people: Sessions, statement: str) -> None:
    """The operator alters the file with any SQLite tool."""
    with closing(sqlite3.connect(log_file(people))) as db, db:
        db.execute(statement)


def make_anew(people: Sessions, topic: str) -> None:
    """The operator deletes a topic and makes it anew."""
    sql(people, f"DELETE FROM message WHERE topic = 'ftf.{topic}'")


def back_up(people: Sessions) -> Path:
    """The operator copies the log."""
    copy = people.place.folder / "night.db"
    with closing(sqlite3.connect(log_file(people))) as db, closing(sqlite3.connect(copy)) as to:
        db.backup(to)
    return copy


def restore(people: Sessions, copy: Path) -> None:
    """The operator puts the copy in the log's place."""
    for end in ("", "-wal", "-shm"):
        log_file(people).with_name(f"log.db{end}").unlink(missing_ok=True)
    copy.rename(log_file(people))


def forked(told: Transcript, place: str) -> bool:
    """Whether a subscriber ended with 1 and said where the log is another one now."""
    return told.code == 1 and f"violation: log-forked at {place}" in told.err


def test_records_made_anew_and_read_while_empty(people: Sessions) -> None:
    """K01: The topic is empty, then there is less in it than before; each says so, and all is delivered."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    make_anew(people, "returns")
    told = people.subscribe()
    assert forked(told, "returns/0@0 (3 in a row)"), told.err
    assert people.replay() == (1, [("log-forked", "returns", 0)])
    served = people.serve()
    assert served.code == 1
    assert "alarm: channel 'repatriation': returns/0: messages 0 to 2 are gone or differ" in served.err
    people.publish(2, waits=False)
    stopped = people.subscribe()
    assert stopped.code == 3
    assert "releasing is stopped on channel 'repatriation': returns/0: messages 0 to 2" in stopped.err
    assert people.acknowledge().code == 0
    assert people.subscribe().code == 0
    assert people.delivered == [0, 1, 2]
    people.publish(3)
    assert people.subscribe().code == 0
    assert people.delivered == [0, 1, 2, 3]
    code, roots = people.replay()
    assert code == 1
    assert {kind for kind, *_ in roots} == {"late-entry"}, roots


@pytest.mark.parametrize("records", [1, 2, 3])
def test_records_made_anew_before_anybody_reads(people: Sessions, records: int) -> None:
    """K12: The new topic holds fewer, as many or more messages; what is new is delivered from its start."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    make_anew(people, "returns")
    new = list(range(2, 2 + records))
    people.publish(*new, waits=False)
    code, roots = people.replay()
    assert code == 1
    assert {(kind, topic) for kind, topic, _ in roots} <= {
        ("log-forked", "returns"),
        ("collection-wrong", "returns"),
    }
    told = people.subscribe()
    assert told.code == 3  # the service is stopped, and has told its operator why
    assert "violation: log-forked at returns/0@0" in told.err
    assert "alarm" in told.err
    assert people.acknowledge().code == 0
    assert people.subscribe().code == 0
    people.publish(8, 9)
    assert people.subscribe().code == 0
    assert people.delivered == [0, 1, *new, 8, 9]


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_restored_and_acknowledged(people: Sessions, batches: int) -> None:
    """S29: The log of the night goes on; the subscriber is told, and gets everything that is new."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    copy = back_up(people)
    people.publish(2, 3)
    people.publish(4, 5)
    assert people.subscribe().code == 0
    restore(people, copy)
    new = [[6, 7], [8, 9], [10, 11]][:batches]
    for persons in new:
        people.publish(*persons, waits=False)
    served = people.serve()
    assert served.code == 1
    assert "alarm: channel 'repatriation': the access log was cut" in served.err
    assert people.acknowledge().code == 0
    assert people.serve().code == 0
    told = people.subscribe()
    assert forked(told, "returns/0@3 (6 in a row)"), told.err
    assert people.delivered == [0, 1, 2, 3, 4, 5, *(one for batch in new for one in batch)]
    assert people.subscribe().code == 0
    code, roots = people.replay()
    assert code == 1
    assert {kind for kind, *_ in roots} == {"late-entry"}, roots
    told = people.place.run("auditor", "audit", "replay")
    assert "messages 3 to 8 of returns are gone or differ" in " ".join(told.out.split())


def test_a_log_that_only_lacks_its_newest_messages(people: Sessions) -> None:
    """A subscriber that had read further is told, also where nothing new has come."""
    people.publish(0, 1)
    copy = back_up(people)
    people.publish(2, 3)
    assert people.subscribe().code == 0
    restore(people, copy)
    assert people.replay()[0] == 0  # its high-water mark is of the directory, which has not changed
    told = people.subscribe()
    assert forked(told, "returns/0@3"), told.err
    assert people.serve().code == 1
    assert people.replay()[0] == 1
    assert people.delivered == [0, 1, 2, 3]


def test_a_file_restored_under_running_commands(people: Sessions) -> None:
    """A feed and a service that have the old file open end, and say that it was replaced."""
    people.publish(0, 1)
    copy = back_up(people)
    feed, service = people.follow(), Process(people.place, "kas", "kas", "run")
    try:
        _until(lambda: people.delivered == [0, 1] and b"follows every channel" in service.said.read_bytes())
        restore(people, copy)
        for process in (feed, service):
            assert process.ended() == 3
            assert b"was moved or replaced while it was open" in process.said.read_bytes()
    finally:
        feed.kill()
        service.kill()


def test_records_emptied_under_a_feed(people: Sessions) -> None:
    """A feed that waits for more ends, and after the next start it delivers what is new."""
    people.publish(0, 1)
    feed = people.follow()
    try:
        _until(lambda: people.delivered == [0, 1])
        make_anew(people, "returns")
        assert feed.ended() == 3
        assert b"ends before offset 3, up to where it was read" in feed.said.read_bytes()
    finally:
        feed.kill()
    people.publish(2, waits=False)
    assert people.serve().code == 1
    people.acknowledge()
    assert forked(people.subscribe(), "returns/0@0")
    assert people.delivered == [0, 1, 2]


@pytest.mark.parametrize("records", [2, 3])
def test_records_made_anew_and_grown_on_under_a_feed(people: Sessions, records: int) -> None:
    """In one moment the topic is another one, as long or longer: the feed is told, and nothing is skipped."""
    people.publish(0, 1)
    before = people.place.folder / "before.db"
    with closing(sqlite3.connect(log_file(people))) as db, closing(sqlite3.connect(before)) as to:
        db.backup(to)
    make_anew(people, "returns")
    new = list(range(2, 2 + records))
    people.publish(*new, waits=False)
    with closing(sqlite3.connect(log_file(people))) as db:
        rows = db.execute("SELECT * FROM message WHERE topic = 'ftf.returns'").fetchall()
    restore(people, before)
    feed = people.follow()
    try:
        _until(lambda: people.delivered == [0, 1])
        with closing(sqlite3.connect(log_file(people))) as db, db:
            db.execute("DELETE FROM message WHERE topic = 'ftf.returns'")
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        assert feed.ended() == 3
        assert b"holds another message 2 than the one that was read" in feed.said.read_bytes()
    finally:
        feed.kill()
    assert people.serve().code == 1
    people.acknowledge()
    assert forked(people.subscribe(), "returns/0@0")
    assert people.delivered == [0, 1, *new]


def test_partitions_added_behind_our_back(people: Sessions) -> None:
    """K04: What stands in a partition of no channel reaches nobody, and is named."""
    people.publish(0, 1)
    sql(people, "UPDATE topic SET partitions = 4 WHERE name = 'ftf.returns'")
    people.publish(2, 3)
    assert people.subscribe().code == 0
    assert people.replay() == (0, [])
    sql(people, "INSERT INTO message VALUES ('ftf.returns', 3, 0, NULL, x'00', 0)")
    assert people.replay() == (1, [("unaccounted", "returns", 0)])
    checked = people.place.run("auditor", "log", "check")
    assert checked.code == 1
    assert "partition of no channel" in checked.out
    assert people.subscribe().code == 0
    assert people.delivered == [0, 1, 2, 3]


def test_shares_are_gone(people: Sessions) -> None:
    """K11: The service names what it has lost, and the reader is told so and by whom it is mended."""
    people.publish(0, 1)
    make_anew(people, "keys")
    people.publish(2, 3)
    served = people.serve()
    assert '"event": "shares are gone"' in served.err
    assert "returns@0 of XAA:police" in served.err
    told = people.subscribe()
    assert told.err.count(": NOT_HELD") == 2, told.err
    assert "alarm" in told.err
    said = "took the record over, and has lost its share of the key\n  its originator must publish it anew"
    assert said in told.err
    assert people.delivered == [2, 3]
    lost = next(line for line in told.err.splitlines() if line.startswith("not delivered: record"))
    consulted = people.place.run(
        BORDER,
        "consult",
        "--channel",
        CHANNEL,
        "--record",
        lost.split()[3],
        "--purpose",
        "INVESTIGATION",
        *READING,
    )
    assert consulted.code == 1
    assert "access denied: NOT_HELD" in consulted.err
    receipts = [str(path) for path in people.place.folder.rglob("*.receipts")]
    assert len(receipts) == 2
    asked = [word for path in receipts for word in ("--receipts", path)]
    replayed = people.place.run("auditor", "audit", "replay", *asked)
    assert replayed.code == 0, replayed.out + replayed.err


# the directory, when somebody starts on it


def _everybody(people: Sessions) -> dict[str, Transcript]:
    """Every participant starts once."""
    people.place.lines([], "x.jsonl")
    return {
        "service": people.serve(),
        "subscriber": people.subscribe(),
        "publisher": people.try_to_publish(9, waits=False),
        "member": people.place.run(POLICE, "agency", "list"),
        "auditor": people.place.run("auditor", "audit", "replay"),
    }


def test_the_directory_was_emptied(people: Sessions) -> None:
    """Whoever has seen it says that it is gone, and never that a coalition should be founded."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    assert people.replay()[0] == 0
    make_anew(people, "directory")
    for who, told in _everybody(people).items():
        assert told.code == 1, who
        assert "the log holds no directory" in told.err, who
        assert "the log was emptied or made anew: do not go on" in told.err, who
        assert ("29 messages of it were seen before" in told.err) is (who != "auditor"), who
    checked = people.place.run("auditor", "log", "check")
    assert (checked.code, "it holds no directory" in checked.out) == (1, True)
    assert people.delivered == [0, 1]


def test_the_directory_topic_is_gone(people: Sessions) -> None:
    """Everybody names the topic."""
    people.publish(0, 1)
    make_anew(people, "directory")
    sql(people, "DELETE FROM topic WHERE name = 'ftf.directory'")
    for who, told in _everybody(people).items():
        assert told.code == 3, who
        assert "has no topic ftf.directory" in told.err, who


@pytest.mark.parametrize("knows", ["all", "none"])
def test_the_directory_was_cut(people: Sessions, knows: str) -> None:
    """Whoever saw more refuses it; who saw nothing is told by the records, and by the service's journal."""
    people.publish(0, 1)
    assert people.subscribe().code == 0
    assert people.replay()[0] == 0
    sql(people, "DELETE FROM message WHERE topic = 'ftf.directory' AND offset >= 27")
    if knows == "none":
        for mark in people.place.folder.glob("*/state/high-water.json"):
            mark.unlink()
    told = _everybody(people)
    assert told["service"].code == 1
    assert "the directory ends at 27, and 29 messages were seen before" in told["service"].err
    assert told["auditor"].code == 1
    assert "directory-rollback" in told["auditor"].out
    assert told["subscriber"].code != 0  # by its own mark, by its stored state, or by the service
    if knows == "all":
        for who in ("subscriber", "publisher", "member"):
            assert "29 messages were seen before" in told[who].err, who


def test_the_directory_was_made_anew_by_another_coalition(people: Sessions, tmp_path: Path) -> None:
    """The genesis is pinned: another coalition's directory is nobody's."""
    people.publish(0, 1)
    other = CliCoalition.found(tmp_path / "other", f"sqlite:{tmp_path / 'other.db'}")
    assert other.folder.exists()
    make_anew(people, "directory")
    with closing(sqlite3.connect(log_file(people))) as db:
        db.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        with db:
            db.execute("INSERT INTO message SELECT * FROM other.message WHERE topic = 'ftf.directory'")
    for who, told in _everybody(people).items():
        assert told.code == 1, who
        assert "differs from what was seen before" in told.out + told.err or "genesis" in told.out, who


def _until(is_done: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
