"""Shapes: Avro schemas, parsed and checked. Their names are resolved, and none of them is recursive.

The schemas are those of Apache Avro 1.11, restricted to what the broker uses: null, boolean, int, long,
bytes, string, fixed, enum, array, record and union. Map, float and double are refused, since one value of
them can have several encodings. Logical types, documentation and custom attributes are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from broker.errors import UsageError

__all__ = [
    "Array",
    "Enum",
    "Field",
    "Fixed",
    "Primitive",
    "Record",
    "Schema",
    "Shape",
    "Union",
    "kind_of",
    "min_width",
    "parse",
    "tag_of",
    "tagged_branches",
]

Schema: TypeAlias = str | list[Any] | dict[str, Any]
"""A schema as its JSON is parsed."""

MAX_DEPTH = 24
"""The most levels of records, arrays and unions in each other; generated code nests as deep."""

_PRIMITIVES = frozenset(("null", "boolean", "int", "long", "bytes", "string"))
_REFUSED = frozenset(("map", "float", "double"))
_COMPLEX = frozenset(("array", "enum", "error", "fixed", "record", "union"))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Primitive:
    """A null, boolean, int, long, bytes or string."""

    kind: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """Exactly ``size`` bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Enum:
    """One of a closed list of symbols; ``default`` stands for a symbol that a reader does not know."""

    name: str
    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of items of one shape."""

    items: Shape


@dataclass(frozen=True, slots=True)
class Union:
    """One of several shapes, none of them a union."""

    branches: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record. ``default`` is JSON, and counts only where ``has_default`` is true."""

    name: str
    shape: Shape
    has_default: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Record:
    """Named fields in the order in which they are written."""

    name: str
    fields: tuple[Field, ...]


Shape: TypeAlias = Primitive | Fixed | Enum | Array | Union | Record


def parse(schema: Schema) -> Shape:
    """Parse a schema that defines all the types that it names. Raises UsageError for anything else."""
    return _Parser().parse(schema, "", 0)


def kind_of(shape: Shape) -> str:
    """Return the Avro word for a shape: ``record``, ``long``, ``union``."""
    return shape.kind if isinstance(shape, Primitive) else type(shape).__name__.lower()


def tag_of(shape: Shape) -> str:
    """Return the word by which a union calls its branch: its full name, or the word for its type."""
    return shape.name if isinstance(shape, Fixed | Enum | Record) else kind_of(shape)


def min_width(shape: Shape) -> int:
    """Return the least number of bytes that a value of this shape takes."""
    match shape:
        case Primitive(kind="null"):
            return 0
        case Fixed(size=size):
            return size
        case Record(fields=fields):
            return sum(min_width(field.shape) for field in fields)
        case Union(branches=branches):
            return 1 + min(map(min_width, branches))
    return 1


_PLAIN_TYPES: Mapping[str, type] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "bytes": bytes,
    "fixed": bytes,
    "string": str,
    "enum": str,
    "array": list,
    "record": dict,
}


def tagged_branches(union: Union, types: Mapping[str, type] | None = None) -> tuple[tuple[bool, type], ...]:
    """Return for each branch whether its value is ``(tag, value)``, and the Python type of the value.

    A branch is tagged when another branch of the union has values of the same Python type. ``types`` has the
    Python types of named shapes (and of ``array``) where they are not the plain ones.
    """
    known = types or {}
    found = [known.get(tag_of(branch)) or _PLAIN_TYPES[kind_of(branch)] for branch in union.branches]
    return tuple((found.count(kind) > 1, kind) for kind in found)


class _Parser:
    """One pass over one schema. ``space`` is the namespace of the definition around the current place."""

    def __init__(self) -> None:
        self._named: dict[str, Shape | None] = {}
        """The shapes by full name; None while the shape is being defined, so that a recursion is found."""

    def parse(self, schema: object, space: str, depth: int) -> Shape:
        if depth > MAX_DEPTH:
            raise UsageError(f"schema nests deeper than {MAX_DEPTH} levels")
        if isinstance(schema, str):
            return self._reference(schema, space)
        if isinstance(schema, list):
            return self._union(schema, space, depth)
        if isinstance(schema, dict):
            match schema.get("type"):
                case "record":
                    return self._record(schema, space, depth)
                case "enum":
                    return self._enum(schema, space)
                case "fixed":
                    return self._fixed(schema, space)
                case "array":
                    return self._array(schema.get("items"), space, depth)
                case str() | dict() | list() as inner:
                    return self.parse(inner, space, depth + 1)
        raise UsageError(f"not an Avro schema: {schema!r:.100}")

    def _reference(self, name: str, space: str) -> Shape:
        if name in _PRIMITIVES:
            return Primitive(name)
        # They are valid Avro, so they get a message of their own.
        if name in _REFUSED:
            raise UsageError(f"avro type {name!r} is not supported")
        full = _full_name(name, space)
        # Within a namespace, a name without a dot may also be one that was defined without a namespace.
        if full not in self._named and "." not in name:
            full = name
        if full not in self._named:
            raise UsageError(f"unknown type {name!r}")
        shape = self._named[full]
        if shape is None:
            raise UsageError(f"recursive type {full!r} is not supported")
        return shape

    def _define(self, schema: dict[str, Any], space: str) -> str:
        name = schema.get("name")
        if not isinstance(name, str) or not all(map(_NAME.match, name.split("."))):
            raise UsageError(f"not an Avro name: {name!r}")
        full = _full_name(name, schema.get("namespace", space))
        if full in _PRIMITIVES | _REFUSED | _COMPLEX:
            raise UsageError(f"{full!r} is a word of Avro and no name")
        if full in self._named:
            raise UsageError(f"type {full!r} is defined twice")
        # The name is taken before the fields are parsed, so that a field of the record's own type is found.
        self._named[full] = None
        return full

    def _record(self, schema: dict[str, Any], space: str, depth: int) -> Shape:
        full = self._define(schema, space)
        inner_space = full.rpartition(".")[0]
        listed = schema.get("fields")
        if not isinstance(listed, list) or not all(isinstance(field, dict) for field in listed):
            raise UsageError(f"record {full!r} has no list of fields")
        fields = []
        for field in listed:
            name = field.get("name")
            if not isinstance(name, str) or not _NAME.match(name):
                raise UsageError(f"record {full!r}: not an Avro name: {name!r}")
            shape = self.parse(field.get("type"), inner_space, depth + 1)
            fields.append(Field(name, shape, "default" in field, field.get("default")))
        if len({field.name for field in fields}) != len(fields):
            raise UsageError(f"record {full!r} has two fields of one name")
        record = Record(full, tuple(fields))
        self._named[full] = record
        return record

    def _enum(self, schema: dict[str, Any], space: str) -> Shape:
        full = self._define(schema, space)
        symbols = schema.get("symbols")
        if not isinstance(symbols, list) or not symbols or len(set(map(str, symbols))) != len(symbols):
            raise UsageError(f"enum {full!r} has no list of different symbols")
        if not all(isinstance(symbol, str) and _NAME.match(symbol) for symbol in symbols):
            raise UsageError(f"enum {full!r} has a symbol that is not an Avro name")
        default = schema.get("default")
        if default is not None and default not in symbols:
            raise UsageError(f"enum {full!r}: default {default!r} is no symbol of it")
        enum = Enum(full, tuple(symbols), default)
        self._named[full] = enum
        return enum

    def _fixed(self, schema: dict[str, Any], space: str) -> Shape:
        full = self._define(schema, space)
        size = schema.get("size")
        if type(size) is not int or size < 0:
            raise UsageError(f"fixed {full!r}: not a size: {size!r}")
        fixed = Fixed(full, size)
        self._named[full] = fixed
        return fixed

    def _array(self, items: object, space: str, depth: int) -> Shape:
        shape = self.parse(items, space, depth + 1)
        if not min_width(shape):
            # A few hostile bytes would become millions of items that take no bytes.
            raise UsageError(f"array of {tag_of(shape)!r}, whose values may take no bytes")
        return Array(shape)

    def _union(self, schema: list[Any], space: str, depth: int) -> Shape:
        branches = tuple(self.parse(branch, space, depth + 1) for branch in schema)
        # Avro 1.11, "Unions": no union directly in a union, and each unnamed type at most once.
        tags = [tag_of(branch) for branch in branches]
        if not branches or "union" in tags or len(set(tags)) != len(tags):
            raise UsageError(f"not a union of different types: {tags}")
        return Union(branches)


def _full_name(name: str, space: object) -> str:
    if "." in name or not space:
        return name
    if not isinstance(space, str) or not all(map(_NAME.match, space.split("."))):
        raise UsageError(f"not an Avro namespace: {space!r}")
    return f"{space}.{name}"
