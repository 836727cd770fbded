"""The rows of a CSV file as records in JSON, made by a mapping file.

A column that the mapping (`connectors.mapping_file`) does not name is dropped here: a column of names that
nobody maps gets no further than this module. A row that cannot be converted becomes a problem that names its
row and column, and the other rows go through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from broker.errors import UsageError
from broker.records.words import choice, nearest, said
from connectors.cells import read_cells
from connectors.lines import RowProblem
from connectors.mapping_file import Column, ColumnMapping, Steps

__all__ = ["rows_from_csv"]

# Eighteen digits always fit into the 64 bits of an Avro long.
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def rows_from_csv(path: Path, mapping: ColumnMapping) -> Iterator[tuple[int, dict[str, Any] | RowProblem]]:
    """Yield each row's line number with the object that its columns make, or with every problem of the row.

    A row has the number of the line that it begins on; the heading is line 1. Raises UsageError when the file
    cannot be opened, or when its heading lacks a mapped column.
    """
    # The heading decides about the whole file: with a column missing, every row would lack a field.
    rows = read_cells(path, mapping.delimiter)
    _, heading = next(rows, (1, RowProblem(1, ("row 1: the heading is missing",))))
    if isinstance(heading, RowProblem):
        raise UsageError(f"{str(path)!r}: {heading}")
    places = _places(path, heading, mapping)
    for number, cells in rows:
        if isinstance(cells, RowProblem):
            yield number, cells
        elif len(cells) != len(heading):
            # Not filled up or cut: a cell that is lost or added moves all cells behind it by a column.
            found = f"expected {len(heading)} as in the heading, got {len(cells)}"
            words = f"row {number}: the row has the wrong number of cells, {found}"
            yield number, RowProblem(number, (words,))
        elif any(cell.strip() for cell in cells):
            yield number, _row(number, cells, places, mapping)


def _places(path: Path, heading: list[str], mapping: ColumnMapping) -> tuple[int, ...]:
    """Return the place of each mapped column in the heading."""
    names = [name.strip() for name in heading]
    for column in mapping.columns:
        if names.count(column.name) != 1:
            times = "no column" if column.name not in names else "more than one column"
            suggestion = nearest(column.name, names) if column.name not in names else ""
            raise UsageError(
                f"{str(path)!r} has {times} {column.name!r}{suggestion}",
                hint="the mapping file and the heading of the CSV file must agree",
            )
    return tuple(names.index(column.name) for column in mapping.columns)


def _row(
    number: int, cells: list[str], places: tuple[int, ...], mapping: ColumnMapping
) -> dict[str, Any] | RowProblem:
    problems: list[str] = []
    tree: dict[str | int, Any] = {}
    filled: set[Steps] = set()
    # (1) The cells, each into its field.
    for column, place in zip(mapping.columns, places, strict=True):
        cell = cells[place].strip()  # spreadsheets leave blanks that nobody sees
        text = column.default if cell in mapping.empty else cell
        if text is None:
            continue
        try:
            _put(tree, column.field, _cell(text, column))
            filled.add(column.field[:-1])
        except ValueError as error:
            problems.append(f"row {number}, column {column.name!r}: {error}")
    if problems:
        return RowProblem(number, tuple(problems))
    # (2) The constants. A constant inside an optional part must not bring the part into being, so it waits
    #     for a column of that part. Parts directly below the body are not meant: they are all there.
    parts = {column.field[:-1] for column in mapping.columns}
    for field, constant in mapping.constants:
        part = field[:-1]
        if len(part) < 2 or part not in parts or part in filled:
            _put(tree, field, constant)
    # (3) Lists, which were filled by place.
    made = _plain(tree)
    return made if isinstance(made, dict) else {}


def _cell(text: str, column: Column) -> Any:
    if column.separator is None:
        return _item(text, column)
    # An empty entry, as in "SYR;;IRQ", is a slip of the separator and no value.
    return [_item(item.strip(), column) for item in text.split(column.separator) if item.strip()]


def _item(text: str, column: Column) -> Any:
    """Return the value that a cell, or one entry of it, stands for; raises ValueError with the problem."""
    if column.values is not None:
        if text not in column.values:
            expected = choice(column.values) + nearest(text, tuple(column.values))
            raise ValueError(said("the mapping file has no value for the cell", expected, text))
        return column.values[text]
    if column.date is not None:
        return _date(text, column.date)
    if column.kind == "integer":
        if not _WHOLE.fullmatch(text):
            raise ValueError(said("the cell is not a whole number", "digits such as 42", text))
        return int(text)
    if column.kind == "boolean":
        # Spreadsheets write TRUE and FALSE.
        if text.lower() not in ("true", "false"):
            raise ValueError(said("the cell is neither true nor false", "true or false", text))
        return text.lower() == "true"
    return text


def _date(text: str, form: str) -> str:
    try:
        return datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        raise ValueError(said("the cell is not a date", f"the form {form}", text)) from None


def _put(tree: dict[str | int, Any], field: Steps, value: Any) -> None:
    for step in field[:-1]:
        tree = tree.setdefault(step, {})
    tree[field[-1]] = value


def _plain(tree: Any) -> Any:
    """Turn objects whose names are numbers into lists; a place that a row leaves empty is closed up."""
    if not isinstance(tree, dict):
        return tree
    # Names and places never stand in one object: the check of the mapping file has refused that.
    if tree and all(isinstance(name, int) for name in tree):
        return [_plain(tree[index]) for index in sorted(tree)]
    return {name: _plain(value) for name, value in tree.items()}
