"""The cells of a CSV file (RFC 4180), row by row.

A quoted cell may go on over several lines. A quotation mark that is never closed must not swallow the file:
then one row is lost, and the lines behind it are read as rows of their own. So lines are looked at before
they are taken.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from connectors.lines import MAX_LINE_BYTES, RowProblem, read_lines

__all__ = ["read_cells"]


def read_cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | RowProblem]]:
    """Yield the cells of each row with the number of the line that the row begins on, or its problem.

    Blank lines are skipped. Raises UsageError when the file cannot be opened or read.
    """
    for number, text in _row_texts(path):
        if isinstance(text, RowProblem):
            yield number, text
            continue
        try:
            # strict: text behind a closing quotation mark is an error, where csv would join it to the cell.
            # csv also refuses a cell of more than 131,072 characters.
            yield number, next(csv.reader([text], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration) as error:
            yield number, RowProblem(number, (f"row {number}: the line is not CSV: {error}",))


def _row_texts(path: Path) -> Iterator[tuple[int, str | RowProblem]]:
    ahead = _LinesAhead(read_lines(path))
    while (taken := ahead.take()) is not None:
        number, first = taken
        if isinstance(first, RowProblem):
            yield number, first
        elif first.strip():
            following = _continuation(first, ahead)
            if following is None:
                # Only the first line is given up. The lines behind it were looked at and not taken, so they
                # are read next, as rows of their own.
                words = f"row {number}: the row has a quotation mark that is never closed"
                yield number, RowProblem(number, (words,))
            else:
                ahead.drop(len(following))
                yield number, "\n".join([first, *following])


class _LinesAhead:
    """Lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterator[tuple[int, str | RowProblem]]) -> None:
        self._lines = lines
        self._seen: deque[tuple[int, str | RowProblem]] = deque()
        """Lines that were looked at and not taken, in order."""

    def take(self) -> tuple[int, str | RowProblem] | None:
        """Take the next line; None at the end of the file."""
        return self._seen.popleft() if self._seen else next(self._lines, None)

    def look(self, place: int) -> str | RowProblem | None:
        """Return the line at this place behind the last one taken; None beyond the end of the file.

        Places are looked at in order from 0, so that at most one line is read for each look.
        """
        if place == len(self._seen) and (line := next(self._lines, None)) is not None:
            self._seen.append(line)
        return self._seen[place][1] if place < len(self._seen) else None

    def drop(self, count: int) -> None:
        """Take lines that were looked at."""
        for _ in range(count):
            self._seen.popleft()


def _continuation(first: str, ahead: _LinesAhead) -> list[str] | None:
    """Return the lines that a quoted cell of the first line goes on over.

    None where the quotation mark is not closed before a bad line, the end of the file, or 256 KiB.
    """
    following: list[str] = []
    if not _opens_or_closes(first):
        return following
    size = len(first)
    while isinstance(text := ahead.look(len(following)), str):
        size += len(text) + 1
        if size > MAX_LINE_BYTES:
            return None
        following.append(text)
        if _opens_or_closes(text):
            return following
    return None


def _opens_or_closes(text: str) -> bool:
    # A quotation mark inside a cell is written twice (rule 7), so only an odd number changes the state.
    return text.count('"') % 2 == 1
