"""Agency files: mapped columns come out, others are dropped, and a bad row is a problem of that row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import UsageError
from connectors.lines import MAX_LINE_BYTES, RowProblem, rows_from_jsonl
from connectors.mapping import rows_from_csv
from connectors.mapping_file import load_mapping

MAPPING = """
record_type = "ReturnEvent"
empty = ["-"]

[constants]
purpose = "CHILD_PROTECTION"
review_by = 2027-05-01
"body.travel_document.issuer" = "XAA"
"body.external_refs[0].scheme" = "NATIONAL_CASE"
"body.external_refs[1].scheme" = "ECLI"

[[columns]]
name = "Status"
field = "body.stage"
values = { arrived = "ARRIVED", "not yet" = "PLANNED" }

[[columns]]
name = "Date"
field = "body.event_date"
date = "%d.%m.%Y"
default = "01.01.2026"

[[columns]]
name = "Citizenship"
field = "body.nationalities"
separator = ";"

[[columns]]
name = "Grade"
field = "body.evaluation.information"
as = "integer"

[[columns]]
name = "Lawful"
field = "body.evaluation.lawful_collection"
as = "boolean"

[[columns]]
name = "Document"
field = "body.travel_document.type"

[[columns]]
name = "Case"
field = "body.external_refs[0].value"

[[columns]]
name = "ECLI"
field = "body.external_refs[1].value"
"""
HEADING = "Name,Status,Date,Citizenship,Grade,Lawful,Document,Case,ECLI"
GOOD = "SYNTH-0042 TESTPERSON,arrived,02.10.2026,XAA; XBB,2,true,PE,A-1,"

Rows = list[tuple[int, dict[str, Any] | RowProblem]]


def _rows(tmp_path: Path, content: str | bytes, mapping: str = MAPPING) -> Rows:
    (tmp_path / "m.toml").write_text(mapping, encoding="utf-8")
    (tmp_path / "f.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows_from_csv(tmp_path / "f.csv", load_mapping(tmp_path / "m.toml")))


def test_a_row_becomes_an_object(tmp_path: Path) -> None:
    """Mapped columns and constants make the object; lists, dates, numbers and words are converted."""
    assert _rows(tmp_path, f"{HEADING}\n{GOOD}\n") == [
        (
            2,
            {
                "purpose": "CHILD_PROTECTION",
                "review_by": "2027-05-01",
                "body": {
                    "stage": "ARRIVED",
                    "event_date": "2026-10-02",
                    "nationalities": ["XAA", "XBB"],
                    "evaluation": {"information": 2, "lawful_collection": True},
                    "travel_document": {"type": "PE", "issuer": "XAA"},
                    "external_refs": [{"scheme": "NATIONAL_CASE", "value": "A-1"}],
                },
            },
        )
    ]


def test_a_column_that_is_not_mapped_does_not_come_out(tmp_path: Path) -> None:
    """A column of names is dropped wherever it stands and whatever it holds."""
    heading = HEADING + ",Remarks"
    rows = _rows(tmp_path, f'{heading}\n{GOOD},"seen with\nSYNTH-0043, a friend"\n')
    said = json.dumps([obj for _, obj in rows if isinstance(obj, dict)])
    assert len(rows) == 1
    assert "ARRIVED" in said
    assert "SYNTH" not in said
    assert "TESTPERSON" not in said
    assert "friend" not in said


def test_an_empty_optional_part_stays_out(tmp_path: Path) -> None:
    """A constant inside a part is set only where a column of that part is filled."""
    ((_, row),) = _rows(tmp_path, f"{HEADING}\nX,not yet,-,,1,TRUE,-,,ECLI:XB:SC:2026:1\n")
    assert isinstance(row, dict)
    assert "travel_document" not in row["body"]
    assert "nationalities" not in row["body"]
    assert row["body"]["external_refs"] == [{"scheme": "ECLI", "value": "ECLI:XB:SC:2026:1"}]
    assert row["body"]["event_date"] == "2026-01-01"


def test_every_problem_names_row_and_column(tmp_path: Path) -> None:
    """Every problem of a row is reported at once, and the other rows go through."""
    bad = "X,arived,2026-10-02,XAA,two,ja,PE,A,"
    first, second, third = _rows(tmp_path, f"{HEADING}\n{GOOD}\n{bad}\n{GOOD}\n")
    assert isinstance(first[1], dict)
    assert isinstance(third[1], dict)
    assert second[0] == 3
    assert isinstance(second[1], RowProblem)
    assert second[1].problems == (
        "row 3, column 'Status': the mapping file has no value for the cell,"
        " expected arrived or not yet (did you mean arrived?),"
        " got 'arived'",
        "row 3, column 'Date': the cell is not a date, expected the form %d.%m.%Y, got '2026-10-02'",
        "row 3, column 'Grade': the cell is not a whole number, expected digits such as 42, got 'two'",
        "row 3, column 'Lawful': the cell is neither true nor false, expected true or false, got 'ja'",
    )
    assert str(second[1]).startswith("row 3, column 'Status'")


def test_a_quoted_cell_may_span_lines(tmp_path: Path) -> None:
    """A row is numbered by the line it begins on, and the next one counts all its lines."""
    rows = _rows(tmp_path, f'{HEADING}\r\n"A\r\n""B"" C",{GOOD.split(",", 1)[1]}\r\n\r\n{GOOD}\r\n')
    assert [number for number, _ in rows] == [2, 5]
    assert all(isinstance(row, dict) for _, row in rows)


def test_a_quote_left_open_costs_one_row(tmp_path: Path) -> None:
    """A quotation mark that is never closed does not swallow the rows behind it."""
    rows = _rows(tmp_path, f'{HEADING}\n"{GOOD}\n{GOOD}\n{GOOD}\n')
    assert [(n, isinstance(row, dict)) for n, row in rows] == [(2, False), (3, True), (4, True)]
    assert "never closed" in str(rows[0][1])


def test_an_open_quote_ends_at_the_limit(tmp_path: Path) -> None:
    """A row that goes on beyond 256 KiB is a problem, and reading goes on behind its first line."""
    filler = f"{GOOD}\n" * (MAX_LINE_BYTES // len(GOOD) + 10)
    rows = _rows(tmp_path, f'{HEADING}\n"{GOOD}\n{filler}"\n')
    assert isinstance(rows[0][1], RowProblem)
    assert all(isinstance(row, dict) for _, row in rows[1:-1])


BAD_LINES: list[tuple[bytes, str]] = [
    (b"x" * (MAX_LINE_BYTES + 1), "longer than 262144 bytes"),
    (b"x" * (3 * MAX_LINE_BYTES), "longer than 262144 bytes"),
    (b"a\0b", "a NUL character"),
    (b"a\xffb", "not UTF-8 from byte 2 on"),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES, ids=["long", "longer", "nul", "utf-8"])
def test_a_bad_line_is_a_problem_of_that_line(tmp_path: Path, line: bytes, words: str) -> None:
    """A huge line, a NUL or another encoding costs one row of a CSV file."""
    good = GOOD.encode()
    rows = _rows(tmp_path, HEADING.encode() + b"\n" + good + b"\n" + line + b"\n" + good + b"\n")
    assert [(n, isinstance(row, dict)) for n, row in rows] == [(2, True), (3, False), (4, True)]
    assert "row 3: " in str(rows[1][1])
    assert words in str(rows[1][1])


@pytest.mark.parametrize(("line", "words"), BAD_LINES, ids=["long", "longer", "nul", "utf-8"])
def test_a_bad_line_of_json_is_a_problem_of_that_line(tmp_path: Path, line: bytes, words: str) -> None:
    """A huge line, a NUL or another encoding costs one row of a JSON Lines file."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}')
    (first, second, third) = rows_from_jsonl(path)
    assert (first, third) == ((1, {"a": 1}), (3, {"b": 2}))
    assert second[0] == 2
    assert words in str(second[1])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": 1, "a": 2}', "a name twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_a_line_that_is_not_a_json_object_is_a_problem(tmp_path: Path, line: str, words: str) -> None:
    """A line that is not a JSON object, or has a name twice, is a problem of that line."""
    path = tmp_path / "f.jsonl"
    path.write_text(f"{line}\n\n{{}}\n")
    (first, second) = rows_from_jsonl(path)
    assert first[0] == 1
    assert words in str(first[1])
    assert second == (3, {})


def test_a_byte_order_mark_is_not_part_of_the_file(tmp_path: Path) -> None:
    """Files as spreadsheets save them, with a byte order mark, are read like others."""
    ((_, row),) = _rows(tmp_path, b"\xef\xbb\xbf" + f"Status,{HEADING.replace(',Status', '')}\n".encode()
                        + f"arrived,{GOOD.replace(',arrived', '')}\n".encode())  # fmt: skip
    assert isinstance(row, dict)
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert list(rows_from_jsonl(path)) == [(1, {"a": 1})]


def test_another_delimiter(tmp_path: Path) -> None:
    """A file with semicolons is read when the mapping says so."""
    mapping = 'delimiter = ";"\n[[columns]]\nname = "B"\nfield = "body.stage"'
    assert _rows(tmp_path, "A;B\nx;ARRIVED\n", mapping) == [(2, {"body": {"stage": "ARRIVED"}})]


def test_rows_of_another_width_are_problems(tmp_path: Path) -> None:
    """A row with a cell too many or too few is a problem, and nothing is guessed."""
    rows = _rows(tmp_path, f"{HEADING}\n{GOOD},more\nX\n,,,,,,,,\n")
    assert [(n, str(row)) for n, row in rows] == [
        (2, "row 2: the row has the wrong number of cells, expected 9 as in the heading, got 10"),
        (3, "row 3: the row has the wrong number of cells, expected 9 as in the heading, got 1"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the heading is missing"),
        ("Name,Stats\n", "has no column 'Status'"),
        (HEADING + ",Status\n", "has more than one column 'Status'"),
        ('"Status\n', "never closed"),
    ],
)
def test_a_heading_that_does_not_fit_stops_the_file(tmp_path: Path, content: str, words: str) -> None:
    """Where the heading and the mapping disagree, nothing of the file is read."""
    with pytest.raises(UsageError) as error:
        _rows(tmp_path, content)
    assert words in error.value.message


COLUMN = '[[columns]]\nname = "A"\nfield = "body.a"\n'


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("", "the mapping needs 1 to 1000 [[columns]]"),
        ("[", "mapping file"),
        ("columns = [3]", "each of [[columns]] needs a name and a field"),
        ("colums = []\n" + COLUMN, "the mapping has no 'colums' (did you mean columns?)"),
        (COLUMN + 'valeus = {a = "b"}', "column 'A' has no 'valeus'"),
        (COLUMN + 'values = {a = "b"}\nas = "integer"', "more than one of values, date and as"),
        (COLUMN + 'values = "a"', "values must be a table"),
        (COLUMN + 'as = "float"', "as must be integer or boolean"),
        (COLUMN + "default = 3", "default must be a text"),
        (COLUMN.replace("body.a", "body.a["), "is not a field"),
        (COLUMN.replace("body.a", "body.a[32]"), "is not a field"),
        (COLUMN + COLUMN, "'body.a' is set twice"),
        (COLUMN + COLUMN.replace("body.a", "body.a.b"), "'body.a.b' lies inside 'body.a'"),
        (COLUMN.replace(".a", ".a[0].b") + COLUMN.replace(".a", ".a.b"), "is both a list and an object"),
        ('delimiter = ",,"\n' + COLUMN, "delimiter must be one character"),
        ("empty = 3\n" + COLUMN, "empty must be a list"),
        ("constants = 3\n" + COLUMN, "constants must be a table"),
        ("record_type = 3\n" + COLUMN, "record_type must be a text"),
        ("[constants]\nx = 1.5\n" + COLUMN, "is not a value that records use"),
        ("[constants]\nx = 2026-01-01T00:00:00Z\n" + COLUMN, "is not a value that records use"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused(tmp_path: Path, mapping: str, words: str) -> None:
    """A misspelt or contradictory mapping is refused before any row is read."""
    (tmp_path / "m.toml").write_text(mapping)
    with pytest.raises(UsageError) as error:
        load_mapping(tmp_path / "m.toml")
    assert words in error.value.message


def test_files_that_cannot_be_opened_are_usage_errors(tmp_path: Path) -> None:
    """A missing file is a usage error."""
    (tmp_path / "m.toml").write_text(COLUMN)
    mapping = load_mapping(tmp_path / "m.toml")
    missing = tmp_path / "none"
    with pytest.raises(UsageError, match="cannot read"):
        list(rows_from_jsonl(missing))
    with pytest.raises(UsageError, match="cannot read"):
        list(rows_from_csv(missing, mapping))
    with pytest.raises(UsageError, match="cannot read"):
        load_mapping(missing)
    (tmp_path / "huge.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(UsageError, match="larger than"):
        load_mapping(tmp_path / "huge.toml")


@given(content=st.binary(max_size=200) | st.text('A,"\n\r;x', max_size=60).map(str.encode))
def test_any_bytes_are_rows_problems_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file holds, each of its rows is an object or a problem, with rising numbers."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "m.toml").write_text('[[columns]]\nname = "A"\nfield = "body.a"')
    for beginning in (b"", b"A,B\n"):
        (folder / "f").write_bytes(beginning + content)
        try:
            rows = list(rows_from_csv(folder / "f", load_mapping(folder / "m.toml")))
        except UsageError:
            rows = []
        numbers = [number for number, _ in rows]
        assert numbers == sorted(set(numbers))
        assert all(isinstance(row, dict | RowProblem) for _, row in [*rows, *rows_from_jsonl(folder / "f")])
