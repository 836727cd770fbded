"""Random Avro schemas, values that fit them, and fastavro as the reference for both."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from hypothesis import strategies as st

from broker.avro.shape import (
    Array,
    Enum,
    Fixed,
    Primitive,
    Record,
    Schema,
    Shape,
    Union,
    parse,
    tag_of,
    tagged_branches,
)

_PRIMITIVES = ("boolean", "int", "long", "bytes", "string")
_SYMBOLS = tuple(f"S{i}" for i in range(70))
# fastavro guesses the branch of a union's value; branches of one group it mistakes for each other
# (b"" for an array, too). Records it does not guess: several in one union are tagged.
_GROUPS = {
    "int": "int",
    "long": "int",
    "bytes": "bytes",
    "fixed": "bytes",
    "array": "bytes",
    "string": "str",
    "enum": "str",
}


@st.composite
def schemas(draw: st.DrawFn, *, ambiguous: bool = False) -> dict[str, Any]:
    """A record schema; ``ambiguous`` allows unions whose branches have values of one Python type."""
    names: list[tuple[str, str]] = []
    return _record(draw, names, 3, ambiguous)


def _name(kind: str, names: list[tuple[str, str]]) -> str:
    name = f"{kind.title()}{len(names)}"
    names.append((kind, f"ftf.test.{name}"))
    return name


def _record(draw: st.DrawFn, names: list[tuple[str, str]], depth: int, ambiguous: bool) -> dict[str, Any]:
    count = draw(st.integers(0, 5) if depth < 3 else st.integers(1, 6))
    fields = [{"name": f"f{i}", "type": _any(draw, names, depth - 1, ambiguous)} for i in range(count)]
    return {"type": "record", "name": _name("record", names), "namespace": "ftf.test", "fields": fields}


def _any(draw: st.DrawFn, names: list[tuple[str, str]], depth: int, ambiguous: bool) -> Schema:
    kinds = ["null", *_PRIMITIVES, "enum", "fixed"]
    if depth > 0:
        kinds += ["array", "record", "union", "union"]
    if names:
        kinds.append("known")
    return _of_kind(draw, draw(st.sampled_from(kinds)), names, depth, ambiguous)


def _of_kind(draw: st.DrawFn, kind: str, names: list[tuple[str, str]], depth: int, ambiguous: bool) -> Schema:
    match kind:
        case "known":
            return draw(st.sampled_from(names))[1]
        case "enum":
            symbols = list(_SYMBOLS[: draw(st.sampled_from((1, 2, 5, 63, 64, 65, 70)))])
            name = _name("enum", names)
            return {"type": "enum", "name": name, "namespace": "ftf.test", "symbols": symbols}
        case "fixed":
            size = draw(st.sampled_from((1, 2, 16, 100)))
            return {"type": "fixed", "name": _name("fixed", names), "namespace": "ftf.test", "size": size}
        case "array":
            kinds = st.sampled_from(
                (*_PRIMITIVES, "enum", "fixed", *(("array", "union") if depth > 1 else ()))
            )
            return {"type": "array", "items": _of_kind(draw, draw(kinds), names, depth - 1, ambiguous)}
        case "record":
            return _record(draw, names, depth, ambiguous)
        case "union":
            return _union(draw, names, depth, ambiguous)
        case "long":
            return {"type": "long"} if draw(st.booleans()) else "long"
    return kind


def _union(draw: st.DrawFn, names: list[tuple[str, str]], depth: int, ambiguous: bool) -> list[Any]:
    options = ("null", *_PRIMITIVES, "enum", "fixed", "array", "record", "record2")
    kinds = draw(st.lists(st.sampled_from(options), min_size=1, max_size=5, unique=True))
    chosen: list[Any] = []
    groups: set[str] = set()
    for kind in kinds:
        group = _GROUPS.get(kind, kind)
        if ambiguous or group not in groups:
            chosen.append(_of_kind(draw, kind.rstrip("2"), names, depth - 1, ambiguous))
        groups.add(group)
    return chosen


def values_of(schema: Schema) -> st.SearchStrategy[Any]:
    """Plain values (no classes) that fit a schema."""
    return _values(parse(schema))


_LIMITS = {"int": 1 << 31, "long": 1 << 63}


def _integers(limit: int) -> st.SearchStrategy[int]:
    edges = sorted({e for s in range(0, 64, 7) for e in (1 << s >> 1, (1 << s >> 1) - 1, -(1 << s >> 1))})
    fitting = [edge for edge in (*edges, -limit, limit - 1) if -limit <= edge < limit]
    return st.sampled_from(fitting) | st.integers(-limit, limit - 1)


def _values(shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case Primitive(kind="null"):
            return st.none()
        case Primitive(kind="boolean"):
            return st.booleans()
        case Primitive(kind="int" | "long" as kind):
            return _integers(_LIMITS[kind])
        case Primitive(kind="bytes"):
            return st.binary(max_size=70) | st.sampled_from((b"x" * 63, b"x" * 64, b"x" * 1024, b"x" * 8192))
        case Primitive():
            return st.text(max_size=70) | st.sampled_from(("x" * 63, "é" * 32, "x" * 1023, "x" * 8192))
        case Fixed(size=size):
            return st.binary(min_size=size, max_size=size)
        case Enum(symbols=symbols):
            return st.sampled_from(symbols)
        case Array(items=items):
            return st.lists(_values(items), max_size=4)
        case Record(fields=fields):
            return st.fixed_dictionaries({field.name: _values(field.shape) for field in fields})
        case Union(branches=branches):
            tags = [tagged for tagged, _ in tagged_branches(shape)]
            return st.one_of([_branch(branch, tagged) for branch, tagged in zip(branches, tags, strict=True)])


def _branch(branch: Shape, tagged: bool) -> st.SearchStrategy[Any]:
    if tagged:
        return st.tuples(st.just(tag_of(branch)), _values(branch))
    return _values(branch)


def without_logical_types(schema: Any) -> Any:
    """The schema whose values fastavro leaves raw."""
    if isinstance(schema, dict):
        kept = {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
        return kept
    if isinstance(schema, list):
        return [without_logical_types(one) for one in schema]
    return schema


def reference_encode(schema: Schema, value: Any) -> bytes:
    """What fastavro writes."""
    out = io.BytesIO()
    parsed = fastavro.parse_schema(without_logical_types(schema))
    fastavro.schemaless_writer(out, parsed, value, strict=True)
    return out.getvalue()


def reference_decode(schema: Schema, data: bytes, reader: Schema | None = None) -> Any:
    """What fastavro reads, resolved to ``reader`` where that is given."""
    writer = fastavro.parse_schema(without_logical_types(schema))
    read_as = None if reader is None else fastavro.parse_schema(without_logical_types(reader))
    return fastavro.schemaless_reader(
        io.BytesIO(data), writer, read_as, return_record_name=True, return_record_name_override=True
    )
