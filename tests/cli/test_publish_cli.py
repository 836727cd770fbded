"""``publish`` as transcripts: what goes through, what is rejected and why, where to go on."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.errors import LogUnavailable
from broker.log import Message, Partition, SqliteLog
from broker.log.sqlite.file import LogFile
from broker.log.sqlite.rows import Place
from support.cli_coalition import BORDER, CHANNEL, OUTSIDER, PAIR, POLICE, READING, CliCoalition, row
from support.command_line import ftf_broker

RETURNS = ("publish", "--channel", CHANNEL, "--type", "ReturnEvent")
NAMED = "SYNTH-0042 TESTPERSON"
"""A name in a column that nobody maps."""

MAPPING = """
record_type = "ReturnEvent"
[constants]
handling = { codes = [], tlp = "AMBER", releasable_to = [] }
purpose = "PUBLIC_SECURITY"
"body.subject.category" = "OTHER_PARTY"
"body.subject.age_band" = "ADULT"
"body.evaluation" = { source = "A", information = 1, basis = "FACT", lawful_collection = true }
"body.legal_basis" = { kind = "UNSC_RESOLUTION", citation = "UNSC:2396(2017)" }
"body.modality" = "STATE_REPATRIATION"
"body.from_place" = "M49:145"
"body.to_place" = "XAA"
"body.nationalities" = ["XAA"]
"body.custody" = "NONE"
"body.receiving_authority" = "XAA:border"
[[columns]]
name = "Person"
field = "body.subject.ref"
[[columns]]
name = "Status"
field = "body.stage"
values = { arrived = "ARRIVED" }
[[columns]]
name = "Date"
field = "body.event_date"
[[columns]]
name = "Review"
field = "review_by"
[[columns]]
name = "Erase"
field = "erase_by"
"""


@pytest.fixture
def place(tmp_path: Path) -> CliCoalition:
    """The coalition, copied."""
    return CliCoalition.create(tmp_path)


def csv_file(place: CliCoalition, *statuses: str) -> Path:
    """A CSV file with a name in it, a line for each status."""
    good = row()
    lines = ["Name,Person,Status,Date,Review,Erase"]
    for number, status in enumerate(statuses):
        ref = f"6f9619ff-8b86-4011-b42d-{number:012x}"
        day = "2026-10-02" if status != "undated" else "2nd of October"
        said = "arrived" if status == "undated" else status
        lines.append(f"{NAMED},{ref},{said},{day},{good['review_by']},{good['erase_by']}")
    path = place.folder / "returns.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def mapping_file(place: CliCoalition, text: str = MAPPING) -> Path:
    path = place.folder / "mapping.toml"
    path.write_text(text)
    return path


def test_every_row_goes_through(place: CliCoalition) -> None:
    """Right rows are published, and the key access service has taken them over."""
    file = place.lines([row(i) for i in range(3)])
    done = place.run(POLICE, *RETURNS, file)
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "published in repatriation: 3 records in 1 batch\ntaken over by the key access service: 1 batch\n"
    )
    assert not (place.folder / "rows.rejects.jsonl").exists()


def test_rejects_are_written_beside_the_file_with_every_reason(place: CliCoalition) -> None:
    """The rest goes through; a reject has its line, all that is wrong and the row as it was read."""
    wrong = row(1, body__custody="PRISON", body__to_place="Atlantis")
    file = place.lines([row(0), wrong, row(2)])
    done = place.run(POLICE, *RETURNS, file, "--json")
    assert done.code == 1
    rejects = place.folder / "rows.rejects.jsonl"
    records = done.json["records"]
    assert [(one["line"], one["index"]) for one in records] == [(1, 0), (3, 1)]
    assert {(one["topic"], one["partition"], one["offset"]) for one in records} == {("returns", 0, 0)}
    named = ("--record", records[1]["record_id"], "--channel", CHANNEL, "--purpose", "INVESTIGATION")
    assert place.run(BORDER, "consult", *named, *READING).code == 0, "by its id it can be consulted"
    shown = place.run(BORDER, "log", "inspect", "--topic", "returns", "--json").json
    assert {one["batch_id"] for one in records} == {shown[0]["batch_id"]}
    assert done.json == {
        "channel": CHANNEL,
        "type": "ReturnEvent",
        "records": records,
        "published": 2,
        "valid": 2,
        "batches": 1,
        "rejected": 1,
        "rejects": str(rejects),
        "collected": 1,
        "refused": [],
        "last_line": 3,
        "resume_line": None,
        "dry_run": False,
    }
    (entry,) = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert entry["line"] == 2
    assert [reason.partition(":")[0] for reason in entry["reasons"]] == ["body.to_place", "body.custody"]
    assert entry["row"] == wrong
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    assert "row 2: body.custody" in done.err


def test_a_line_that_is_no_json_is_a_reject_without_a_row(place: CliCoalition) -> None:
    """What cannot be read is named by its line."""
    file = place.lines([row(0)])
    file.write_text(file.read_text() + "{not json\n")
    done = place.run(POLICE, *RETURNS, file)
    assert done.code == 1
    (entry,) = [json.loads(line) for line in (place.folder / "rows.rejects.jsonl").read_text().splitlines()]
    assert entry.keys() == {"line", "reasons"}
    assert entry["reasons"][0].startswith("row 2: the line is not JSON")


def test_csv_goes_through_its_mapping_and_names_go_nowhere(place: CliCoalition) -> None:
    """Rejects of CSV hold the mapped fields only: no file here but the input holds a name."""
    file = csv_file(place, "arrived", "undated", "vanished")
    done = place.run(POLICE, "publish", "--channel", CHANNEL, "--mapping", mapping_file(place), file)
    assert done.code == 1
    assert "published in repatriation: 1 record in 1 batch\n" in done.err
    text = (place.folder / "returns.rejects.jsonl").read_text()
    undated, vanished = [json.loads(line) for line in text.splitlines()]
    assert undated["row"]["body"]["event_date"] == "2nd of October"
    assert "row" not in vanished
    assert "vanished" in vanished["reasons"][0]
    holding = [p for p in place.folder.rglob("*") if p.is_file() and NAMED.encode() in p.read_bytes()]
    assert holding == [file]
    assert NAMED not in done.err


def test_mended_rejects_are_published_from_their_file(place: CliCoalition) -> None:
    """Mend the rows in the file of rejects, publish that file, and nothing is published twice."""
    file = place.lines([row(0), row(1, body__custody="PRISON")])
    assert place.run(POLICE, *RETURNS, file).code == 1
    rejects = place.folder / "rows.rejects.jsonl"
    rejects.write_text(rejects.read_text().replace("PRISON", "POLICE"))
    done = place.run(POLICE, *RETURNS, rejects)
    assert (done.code, done.err.splitlines()[0]) == (0, "published in repatriation: 1 record in 1 batch")


def test_a_file_whose_rejects_exist_is_not_published_again(place: CliCoalition) -> None:
    """What a clerk mended in the rejects is not overwritten, and nothing is published twice."""
    file = place.lines([row(0), row(1, body__custody="PRISON")])
    assert place.run(POLICE, *RETURNS, file).code == 1
    before = (place.folder / "rows.rejects.jsonl").read_bytes()
    done = place.run(POLICE, *RETURNS, file)
    assert (done.code, done.out) == (2, "")
    assert "rows.rejects.jsonl' exists" in done.err
    assert "hint: mend the rows in it and publish it" in done.err
    assert (place.folder / "rows.rejects.jsonl").read_bytes() == before


def test_a_run_is_resumed_from_a_line(place: CliCoalition) -> None:
    """--from-line goes on there; rejects of earlier lines stay, those of lines read again come once."""
    bad = {"body__custody": "PRISON"}
    file = place.lines([row(0, **bad), row(1), row(2, **bad), row(3)])
    assert place.run(POLICE, *RETURNS, file).code == 1
    done = place.run(POLICE, *RETURNS, file, "--from-line", "3", "--json")
    assert (done.json["published"], done.json["rejected"]) == (1, 1)
    lines = [
        json.loads(line)["line"] for line in (place.folder / "rows.rejects.jsonl").read_text().splitlines()
    ]
    assert lines == [1, 3]


def test_a_dry_run_checks_and_writes_nothing(place: CliCoalition) -> None:
    """--dry-run says what would be rejected; nothing is published, and no file is made."""
    file = place.lines([row(0), row(1, body__custody="PRISON")])
    before = sorted(place.folder.iterdir())
    done = place.run(POLICE, *RETURNS, file, "--dry-run", "--json")
    assert done.code == 1
    assert (done.json["published"], done.json["valid"], done.json["rejected"]) == (0, 1, 1)
    assert done.json["rejects"] is None
    assert sorted(place.folder.iterdir()) == before
    assert place.run(POLICE, "log", "inspect", "--topic", "returns", "--json").json == []


def test_what_the_channel_does_not_allow_is_rejected(place: CliCoalition) -> None:
    """Its ceiling, its purposes and its members hold for every row."""
    rows = [
        row(0, "JusticeMeasure", purpose="INVESTIGATION", erase_by="2029-01-01"),
        row(1, "JusticeMeasure", purpose="PROSECUTION"),
        row(2, "JusticeMeasure", purpose="INVESTIGATION", handling__releasable_to=["XZZ:spies"]),
    ]
    done = place.run(POLICE, "publish", "--channel", PAIR, "--type", "JusticeMeasure", place.lines(rows))
    assert done.code == 1
    assert "published in xaa-xbb: 0 records in 0 batches\n" in done.err
    first, second, third = done.err.splitlines()[:3]
    assert first.startswith("row 1: erase_by")
    assert second.startswith("row 2: channel 'xaa-xbb' does not allow the purpose PROSECUTION; it allows")
    strangers = "releasable_to names agencies outside channel 'xaa-xbb': XZZ:spies; members"
    assert third.startswith(f"row 3: {strangers}")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--channel", "nowhere", "--type", "ReturnEvent", "rows.jsonl"), "there is no channel 'nowhere'"),
        (
            ("--channel", CHANNEL, "--type", "ReturnEvents", "rows.jsonl"),
            "there is no record type 'ReturnEvents'",
        ),
        (
            ("--channel", PAIR, "--type", "ReturnEvent", "rows.jsonl"),
            "channel 'xaa-xbb' does not allow 'ReturnEvent'",
        ),
        (("--channel", CHANNEL, "--type", "ReturnEvent", "missing.jsonl"), "there is no file"),
        (("--channel", CHANNEL, "--type", "ReturnEvent", "."), "cannot tell from its name what '.' holds"),
        (("--channel", CHANNEL, "--type", "ReturnEvent", "empty.jsonl"), "'empty.jsonl' is empty"),
        (("--channel", CHANNEL, "--type", "ReturnEvent", "blank.jsonl", "--from-line", "9"), "holds no row"),
        (
            ("--channel", CHANNEL, "--type", "ReturnEvent", "packed.jsonl"),
            "'packed.jsonl' is not a text file in UTF-8",
        ),
        (("--channel", CHANNEL, "rows.jsonl"), "--type is missing"),
        (
            ("--channel", CHANNEL, "--type", "ReturnEvent", "table.csv"),
            "'table.csv' is CSV, and needs a mapping",
        ),
        (("--channel", CHANNEL, "--mapping", "missing.toml", "table.csv"), "cannot read 'missing.toml'"),
        (("--channel", CHANNEL, "--mapping", "bad.toml", "table.csv"), "mapping file 'bad.toml'"),
        (("--channel", CHANNEL, "--mapping", "other.toml", "table.csv"), "has no column 'Surname'"),
        (("--channel", CHANNEL, "--mapping", "bad.toml", "rows.jsonl"), "--mapping is for CSV"),
        (
            ("--channel", CHANNEL, "--type", "JusticeMeasure", "--mapping", "mapping.toml", "table.csv"),
            "--type is Jus",
        ),
        (("--type", "ReturnEvent", "rows.jsonl"), "missing option '--channel'"),
    ],
)
def test_what_cannot_be_published_at_all(
    place: CliCoalition, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: str
) -> None:
    """Wrong usage exits 2, says what is wrong and publishes nothing."""
    monkeypatch.chdir(place.folder)
    place.lines([row(0)])
    Path("empty.jsonl").write_text("\n")
    Path("blank.jsonl").write_text(json.dumps(row(0)) + "\n")
    Path("packed.jsonl").write_bytes(gzip.compress(b"{}" * 50, mtime=0))
    Path("table.csv").write_text("Person,Status\n1,arrived\n")
    Path("bad.toml").write_text("columns = 1\n")
    Path("other.toml").write_text('[[columns]]\nname = "Surname"\nfield = "body.stage"\nrecord_type = 1\n')
    Path("other.toml").write_text(
        'record_type = "ReturnEvent"\n[[columns]]\nname = "Surname"\nfield = "body.stage"\n'
    )
    mapping_file(place)
    done = place.run(POLICE, "publish", *arguments)
    assert (done.code, done.out) == (2, "")
    assert error in done.err.partition("error: ")[2]
    assert place.run(POLICE, "log", "inspect", "--topic", "returns", "--json").json == []


def test_who_is_no_member_publishes_nothing(place: CliCoalition) -> None:
    """An agency outside the channel is told so, and how to join."""
    done = place.run(OUTSIDER, *RETURNS, place.lines([row(0)]))
    assert done.code == 2
    assert done.err == (
        "error: 'XDD:rehabilitation' is no member of channel 'repatriation'\n"
        "hint: ask the authority and the members to let you join it\n"
    )


def test_publishing_works_while_the_key_access_service_is_down(place: CliCoalition) -> None:
    """It is said that nobody was asked, and the records are in the log."""
    place.profile("kas").rename(place.profile("kas").with_suffix(".away"))
    done = place.run(POLICE, *RETURNS, place.lines([row(0)]), "--json")
    assert (done.code, done.json["published"], done.json["collected"]) == (0, 1, None)
    assert "the key access service was not asked: there is no profile" in done.err


def test_standard_input_is_published(place: CliCoalition) -> None:
    """- reads JSON Lines from a pipe; its rejects are written into the working directory."""
    rows = "".join(json.dumps(one) + "\n" for one in (row(0), row(1, body__custody="PRISON")))
    done = subprocess.run(
        command(place, "-"), input=rows, capture_output=True, text=True, cwd=place.folder, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "published in repatriation: 1 record in 1 batch\n" in done.stderr
    assert (place.folder / "stdin.rejects.jsonl").exists()


def test_ctrl_c_publishes_what_was_read_and_says_where_to_go_on(place: CliCoalition) -> None:
    """Stopped while a pipe keeps it waiting, it names the line to resume from; nothing is lost or doubled."""
    pipe = place.folder / "slow.jsonl"
    os.mkfifo(pipe)
    lines = [json.dumps(row(i)) + "\n" for i in range(20)]
    with (
        subprocess.Popen(
            command(place, str(pipe), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        pipe.open("w") as writer,
    ):  # waits until the command reads
        writer.writelines([*lines[:9], "{no json\n"])
        writer.flush()
        assert process.stderr is not None
        first = process.stderr.readline()  # the tenth was read, and so were those before it
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, first[:19]) == (130, "row 10: the line is"), err
    stopped = json.loads(out)
    assert (stopped["published"], stopped["resume_line"]) == (9, 11)
    assert "published up to line 10; go on with: --from-line 11\nstopped\n" in err
    (place.folder / "slow.rejects.jsonl").unlink()
    whole = place.folder / "whole.jsonl"
    whole.write_text("".join(lines))
    done = place.run(POLICE, *RETURNS, whole, "--from-line", "10", "--json")
    assert done.json["published"] == 11


def test_a_log_that_fails_in_the_middle_loses_nothing(
    place: CliCoalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line not known to be published is named; resumed there, every row is there once."""
    file = place.lines([row(i) for i in range(600)])
    room = 1  # the first batch goes in, and no other

    def full(self: LogFile, where: Place, batch: Sequence[Message], stop: threading.Event) -> int:
        nonlocal room
        room -= where.topic == "ftf.returns"
        if room < 0:
            raise LogUnavailable("no space left")
        return append(self, where, batch, stop)

    append = LogFile.append
    with monkeypatch.context() as patched:
        patched.setattr(LogFile, "append", full)
        failed = place.run(POLICE, *RETURNS, file, "--json")
    assert failed.code == 3
    count = failed.json["published"]
    assert 0 < count <= 256
    assert failed.json["resume_line"] == count + 1
    assert f"published up to line {count}; go on with: --from-line {count + 1}\n" in failed.err
    done = place.run(POLICE, *RETURNS, file, "--from-line", str(count + 1), "--json")
    assert (done.code, done.json["published"]) == (0, 600 - count)
    reading = ("subscribe", "--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING, "--json")
    read = place.run(BORDER, *reading).out.splitlines()
    refs = [json.loads(line)["record"]["body"]["subject"]["ref"] for line in read]
    assert refs == [row(i)["body"]["subject"]["ref"] for i in range(600)]


def test_a_refused_batch_exits_1_with_its_reason(place: CliCoalition) -> None:
    """The agency is suspended behind its append: the key access service refuses, and nobody can read it."""
    pipe = place.folder / "slow.jsonl"
    os.mkfifo(pipe)
    with (
        subprocess.Popen(
            command(place, str(pipe), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        pipe.open("w") as writer,
    ):
        writer.write(json.dumps(row(0)) + "\n")
        writer.flush()
        asyncio.run(published(place))
        why = ("--reason", "exercise", "--profile", str(place.profile("authority")))
        suspended = ftf_broker("agency", "suspend", POLICE, *why)
        writer.close()
        out, err = process.communicate()
    assert (suspended.code, process.returncode) == (0, 1), (suspended.err, err)
    told = json.loads(out)
    assert (told["published"], told["collected"]) == (1, 0)
    (refused,) = told["refused"]
    assert (refused["topic"], refused["offset"]) == ("returns", 0)
    assert f"refused by the key access service: returns at offset 0: {refused['detail']}\n" in err


async def published(place: CliCoalition) -> None:
    """Wait until something is published."""
    async with await SqliteLog.open(place.folder / "log.db") as log:
        async for _ in log.read(Partition("returns", 0), 0, follow=True):
            return


def command(place: CliCoalition, *arguments: str) -> list[str]:
    """The command as its own process."""
    return [
        str(Path(sys.executable).with_name("ftf-broker")),
        "--profile",
        str(place.profile(POLICE)),
        *RETURNS,
        *arguments,
    ]
