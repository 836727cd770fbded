"""Write the function that decodes values of a schema.

In the generated code ``data`` is the bytes, ``p`` the position in them and ``end`` their length. While the
code is written, ``off`` is how far behind ``p`` the next value begins: fields of a known width only raise
``off``, and ``p`` is moved when a field's width is known at run time alone.

Each ``_decode…`` adds lines that read a value. It returns an expression for the value, and the offset from
``p`` at which the bytes behind the value begin. A function that returns the expression alone has moved ``p``
there itself.
"""

from __future__ import annotations

import dataclasses

from broker.avro.shape import (
    Array,
    Enum,
    Fixed,
    Primitive,
    Record,
    Shape,
    Union,
    min_width,
    tag_of,
    tagged_branches,
)
from broker.avro.source import Index, Path, Source

__all__ = ["write_decoder"]

_ONE_BYTE = 64
"""Indexes below this take one byte, since zigzag doubles them."""


def write_decoder(source: Source, shape: Shape) -> None:
    """Add the function ``decode(data)`` to the source."""
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


def _advance(source: Source, off: int) -> None:
    if off:
        source.line(f"p += {off}")


def _decode(source: Source, shape: Shape, off: int, path: Path) -> tuple[str, int]:
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


def _decode_integer(source: Source, kind: str, off: int, path: Path) -> str:
    out = source.name("v")
    source.line(f"{out} = data[p{_plus(off)}]", path)
    source.line(f"if {out} > 127: {out}, p = read_{kind}(data, p{_plus(off)})", path)
    with source.block("else:"):
        source.line(f"{out} = {out} >> 1 ^ -({out} & 1)")
        source.line(f"p += {off + 1}")
    return out


def _decode_size(source: Source, off: int, path: Path) -> str:
    """Read a length or count into a variable, move ``p`` behind it, and return the variable's name."""
    size = source.name("n")
    source.line(f"{size} = data[p{_plus(off)}]", path)
    # One test for two cases: bit 128 tells of a longer varint, bit 1 of a negative number.
    source.line(f"if {size} & 129: {size}, p = read_size(data, p{_plus(off)})", path)
    with source.block("else:"):
        source.line(f"{size} >>= 1")
        source.line(f"p += {off + 1}")
    return size


def _decode_sized(source: Source, convert: str, off: int, path: Path) -> str:
    size = _decode_size(source, off, path)
    stop = source.name("q")
    out = source.name("v")
    # The slice may be short. In that case p is beyond the end, which the next read or the last check finds.
    source.line(f"{stop} = p + {size}")
    source.line(f"{out} = data[p:{stop}]{convert}", path)
    source.line(f"p = {stop}")
    return out


def _decode_enum(source: Source, shape: Enum, off: int, path: Path) -> tuple[str, int]:
    found = source.types.get(shape.name)
    symbols = [found(symbol) if found else symbol for symbol in shape.symbols]
    out = source.name("v")
    expected = f"an index below {len(symbols)}"
    # The table is keyed by the byte itself, zigzag and all: a byte that is not in it is a KeyError.
    if len(symbols) <= _ONE_BYTE:
        table = source.constant({i << 1: symbol for i, symbol in enumerate(symbols)})
        source.line(f"{out} = {table}[data[p{_plus(off)}]]", path, expected)
        return out, off + 1
    index = _decode_size(source, off, path)
    source.line(f"{out} = {source.constant(dict(enumerate(symbols)))}[{index}]", path, expected)
    return out, 0


def _decode_array(source: Source, shape: Array, off: int, path: Path) -> str:
    results = source.name("a")
    count = _decode_size(source, off, path)
    source.line(f"{results} = []")
    with source.block(f"if {count}:"):
        # The check stands before the loop: without it a few bytes could ask for an endless one.
        width = min_width(shape.items)
        source.line(f"if {count} * {width} > end - p: raise Wrong('more items than bytes')", path)
        with source.block(f"for _ in repeat(None, {count}):"):
            item, after = _decode(source, shape.items, 0, (*path, Index(results, before=0)))
            _advance(source, after)
            source.line(f"{results}.append({item})")
        # Avro lets a writer split an array into blocks, and each split would be another encoding.
        source.line("if data[p]: raise Wrong('a second block of items')", path)
        source.line("p += 1")
    return f"tuple({results})" if source.types else results


def _decode_record(source: Source, shape: Record, off: int, path: Path) -> tuple[str, int]:
    found = source.types.get(shape.name)
    values: dict[str, str] = {}
    for field in shape.fields:
        values[field.name], off = _decode(source, field.shape, off, (*path, f".{field.name}"))
    out = source.name("v")
    if found:
        # Positional arguments are faster. They are safe only where the class has the schema's order.
        order = [field.name for field in dataclasses.fields(found) if not field.kw_only]
        named = "" if order == list(values) else "{}="
        arguments = ", ".join(named.format(name) + value for name, value in values.items())
        source.line(f"{out} = {source.constant(found)}({arguments})", path, f"a valid {found.__name__}")
    else:
        source.line(f"{out} = {{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}")
    return out, off


def _decode_union(source: Source, shape: Union, off: int, path: Path) -> str:
    out = source.name("v")
    index = source.name("i")
    shift = 0
    tagged = tagged_branches(shape, source.types)
    if len(shape.branches) <= _ONE_BYTE:
        # The byte is compared as it is, and the branches' numbers are shifted as zigzag shifts them.
        source.line(f"{index} = data[p{_plus(off)}]", path)
        off += 1
        shift = 1
    else:
        index = _decode_size(source, off, path)
        off = 0
    word = "if"
    for i, branch in enumerate(shape.branches):
        with source.block(f"{word} {index} == {i << shift}:"):
            value, after = _decode(source, branch, off, path)
            source.line(f"{out} = ({tag_of(branch)!r}, {value})" if tagged[i][0] else f"{out} = {value}")
            _advance(source, after)
        word = "elif"
    source.line("else: raise Wrong", path, f"a branch below {len(shape.branches)}")
    return out
