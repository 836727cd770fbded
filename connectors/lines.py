"""The lines of a file that is not trusted: a bad line is a problem of that line, never a crash.

A file is UTF-8, with or without a byte order mark. Its lines end in LF or CRLF and have at most 256 KiB each.
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
    """Yield each line's number with its JSON object, or with its problem; blank lines are skipped.

    Raises UsageError when the file cannot be opened.
    """
    for number, line in read_lines(path):
        if isinstance(line, RowProblem):
            yield number, line
        elif line.strip():
            yield number, _object(number, line)


def read_lines(path: Path) -> Iterator[tuple[int, str | RowProblem]]:
    """Yield each line's number (from 1) with its text, or with its problem; texts have no line end.

    Raises UsageError when the file cannot be opened or read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            # readline() is given a limit, so that a line without an end does not fill the memory. The two
            # bytes more leave room for CRLF.
            while raw := file.readline(MAX_LINE_BYTES + 2):
                number += 1
                if len(raw.rstrip(b"\r\n")) <= MAX_LINE_BYTES:
                    yield number, _text(number, raw)
                    continue
                while raw and not raw.endswith(b"\n"):  # the rest of the long line, read and forgotten
                    raw = file.readline(MAX_LINE_BYTES)
                yield number, _problem(number, f"the line is longer than {MAX_LINE_BYTES} bytes")
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _problem(number: int, words: str) -> RowProblem:
    return RowProblem(number, (f"row {number}: {words}",))


def _text(number: int, raw: bytes) -> str | RowProblem:
    try:
        # Spreadsheets write a byte order mark; only at the start of the file it is not a character.
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        return _problem(number, f"the line is not UTF-8 from byte {error.start + 1} on")
    if "\0" in text:
        return _problem(number, "the line contains a NUL character")
    return text.removesuffix("\n").removesuffix("\r")


def _object(number: int, line: str) -> dict[str, Any] | RowProblem:
    try:
        # json also raises ValueError for a number of thousands of digits, and RecursionError for a line of
        # thousands of opening brackets.
        value = json.loads(line, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return _problem(number, f"the line is not JSON: {error}")
    if not isinstance(value, dict):
        return _problem(number, "the line is not a JSON object")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8259 leaves open which of two equal names counts. Nothing is guessed here.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has a name twice")
    return result


def _refuse_constant(name: str) -> Any:
    # Python reads NaN and Infinity, which RFC 8259, section 6, does not allow.
    raise ValueError(f"{name} is not a JSON number")
