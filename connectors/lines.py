"""Reading a file line by line without trusting it: a bad line is a problem of that line, never a crash.

UTF-8, with or without a byte order mark; lines end in LF or CRLF; at most 256 KiB a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.errors import UsageError

__all__ = ["MAX_LINE_BYTES", "RowProblem", "read_lines", "rows_from_jsonl"]

MAX_LINE_BYTES = 256 * 1024
"""Bytes of a line, or of the lines of one CSV row."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row cannot be read; each problem names the row, and the column where there is one."""

    line: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.problems)


def rows_from_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowProblem]]:
    """Each line's number and its JSON object, or what is wrong with the line; blank lines are skipped.

    UsageError when the file cannot be opened.
    """
    for number, line in read_lines(path):
        if isinstance(line, RowProblem):
            yield number, line
        elif line.strip():
            yield number, _object(number, line)


def read_lines(path: Path) -> Iterator[tuple[int, str | RowProblem]]:
    """Each line's number (from 1) and its text without the line end, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 2):
                number += 1
                if is_long := len(raw.rstrip(b"\r\n")) > MAX_LINE_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE_BYTES)
                yield number, _too_long(number) if is_long else _text(number, raw)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _too_long(number: int) -> RowProblem:
    return RowProblem(number, (f"row {number}: is longer than {MAX_LINE_BYTES} bytes",))


def _text(number: int, raw: bytes) -> str | RowProblem:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        return RowProblem(number, (f"row {number}: is no UTF-8 from byte {error.start + 1} on",))
    if "\0" in text:
        return RowProblem(number, (f"row {number}: contains a NUL character",))
    return text.removesuffix("\n").removesuffix("\r")


def _object(number: int, line: str) -> dict[str, Any] | RowProblem:
    try:
        value = json.loads(line, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return RowProblem(number, (f"row {number}: is no JSON: {error}",))
    if not isinstance(value, dict):
        return RowProblem(number, (f"row {number}: is no JSON object",))
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
