"""The examples: every row is right for months, the mistakes are found, and no person in them is real."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from broker.avro.schema import default_store
from broker.errors import RecordInvalid
from broker.records.record import Record, check_received, encode_body, from_json, to_json
from connectors.lines import RowProblem, rows_from_jsonl
from connectors.mapping import rows_from_csv
from connectors.mapping_file import load_mapping

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DAYS = (date(2026, 11, 1), date(2026, 11, 24), date(2027, 6, 30))
FILES = {
    "returns-batch.csv": ("ReturnEvent", 100),
    "relocations.jsonl": ("RelocationEvent", 10),
    "rehabilitation.jsonl": ("RehabilitationEvent", 25),
    "emergence.jsonl": ("EmergenceReport", 8),
    "justice.csv": ("JusticeMeasure", 20),
}


def _rows(name: str) -> list[object]:
    path = EXAMPLES / name
    if path.suffix == ".jsonl":
        return [row for _, row in rows_from_jsonl(path)]
    mapping = load_mapping(EXAMPLES / f"{name.split('-')[0].removesuffix('.csv')}-mapping.toml")
    return [row for _, row in rows_from_csv(path, mapping)]


def _records(name: str, today: date) -> list[Record]:
    return [
        from_json(FILES[name][0], row, store=default_store(), today=today, ceiling_days=1830)
        for row in _rows(name)
    ]


@pytest.mark.parametrize("today", DAYS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_every_example_is_right(name: str, today: date) -> None:
    """Every row becomes a record on any day of the months to come, and a peer finds nothing to report."""
    found = _records(name, today)
    record_type, count = FILES[name]
    schema = default_store().current(record_type)
    assert [record.record_type for record in found] == [record_type] * count
    for record in found:
        assert encode_body(record, schema)
        assert check_received(record_type, schema, record.terms, record.body, issued_on=today) == ()


def test_the_repatriation_is_half_children_in_two_convoys() -> None:
    """Half of the hundred people are children or of unknown age, and every one of them is protected."""
    found = _records("returns-batch.csv", DAYS[0])
    ages = Counter(record.body["subject"]["age_band"] for record in found)
    assert ages["ADULT"] == 50
    assert ages["UNKNOWN"] > 0
    assert Counter(record.body["stage"] for record in found) == {"ARRIVED": 50, "PLANNED": 50}
    assert len({record.body["group_ref"] for record in found}) == 2
    for record in found:
        is_adult = record.body["subject"]["age_band"] == "ADULT"
        assert (record.body["child_protection"] is None) is is_adult


def test_the_measures_show_all_that_justice_says() -> None:
    """Convictions, acquittals, warrants and notices are among the measures, some not for court use."""
    found = _records("justice.csv", DAYS[0])
    assert {r.body["measure"] for r in found} >= {"CONVICTION", "ACQUITTAL", "WARRANT", "NOTICE"}
    assert {code for record in found for code in record.terms.handling.codes} == {"H0", "H1"}


@pytest.mark.parametrize("name", ["returns-batch.csv", "justice.csv"])
def test_no_name_comes_out_of_the_agencies_files(name: str) -> None:
    """The files of the agencies hold names, birth dates and document numbers, but no record does."""
    text = (EXAMPLES / name).read_text()
    assert "TESTPERSON" in text
    said = json.dumps([to_json(record) for record in _records(name, DAYS[0])])
    for secret in ("SYNTH", "TESTPERSON", "XAA00000", "ALD-R", "office", "free text"):
        assert secret not in said


def test_the_mistakes_are_found() -> None:
    """Four of six returns are refused, each for a reason of its own."""
    reasons = []
    for row in _rows("returns-with-mistakes.jsonl"):
        try:
            from_json(None, row, store=default_store(), today=DAYS[1], ceiling_days=1830)
            reasons.append("")
        except RecordInvalid as invalid:
            reasons.append("; ".join(invalid.problems))
    begins = [
        "",
        "body.subject.category: a child (or a person whose age is unknown) is a victim or another party",
        "body.child_protection: the return of a child (or of a person whose age is unknown) names",
        "body.name: the record has no field of this name",
        "review_by: the day of review is after the day of erasure",
        "",
    ]
    assert [reason[: len(begin)] or reason for reason, begin in zip(reasons, begins, strict=True)] == begins
    assert "body.to_place: this code is not in the code list places" in reasons[4]


def test_the_script_makes_the_files_again(tmp_path: Path) -> None:
    """The script makes exactly the files that lie beside it."""
    copy = tmp_path / "make_examples.py"
    copy.write_text((EXAMPLES / copy.name).read_text())
    runpy.run_path(str(copy), run_name="__main__")
    made = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".csv", ".jsonl"))
    assert made == sorted([*FILES, "returns-with-mistakes.jsonl"])
    assert all((tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes() for name in made)


def test_places_are_fictional() -> None:
    """Every state of the examples is one that does not exist."""
    for name in FILES:
        for row in _rows(name):
            assert not isinstance(row, RowProblem)
            assert isinstance(row, dict)
            body = row["body"]
            places = [body.get(key) for key in ("from_place", "to_place", "place", "jurisdiction")]
            assert {place for place in places if place} <= {"XAA", "XBB", "XCC", "XDD", "M49:145"}
