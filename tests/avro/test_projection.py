"""Records of one version, read under another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.avro.codec import compile_schema
from broker.avro.projection import project
from broker.errors import FormatError
from support.avro_values import reference_decode, schemas, values_of


def sighting(**types: Any) -> dict[str, Any]:
    """A record with these fields; a tuple is a type and its default."""
    fields = [
        {"name": name, "type": kind[0], "default": kind[1]}
        if isinstance(kind, tuple)
        else {"name": name, "type": kind}
        for name, kind in types.items()
    ]
    return {"type": "record", "name": "Sighting", "fields": fields}


def colour(*symbols: str, default: str | None = None) -> dict[str, Any]:
    """An enum type."""
    return {"type": "enum", "name": "Colour", "symbols": list(symbols)} | (
        {"default": default} if default else {}
    )


def inner(**types: Any) -> dict[str, Any]:
    """A record type inside another."""
    return sighting(**types) | {"name": "Inner"}


FIXED = {"type": "fixed", "name": "Two", "size": 2}

READABLE = [
    (sighting(a="long"), sighting(a="long", b=("string", "x")), {"a": 1}, {"a": 1, "b": "x"}),
    (sighting(a="long", b="string"), sighting(a="long"), {"a": 1, "b": "y"}, {"a": 1}),
    (sighting(a="long", b="string"), sighting(b="string", a="long"), {"a": 1, "b": "y"}, {"b": "y", "a": 1}),
    (sighting(a="int"), sighting(a="long"), {"a": 1}, {"a": 1}),
    (sighting(a="int"), sighting(a=["null", "long"]), {"a": 1}, {"a": 1}),
    (sighting(a="string"), sighting(a=["null", "string"]), {"a": "x"}, {"a": "x"}),
    (sighting(a=["null", "string"]), sighting(a="string"), {"a": "x"}, {"a": "x"}),
    (sighting(a=["null", "string"]), sighting(a=["string", "null", "long"]), {"a": None}, {"a": None}),
    (sighting(a=colour("A", "B")), sighting(a=colour("A", "C", default="C")), {"a": "B"}, {"a": "C"}),
    (sighting(a=colour("A", "B")), sighting(a=colour("B", "A")), {"a": "B"}, {"a": "B"}),
    (
        sighting(a={"type": "array", "items": inner(x="long")}),
        sighting(a={"type": "array", "items": inner(x="long", y=("boolean", True))}),
        {"a": [{"x": 1}, {"x": 2}]},
        {"a": [{"x": 1, "y": True}, {"x": 2, "y": True}]},
    ),
    (
        sighting(a=["null", inner(x="long")]),
        sighting(a=["null", inner(y=("string", ""), x="long")]),
        {"a": {"x": 1}},
        {"a": {"y": "", "x": 1}},
    ),
    (sighting(), sighting(a=(["null", "long"], None)), {}, {"a": None}),
    (sighting(), sighting(a=({"type": "array", "items": "long"}, [1])), {}, {"a": [1]}),
]


@pytest.mark.parametrize(("writer", "reader", "value", "expected"), READABLE)
def test_projection_agrees_with_fastavro(
    writer: dict[str, Any], reader: dict[str, Any], value: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A record of one version is read under another by the rules of Avro's schema resolution."""
    written = compile_schema(writer).encode(value)
    projected = project(compile_schema(writer).decode(written), writer, reader)
    assert projected == expected
    assert projected == reference_decode(writer, written, reader)
    compile_schema(reader).encode(projected)


BY_THE_STANDARD: list[tuple[Any, ...]] = [
    (sighting(), sighting(a=(FIXED, "\u00ff\u0001")), {}, {"a": b"\xff\x01"}),
    (sighting(), sighting(a=("bytes", "\u00ff")), {}, {"a": b"\xff"}),
    (sighting(), sighting(a=(inner(x="long", y=("long", 7)), {"x": 1})), {}, {"a": {"x": 1, "y": 7}}),
]


@pytest.mark.parametrize(("writer", "reader", "value", "expected"), BY_THE_STANDARD)
def test_defaults_are_what_avro_says(
    writer: dict[str, Any], reader: dict[str, Any], value: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Defaults of bytes and of records are values (Avro 1.11); fastavro hands out their JSON as it is."""
    assert project(value, writer, reader) == expected
    compile_schema(reader).encode(expected)


def test_projection_keeps_the_tag_of_a_branch() -> None:
    """Each value of a union of several records keeps its branch, and gets the reader's fields."""
    first = inner(x="long")
    other = inner(y="long") | {"name": "Other"}
    writer = sighting(a=[first, other])
    reader = sighting(a=["null", other, inner(x="long", z=("long", 0))])
    assert project({"a": ("Inner", {"x": 1})}, writer, reader) == {"a": ("Inner", {"x": 1, "z": 0})}
    assert project({"a": ("Other", {"y": 1})}, writer, reader) == {"a": ("Other", {"y": 1})}


UNREADABLE = [
    (sighting(a="long"), sighting(b="long"), {"a": 1}, "b: not written, and has no default"),
    (sighting(a="long"), sighting(a="int"), {"a": 1}, "a: written as long, read as int"),
    (sighting(a="long"), sighting(a="string"), {"a": 1}, "a: written as long, read as string"),
    (sighting(a=["null", "long"]), sighting(a="long"), {"a": None}, "a: written as null, read as long"),
    (sighting(a="string"), sighting(a=["null", "long"]), {"a": "x"}, "a: written as string, which no branch"),
    (sighting(a=colour("A", "B")), sighting(a=colour("A")), {"a": "B"}, "a: unknown symbol 'B'"),
    (sighting(a=FIXED), sighting(a=FIXED | {"size": 3}), {"a": b"12"}, "a: written as fixed Two"),
    (sighting(a=inner()), sighting(a=inner() | {"name": "Else"}), {"a": {}}, "a: written as record Inner"),
    (
        sighting(a={"type": "array", "items": colour("A", "B")}),
        sighting(a={"type": "array", "items": colour("A")}),
        {"a": ["A", "B"]},
        r"a\[1\]: unknown symbol",
    ),
    (sighting(), sighting(a=("long", "x")), {}, "a: default 'x' is no long"),
    (sighting(), sighting(a=("int", 1 << 31)), {}, "a: default 2147483648 is no int"),
    (sighting(), sighting(a=("long", True)), {}, "a: default True is no long"),
    (sighting(), sighting(a=("bytes", "\u0100")), {}, "a: default 'Ā' is no bytes"),
    (sighting(), sighting(a=(FIXED, "x")), {}, "a: default 'x' is no fixed Two"),
    (sighting(), sighting(a=(["null", "long"], 5)), {}, "a: default 5 is no null"),
    (sighting(), sighting(a=(inner(x="long"), {"z": 1})), {}, "a: default"),
    (sighting(), sighting(a=(colour("A"), ["A"])), {}, "a: default"),
]


@pytest.mark.parametrize(("writer", "reader", "value", "why"), UNREADABLE)
def test_what_cannot_be_projected(
    writer: dict[str, Any], reader: dict[str, Any], value: dict[str, Any], why: str
) -> None:
    """A value that the reader's schema cannot hold is refused, and the error names the field."""
    with pytest.raises(FormatError, match=why):
        project(value, writer, reader)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.data())
def test_the_same_schema_changes_nothing(data: st.DataObject) -> None:
    """A value that is read under its own schema stays as it is."""
    schema = data.draw(schemas(ambiguous=True))
    value = data.draw(values_of(schema))
    assert project(value, schema, schema) == value
