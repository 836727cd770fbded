"""Turn values into Avro bytes and back, so strictly that a value has one encoding and no other.

Theory of operation. ``compile_schema`` writes two Python functions for a schema and executes them: one
straight run through the fields, without a look at the schema. That is several times faster than a decoder
that walks the schema, because a record costs a handful of instructions a field.

Decoding keeps a position ``p`` and, at compile time, an offset from it, so that runs of one-byte fields
cost no arithmetic. A slice that reaches beyond the end is not refused where it is taken: it is short and
costs no memory, the position stays beyond the end, and the next byte read or the last check finds it.
Only the count of an array is compared with what remains before the loop begins.

Strict means: decode accepts exactly those bytes that encode gives for some value. Apache Avro 1.11 lets
a writer choose between several encodings (varints with leading zeros, arrays in several blocks, blocks
with their size); here a varint is the shortest one, an array is one block and a zero, or a zero alone.

A failure costs nothing until it happens: every line of generated code that may fail has a note of the
field that it works on, and the traceback of the failure says which line it was.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import keyword
import reprlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from broker.errors import FormatError, UsageError
from broker.formats.shape import (
    Array,
    Enum,
    Fixed,
    Primitive,
    Record,
    Schema,
    Shape,
    Union,
    kind_of,
    min_width,
    parse,
    tag_of,
    tagged_branches,
)

__all__ = ["Codec", "Schema", "compile_schema"]

_NO_CLASSES: Mapping[str, type] = MappingProxyType({})
_MAX_LINES = 50_000  # of generated code for one schema; a chain of references can double with each link
_MAX_INDENT = 90  # Python itself refuses 100
_ONE_BYTE = 64  # indexes below this take one byte
_INT = {"int": 1 << 31, "long": 1 << 63}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One schema's two directions.

    ``encode(value)`` gives bytes, or UsageError naming the field that is wrong.
    ``decode(data)`` gives the value, or FormatError; no other exception, whatever the bytes.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def compile_schema(schema: Schema, *, classes: Mapping[str, type] = _NO_CLASSES) -> Codec:
    """Make the codec of a schema; UsageError when the schema is wrong or not supported.

    Values are raw, without logical types. Without ``classes``: a record is a dict, an enum a str, an
    array a list. ``classes`` maps full names to dataclasses (whose fields are exactly those of the
    record) and StrEnums (whose values are exactly the symbols); then arrays are tuples. Names that the
    schema lacks are ignored, so that one mapping can serve many schemas.

    A union's value is the plain value of its branch, unless two branches have the same Python type:
    then it is ``(full name, value)`` for those branches (the name of the type where it has no name).
    """
    shape = parse(schema)
    types = _check_classes(shape, classes)
    source = _Source(types)
    _write_encoder(source, shape)
    _write_decoder(source, shape)
    space = source.run()
    return Codec(encode=space["encode"], decode=space["decode"])


# What generated code calls. ------------------------------------------------------------------------------


class _Wrong(Exception):
    """Raised in generated code; the note of the line says what was expected."""


def _long_to_bytes(value: int) -> bytes:
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
                raise _Wrong("an integer of more than 64 bits")
            break
    if not b and shift:
        raise _Wrong("an integer in more bytes than it needs")
    return (z >> 1) ^ -(z & 1), p + 1


def _read_int(data: bytes, p: int) -> tuple[int, int]:
    value, p = _read_long(data, p)
    if not -0x80000000 <= value < 0x80000000:
        raise _Wrong("an integer of more than 32 bits")
    return value, p


def _read_size(data: bytes, p: int) -> tuple[int, int]:
    """A length or count, and the position behind it."""
    value, p = _read_long(data, p)
    if value < 0:
        raise _Wrong("a negative length")
    return value, p


_SMALL = 1024
_RUNTIME: Mapping[str, Any] = {
    "Wrong": _Wrong,
    "join": b"".join,
    "str_encode": str.encode,
    "long_bytes": _long_to_bytes,
    "read_long": _read_long,
    "read_int": _read_int,
    "read_size": _read_size,
    "repeat": itertools.repeat,
    "SIZE": tuple(map(_long_to_bytes, range(_SMALL))),
    # Indexed by the value itself: -64 to -1 are its last 64 items.
    "ONE": tuple(_long_to_bytes(v) for v in (*range(64), *range(-64, 0))),
    "BOOL": {0: False, 1: True},
}


# The source under construction. --------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Index:
    """Which item of an array is being worked on: told by how long the list of results is by then."""

    results: str
    before: int
    each: int = 1

    def of(self, local: Mapping[str, Any]) -> str:
        results = local.get(self.results)
        return f"[{(len(results) - self.before) // self.each}]" if isinstance(results, list) else "[]"


_Path = tuple[str | _Index, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Note:
    path: _Path
    expected: str
    variable: str | None


class _Source:
    """Lines of Python, the constants that they use, and a note for each that may fail."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self.types = types
        self._lines: list[str] = []
        self._notes: dict[int, _Note] = {}
        self._indent = 0
        self._numbers = itertools.count()
        self._space: dict[str, Any] = dict(_RUNTIME)

    def line(self, text: str, path: _Path = (), expected: str = "", variable: str | None = None) -> None:
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

    def __init__(self, source: _Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        self._source.shift(1)

    def __exit__(self, *_: object) -> None:
        self._source.shift(-1)


def _show(value: object) -> str:
    text = reprlib.repr(value)
    return text if type(value) in (bool, int, str, type(None)) else f"{type(value).__name__} {text}"


# Encoding: each writer returns the expressions whose bytes, joined, are the value. -----------------------


def _write_encoder(source: _Source, shape: Shape) -> None:
    with source.block("def encode(v):"):
        with source.block("try:"):
            source.line(f"return {_joined(_encode(source, shape, 'v', ()))}")
        with source.block("except Exception as error:"):
            source.line("raise unencodable(error) from None")


def _joined(parts: list[str]) -> str:
    if not parts:
        return "b''"
    return " + ".join(parts) if len(parts) < 4 else f"join(({', '.join(parts)}))"


def _encode(source: _Source, shape: Shape, v: str, path: _Path) -> list[str]:
    match shape:
        case Primitive(kind="null"):
            source.line(f"if {v} is not None: raise Wrong", path, "None", v)
            return []
        case Primitive(kind="boolean"):
            return [_encode_boolean(source, v, path)]
        case Primitive(kind="int" | "long" as kind):
            return [_encode_integer(source, _INT[kind], kind, v, path)]
        case Primitive(kind="bytes"):
            source.line(f"if type({v}) is not bytes: raise Wrong", path, "bytes", v)
            return [_encode_size(source, v), v]
        case Primitive():
            text = source.name("s")
            source.line(f"{text} = str_encode({v})", path, "str", v)
            return [_encode_size(source, text), text]
        case Fixed(size=size):
            wrong = f"if type({v}) is not bytes or len({v}) != {size}: raise Wrong"
            source.line(wrong, path, f"{size} bytes", v)
            return [v]
        case Enum():
            return [_encode_enum(source, shape, v, path)]
        case Array():
            return [_encode_array(source, shape, v, path)]
        case Union():
            return [_encode_union(source, shape, v, path)]
        case Record():
            return _encode_record(source, shape, v, path)


def _encode_boolean(source: _Source, v: str, path: _Path) -> str:
    out = source.name("e")
    source.line(f"if {v} is True: {out} = b'\\x01'")
    source.line(f"elif {v} is False: {out} = b'\\x00'")
    source.line("else: raise Wrong", path, "True or False", v)
    return out


def _encode_integer(source: _Source, limit: int, kind: str, v: str, path: _Path) -> str:
    out = source.name("e")
    expected = f"int within the range of an Avro {kind}"
    source.line(f"if type({v}) is not int: raise Wrong", path, expected, v)
    source.line(f"if -64 <= {v} < 64: {out} = ONE[{v}]")
    source.line(f"elif {-limit} <= {v} < {limit}: {out} = long_bytes({v})")
    source.line("else: raise Wrong", path, expected, v)
    return out


def _encode_size(source: _Source, v: str) -> str:
    size = source.name("n")
    source.line(f"{size} = len({v})")
    source.line(f"{size} = SIZE[{size}] if {size} < {_SMALL} else long_bytes({size})")
    return size


def _encode_enum(source: _Source, shape: Enum, v: str, path: _Path) -> str:
    table = source.constant({symbol: _long_to_bytes(i) for i, symbol in enumerate(shape.symbols)})
    out = source.name("e")
    source.line(f"{out} = {table}[{v}]", path, f"one of {', '.join(shape.symbols)}", v)
    return out


def _encode_array(source: _Source, shape: Array, v: str, path: _Path) -> str:
    out, parts, item = source.name("e"), source.name("a"), source.name("v")
    kind = "tuple" if source.types else "list"
    source.line(f"if type({v}) is not {kind}: raise Wrong", path, kind, v)
    with source.block(f"if {v}:"):
        source.line(f"{parts} = [{_encode_size(source, v)}]")
        index = _Index(parts, before=1)
        with source.block(f"for {item} in {v}:"):
            encoded = _encode(source, shape.items, item, (*path, index))
            index.each = len(encoded)
            source.line(f"{parts} += ({', '.join(encoded)},)")
        source.line(f"{parts}.append(b'\\x00')")
        source.line(f"{out} = join({parts})")
    source.line(f"else: {out} = b'\\x00'")
    return out


def _encode_record(source: _Source, shape: Record, v: str, path: _Path) -> list[str]:
    found = source.types.get(shape.name)
    parts: list[str] = []
    if found:
        source.line(f"if type({v}) is not {source.constant(found)}: raise Wrong", path, found.__name__, v)
    else:
        known = frozenset(field.name for field in shape.fields)
        source.line(f"if type({v}) is not dict: raise Wrong", path, f"dict for record {shape.name}", v)
    for field in shape.fields:
        value, at = source.name("v"), (*path, f".{field.name}")
        if found:
            source.line(f"{value} = {v}.{field.name}", at, "an attribute", v)
        else:
            source.line(f"{value} = {v}[{field.name!r}]", at, "a field", v)
        parts += _encode(source, field.shape, value, at)
    if not found:
        expected = f"only the fields {', '.join(sorted(known))}"
        source.line(f"if len({v}) != {len(known)}: raise Wrong", path, expected, v)
    return parts


def _encode_union(source: _Source, shape: Union, v: str, path: _Path) -> str:
    out, kind = source.name("e"), source.name("t")
    tagged = tagged_branches(shape, source.types)
    plain = [i for i, branch in enumerate(shape.branches) if not tagged[i][0] and kind_of(branch) != "null"]
    alone = len(plain) == 1 and not any(tag for tag, _ in tagged)
    word = "if"
    if not alone:
        source.line(f"{kind} = type({v})")
    for i, branch in enumerate(shape.branches):
        if kind_of(branch) == "null":
            test = f"{v} is None"
        elif tagged[i][0]:
            test = f"{kind} is tuple and len({v}) == 2 and {v}[0] == {tag_of(branch)!r}"
        elif alone:
            continue
        else:
            test = f"{kind} is {source.constant(tagged[i][1])}"
        with source.block(f"{word} {test}:"):
            _encode_branch(source, i, branch, (v, out), path, tagged=tagged[i][0])
        word = "elif"
    if alone:
        with source.block("else:" if word == "elif" else "if True:"):
            _encode_branch(source, plain[0], shape.branches[plain[0]], (v, out), path, tagged=False)
    else:
        names = ", ".join(
            f"({tag_of(branch)!r}, value)" if tagged[i][0] else tagged[i][1].__name__
            for i, branch in enumerate(shape.branches)
        )
        source.line("else: raise Wrong" if word == "elif" else "raise Wrong", path, f"one of {names}", v)
    return out


def _encode_branch(
    source: _Source, index: int, branch: Shape, variables: tuple[str, str], path: _Path, *, tagged: bool
) -> None:
    v, out = variables
    if tagged:
        value = source.name("v")
        source.line(f"{value} = {v}[1]")
        v = value
    prefix = repr(_long_to_bytes(index))
    if kind_of(branch) == "null":
        source.line(f"{out} = {prefix}")
    else:
        source.line(f"{out} = {_joined([prefix, *_encode(source, branch, v, path)])}")


# Decoding: each reader returns an expression for the value and the offset from ``p`` behind it. ----------


def _write_decoder(source: _Source, shape: Shape) -> None:
    with source.block("def decode(data):"):
        with source.block("try:"):
            source.line("if type(data) is not bytes: raise Wrong", (), "bytes")
            source.line("p = 0")
            source.line("end = len(data)")
            value, off = _decode(source, shape, 0, ())
            _advance(source, off)
            source.line("if p != end: raise Wrong('ends early' if p > end else 'bytes behind its end')")
            source.line(f"return {value}")
        with source.block("except Exception as error:"):
            source.line("raise undecodable(error) from None")


def _plus(off: int) -> str:
    return f" + {off}" if off else ""


def _advance(source: _Source, off: int) -> None:
    if off:
        source.line(f"p += {off}")


def _decode(source: _Source, shape: Shape, off: int, path: _Path) -> tuple[str, int]:
    match shape:
        case Primitive(kind="null"):
            return "None", off
        case Primitive(kind="boolean"):
            out = source.name("v")
            source.line(f"{out} = BOOL[data[p{_plus(off)}]]", path, "a boolean of 0 or 1")
            return out, off + 1
        case Primitive(kind="int" | "long" as kind):
            return _decode_integer(source, kind, off, path), 0
        case Primitive(kind="bytes"):
            return _decode_sized(source, "", off, path), 0
        case Primitive():
            return _decode_sized(source, ".decode()", off, path), 0
        case Fixed(size=size):
            out = source.name("v")
            source.line(f"{out} = data[p{_plus(off)}:p{_plus(off + size)}]")
            return out, off + size
        case Enum():
            return _decode_enum(source, shape, off, path)
        case Array():
            return _decode_array(source, shape, off, path), 0
        case Union():
            return _decode_union(source, shape, off, path), 0
        case Record():
            return _decode_record(source, shape, off, path)


def _decode_integer(source: _Source, kind: str, off: int, path: _Path) -> str:
    out = source.name("v")
    source.line(f"{out} = data[p{_plus(off)}]", path)
    source.line(f"if {out} > 127: {out}, p = read_{kind}(data, p{_plus(off)})", path)
    with source.block("else:"):
        source.line(f"{out} = {out} >> 1 ^ -({out} & 1)")
        source.line(f"p += {off + 1}")
    return out


def _decode_size(source: _Source, off: int, path: _Path) -> str:
    """Leave a length in a variable and ``p`` behind it."""
    size = source.name("n")
    source.line(f"{size} = data[p{_plus(off)}]", path)
    # Both tests in one: 128 is a longer varint, 1 is the sign.
    source.line(f"if {size} & 129: {size}, p = read_size(data, p{_plus(off)})", path)
    with source.block("else:"):
        source.line(f"{size} >>= 1")
        source.line(f"p += {off + 1}")
    return size


def _decode_sized(source: _Source, convert: str, off: int, path: _Path) -> str:
    size, stop, out = _decode_size(source, off, path), source.name("q"), source.name("v")
    source.line(f"{stop} = p + {size}")
    source.line(f"{out} = data[p:{stop}]{convert}", path)
    source.line(f"p = {stop}")
    return out


def _decode_enum(source: _Source, shape: Enum, off: int, path: _Path) -> tuple[str, int]:
    found = source.types.get(shape.name)
    symbols = [found(symbol) if found else symbol for symbol in shape.symbols]
    out, expected = source.name("v"), f"an index below {len(symbols)}"
    if len(symbols) <= _ONE_BYTE:
        table = source.constant({i << 1: symbol for i, symbol in enumerate(symbols)})
        source.line(f"{out} = {table}[data[p{_plus(off)}]]", path, expected)
        return out, off + 1
    index = _decode_size(source, off, path)
    source.line(f"{out} = {source.constant(dict(enumerate(symbols)))}[{index}]", path, expected)
    return out, 0


def _decode_array(source: _Source, shape: Array, off: int, path: _Path) -> str:
    results = source.name("a")
    count = _decode_size(source, off, path)
    source.line(f"{results} = []")
    with source.block(f"if {count}:"):
        width = min_width(shape.items)
        source.line(f"if {count} * {width} > end - p: raise Wrong('more items than bytes')", path)
        with source.block(f"for _ in repeat(None, {count}):"):
            item, after = _decode(source, shape.items, 0, (*path, _Index(results, before=0)))
            _advance(source, after)
            source.line(f"{results}.append({item})")
        source.line("if data[p]: raise Wrong('a second block of items')", path)
        source.line("p += 1")
    return f"tuple({results})" if source.types else results


def _decode_record(source: _Source, shape: Record, off: int, path: _Path) -> tuple[str, int]:
    found = source.types.get(shape.name)
    values: dict[str, str] = {}
    for field in shape.fields:
        values[field.name], off = _decode(source, field.shape, off, (*path, f".{field.name}"))
    out = source.name("v")
    if found:
        order = [field.name for field in dataclasses.fields(found) if not field.kw_only]
        named = "" if order == list(values) else "{}="
        arguments = ", ".join(named.format(name) + value for name, value in values.items())
        source.line(f"{out} = {source.constant(found)}({arguments})", path, f"a valid {found.__name__}")
    else:
        source.line(f"{out} = {{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}")
    return out, off


def _decode_union(source: _Source, shape: Union, off: int, path: _Path) -> str:
    out, index, shift = source.name("v"), source.name("i"), 0
    tagged = tagged_branches(shape, source.types)
    if len(shape.branches) <= _ONE_BYTE:
        source.line(f"{index} = data[p{_plus(off)}]", path)
        off, shift = off + 1, 1
    else:
        index, off = _decode_size(source, off, path), 0
    word = "if"
    for i, branch in enumerate(shape.branches):
        with source.block(f"{word} {index} == {i << shift}:"):
            value, after = _decode(source, branch, off, path)
            source.line(f"{out} = ({tag_of(branch)!r}, {value})" if tagged[i][0] else f"{out} = {value}")
            _advance(source, after)
        word = "elif"
    source.line("else: raise Wrong", path, f"a branch below {len(shape.branches)}")
    return out


# Classes. ------------------------------------------------------------------------------------------------


def _check_classes(shape: Shape, classes: Mapping[str, type]) -> dict[str, type]:
    """The classes of a schema's named shapes, each found to say what the schema says."""
    if not classes:
        return {}
    types: dict[str, type] = {"array": tuple}
    open_shapes = [shape]
    while open_shapes:
        match open_shapes.pop():
            case Record(name=name, fields=fields):
                open_shapes += [field.shape for field in fields]
                if name in classes:
                    _check_dataclass(name, classes[name], [field.name for field in fields])
                    types[name] = classes[name]
            case Enum(name=name, symbols=symbols) if name in classes:
                _check_enum(name, classes[name], symbols)
                types[name] = classes[name]
            case Fixed(name=name) if name in classes:
                _refuse(name, classes[name], "a fixed is always bytes")
            case Array(items=items):
                open_shapes.append(items)
            case Union(branches=branches):
                open_shapes += branches
    return types


def _check_dataclass(name: str, found: type, names: list[str]) -> None:
    if not dataclasses.is_dataclass(found):
        _refuse(name, found, "not a dataclass")
    fields = dataclasses.fields(found)
    if {field.name for field in fields} != set(names):
        differing = sorted({field.name for field in fields} ^ set(names))
        _refuse(name, found, f"not the same fields: {', '.join(differing)}")
    if not all(field.init for field in fields):
        _refuse(name, found, "a field that its constructor does not take")
    if any(map(keyword.iskeyword, names)):
        _refuse(name, found, "a field named like a keyword of Python")


def _check_enum(name: str, found: type, symbols: tuple[str, ...]) -> None:
    if not issubclass(found, enum.StrEnum):
        _refuse(name, found, "not a StrEnum")
    if {str(member.value) for member in found} != set(symbols):
        _refuse(name, found, "not the same symbols")


def _refuse(name: str, found: type, why: str) -> NoReturn:
    raise UsageError(f"class {found.__name__!r} does not fit {name!r}: {why}")
