"""``subscribe`` as transcripts: what is delivered, what is not and why, where it goes on."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli_coalition import BORDER, CARE, CHANNEL, PAIR, READING, CliCoalition, row

SUBSCRIBE = ("subscribe", "--channel", CHANNEL)
INVESTIGATION = (*SUBSCRIBE, "--purpose", "INVESTIGATION", *READING)


@pytest.fixture
def place(tmp_path: Path) -> CliCoalition:
    """The coalition, copied."""
    return CliCoalition.create(tmp_path)


def refs(text: str) -> list[int]:
    """The numbers of the persons in lines of JSON."""
    said = [json.loads(line)["record"]["body"]["subject"]["ref"] for line in text.splitlines()]
    return [int(one.rpartition("-")[2], 16) for one in said]


def test_a_record_is_a_tidy_block(place: CliCoalition) -> None:
    """Who, what, how sure, under which conditions, from whom and how long, in plain columns in a pipe."""
    measure = row(
        1, "JusticeMeasure", record_id="01a20c30-93d5-78ba-bd84-36a1b55f2c81", body__measure="CONVICTION"
    )
    place.publish([measure])
    done = place.run(BORDER, *INVESTIGATION)
    assert done.code == 0
    said = done.out.splitlines()
    assert said[0] == "JusticeMeasure  CONVICTION  [NOT FINAL]"
    assert said[1] == "  subject    6f9619ff-8b86-4011-b42d-000000000001 (OTHER_PARTY, ADULT, F)"
    assert said[2] == (
        "  says       status IN_FORCE, final no, decided on 2026-05-01, jurisdiction XBB, "
        "authority XBB:justice, juvenile procedure no"
    )
    assert said[3] == "  judged     FACT, source A, information 1"
    assert said[4] == "  handling   TLP:AMBER; for PUBLIC_SECURITY"
    assert said[5].startswith("  from       XAA:police, 20")
    assert said[5].endswith("Z, justice/0@0#0, id 01a20c30-93d5-78ba-bd84-36a1b55f2c81")
    assert said[6] == f"  kept       review by {measure['review_by']}, erased on {measure['erase_by']}"
    assert done.err == "delivered 1 record\n"


@pytest.mark.parametrize(
    ("record_type", "changes", "title"),
    [
        ("JusticeMeasure", {"body__measure": "ACQUITTAL", "body__final": True}, "ACQUITTAL"),
        ("JusticeMeasure", {"body__measure": "ACQUITTAL"}, "ACQUITTAL  [NOT FINAL]"),
        ("JusticeMeasure", {"body__status": "OVERTURNED"}, "WARRANT  [OVERTURNED]  [NOT FINAL]"),
        (
            "JusticeMeasure",
            {"body__measure": "NOTICE", "body__notice": {"colour": "RED", "notice_id": "2026/1"}},
            "NOTICE  [NOT FINAL]  [A NOTICE IS NO WARRANT]",
        ),
        ("RelocationEvent", {"body__evaluation__basis": "ASSESSMENT"}, "OBSERVED  [ASSESSMENT, NOT FACT]"),
        (
            "RelocationEvent",
            {"body__stage": "LAPSED"},
            "LAPSED  [LAPSED: AN EARLIER SUSPICION IS CLOSED]",
        ),
        ("ReturnEvent", {"body__subject__age_band": "CHILD"}, "ARRIVED  [CHILD]"),
        ("ReturnEvent", {"body__subject__age_band": "UNKNOWN"}, "ARRIVED  [AGE UNKNOWN: TREATED AS A CHILD]"),
    ],
)
def test_what_must_not_be_overlooked_is_in_the_title(
    place: CliCoalition, record_type: str, changes: dict[str, object], title: str
) -> None:
    """Acquittals, what is not final, assessments and children stand out."""
    place.publish([row(1, record_type, **changes)])
    done = place.run(BORDER, *INVESTIGATION)
    assert done.out.splitlines()[0] == f"{record_type}  {title}"


def test_denials_are_said_on_stderr_and_do_no_harm(place: CliCoalition) -> None:
    """What another purpose or other members got is named with the reason and what to do; exit 0."""
    place.publish([row(0), row(1, purpose="CHILD_PROTECTION"), row(2, handling__releasable_to=[CARE])])
    done = place.run(BORDER, *INVESTIGATION, "--json")
    assert (done.code, refs(done.out)) == (0, [0])
    assert done.err.count("not delivered: record ") == 2
    assert "(PURPOSE_RECORD): the record was shared for a purpose that does not include this one" in done.err
    assert "(NOT_RELEASABLE): its originator released it to other members of the channel only\n" in done.err
    assert "  ask the originator\n" in done.err


def test_it_goes_on_where_it_stopped(place: CliCoalition) -> None:
    """A second run delivers what is new; another purpose, another type or --again begin anew."""
    place.publish([row(0)])
    assert refs(place.run(BORDER, *INVESTIGATION, "--json").out) == [0]
    place.publish([row(1)])
    assert refs(place.run(BORDER, *INVESTIGATION, "--json").out) == [1]
    assert refs(place.run(BORDER, *INVESTIGATION, "--json").out) == []
    assert refs(place.run(BORDER, *INVESTIGATION, "--json", "--type", "ReturnEvent").out) == [0, 1]
    other = (*SUBSCRIBE, "--purpose", "PUBLIC_SECURITY", *READING, "--json")
    assert refs(place.run(BORDER, *other).out) == [0, 1]
    assert refs(place.run(BORDER, *INVESTIGATION, "--json", "--again").out) == [0, 1]


def test_only_the_types_asked_for_are_delivered(place: CliCoalition) -> None:
    """--type leaves the others unread and unlogged."""
    place.publish([row(0)])
    place.publish([row(1, "JusticeMeasure")])
    done = place.run(BORDER, *INVESTIGATION, "--json", "--type", "JusticeMeasure")
    assert refs(done.out) == [1]


def test_a_system_reads_under_its_mandate(place: CliCoalition) -> None:
    """--mandate needs no person: the operation is DISCLOSURE."""
    place.publish([row(0)])
    mandate = (*SUBSCRIBE, "--purpose", "INVESTIGATION", "--mandate", "XBB-7", *READING[2:], "--json")
    assert refs(place.run(BORDER, *mandate).out) == [0]


def test_a_reader_named_in_the_environment_does_not_hinder_a_system(
    place: CliCoalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FTF_PERSON and FTF_ROLE spare a person the typing; under a mandate nobody consults."""
    monkeypatch.setenv("FTF_PERSON", "officer-17")
    monkeypatch.setenv("FTF_ROLE", "analyst")
    place.publish([row(0)])
    mandate = (*SUBSCRIBE, "--purpose", "INVESTIGATION", "--mandate", "XBB-7", *READING[4:], "--json")
    assert refs(place.run(BORDER, *mandate).out) == [0]
    person = (*SUBSCRIBE, "--purpose", "INVESTIGATION", *READING[4:], "--json")
    assert refs(place.run(BORDER, *person).out) == [0]


def test_a_file_gets_every_record_exactly_once(place: CliCoalition) -> None:
    """--out goes on behind what it wrote, and what was written and not committed comes again once."""
    file = place.folder / "out.jsonl"
    place.publish([row(0), row(1)])
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    with file.open("a") as torn:
        torn.write('{"record": {"record_id": "cut sho')  # a crash in the middle of a line
    place.publish([row(2)])
    done = place.run(BORDER, *INVESTIGATION, "--out", file)
    assert done.err == f"delivered 1 record to {file}\n"
    assert refs(file.read_text()) == [0, 1, 2]


def test_the_state_is_never_ahead_of_the_file(place: CliCoalition, tmp_path: Path) -> None:
    """A file restored with the state of then gets what came since, once."""
    file = place.folder / "out.jsonl"
    place.publish([row(0)])
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    state = place.profile(BORDER).parent / "state"
    shutil.copytree(state, tmp_path / "state")
    place.publish([row(1)])
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "state", state)
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    assert refs(file.read_text()) == [0, 1]


def test_a_file_of_another_subscription_is_left_alone(place: CliCoalition) -> None:
    """An existing file is neither overwritten nor added to."""
    file = place.folder / "out.jsonl"
    file.write_text("mine\n")
    done = place.run(BORDER, *INVESTIGATION, "--out", file)
    assert done.code == 2
    assert f"error: '{file}' exists, and is not of this subscription\n" in done.err
    assert file.read_text() == "mine\n"


def test_a_file_that_lost_records_is_not_continued(place: CliCoalition) -> None:
    """Shorter than what was committed, it would hide a loss."""
    file = place.folder / "out.jsonl"
    place.publish([row(0)])
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    file.write_text("")
    done = place.run(BORDER, *INVESTIGATION, "--out", file)
    assert done.code == 2
    assert f"error: '{file}' has 0 bytes, and " in done.err


def test_a_violation_is_named_and_the_rest_delivered(place: CliCoalition) -> None:
    """A message of a stranger in the log: exit 1, its place on stderr, and every record."""
    place.publish([row(0)])
    with sqlite3.connect(place.folder / "log.db") as log:
        log.execute(
            "INSERT INTO message (topic, partition, offset, key, value, appended_at) "
            "SELECT topic, partition, offset + 1, x'00', x'01', appended_at FROM message "
            "WHERE topic LIKE '%returns' ORDER BY offset DESC LIMIT 1"
        )
    log.close()
    place.publish([row(1)])
    done = place.run(BORDER, *INVESTIGATION, "--json")
    assert (done.code, refs(done.out)) == (1, [0, 1])
    assert "violation: unaccounted at returns/0@2: no valid manifest accounts for it\n" in done.err
    assert "found 1 violation" in done.err


@pytest.mark.parametrize(
    ("name", "arguments", "code", "error"),
    [
        (BORDER, ("--purpose", "PREVENTION", *READING), 2, "does not allow the purpose PREVENTION"),
        (BORDER, ("--purpose", "CURIOSITY", *READING), 2, "'CURIOSITY' is not one of"),
        (BORDER, ("--purpose", "INVESTIGATION"), 2, "--person, --role, --legal-basis, --justification"),
        (BORDER, READING, 2, "options that say who reads and why are missing: --purpose"),
        (
            BORDER,
            ("--purpose", "INVESTIGATION", "--mandate", "XBB-7", *READING),
            2,
            "--mandate and --person exclude each other",
        ),
        (
            BORDER,
            ("--purpose", "INVESTIGATION", "--mandate", "XBB-9", *READING[2:]),
            2,
            "'XBB:border' has no mandate 'XBB-9' for INVESTIGATION in channel 'repatriation'\n"
            "hint: yours: XBB-7 for INVESTIGATION",
        ),
        (
            BORDER,
            ("--purpose", "INVESTIGATION", *READING[:-1], "x" * 501),
            2,
            "justification of 501 characters, expected 1 to 500",
        ),
        (
            BORDER,
            ("--purpose", "INVESTIGATION", *READING, "--type", "Ghost"),
            2,
            "has no record type 'Ghost'",
        ),
        (BORDER, ("--purpose", "INVESTIGATION", *READING, "--out", "no/where.jsonl"), 2, "cannot write"),
        (BORDER, ("--purpose", "INVESTIGATION", *READING, "--out", "kas"), 2, "'kas' is a directory"),
        (BORDER, ("--purpose", "INVESTIGATION", *READING, "--out", "/dev/null"), 2, "'/dev/null' is no file"),
        (BORDER, ("--purpose", "INVESTIGATION", *READING, "--out", "x", "--again"), 2, "--again does not go"),
    ],
)
def test_what_cannot_be_subscribed_to(
    place: CliCoalition,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: tuple[str, ...],
    code: int,
    error: str,
) -> None:
    """Wrong usage says what is wrong, and nothing is asked for."""
    monkeypatch.chdir(place.folder)
    done = place.run(name, *SUBSCRIBE, *arguments)
    assert (done.code, done.out) == (code, "")
    assert error in done.err


def test_a_channel_that_is_not_there_or_not_ours(place: CliCoalition) -> None:
    """A wrong name exits 2 and lists ours; a channel of others exits 1 and says how to join."""
    wrong = place.run(CARE, "subscribe", "--channel", "nowhere", "--purpose", "INVESTIGATION", *READING)
    assert (wrong.code, wrong.err) == (2, "error: there is no channel 'nowhere'\nhint: yours: repatriation\n")
    others = place.run(CARE, "subscribe", "--channel", PAIR, "--purpose", "INVESTIGATION", *READING)
    assert others.code == 1
    assert others.err.startswith("error: access denied: 'XCC:care' is no member of channel 'xaa-xbb'\n")


def test_without_the_key_access_service_nothing_is_read(place: CliCoalition) -> None:
    """Its profile away, the command says where it was looked for."""
    place.publish([row(0)])
    place.profile("kas").rename(place.profile("kas").with_suffix(".away"))
    done = place.run(BORDER, *INVESTIGATION)
    assert (done.code, done.out) == (2, "")
    assert "error: there is no profile" in done.err


def test_ctrl_c_stops_following_and_keeps_the_place(place: CliCoalition) -> None:
    """Following, it is stopped with exit 130, and the next run delivers nothing twice."""
    place.publish([row(0), row(1)])
    command = [
        str(Path(sys.executable).with_name("ftf-broker")),
        "--profile",
        str(place.profile(BORDER)),
        *INVESTIGATION,
        "--json",
        "--follow",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, refs(first), out) == (130, [0, 1], ""), err
    assert err.startswith("stopping; once more to stop at once\ndelivered 2 records\n")
    assert refs(place.run(BORDER, *INVESTIGATION, "--json").out) == []


def test_a_file_is_committed_when_following_is_stopped(place: CliCoalition) -> None:
    """--out and --follow: what was written before Ctrl-C stays, and comes no second time."""
    place.publish([row(0)])
    place.publish([row(1, "JusticeMeasure", handling__releasable_to=[CARE])])
    file = place.folder / "out.jsonl"
    command = [
        str(Path(sys.executable).with_name("ftf-broker")),
        "--profile",
        str(place.profile(BORDER)),
        *INVESTIGATION,
        "--follow",
        "--out",
        str(file),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        denied = process.stderr.readline()
        place.publish([row(2)])
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert denied.startswith("not delivered: record ")
    assert place.run(BORDER, *INVESTIGATION, "--out", file).code == 0
    assert refs(file.read_text()) == [0, 2]
