"""Turn values into Avro bytes and back, so strictly that a value has one encoding and no other.

Theory of operation. ``compile_schema`` writes two Python functions for a schema and executes them. Each is
one straight run through the fields, which never looks at the schema again. That is several times faster than
a decoder that walks the schema, since a field costs only a handful of instructions.

Strict means that decode accepts exactly those bytes that encode gives for some value. Apache Avro 1.11 lets a
writer choose between several encodings (varints with leading zeros, arrays in several blocks, blocks with
their size). Here a varint is the shortest possible, and an array is one block and a zero, or a zero alone.
Signed bytes need this: a second encoding of one statement would have another digest.

Decoding keeps a position ``p`` in the data and, at compile time, an offset from it, so that a run of one-byte
fields costs no arithmetic. A slice that reaches beyond the end is not refused where it is taken. It is short
and costs no memory, the position stays beyond the end, and the next byte that is read, or the last check,
finds that. Only the count of an array is compared with the remaining bytes before its loop begins: without
that, a few hostile bytes could ask for a loop of 2^63 rounds.

Errors cost nothing until they happen. Every line of generated code that may fail has a note, which names the
field that the line works on, and the traceback of a failure tells which line it was.
"""

from __future__ import annotations

import dataclasses
import enum
import keyword
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from broker.avro.reader import write_decoder
from broker.avro.shape import Array, Enum, Fixed, Record, Schema, Shape, Union, parse
from broker.avro.source import Source
from broker.avro.writer import write_encoder
from broker.errors import UsageError

__all__ = ["Codec", "Schema", "compile_schema"]

_NO_CLASSES: Mapping[str, type] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """The two directions of one schema.

    ``encode(value)`` returns bytes, or raises UsageError, which names the field that is wrong.
    ``decode(data)`` returns the value, or raises FormatError. It raises nothing else, whatever the bytes.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def compile_schema(schema: Schema, *, classes: Mapping[str, type] = _NO_CLASSES) -> Codec:
    """Make the codec of a schema. Raises UsageError when the schema is wrong or not supported.

    Values are plain: logical types are not converted. Without ``classes`` a record is a dict, an enum a str
    and an array a list. ``classes`` maps full names to dataclasses, which must have exactly the fields of the
    record, and to StrEnums, which must have exactly the symbols as values. With ``classes`` arrays are
    tuples. Names that the schema does not have are ignored, so that one mapping can serve many schemas.

    The value of a union is the plain value of its branch, unless two branches have the same Python type. The
    value of such a branch is ``(full name, value)``; a type without a name goes by the word for it.
    """
    shape = parse(schema)
    types = _check_classes(shape, classes)
    source = Source(types)
    write_encoder(source, shape)
    write_decoder(source, shape)
    space = source.run()
    return Codec(encode=space["encode"], decode=space["decode"])


def _check_classes(shape: Shape, classes: Mapping[str, type]) -> dict[str, type]:
    """Return the classes of the schema's named shapes. Raises UsageError where one does not fit its shape."""
    if not classes:
        return {}
    types: dict[str, type] = {"array": tuple}
    open_shapes = [shape]
    while open_shapes:
        match open_shapes.pop():
            case Record(name=name, fields=fields):
                open_shapes += [field.shape for field in fields]
                # Checked here, once, so that the generated code need not check it for each value.
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
