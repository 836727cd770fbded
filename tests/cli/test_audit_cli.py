"""``audit`` as transcripts: the proof that the logs are whole, and who read what and why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import mkdtemp

import pytest

from support.cli_coalition import BORDER, CARE, CHANNEL, OUTSIDER, PAIR, POLICE, READING, CliCoalition, row

REPLAY = ("audit", "replay")


@cache
def _busy() -> Path:
    """A coalition in which six records were published and read."""
    place = CliCoalition.create(Path(mkdtemp(prefix="ftf-audit-")))
    place.publish([row(i, record_id=f"01a20c30-93d5-78ba-bd84-{i:012x}") for i in range(5)])
    place.publish([row(9, "JusticeMeasure")])
    read = place.run(BORDER, "subscribe", "--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING)
    assert read.code == 0, read.err
    return place.folder


@pytest.fixture
def place(tmp_path: Path) -> CliCoalition:
    """The busy coalition, copied."""
    folder = tmp_path / "coalition"
    copytree(_busy(), folder)
    return CliCoalition(folder)


def tamper(place: CliCoalition, *statements: str) -> None:
    """Change the log behind everybody's back."""
    with sqlite3.connect(place.folder / "log.db") as log:
        for one in statements:
            assert log.execute(one).rowcount > 0
    log.close()


def flipped(topic: str, offset: int) -> str:
    """Flip the last bytes of a message."""
    return (
        "UPDATE message SET value = substr(value, 1, length(value) - 3) || x'0badff' "
        f"WHERE topic = 'ftf.{topic}' AND partition = 0 AND offset = {offset}"
    )


def test_a_whole_log_verifies(place: CliCoalition) -> None:
    """Counts on stdout, the verdict on stderr, exit 0."""
    done = place.run("auditor", *REPLAY)
    assert done.code == 0
    counts, _, unbound = done.out.rpartition("unbound")
    assert counts == (
        "channels   repatriation, xaa-xbb\n"
        "directory  29 statements\n"
        "records    6\n"
        "manifests  8\n"
        "accesses   1 logged, 0 counted denials\n"
        "erasures   0\n"
        "messages   20\n"
    )
    assert "2 messages above the newest positions of the key access service, which are up to" in unbound
    assert done.err == "verified: nothing was altered, dropped, inserted or reordered\n"


def test_the_json_contract(place: CliCoalition) -> None:
    """What operators script against: verified, records, manifests, access_entries, violations."""
    done = place.run("auditor", *REPLAY, "--json")
    told = done.json
    assert (done.code, done.err) == (0, "")
    assert (told["verified"], told["records"], told["manifests"], told["access_entries"]) == (True, 6, 8, 1)
    assert told["violations"] == []


def test_a_violation_is_named_and_its_consequences_lie_below_it(place: CliCoalition) -> None:
    """A byte flipped: exit 1, the offset first, what follows from it below, and each kind in words."""
    tamper(place, flipped("returns", 2))
    done = place.run("auditor", *REPLAY)
    assert done.code == 1
    table = done.out[done.out.index("VIOLATION") :].splitlines()[1:]
    assert table[0].split("  ")[0] == "body-altered"
    assert "ftf.returns/0@2" in table[0]
    assert len(table) > 1
    assert all(line.startswith("└ ") and line.endswith("caused by ftf.returns/0@2") for line in table[1:])
    assert "body-altered: a body is not the one that its manifest signed\n" in done.err
    assert done.err.endswith(f"NOT VERIFIED: {len(table)} violations, 1 root; begin with the first\n")


def test_a_violation_in_json_has_the_fields_of_the_contract(place: CliCoalition) -> None:
    """kind, topic, partition, offset, detail, and caused_by where there is a root."""
    tamper(place, flipped("returns", 2))
    done = place.run("auditor", *REPLAY, "--json")
    first, *others = done.json["violations"]
    assert (done.code, done.json["verified"]) == (1, False)
    place_of_first = {"topic": "ftf.returns", "partition": 0, "offset": 2}
    assert first["kind"] == "body-altered"
    assert {name: first[name] for name in place_of_first} == place_of_first
    assert first["caused_by"] is None
    assert [one["caused_by"] for one in others] == [place_of_first] * len(others)
    assert all(isinstance(one["detail"], str) for one in done.json["violations"])


def test_receipts_find_what_was_cut_from_the_access_log(place: CliCoalition) -> None:
    """A subscriber's receipts are compared; behind a cut tail the log alone is whole, and they bind it."""
    (receipts,) = place.profile(BORDER).parent.glob("state/subscriptions/*.receipts")
    whole = place.run("auditor", *REPLAY, "--receipts", receipts)
    assert whole.code == 0
    assert "receipts   1 compared with the access log\n" in whole.out
    tamper(place, "DELETE FROM message WHERE topic = 'ftf.access' AND partition = 0 AND offset >= 4")
    assert place.run("auditor", *REPLAY).code == 0
    cut = place.run("auditor", *REPLAY, "--receipts", receipts, "--json")
    assert cut.code == 1
    found = [(one["kind"], one["topic"], one["offset"]) for one in cut.json["violations"]]
    assert found == [("log-forked", "ftf.access", 4)]
    assert cut.json["receipts"] == 1


def test_a_file_that_holds_no_receipts_is_named_with_its_line(place: CliCoalition) -> None:
    """Wrong usage: exit 2, the file, the line, and what to give."""
    wrong = place.folder / "wrong.receipts"
    wrong.write_text("{}\n")
    done = place.run("auditor", *REPLAY, "--receipts", wrong)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: {wrong}:1: no receipt\n"
        "hint: give the .receipts file of a subscription; a line that a crash cut short may be removed\n"
    )


def test_a_member_is_told_what_its_replay_cannot_check(place: CliCoalition) -> None:
    """The access log is sealed to auditors: nothing is said of what only it could tell."""
    done = place.run(BORDER, *REPLAY)
    assert done.code == 0
    assert done.out == (
        "channels      repatriation, xaa-xbb\n"
        "directory     29 statements\n"
        "records       6\n"
        "manifests     2\n"
        "not checked   who read, and what was taken over, in repatriation: "
        "the access log is sealed to auditors\n"
        "messages      20\n"
        "not verified  12 messages under keys that you do not hold\n"
    )
    assert place.run(BORDER, *REPLAY, "--json").json["access_unread"] == ["repatriation"]


def test_known_violations_are_shown_and_do_not_count(place: CliCoalition) -> None:
    """The report of yesterday as --known: exit 0 today, 1 again when something else is wrong."""
    tamper(place, flipped("returns", 2))
    known = place.folder / "known.json"
    known.write_text(place.run("auditor", *REPLAY, "--json").out)
    done = place.run("auditor", *REPLAY, "--known", known)
    assert done.code == 0
    assert "body-altered (known)" in done.out
    assert "verified, but for " in done.err
    tamper(place, flipped("justice", 1))
    again = place.run("auditor", *REPLAY, "--known", known, "--json")
    assert again.code == 1
    new = [one for one in again.json["violations"] if not one.get("known") and one["caused_by"] is None]
    assert [(one["kind"], one["topic"], one["offset"]) for one in new] == [("body-altered", "ftf.justice", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        flipped("directory", 0),
        flipped("directory", 3),
        "DELETE FROM message WHERE topic = 'ftf.directory' AND offset >= 12",
    ],
    ids=["genesis", "statement", "cut"],
)
def test_a_directory_that_was_tampered_with_is_reported_not_refused(
    place: CliCoalition, statement: str
) -> None:
    """The auditor's replay names the place in the directory, and the auditor's own memory is kept."""
    assert place.run("auditor", *REPLAY).code == 0
    mark = place.profile("auditor").parent / "state" / "high-water.json"
    before = mark.read_bytes()
    tamper(place, statement)
    done = place.run("auditor", *REPLAY, "--json")
    assert done.code == 1
    assert done.json["violations"][0]["topic"] == "ftf.directory"
    assert done.json["violations"][0]["caused_by"] is None
    assert mark.read_bytes() == before


def test_many_consequences_of_one_kind_are_shortened_for_people(place: CliCoalition) -> None:
    """Three are shown, the others counted."""
    tamper(place, flipped("directory", 3))
    done = place.run("auditor", *REPLAY)
    rows = [line for line in done.out.splitlines() if line.startswith("└ directory-statement")]
    assert len(rows) == 4
    assert rows[-1].endswith("more of this kind, listed with --json")


def test_one_channel_is_replayed_alone(place: CliCoalition) -> None:
    """--channel leaves the others unread."""
    told = place.run("auditor", *REPLAY, "--channel", "xaa-xbb", "--json").json
    assert (told["channels"], told["records"]) == (["xaa-xbb"], 0)


def test_a_member_verifies_what_its_keys_reach(place: CliCoalition) -> None:
    """A member holds no access key: it verifies the records, and is told what it did not see."""
    done = place.run(POLICE, *REPLAY)
    assert done.code == 0
    assert done.err == "verified, but for 12 messages under keys that you do not hold\n"


def _no_log(place: CliCoalition) -> None:
    for file in place.folder.glob("log.db*"):
        file.unlink()


def _nothing(place: CliCoalition) -> None:
    """Leave the coalition as it is."""


@pytest.mark.parametrize(
    ("name", "arguments", "before", "error"),
    [
        ("auditor", ("--channel", "nowhere"), _nothing, "'auditor' holds no key of a channel 'nowhere'"),
        (OUTSIDER, (), _nothing, "'XDD:rehabilitation' holds the keys of no channel"),
        ("auditor", ("--known", "missing.json"), _nothing, "cannot read 'missing.json'"),
        ("auditor", ("--known", "words.json"), _nothing, "'words.json' is no JSON"),
        ("auditor", ("--known", "number.json"), _nothing, "no list of violations"),
        ("auditor", (), _no_log, "there is no log at"),
    ],
)
def test_what_cannot_be_replayed(
    place: CliCoalition,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: tuple[str, ...],
    before: Callable[[CliCoalition], None],
    error: str,
) -> None:
    """Wrong usage exits 2, says what is wrong, and prints nothing that a program could take for a report."""
    monkeypatch.chdir(place.folder)
    Path("words.json").write_text("all is well")
    Path("number.json").write_text(json.dumps(7))
    before(place)
    done = place.run(name, *REPLAY, *arguments, "--json")
    assert (done.code, done.out) == (2, "")
    assert error in done.err


ACCESSES = ("audit", "accesses")
CHECK = (
    "--purpose", "LAWFULNESS", "--person", "auditor-3", "--role", "auditor",
    "--legal-basis", "LED art. 25", "--justification", "Yearly check",
)  # fmt: skip


def record(number: int) -> str:
    """The id of record ``number``."""
    return f"01a20c30-93d5-78ba-bd84-{number:012x}"


def test_who_read_a_record_and_why(place: CliCoalition) -> None:
    """When, who, on what legal basis, for what purpose, what was decided, and where it is logged."""
    done = place.run("auditor", *ACCESSES, "--record", record(1), *CHECK)
    assert done.code == 0
    said = dict(line.split("  ", 1) for line in done.out.splitlines() if line)
    said = {name: value.strip() for name, value in said.items()}
    assert said.pop("when").endswith("Z")
    assert said == {
        "who": BORDER,
        "person": "officer-17 (analyst)",
        "legal basis": "Treaty, article 7",
        "case": "none",
        "why": "Follow-up of a return",
        "purpose": "INVESTIGATION, CONSULTATION",
        "what": "ALLOWED: ftf.returns/0@0 index 0, 1, 2, 3, 4",
        "channel": CHANNEL,
        "logged as": "ftf.access/0@8#0",
    }
    assert done.err == "1 access found; reading their details was logged too\n"


def test_a_denied_reading_is_an_access_with_its_reason(place: CliCoalition) -> None:
    """In JSON a program sees the request, the reader and each object's outcome."""
    wrong = ("--purpose", "PREVENTION", *READING, "--case", "BV-1/2026")
    assert place.run(BORDER, "consult", "--channel", CHANNEL, "--record", record(2), *wrong).code == 1
    told = place.run("auditor", *ACCESSES, "--agency", BORDER, *CHECK, "--json").json
    first, second = told["accesses"]
    assert [one["outcome"] for one in first["objects"]] == ["ALLOWED", "ALLOWED"]
    assert (second["agency"], second["person"], second["case_reference"]) == (
        BORDER,
        "officer-17",
        "BV-1/2026",
    )
    (denied,) = second["objects"]
    assert (denied["kind"], denied["indexes"]) == ("RECORD", [2])
    assert (denied["outcome"], denied["reason"]) == ("DENIED", "PURPOSE_CHANNEL")


def test_reading_the_access_log_is_an_access(place: CliCoalition) -> None:
    """The auditor finds its own reading, and the logs still verify."""
    assert place.run("auditor", *ACCESSES, "--agency", BORDER, *CHECK).code == 0
    told = place.run("auditor", *ACCESSES, "--agency", "auditor", *CHECK, "--json").json
    (own,) = told["accesses"]
    assert (own["person"], own["purpose"]) == ("auditor-3", "LAWFULNESS")
    assert own["objects"][0]["kind"] == "LOG"
    assert place.run("auditor", *REPLAY).code == 0


def test_days_bound_what_is_found(place: CliCoalition) -> None:
    """--from and --to are days in UTC, the last one included; where nothing is found nothing is logged."""
    today = datetime.now(UTC).date()
    days = ("--from", str(today - timedelta(days=1)), "--to", str(today))
    assert len(place.run("auditor", *ACCESSES, *days, *CHECK, "--json").json["accesses"]) == 1
    before = ("--to", str(today - timedelta(days=1)))
    done = place.run("auditor", *ACCESSES, *before, *CHECK)
    assert (done.code, done.out) == (0, "")
    assert done.err == "0 accesses found; so nothing was read, and nothing logged\n"


def test_an_agency_learns_who_read_what_it_shared(place: CliCoalition) -> None:
    """With its own profile: who read its records and why; its asking is logged, and the logs verify."""
    told = place.run(POLICE, *ACCESSES, "--record", record(1), *CHECK, "--json").json
    (read,) = told["accesses"]
    assert (read["agency"], read["person"], read["legal_basis"]) == (
        BORDER,
        "officer-17",
        "Treaty, article 7",
    )
    assert [one["indexes"] for one in read["objects"]] == [[0], [0, 1, 2, 3, 4]]
    own = place.run(BORDER, *ACCESSES, "--agency", BORDER, "--channel", CHANNEL, *CHECK)
    assert (own.code, own.out.count("officer-17")) == (0, 1)
    assert own.err == "1 access found; reading their details was logged too\n"
    none = place.run(CARE, *ACCESSES, "--agency", BORDER, *CHECK)
    assert (none.code, none.out) == (0, "")
    assert none.err == "0 accesses found; asking was logged too\n"
    audited = place.run("auditor", *ACCESSES, "--agency", POLICE, *CHECK, "--json").json
    assert {one["person"] for one in audited["accesses"]} == {"auditor-3"}
    assert place.run("auditor", *REPLAY).code == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            CARE,
            "NOT_MEMBER: your agency is not a member of this channel, and is told nothing about it",
        ),
        ("authority", "NOT_AUDITOR: you do not audit this channel"),
    ],
)
def test_who_takes_no_part_is_told_so(place: CliCoalition, name: str, expected: str) -> None:
    """Neither auditor nor member of the channel: exit 1, with the reason in words."""
    done = place.run(name, *ACCESSES, "--agency", BORDER, "--channel", PAIR, *CHECK)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: access denied: {expected}\nhint: ask the")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (CHECK, "no option says which accesses to list"),
        (("--record", "SYNTH-0042", *CHECK), "--record is 'SYNTH-0042', expected a UUID"),
        (("--agency", "XZZ:spies", *CHECK), "there is no agency 'XZZ:spies'"),
        (("--agency", BORDER, "--channel", "nowhere", *CHECK), "there is no channel 'nowhere'"),
        (("--from", "2026-02-30", *CHECK), "does not match the format"),
        (
            ("--from", "2026-02-03", "--to", "2026-02-01", *CHECK),
            "--to 2026-02-01 lies before --from 2026-02-03",
        ),
        (("--agency", BORDER), "options that say who reads and why are missing: --purpose"),
        (("--agency", BORDER, "--purpose", "INVESTIGATION"), "'INVESTIGATION' is not one of"),
    ],
)
def test_accesses_that_cannot_be_told(place: CliCoalition, arguments: tuple[str, ...], error: str) -> None:
    """Wrong usage exits 2 and says what is wrong; nothing is asked for."""
    done = place.run("auditor", *ACCESSES, *arguments)
    assert (done.code, done.out) == (2, "")
    assert error in done.err
