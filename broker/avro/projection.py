"""Read a record that was written under another version of its schema.

The rules are those of Apache Avro 1.11, "Schema Resolution", applied to values that are already decoded and
plain (dicts, lists, str). A field that the writer's version does not have gets the default of the reader's.
A field that the reader's version does not have is dropped. A symbol that the reader does not know becomes the
default of its enum. Of Avro's promotions only int to long is made, since the others would hide a change of
meaning. Aliases are not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.avro.shape import (
    Array,
    Enum,
    Field,
    Fixed,
    Primitive,
    Record,
    Schema,
    Shape,
    Union,
    kind_of,
    parse,
    tag_of,
    tagged_branches,
)
from broker.errors import FormatError

__all__ = ["default_of", "project", "projection"]


def project(value: Any, writer: Schema, reader: Schema) -> Any:
    """Return the value under the reader's schema. Raises FormatError when that schema cannot hold it."""
    return projection(writer, reader)(value)


def projection(writer: Schema, reader: Schema) -> Callable[[Any], Any]:
    """Return ``project`` for one pair of schemas, which are parsed once for many values."""
    written = parse(writer)
    read = parse(reader)
    return lambda value: _project(value, written, read, "")


def default_of(field: Field, path: str = "") -> Any:
    """Return the value of a field that was not written. Raises FormatError when its default does not fit."""
    if not field.has_default:
        raise FormatError(f"{path or field.name}: not written, and has no default")
    return _from_json(field.default, field.shape, path or field.name)


def _project(value: Any, writer: Shape, reader: Shape, path: str) -> Any:
    if isinstance(writer, Union):
        branch, inner = _branch_of(writer, value, path)
        # Equal unions have equal tags, so that the value can stay as it is, with its tag.
        if writer == reader:
            return value
        return _project(inner, branch, reader, path)
    if isinstance(reader, Union):
        return _into_union(value, writer, reader, path)
    if not _is_readable(writer, reader):
        raise FormatError(f"{path or 'value'}: written as {_words(writer)}, read as {_words(reader)}")
    match writer, reader:
        case Record(), Record():
            return _project_record(value, writer, reader, path)
        case Array(), Array():
            return [
                _project(item, writer.items, reader.items, f"{path}[{i}]") for i, item in enumerate(value)
            ]
        case _, Enum(symbols=symbols, default=default) if value not in symbols:
            if default is None:
                raise FormatError(f"{path or 'value'}: unknown symbol {value!r}, and no default")
            return default
    return value


def _project_record(value: Any, writer: Record, reader: Record, path: str) -> dict[str, Any]:
    written = {field.name: field.shape for field in writer.fields}
    result: dict[str, Any] = {}
    for field in reader.fields:
        at = f"{path}.{field.name}" if path else field.name
        if field.name in written:
            result[field.name] = _project(value[field.name], written[field.name], field.shape, at)
        else:
            result[field.name] = default_of(field, at)
    return result


def _is_readable(writer: Shape, reader: Shape) -> bool:
    match writer, reader:
        # Left out on purpose: bytes to string and back, which Avro allows and which would hide a mistake.
        case Primitive(kind="int"), Primitive(kind="long"):
            return True
        case Primitive(), Primitive():
            return writer.kind == reader.kind
        case Fixed(), Fixed():
            return writer.size == reader.size and _same_name(writer, reader)
        case (Enum(), Enum()) | (Record(), Record()):
            return _same_name(writer, reader)
    return isinstance(writer, Array) and isinstance(reader, Array)


def _same_name(writer: Shape, reader: Shape) -> bool:
    # Avro compares names without their namespaces.
    return tag_of(writer).rpartition(".")[2] == tag_of(reader).rpartition(".")[2]


def _into_union(value: Any, writer: Shape, reader: Union, path: str) -> Any:
    """Return the value in the branch of the writer's name or type, or else in the first that can read it."""
    tags = tagged_branches(reader)
    # Avro takes the first branch that matches. Here the branch of the writer's own name or type comes first:
    # an int that is read into [long, int] stays an int.
    same = [i for i, branch in enumerate(reader.branches) if tag_of(branch) == tag_of(writer)]
    for i in (*same, *range(len(reader.branches))):
        branch = reader.branches[i]
        if _is_readable(writer, branch):
            result = _project(value, writer, branch, path)
            return (tag_of(branch), result) if tags[i][0] else result
    raise FormatError(f"{path or 'value'}: written as {_words(writer)}, which no branch reads")


def _branch_of(union: Union, value: Any, path: str) -> tuple[Shape, Any]:
    for branch, (tagged, found) in zip(union.branches, tagged_branches(union), strict=True):
        if tagged:
            if isinstance(value, tuple) and len(value) == 2 and value[0] == tag_of(branch):
                return branch, value[1]
        elif type(value) is found:
            return branch, value
    raise FormatError(f"{path or 'value'}: no branch of the union holds {value!r:.60}")


def _words(shape: Shape) -> str:
    kind = kind_of(shape)
    tag = tag_of(shape)
    return kind if kind == tag else f"{kind} {tag}"


_JSON_TYPES = {"null": type(None), "boolean": bool, "string": str}
_LIMITS = {"int": 1 << 31, "long": 1 << 63}


def _from_json(value: Any, shape: Shape, path: str) -> Any:
    """Return the value of a default, whose JSON writes bytes as text of the code points 0 to 255."""
    match shape:
        case Union(branches=branches):
            # Avro 1.11: the default of a union is a value of its first branch.
            result = _from_json(value, branches[0], path)
            return (tag_of(branches[0]), result) if tagged_branches(shape)[0][0] else result
        case Record() if isinstance(value, dict):
            if value.keys() <= {field.name for field in shape.fields}:
                return {field.name: _field_from_json(value, field, path) for field in shape.fields}
        case Array() if isinstance(value, list):
            return [_from_json(item, shape.items, f"{path}[{i}]") for i, item in enumerate(value)]
        case Enum(symbols=symbols) if value in symbols:
            return value
        case Primitive(kind="bytes") | Fixed() if isinstance(value, str):
            data = value.encode("latin-1", "ignore")
            if len(data) == len(value) == (shape.size if isinstance(shape, Fixed) else len(data)):
                return data
        case Primitive(kind="int" | "long" as kind) if type(value) is int:
            if -_LIMITS[kind] <= value < _LIMITS[kind]:
                return value
        case Primitive(kind=kind) if type(value) is _JSON_TYPES.get(kind):
            return value
    raise FormatError(f"{path}: default {value!r:.60} is no {_words(shape)}")


def _field_from_json(value: dict[str, Any], field: Field, path: str) -> Any:
    at = f"{path}.{field.name}"
    return _from_json(value[field.name], field.shape, at) if field.name in value else default_of(field, at)
