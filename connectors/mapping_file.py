"""The mapping file: which columns of an agency's CSV file go into which fields of a record, and how.

It is TOML, and every column that it does not map is dropped::

    record_type = "ReturnEvent"
    delimiter = ","
    empty = ["", "n/a"]                      # cells that count as empty

    [constants]                              # the same in every row
    purpose = "CHILD_PROTECTION"
    "body.evaluation.information" = 1

    [[columns]]
    name = "Arrived on"                      # the column's heading
    field = "body.event_date"                # where it goes; [0] names a place in a list
    date = "%d.%m.%Y"                        # how the date is written there
    default = "2026"                         # for an empty cell

    [[columns]]
    name = "Status"
    field = "body.stage"
    values = { arrived = "ARRIVED", planned = "PLANNED" }   # any other cell is a problem

    [[columns]]
    name = "Citizenship"
    field = "body.nationalities"
    separator = ";"                          # a list

    [[columns]]
    name = "Grade"
    field = "body.evaluation.information"
    as = "integer"                           # or "boolean": true and false

A part of the body, such as ``body.travel_document``, may have columns and constants. Its constants
(``body.travel_document.issuer``) are set only in rows where one of its columns is filled, so that a row may
lack an optional part.

The whole file is checked before the first row is read: a mistake in it would be a mistake in every record.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeAlias

from broker.errors import UsageError
from broker.records.words import nearest, show

__all__ = ["Column", "ColumnMapping", "Steps", "load_mapping"]

MAX_MAPPING_BYTES = 1_000_000
# _check_apart compares every field with every other; this bound keeps that short.
MAX_COLUMNS = 1_000

# A place in a list is 0 to 31: a mapping names each place, and no list of a record needs more from one row.
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[([0-9]|[12][0-9]|3[01])\])?", re.ASCII)
_COLUMN_WORDS = frozenset(("name", "field", "values", "date", "separator", "default", "as"))
_MAPPING_WORDS = frozenset(("record_type", "delimiter", "empty", "constants", "columns"))
Steps: TypeAlias = tuple[str | int, ...]
"""A field's path: names, and numbers for places in lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Where a column of a CSV file goes, and how its cells are read; None where nothing is declared."""

    name: str
    """The heading of the column."""
    field: Steps
    values: Mapping[str, Any] | None
    """The value for each cell; other cells are problems."""
    date: str | None
    """The form of a date, as `datetime.strptime` reads it."""
    separator: str | None
    """What stands between the entries of a list."""
    default: str | None
    """The text that an empty cell stands for."""
    kind: str | None
    """``integer`` or ``boolean``; None for a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """A mapping file, checked."""

    record_type: str | None
    delimiter: str
    empty: frozenset[str]
    """Cells that count as empty."""
    constants: tuple[tuple[Steps, Any], ...]
    columns: tuple[Column, ...]


def load_mapping(path: Path) -> ColumnMapping:
    """Read a mapping file and check it.

    Raises UsageError that says what is wrong with the file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MAPPING_BYTES + 1)
        if len(raw) > MAX_MAPPING_BYTES:
            raise UsageError(f"{str(path)!r} is larger than {MAX_MAPPING_BYTES} bytes")
        return _mapping(tomllib.loads(raw.decode("utf-8-sig")))
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"mapping file {str(path)!r}: {error}") from error


def _mapping(content: dict[str, Any]) -> ColumnMapping:
    _only(content, _MAPPING_WORDS, "the mapping")
    columns = content.get("columns", [])
    if not isinstance(columns, list) or not 0 < len(columns) <= MAX_COLUMNS:
        raise ValueError(f"the mapping needs 1 to {MAX_COLUMNS} [[columns]]")
    delimiter = content.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise ValueError(f"delimiter must be one character, got {show(delimiter)}")
    empty = content.get("empty", [""])
    if not isinstance(empty, list) or not all(isinstance(cell, str) for cell in empty):
        raise ValueError(f"empty must be a list of texts, got {show(empty)}")
    constants = content.get("constants", {})
    if not isinstance(constants, dict):
        raise ValueError(f"constants must be a table, got {show(constants)}")
    record_type = content.get("record_type")
    mapping = ColumnMapping(
        record_type=None if record_type is None else _text(record_type, "record_type"),
        delimiter=delimiter,
        # A cell without any text is empty, whatever the file lists.
        empty=frozenset(empty) | {""},
        constants=tuple((_steps(field), _constant(value, field)) for field, value in constants.items()),
        columns=tuple(_column(column) for column in columns),
    )
    _check_apart([column.field for column in mapping.columns] + [field for field, _ in mapping.constants])
    return mapping


def _column(content: Any) -> Column:
    if not isinstance(content, dict) or "name" not in content or "field" not in content:
        raise ValueError("each of [[columns]] needs a name and a field")
    where = f"column {show(content['name'])}"
    _only(content, _COLUMN_WORDS, where)
    if len(content.keys() & {"values", "date", "as"}) > 1:
        raise ValueError(f"{where} has more than one of values, date and as")
    values = content.get("values")
    kind = content.get("as")
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{where}: values must be a table, got {show(values)}")
    if kind not in (None, "integer", "boolean"):
        raise ValueError(f"{where}: as must be integer or boolean, got {show(kind)}")
    optional = {
        word: None if word not in content else _text(content[word], f"{where}: {word}")
        for word in ("date", "separator", "default")
    }
    return Column(
        name=_text(content["name"], "name").strip(),
        field=_steps(_text(content["field"], f"{where}: field")),
        values=None if values is None else {cell: _constant(v, cell) for cell, v in values.items()},
        kind=kind,
        **optional,
    )


def _steps(field: str) -> Steps:
    steps: list[str | int] = []
    for part in field.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{field!r} is not a field, expected a field such as body.event_date")
        steps += [match[1]] if match[2] is None else [match[1], int(match[2])]
    return tuple(steps)


def _constant(value: Any, where: str) -> Any:
    match value:
        # Floats are left out on purpose: no record type has a field for them.
        case bool() | int() | str():
            return value
        case datetime():
            pass  # stands before date(), since it is a date too; records have instants as text
        case date():
            return value.isoformat()
        case list():
            return [_constant(item, where) for item in value]
        case dict():
            return {name: _constant(item, where) for name, item in value.items()}
    raise ValueError(f"{where!r}: {show(value)} is not a value that records use; put an instant in quotes")


def _check_apart(fields: list[Steps]) -> None:
    """Check that no field is set twice, and that no field is both a value and a part that has fields."""
    seen = set(fields)
    if len(seen) < len(fields):
        twice = next(field for field in fields if fields.count(field) > 1)
        raise ValueError(f"{_dotted(twice)!r} is set twice")
    for field in fields:
        for length in range(1, len(field)):
            above = field[:length]
            if above in seen:
                raise ValueError(f"{_dotted(field)!r} lies inside {_dotted(above)!r}, which is set too")
            sibling = next((s for s in seen if len(s) > length and s[:length] == above), field)
            if isinstance(sibling[length], int) is not isinstance(field[length], int):
                raise ValueError(f"{_dotted(above)!r} is both a list and an object")


def _dotted(field: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in field).removeprefix(".")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text, got {show(value)}")
    return value


def _only(content: dict[str, Any], known: frozenset[str], where: str) -> None:
    for name in content:
        if name not in known:
            raise ValueError(f"{where} has no {name!r}{nearest(name, tuple(sorted(known)))}")
