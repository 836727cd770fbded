"""A file of rows to publish: JSON Lines, CSV with its mapping, or the rejects of an earlier run.

A clerk mends rejected rows in the file of rejects itself and publishes that file. Each of its lines is
``{"line": …, "reasons": […], "row": {…}}``, and only the ``row`` is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from broker.avro.schema import SchemaStore
from broker.errors import UsageError
from broker.records.words import choice, nearest
from connectors.lines import RowProblem, rows_from_jsonl
from connectors.mapping import rows_from_csv
from connectors.mapping_file import ColumnMapping, load_mapping

__all__ = ["REJECTS_SUFFIX", "InputFile", "Row"]

REJECTS_SUFFIX = ".rejects.jsonl"
STDIN = Path("-")
"""What stands for the standard input on the command line."""

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv"}
_LOOKED_AT_BYTES = 8192
"""Bytes at the start of a file that are looked at before the first row is read."""

Row: TypeAlias = dict[str, Any]
"""A row as it was read: a JSON object, not yet checked as a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file that can be read, and what is needed to read it."""

    path: Path
    record_type: str
    mapping: ColumnMapping | None
    is_rejects: bool = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        record_type: str | None,
        mapping_path: Path | None,
        file_format: str | None,
        store: SchemaStore,
    ) -> InputFile:
        """Check everything that can be checked before the first row is read.

        ``file_format`` is ``jsonl`` or ``csv``; where it is None, the file's name decides. Raises UsageError
        for a file, a mapping or a record type that cannot be used.
        """
        kind = file_format or _format_of(path)
        if kind == "csv" and mapping_path is None:
            raise UsageError(
                f"'{path}' is CSV, and needs a mapping file",
                hint="name it with --mapping FILE.toml; examples/returns-mapping.toml shows one",
            )
        if kind == "jsonl" and mapping_path is not None:
            raise UsageError(
                f"--mapping is for CSV, and '{path}' is JSON Lines",
                hint="leave --mapping out, or add --format csv if the file is CSV",
            )
        mapping = None if mapping_path is None else load_mapping(mapping_path)
        _look_at(path)
        return cls(
            path=path,
            record_type=_record_type(record_type, mapping, store),
            mapping=mapping,
            is_rejects=path.name.endswith(REJECTS_SUFFIX),
        )

    @property
    def rejects_path(self) -> Path:
        """The file of rejects unless the clerk names another: it lies beside the input file."""
        if self.path == STDIN:
            return Path("stdin" + REJECTS_SUFFIX)
        if self.is_rejects:
            # Another name than that of the file being read: a second run must not write over its own input.
            return self.path.with_name(
                self.path.name.removesuffix(REJECTS_SUFFIX) + ".again" + REJECTS_SUFFIX
            )
        return self.path.with_name(self.path.stem + REJECTS_SUFFIX)

    def rows(self) -> Iterator[tuple[int, Row | RowProblem]]:
        """Yield each row with the number of its line: the row, or why it cannot be read."""
        path = Path("/dev/stdin") if self.path == STDIN else self.path
        if self.mapping is not None:
            yield from rows_from_csv(path, self.mapping)
            return
        for number, row in rows_from_jsonl(path):
            yield number, _mended(number, row) if self.is_rejects and isinstance(row, dict) else row

    @property
    def is_file(self) -> bool:
        """Whether this is a file with an end, and not a pipe that may keep its reader waiting."""
        return self.path != STDIN and self.path.is_file()

    def count_lines(self) -> int | None:
        """Return how many lines there are, for a progress bar; None for a pipe."""
        if not self.is_file:
            return None
        with self.path.open("rb") as file:
            # One more than the line ends, since the last line may lack its own.
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) + 1


def _format_of(path: Path) -> str:
    if path == STDIN:
        return "jsonl"
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"cannot tell from its name what '{path}' holds",
            hint="rename it to .jsonl or .csv, or add --format jsonl or --format csv",
        )
    return kind


def _look_at(path: Path) -> None:
    """Raise UsageError for a file whose first bytes show that no row of it can be read."""
    if path == STDIN:
        return
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder", hint="publish one file at a time")
    if not path.exists():
        raise UsageError(f"there is no file '{path}'")
    if not path.is_file():
        return  # a pipe gives its first bytes only once, and the rows need them
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None
    if not start.strip():
        raise UsageError(f"'{path}' is empty", hint="nothing was published")
    # UTF-16 and packed files hold zero bytes near their beginning, and no text in UTF-8 does.
    if b"\0" in start:
        raise UsageError(
            f"'{path}' is not a text file in UTF-8",
            hint="unpack it, or save it as JSON Lines or CSV in UTF-8",
        )


def _record_type(given: str | None, mapping: ColumnMapping | None, store: SchemaStore) -> str:
    mapped = mapping.record_type if mapping else None
    if given is None and mapped is None:
        raise UsageError("--type is missing", hint=f"one of: {', '.join(store.record_types)}")
    if given is not None and mapped is not None and given != mapped:
        raise UsageError(f"--type is {given}, and the mapping file is for {mapped}")
    # At least one of them is given here; the empty text is for mypy.
    record_type = given or mapped or ""
    if record_type not in store.record_types:
        near = nearest(record_type, store.record_types)
        raise UsageError(
            f"there is no record type '{record_type}'{near}", hint=f"one of: {choice(store.record_types)}"
        )
    return record_type


def _mended(number: int, row: Row) -> Row | RowProblem:
    inner = row.get("row")
    if isinstance(inner, dict):
        return inner
    line = row.get("line")
    origin = f"line {line}" if isinstance(line, int) else "a line"
    words = f"{origin} of the first file could not be read, so there is no 'row' to publish: mend it there"
    return RowProblem(number, (f"row {number}: {words}",))
