"""``consult`` as transcripts: one record explained, or the reason why not."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from broker.cli.read.ground import RECORD_READING
from broker.show.meanings import REASONS
from broker.subscribe.receipts import read_receipts
from broker.wire.encoding import decode_content
from support.cli_coalition import BORDER, CARE, CHANNEL, PAIR, POLICE, READING, CliCoalition, row

CONSULT = ("consult", "--channel", CHANNEL)
FOR_CASE = ("--purpose", "INVESTIGATION", *READING, "--case", "BV-101/2026")


def record(number: int) -> str:
    """The id of record ``number``."""
    return f"01a20c30-93d5-78ba-bd84-{number:012x}"


@pytest.fixture
def place(tmp_path: Path) -> CliCoalition:
    """The coalition, copied, with one record for each reason that a test needs."""
    place = CliCoalition.create(tmp_path)
    place.publish(
        [
            row(0, record_id=record(0)),
            row(1, record_id=record(1), purpose="CHILD_PROTECTION", body__subject__age_band="CHILD"),
            row(2, record_id=record(2), handling__releasable_to=[CARE]),
            row(3, record_id=record(3), handling__codes=["H1"]),
        ]
    )
    return place


def test_a_record_is_shown_with_everything_explained(place: CliCoalition) -> None:
    """Handling, retention and grades in words, and where the reading was logged."""
    done = place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE)
    assert done.code == 0
    said = dict(line.split("  ", 1) for line in done.out.splitlines() if line)
    said = {name: value.strip() for name, value in said.items()}
    assert said["record"] == record(0)
    assert said["purpose"] == "PUBLIC_SECURITY: safeguarding against threats to public security"
    assert said["handling"] == "TLP:AMBER: for those in the agency and among its clients who need to know"
    assert said["retention"].endswith("(LED art. 5)")
    assert said["source"] == "A = no doubt about the source"
    assert said["information"] == "1 = no doubt about the information"
    assert said["basis"] == "FACT"
    assert said["use limit"].startswith("not for a death penalty")
    assert said["issued by"] == POLICE
    assert done.err.startswith("your reading was logged as access/0 at offset ")


def test_json_holds_the_record_its_origin_and_the_entry(place: CliCoalition) -> None:
    """A program gets one object, and publishes or files it as it is."""
    told = place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE, "--json").json
    assert told["record"]["record_id"] == record(0)
    assert (told["issuer"], told["topic"], told["partition"], told["index"]) == (POLICE, "returns", 0, 0)
    assert told["entry"].keys() == {"batch_id", "partition", "offset", "index"}
    assert told["later_actions"] == []


def test_the_request_says_what_was_read(place: CliCoalition) -> None:
    """Each request carries how much of the record's partition was read, so that two logs are noticed."""
    assert place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE).code == 0
    *_, (request, _) = read_receipts(place.profile(BORDER).parent / "state" / "consultations.receipts")
    ((topic, size),) = [(head.topic, head.size) for head in decode_content(request).seen]
    assert (topic, size) == ("returns", 6)


def test_a_record_is_named_by_its_batch_as_well(place: CliCoalition) -> None:
    """(batch, index) is the name that counts."""
    batch = place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE, "--json").json["batch_id"]
    told = place.run(BORDER, *CONSULT, "--batch", batch, "--index", "0", *FOR_CASE, "--json").json
    assert told["record"]["record_id"] == record(0)


def test_a_later_action_of_its_originator_is_shown(place: CliCoalition) -> None:
    """Who reads a record that was rectified since is told so."""
    found = place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE, "--json").json
    target = {"batch_id": found["batch_id"], "index": found["index"]}
    place.publish([row(0, action="RECTIFY", targets=[target])])
    done = place.run(BORDER, *CONSULT, "--record", record(0), *FOR_CASE)
    assert "attention            later RECTIFY at returns/0@" in done.out


@pytest.mark.parametrize(
    ("number", "purpose", "reason"),
    [
        (0, "PREVENTION", "PURPOSE_CHANNEL"),
        (1, "INVESTIGATION", "PURPOSE_RECORD"),
        (2, "INVESTIGATION", "NOT_RELEASABLE"),
        (3, "PROSECUTION", "HANDLING"),
    ],
)
def test_a_denial_says_why_and_what_to_do(
    place: CliCoalition, number: int, purpose: str, reason: str
) -> None:
    """Exit 1, the reason in words, a hint, nothing on stdout; the attempt is logged too."""
    done = place.run(BORDER, *CONSULT, "--record", record(number), "--purpose", purpose, *READING)
    meaning = REASONS[reason]
    assert (done.code, done.out) == (1, "")
    logged, error, hint = done.err.splitlines()
    assert logged.startswith("your attempt was logged as access/0 at offset ")
    assert error == f"error: access denied: {reason}: {meaning.text}"
    assert hint == f"hint: {meaning.advice}"


def test_who_is_no_member_is_told_how_to_become_one(place: CliCoalition) -> None:
    """A channel of others: exit 1."""
    done = place.run(CARE, "consult", "--channel", PAIR, "--record", record(0), *FOR_CASE)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        "error: access denied: 'XCC:care' is no member of channel 'xaa-xbb'\nhint: ask"
    )


def test_a_record_that_is_not_there(place: CliCoalition) -> None:
    """An id that nobody issued: exit 1, and nothing is logged."""
    done = place.run(BORDER, *CONSULT, "--record", record(99), *FOR_CASE)
    assert (done.code, done.out) == (1, "")
    assert "error: access denied: there is no such record in channel 'repatriation'" in done.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "name the record with --record ID, or with --batch HEX and --index N"),
        (("--record", "x", "--batch", "00", "--index", "0"), "name the record with --record ID"),
        (("--batch", "00" * 32), "name the record with --record ID"),
        (("--record", "SYNTH-0042"), "--record is 'SYNTH-0042', expected a UUID"),
        (("--batch", "0123", "--index", "0"), "--batch is '0123', expected 64 hex digits"),
        (("--batch", "00" * 32, "--index", "256"), "256 is not in the range"),
        (
            ("--record", record(0)),
            "options that say who reads and why are missing: --purpose, --person, --role, --legal-basis",
        ),
        (("--record", record(0), "--purpose", "LAWFULNESS"), "'LAWFULNESS' is not one of"),
    ],
)
def test_what_cannot_be_consulted(place: CliCoalition, arguments: tuple[str, ...], error: str) -> None:
    """Wrong usage exits 2 and says what is missing or wrong."""
    done = place.run(BORDER, *CONSULT, *arguments)
    assert (done.code, done.out) == (2, "")
    assert error in done.err


class Terminal(io.StringIO):
    """Standard input as a person at a terminal types it."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_asks_for_what_is_missing(
    place: CliCoalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Purpose by its number, person, role, legal basis, case and justification; then the record."""
    answers = ["1", "officer-17", "analyst", "Treaty, article 7", "", "Follow-up of a return"]
    monkeypatch.setattr(sys, "stdin", Terminal("\n".join(answers) + "\n"))
    done = place.run(BORDER, *CONSULT, "--record", record(0))
    assert done.code == 0, done.err
    assert f"record               {record(0)}" in done.out
    assert "  1  INVESTIGATION" in done.err
    assert "PREVENTION" not in done.err
    assert "Justification (at most 500 characters)" in done.err


def test_purposes_of_records_and_of_the_log_are_apart() -> None:
    """Records are read for seven purposes."""
    assert len(RECORD_READING) == 7
