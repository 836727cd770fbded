"""``log copy`` as transcripts: between files, to a cluster and back, stopped and begun again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.command_line import ftf_broker
from support.kafka import Kafka
from support.played import played

COMMAND = "import sys; from broker.cli.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The log of a coalition at work."""
    return Path(shutil.copy(played().folder / "log.db", tmp_path / "log.db"))


def rows(path: Path) -> list[tuple[object, ...]]:
    """Every message of a file but those of the compacted topic."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT * FROM message WHERE topic NOT LIKE '%.keys' ORDER BY topic, partition, offset"
        ).fetchall()


def without_prefix(found: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """The same messages, with the names of topics as the program has them."""
    return [(str(row[0]).rpartition(".")[2], *row[1:]) for row in found]


def test_a_back_up_of_a_file(file: Path, tmp_path: Path) -> None:
    """A file is copied to a file, told for people and for programs; again, it is only compared."""
    target = f"sqlite:{tmp_path}/back-up.db"
    told = ftf_broker("log", "copy", f"sqlite:{file}", target)
    assert told.code == 0, told.err
    assert "what is written to FROM meanwhile is not copied" in told.err
    count = len(rows(file))
    [said] = re.findall(r"the copy is whole: (\d+) messages, all roots equal", told.err)
    assert int(said) > count
    assert rows(tmp_path / "back-up.db") == rows(file)
    again = ftf_broker("log", "copy", f"sqlite:{file}", target, "--json")
    assert again.code == 0
    assert again.json["roots_equal"] is True
    assert sum(again.json["copied"].values()) == int(said)
    assert again.json["copied"]["directory/0"] == sum(row[0] == "ftf.directory" for row in rows(file))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("{file}", "{file}", "FROM and TO are the same log"),
        ("sqlite:/nowhere/log.db", "{file}", "there is no log at 'sqlite:/nowhere/log.db'"),
        ("{file}?prefix=other", "sqlite:{folder}/new.db", "there is nothing to copy"),
        ("{file}", "sqlite:/nowhere/new.db", "its directory does not exist"),
        ("log.db", "{file}", "it has no scheme"),
    ],
)
def test_what_cannot_be_copied(file: Path, tmp_path: Path, source: str, target: str, said: str) -> None:
    """A mistake in one of the URLs is said, and nothing is made."""
    urls = [one.format(file=f"sqlite:{file}", folder=tmp_path) for one in (source, target)]
    told = ftf_broker("log", "copy", *urls)
    assert told.code == 2
    assert said in told.err
    assert "hint: " in told.err or "same log" in told.err


def test_a_copy_that_differs_is_named(file: Path, tmp_path: Path) -> None:
    """A file that is no copy of this log is refused with the place."""
    target = f"sqlite:{tmp_path}/copy.db"
    assert ftf_broker("log", "copy", f"sqlite:{file}", target).code == 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as db, db:
        db.execute("UPDATE message SET value = x'00' WHERE topic = 'ftf.returns' AND offset = 2")
    told = ftf_broker("log", "copy", f"sqlite:{file}", target)
    assert told.code == 2
    assert "partition ftf.returns/0 of the copy differs from the original at offset 2" in told.err


def test_ctrl_c_says_how_to_go_on(file: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a copy with exit code 130; the copy is refused to others, and the same command ends it."""
    with closing(sqlite3.connect(file)) as db, db:
        one = "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        db.execute(f"{one} INSERT INTO message SELECT 'ftf.returns', 0, i, x'00', zeroblob(500), 1 FROM n")
    target = tmp_path / "copy.db"
    urls = (f"sqlite:{file}", f"sqlite:{target}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "log", "copy", *urls],
        env=environment, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "is not copied" in process.stderr.readline()
        while not (target.exists() and _has_messages(target)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert "the copy is not finished; the same command goes on where it stopped\nstopped\n" in err
    told = ftf_broker("log", "topics", "--log", f"sqlite:{target}")
    assert told.code == 3
    assert "is a copy that is not finished" in told.err
    assert ftf_broker("log", "copy", *urls).code == 0
    assert rows(target) == rows(file)


def _has_messages(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT 1 FROM message").fetchone() is not None
    except sqlite3.Error:
        return False


@pytest.mark.kafka
def test_to_a_cluster_and_back(kafka: Kafka, file: Path, tmp_path: Path) -> None:
    """A file moves to a cluster, from there to another prefix, and back to a file: every row is the same."""
    with closing(sqlite3.connect(file)) as db, db:
        # Times that a cluster would not give: far back, none at all, and far ahead.
        where = "topic = 'ftf.returns' AND partition = 0 AND offset = ?"
        for offset, at in enumerate((5, 0, 2**53, 4_000_000_000_000)):
            db.execute(f"UPDATE message SET appended_at = ? WHERE {where}", (at, offset))
    clusters = [kafka.url(replication=1, min_insync=1) for _ in range(2)]
    back = f"sqlite:{tmp_path}/back.db"
    for source, target in ((f"sqlite:{file}", clusters[0]), (clusters[0], clusters[1]), (clusters[1], back)):
        told = ftf_broker("log", "copy", source, target, "--json")
        assert told.code == 0, told.err
        assert told.json["roots_equal"] is True
    assert without_prefix(rows(tmp_path / "back.db")) == without_prefix(rows(file))
    for url in clusters:
        found = ftf_broker("log", "check", "--log", url, "--json").json["differences"]
        assert not [one for one in found if "timestamp" in one or "not finished" in one], found
