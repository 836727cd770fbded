"""Generated Python for one schema, what it calls, and which field each of its lines works on."""

from __future__ import annotations

import dataclasses
import itertools
import reprlib
from collections.abc import Mapping
from typing import Any

from broker.errors import FormatError, UsageError

__all__ = ["SMALL", "Index", "Path", "Source", "Wrong", "long_to_bytes"]

_MAX_LINES = 50_000  # of generated code for one schema; a chain of references can double with each link
_MAX_INDENT = 90  # Python itself refuses 100


class Wrong(Exception):
    """Raised in generated code; the note of the line says what was expected."""


def long_to_bytes(value: int) -> bytes:
    """Zigzag and varint of an integer already known to fit (Avro 1.11, "Binary Encoding")."""
    z = value << 1 if value >= 0 else ~(value << 1)
    if 0x2000000000000 <= z < 0x100000000000000:  # eight bytes: instants in microseconds
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
    """A varint of at most 64 bits, in its shortest form, and the position behind it."""
    b = data[p]
    z = b & 127
    shift = 0
    while b > 127:
        p += 1
        shift += 7
        b = data[p]
        z |= (b & 127) << shift
        if shift == 63:
            if b > 1:
                raise Wrong("an integer of more than 64 bits")
            break
    if not b and shift:
        raise Wrong("an integer in more bytes than it needs")
    return (z >> 1) ^ -(z & 1), p + 1


def _read_int(data: bytes, p: int) -> tuple[int, int]:
    value, p = _read_long(data, p)
    if not -0x80000000 <= value < 0x80000000:
        raise Wrong("an integer of more than 32 bits")
    return value, p


def _read_size(data: bytes, p: int) -> tuple[int, int]:
    """A length or count, and the position behind it."""
    value, p = _read_long(data, p)
    if value < 0:
        raise Wrong("a negative length")
    return value, p


SMALL = 1024
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
    """Which item of an array is being worked on: told by how long the list of results is by then."""

    results: str
    before: int
    each: int = 1

    def of(self, local: Mapping[str, Any]) -> str:
        results = local.get(self.results)
        return f"[{(len(results) - self.before) // self.each}]" if isinstance(results, list) else "[]"


Path = tuple[str | Index, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Note:
    path: Path
    expected: str
    variable: str | None


class Source:
    """Lines of Python, the constants that they use, and a note for each that may fail."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self.types = types
        self._lines: list[str] = []
        self._notes: dict[int, _Note] = {}
        self._indent = 0
        self._numbers = itertools.count()
        self._space: dict[str, Any] = dict(RUNTIME)

    def line(self, text: str, path: Path = (), expected: str = "", variable: str | None = None) -> None:
        if len(self._lines) >= _MAX_LINES or self._indent > _MAX_INDENT:
            raise UsageError("schema is too large or nests too deeply")
        self._lines.append(" " * self._indent + text)
        self._notes[len(self._lines)] = _Note(path, expected, variable)

    def block(self, text: str) -> _Block:
        self.line(text)
        return _Block(self)

    def shift(self, by: int) -> None:
        self._indent += by

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def constant(self, value: object) -> str:
        name = self.name("K")
        self._space[name] = value
        return name

    def run(self) -> dict[str, Any]:
        self._space["unencodable"] = self._unencodable
        self._space["undecodable"] = self._undecodable
        try:
            code = compile("\n".join(self._lines), "<avro codec>", "exec")
        except (SyntaxError, RecursionError, MemoryError) as error:  # more than 20 arrays in each other
            raise UsageError("schema is too large or nests too deeply") from error
        exec(code, self._space)  # noqa: S102 - names are checked or quoted; all else is written above
        return self._space

    def _where(self, error: Exception) -> tuple[_Note, str, Mapping[str, Any]]:
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
            case _:  # ours, or a class that refuses its values
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
