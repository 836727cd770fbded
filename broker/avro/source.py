"""The source of generated code: lines of Python, the functions that they call, and a note for each line.

``writer`` and ``reader`` add lines; ``Source.run`` executes them. When a line fails, the traceback has its
number, the note under that number names the field, and the error says where in the value the fault is.
"""

from __future__ import annotations

import dataclasses
import itertools
import reprlib
from collections.abc import Mapping
from typing import Any

from broker.errors import FormatError, UsageError

__all__ = ["SMALL", "Index", "Path", "Source", "Wrong", "long_to_bytes"]

_MAX_LINES = 50_000
"""The most lines for one schema. References can double the code with each link of a chain."""
_MAX_INDENT = 90
"""The deepest indentation; Python itself refuses 100."""


class Wrong(Exception):
    """Raised in generated code; the note of the line says what was expected."""


def long_to_bytes(value: int) -> bytes:
    """Encode an integer that is known to fit 64 bits: zigzag, then varint (Avro 1.11, "Binary Encoding")."""
    z = value << 1 if value >= 0 else ~(value << 1)
    # Times in microseconds take eight bytes. They are in every message, so they have a way without a loop.
    if 0x2000000000000 <= z < 0x100000000000000:
        return bytes(
            (
                z & 127 | 128,
                z >> 7 & 127 | 128,
                z >> 14 & 127 | 128,
                z >> 21 & 127 | 128,
                z >> 28 & 127 | 128,
                z >> 35 & 127 | 128,
                z >> 42 & 127 | 128,
                z >> 49,
            )
        )
    out = bytearray()
    while z > 127:
        out.append(z & 127 | 128)
        z >>= 7
    out.append(z)
    return bytes(out)


def _read_long(data: bytes, p: int) -> tuple[int, int]:
    """Read a varint of at most 64 bits in its shortest form; return the number and the position behind it."""
    b = data[p]
    z = b & 127
    shift = 0
    while b > 127:
        p += 1
        shift += 7
        b = data[p]
        z |= (b & 127) << shift
        # The tenth byte has room for one bit only; whatever follows it would be lost.
        if shift == 63:
            if b > 1:
                raise Wrong("an integer of more than 64 bits")
            break
    # A last byte of zero adds nothing: it would be a second encoding of the same number.
    if not b and shift:
        raise Wrong("an integer in more bytes than it needs")
    return (z >> 1) ^ -(z & 1), p + 1


def _read_int(data: bytes, p: int) -> tuple[int, int]:
    value, p = _read_long(data, p)
    if not -0x80000000 <= value < 0x80000000:
        raise Wrong("an integer of more than 32 bits")
    return value, p


def _read_size(data: bytes, p: int) -> tuple[int, int]:
    """Read a length or count; return it and the position behind it."""
    value, p = _read_long(data, p)
    if value < 0:
        raise Wrong("a negative length")
    return value, p


SMALL = 1024
"""Lengths below this are looked up in a table."""

RUNTIME: Mapping[str, Any] = {
    "Wrong": Wrong,
    "join": b"".join,
    "str_encode": str.encode,
    "long_bytes": long_to_bytes,
    "read_long": _read_long,
    "read_int": _read_int,
    "read_size": _read_size,
    "repeat": itertools.repeat,
    "SIZE": tuple(map(long_to_bytes, range(SMALL))),
    # Indexed by the value itself: -64 to -1 are its last 64 items.
    "ONE": tuple(long_to_bytes(v) for v in (*range(64), *range(-64, 0))),
    "BOOL": {0: False, 1: True},
}


@dataclasses.dataclass(slots=True)
class Index:
    """The place of an item in its array, which an error computes from the list of results so far.

    So the loop needs no counter. ``results`` is the name of the list, ``before`` the number of its elements
    before the first item's, and ``each`` the number of elements for an item.
    """

    results: str
    before: int
    each: int = 1

    def of(self, local: Mapping[str, Any]) -> str:
        results = local.get(self.results)
        return f"[{(len(results) - self.before) // self.each}]" if isinstance(results, list) else "[]"


Path = tuple[str | Index, ...]
"""The way to a field: names with a dot before them, and indexes."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Note:
    """What an error says about a line: the field, what was expected, and the variable with what was got."""

    path: Path
    expected: str
    variable: str | None


class Source:
    """Lines of Python, the constants that they use, and a note for each line.

    ``types`` are the Python types of named shapes, where they are not the plain ones. Notes are kept by line
    number, counted from 1 as tracebacks count them; only ``line`` may add lines.
    """

    def __init__(self, types: Mapping[str, type]) -> None:
        self.types = types
        self._lines: list[str] = []
        self._notes: dict[int, _Note] = {}
        self._indent = 0
        self._numbers = itertools.count()
        self._space: dict[str, Any] = dict(RUNTIME)

    def line(self, text: str, path: Path = (), expected: str = "", variable: str | None = None) -> None:
        """Add a line, and what an error there says. Raises UsageError when the schema is too large."""
        if len(self._lines) >= _MAX_LINES or self._indent > _MAX_INDENT:
            raise UsageError("schema is too large or nests too deeply")
        self._lines.append(" " * self._indent + text)
        # Tracebacks count lines from 1, so the length after the line was added is its number.
        self._notes[len(self._lines)] = _Note(path, expected, variable)

    def block(self, text: str) -> _Block:
        """Add a line that opens a block; ``with`` indents the lines that are added inside."""
        self.line(text)
        return _Block(self)

    def shift(self, by: int) -> None:
        """Indent the lines that follow, or outdent them."""
        self._indent += by

    def name(self, prefix: str) -> str:
        """Return a name that no other variable has."""
        return f"{prefix}{next(self._numbers)}"

    def constant(self, value: object) -> str:
        """Keep a value for the generated code, and return the name that it has there."""
        name = self.name("K")
        self._space[name] = value
        return name

    def run(self) -> dict[str, Any]:
        """Execute the source, and return the functions that it defines by their names."""
        self._space["unencodable"] = self._unencodable
        self._space["undecodable"] = self._undecodable
        try:
            code = compile("\n".join(self._lines), "<avro codec>", "exec")
        # Python refuses more than 20 blocks in each other, which arrays in arrays can make.
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise UsageError("schema is too large or nests too deeply") from error
        exec(code, self._space)  # noqa: S102 - names are checked or quoted; all else is written above
        return self._space

    def _where(self, error: Exception) -> tuple[_Note, str, Mapping[str, Any]]:
        # The first frame is that of the generated function, which caught the error. A helper that raised it,
        # such as _read_long, has a frame behind it.
        trace = error.__traceback__
        if trace is None:
            raise error
        local = trace.tb_frame.f_locals
        note = self._notes[trace.tb_lineno]
        parts = [part if isinstance(part, str) else part.of(local) for part in note.path]
        return note, "".join(parts).lstrip(".") or "value", local

    def _unencodable(self, error: Exception) -> UsageError:
        note, path, local = self._where(error)
        if isinstance(error, UnicodeEncodeError):
            return UsageError(f"{path}: expected text that UTF-8 can write")
        # A KeyError on a line that takes a field out of a dict: the caller left the field out.
        if isinstance(error, KeyError) and note.expected == "a field":
            return UsageError(f"{path}: missing")
        got = local.get(note.variable) if note.variable else None
        return UsageError(f"{path}: expected {note.expected}, got {_show(got)}")

    def _undecodable(self, error: Exception) -> FormatError:
        note, path, _ = self._where(error)
        match error:
            case IndexError():
                detail = "ends early"
            case UnicodeDecodeError():
                detail = "text that is not UTF-8"
            case KeyError():
                detail = f"expected {note.expected}"
            # Either generated code raised Wrong, or a class refused the values of its fields.
            case _:
                detail = str(error) or f"expected {note.expected}"
        return FormatError(f"{path}: {detail}")


class _Block:
    """``with source.block("if x:"):`` indents what is written inside."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        self._source.shift(1)

    def __exit__(self, *_: object) -> None:
        self._source.shift(-1)


def _show(value: object) -> str:
    text = reprlib.repr(value)
    return text if type(value) in (bool, int, str, type(None)) else f"{type(value).__name__} {text}"
