"""Reading what an agency holds: JSON Lines as they are, CSV through a mapping file.

Whatever the mapping (`connectors.mapping_file`) does not name is dropped here: a column of names
that nobody maps gets no further than this module. What cannot be read is a problem that names its row
and column, and the other rows go through.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from broker.errors import UsageError
from broker.records.words import choice, nearest, show
from connectors.lines import MAX_LINE_BYTES, RowProblem, read_lines, rows_from_jsonl
from connectors.mapping_file import Column, ColumnMapping, Steps, load_mapping

__all__ = ["Column", "ColumnMapping", "RowProblem", "load_mapping", "rows_from_csv", "rows_from_jsonl"]

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def rows_from_csv(path: Path, mapping: ColumnMapping) -> Iterator[tuple[int, dict[str, Any] | RowProblem]]:
    """Each row's line number and the object its mapped columns make, or every problem of the row.

    A row is numbered by the line it begins on; the heading is line 1. UsageError when the file cannot be
    opened, or its heading lacks a mapped column.
    """
    rows = _cells(path, mapping.delimiter)
    _, heading = next(rows, (1, RowProblem(1, ("row 1: there is no heading",))))
    if isinstance(heading, RowProblem):
        raise UsageError(f"{str(path)!r}: {heading}")
    places = _places(path, heading, mapping)
    for number, cells in rows:
        if isinstance(cells, RowProblem):
            yield number, cells
        elif len(cells) != len(heading):
            found = f"row {number}: has {len(cells)} cells, expected {len(heading)} as in the heading"
            yield number, RowProblem(number, (found,))
        elif any(cell.strip() for cell in cells):
            yield number, _row(number, cells, places, mapping)


# --- cells


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | RowProblem]]:
    for number, text in _joined(path):
        if isinstance(text, RowProblem):
            yield number, text
            continue
        try:
            yield number, next(csv.reader([text], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration) as error:
            yield number, RowProblem(number, (f"row {number}: is no CSV: {error}",))


def _joined(path: Path) -> Iterator[tuple[int, str | RowProblem]]:
    """Rows as text: a quoted cell may go on over several lines (RFC 4180 section 2, rule 6)."""
    lines = read_lines(path)
    pending: deque[tuple[int, str | RowProblem]] = deque()
    while True:
        if not pending and (following := next(lines, None)) is not None:
            pending.append(following)
        if not pending:
            return
        number, first = pending.popleft()
        if isinstance(first, RowProblem) or not first.strip():
            yield from [(number, first)] if isinstance(first, RowProblem) else []
            continue
        parts, is_open, size = [first], first.count('"') % 2 == 1, len(first)
        for taken in range(MAX_LINE_BYTES if is_open else 0):
            if taken == len(pending) and (following := next(lines, None)) is not None:
                pending.append(following)
            text = pending[taken][1] if taken < len(pending) else None
            if not isinstance(text, str) or (size := size + len(text) + 1) > MAX_LINE_BYTES:
                break
            parts.append(text)
            if text.count('"') % 2 == 1:
                is_open = False
                break
        if is_open:
            # The lines behind an open quote are read on their own, so that one row is lost and not all.
            yield number, RowProblem(number, (f"row {number}: has a quotation mark that is never closed",))
            continue
        for _ in parts[1:]:
            pending.popleft()
        yield number, "\n".join(parts)


def _places(path: Path, heading: list[str], mapping: ColumnMapping) -> tuple[int, ...]:
    names = [name.strip() for name in heading]
    for column in mapping.columns:
        if names.count(column.name) != 1:
            times = "no column" if column.name not in names else "more than one column"
            hint = nearest(column.name, names) if column.name not in names else ""
            raise UsageError(
                f"{str(path)!r} has {times} {column.name!r}{hint}",
                hint="the mapping file and the heading of the CSV file must agree",
            )
    return tuple(names.index(column.name) for column in mapping.columns)


# --- one row


def _row(
    number: int, cells: list[str], places: tuple[int, ...], mapping: ColumnMapping
) -> dict[str, Any] | RowProblem:
    problems: list[str] = []
    tree: dict[str | int, Any] = {}
    filled: set[Steps] = set()
    for column, place in zip(mapping.columns, places, strict=True):
        cell = cells[place].strip()
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
    parts = {column.field[:-1] for column in mapping.columns}
    for field, constant in mapping.constants:
        part = field[:-1]
        if len(part) < 2 or part not in parts or part in filled:
            _put(tree, field, constant)
    made = _plain(tree)
    return made if isinstance(made, dict) else {}


def _cell(text: str, column: Column) -> Any:
    if column.separator is None:
        return _item(text, column)
    return [_item(item.strip(), column) for item in text.split(column.separator) if item.strip()]


def _item(text: str, column: Column) -> Any:
    if column.values is not None:
        if text not in column.values:
            hint = nearest(text, tuple(column.values))
            raise ValueError(f"is not mapped, expected {choice(column.values)}{hint}, got {show(text)}")
        return column.values[text]
    if column.date is not None:
        return _date(text, column.date)
    if column.kind == "integer":
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"is no whole number, expected digits, got {show(text)}")
        return int(text)
    if column.kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"is not true or false, expected true or false, got {show(text)}")
        return text.lower() == "true"
    return text


def _date(text: str, form: str) -> str:
    try:
        return datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        raise ValueError(f"is no date, expected the form {form}, got {show(text)}") from None


def _put(tree: dict[str | int, Any], field: Steps, value: Any) -> None:
    for step in field[:-1]:
        tree = tree.setdefault(step, {})
    tree[field[-1]] = value


def _plain(tree: Any) -> Any:
    """Objects whose names are numbers are lists; what a row leaves empty is closed up."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(isinstance(name, int) for name in tree):
        return [_plain(tree[index]) for index in sorted(tree)]
    return {name: _plain(value) for name, value in tree.items()}
