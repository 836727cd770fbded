"""The demo: its answer for programs, its story, and the commands that it suggests."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.cli.demo.readme import write_readme
from support.command_line import Transcript, ftf_broker

CHAPTERS = [
    "1. Four states found a coalition",
    "2. They publish",
    "3. A justice team's feed",
    "4. The child protection agency's feed",
    "5. A consultation",
    "6. Three requests that are denied",
    "7. The auditor replays",
    "8. A forger is found out",
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Play a demo, and return its folder and its answer for a program."""
    folder = tmp_path_factory.mktemp("played") / "demo"
    told = ftf_broker("demo", "--dir", str(folder), "--json")
    assert (told.code, told.err) == (0, "")
    return folder, told.json


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    """Play a demo, and return its story as it is told in a pipe."""
    folder = tmp_path_factory.mktemp("told") / "it's here"
    return ftf_broker("demo", "--dir", str(folder))


def test_the_answer_for_a_program(played: tuple[Path, Any]) -> None:
    """Scripts get counts, a verified log, and a profile for each participant."""
    folder, answer = played
    assert answer["published"] == 165 == answer["records"]
    assert answer["rejected"] == 4
    assert answer["delivered"] == 66
    assert answer["denied"] == 60 == sum(answer["denied_by_reason"].values())
    assert set(answer["denied_by_reason"]) == {"NOT_MEMBER", "PURPOSE_RECORD", "HANDLING"}
    assert answer["access_entries"] == 5
    assert answer["verified"] is True
    assert answer["violations"] == 0
    assert answer["profiles"]["auditor"] == str(folder / "auditor" / "auditor.toml")
    assert len(answer["profiles"]) == 11
    assert all(Path(path).is_file() for path in answer["profiles"].values())


def test_the_forgery_is_found_where_it_was_made(played: tuple[Path, Any]) -> None:
    """One bit of one message differs in the copy, and the first violation names that message."""
    folder, answer = played
    forged = answer["forged"]
    assert forged["found"] is True
    assert (forged["topic"], forged["partition"], forged["offset"]) == ("returns", 0, 2)
    assert forged["lines"][0].startswith("body-altered at returns/0@2: ")
    assert all(line.endswith("caused by returns/0@2") for line in forged["lines"][1:])
    query = (
        "SELECT topic, partition, offset, key, value, appended_at FROM message"
        " WHERE topic <> 'ftf.keys' ORDER BY 1, 2, 3"
    )
    with (
        closing(sqlite3.connect(folder / "log.db")) as real,
        closing(sqlite3.connect(folder / "forged/log.db")) as copy,
    ):
        pairs = zip(real.execute(query), copy.execute(query), strict=True)
        differing = [before[:3] for before, after in pairs if before != after]
    assert differing == [("ftf.returns", 0, 2)]


def test_private_files_are_for_their_owner_only(played: tuple[Path, Any]) -> None:
    """Keys, passphrases and the log have mode 0600, and the folder has 0700."""
    folder, _ = played
    assert folder.stat().st_mode & 0o777 == 0o700
    private = [*folder.rglob("*.pem"), *folder.rglob("passphrase"), *folder.rglob("log.db")]
    assert len(private) > 40
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


def test_what_is_shared_is_nowhere_in_the_log(played: tuple[Path, Any]) -> None:
    """The file holds in the clear neither a name that the mapping drops nor a reference that is shared."""
    folder, _ = played
    data = b"".join(path.read_bytes() for path in folder.glob("log.db*"))
    assert b"Police of Aldoria" in data, "the directory is public, so this finds what is there"
    for word in (b"TESTPERSON", b"c8c04c87-b26c-4626-bc84-a0350d9a037e", b"Kestrel Bridge", b"BV-2026-0815"):
        assert word not in data


def test_the_folder_says_where_its_log_is(played: tuple[Path, Any], tmp_path: Path) -> None:
    """The README names log.db in the folder, or the address of the other log that was played on."""
    folder, _ = played
    here = (folder / "README.txt").read_text()
    assert "  log.db          the log: one SQLite file" in here
    write_readme(tmp_path, tmp_path, "kafka://broker:9092?prefix=demo-1")
    elsewhere = (tmp_path / "README.txt").read_text()
    assert "the log: kafka://broker:9092?prefix=demo-1\n" in elsewhere
    assert "log.db" not in elsewhere


def test_rejects_lie_beside_the_file_with_every_reason(played: tuple[Path, Any]) -> None:
    """A user finds the rows that broke a rule in this file, and can mend them."""
    folder, _ = played
    lines = (folder / "examples/returns-with-mistakes.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [2, 3, 4, 5]
    assert len(json.loads(lines[3])["reasons"]) == 2


def test_the_story_is_told_in_eight_chapters(told: Transcript) -> None:
    """In a pipe the story is plain text without escapes, short enough to be read, and stderr is empty."""
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert [line for line in lines if line in CHAPTERS] == CHAPTERS
    assert "verified: 165 records in 20 batches, 5 access entries, 0 violations" in lines
    assert "\x1b" not in told.out
    words = sum(len(line.split()) for line in lines[: lines.index("Try next:")])
    assert words < 900, "at most some minutes of reading, tables included"


def test_every_command_that_it_names_works_when_pasted(told: Transcript) -> None:
    """Each line is a whole command, quoted where its path needs it, and the real log stays verified."""
    lines = told.out.splitlines()
    commands = [line for line in lines[lines.index("Try next:") + 1 :] if not line.startswith("#")]
    assert len(commands) == 7
    for command in [*commands, commands[0]]:
        tool, *arguments = shlex.split(command)
        assert tool == "ftf-broker"
        pasted = ftf_broker(*arguments)
        wanted = 1 if "forged" in command else 0
        assert pasted.code == wanted, (command, pasted.err)
        assert pasted.out, command


def test_a_cut_access_log_stops_the_service_until_somebody_has_looked(
    played: tuple[Path, Any], tmp_path: Path
) -> None:
    """The service raises an alarm, releases nothing, and appends what was lost, marked as late."""
    shutil.copytree(played[0], tmp_path / "cut")
    kas, police = (f"{tmp_path}/cut/{name}/{name}.toml" for name in ("kas", "xbb-police"))
    with closing(sqlite3.connect(tmp_path / "cut/log.db")) as log, log:
        log.execute("DELETE FROM message WHERE topic = 'ftf.access' AND partition = 1 AND offset >= 2")
    told = ftf_broker("kas", "run", "--once", "--profile", kas)
    assert (told.code, told.out) == (1, "")
    assert "alarm: channel 'xaa-xbb': the access log was cut\n" in told.err
    listed = ftf_broker("kas", "alarms", "--profile", kas, "--json")
    assert (listed.code, [alarm["channel"] for alarm in listed.json]) == (1, ["xaa-xbb"])
    who = ("--person", "BV-4711", "--role", "x", "--legal-basis", "x", "--justification", "x")
    what = ("--channel", "xaa-xbb", "--record", played[1]["consulted"], "--purpose", "INVESTIGATION")
    stopped = ftf_broker("consult", *what, *who, "--profile", police)
    assert (stopped.code, stopped.out) == (3, "")
    assert "retried" not in stopped.err, "asking again is of no use"
    assert stopped.err.splitlines()[-2:] == [
        "error: releasing is stopped on channel 'xaa-xbb': the access log was cut",
        "hint: whoever runs the key access service looks into it and acknowledges: ftf-broker kas alarms",
    ]
    acknowledged = ftf_broker("kas", "alarms", "--acknowledge", "xaa-xbb", "--profile", kas)
    assert acknowledged == Transcript(0, "", "no alarm is open\n")
    assert ftf_broker("consult", *what, *who, "--profile", police).code == 0
    shown = ftf_broker("log", "inspect", "--topic", "access", "--json", "--profile", kas).json
    late = [message for message in shown if message.get("entry") == "LATE"]
    assert {message["channel"] for message in late} == {"xaa-xbb"}


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """The demo touches nothing in a folder that is not empty."""
    (tmp_path / "mine").write_text("mine")
    assert ftf_broker("demo", "--dir", str(tmp_path)) == Transcript(
        2,
        "",
        f"error: '{tmp_path}' is not empty\nhint: choose a new folder with --dir, or remove this one first\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    """A file at the place of the folder is refused before anything is done."""
    (tmp_path / "mine").write_text("mine")
    told = ftf_broker("demo", "--dir", str(tmp_path / "mine"))
    assert told.code == 2
    assert "is a file" in told.err


def test_it_plays_on_another_log(tmp_path: Path) -> None:
    """With --log the profiles are in the folder and the messages on that log, under its prefix."""
    url = f"sqlite:{tmp_path}/elsewhere.db?prefix=exercise"
    told = ftf_broker("demo", "--dir", str(tmp_path / "demo"), "--log", url, "--json")
    assert told.code == 0
    assert (told.json["verified"], told.json["forged"]["found"]) == (True, True)
    assert not (tmp_path / "demo/log.db").exists()
    with closing(sqlite3.connect(tmp_path / "elsewhere.db")) as log:
        topics = {name for (name,) in log.execute("SELECT DISTINCT topic FROM message")}
    assert {name.split(".")[0] for name in topics} == {"exercise"}


def test_an_unknown_kind_of_log_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Nothing is made for a log of an unknown kind."""
    told = ftf_broker("demo", "--dir", str(tmp_path / "demo"), "--log", "redis://host/0")
    assert told.code == 2
    assert told.err.startswith("error: unknown kind of log 'redis'")
    assert not (tmp_path / "demo").exists()


def test_ctrl_c_stops_it(tmp_path: Path) -> None:
    """The exit code is 130 without a traceback, and what was made until then stays."""
    command = Path(sys.executable).with_name("ftf-broker")
    with subprocess.Popen(
        [command, "demo", "--dir", tmp_path / "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{CHAPTERS[0]}\n"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        words = process.stderr.read()
    assert (process.returncode, words) == (130, "stopped\n")
    assert (tmp_path / "demo/log.db").exists()
