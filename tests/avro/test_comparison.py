"""Versions of a record type that understand each other, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.avro.codec import compile_schema
from broker.avro.comparison import compare
from broker.avro.projection import project
from support.avro_schemas import A, enum, fixed, record
from support.avro_values import values_of

INCOMPATIBLE = [
    (record(A), record(A, ("b", "long")), ["b: added without a default"]),
    (record(A, ("b", "long")), record(A), ["b: removed, and had no default"]),
    (record(A), record(("z", "long")), ["a: removed, and had no default", "z: added without a default"]),
    (record(A), record(("a", "string")), ["a: type changed from long to string"]),
    (record(A), record(("a", ["null", "long"])), ["a: type changed from long to union"]),
    (record(("a", "int")), record(A), ["a: type changed from int to long"]),
    (
        record(("a", enum("X"))),
        record(("a", enum("X", "Y"))),
        ["a: symbol Y added, and the older enum has no default"],
    ),
    (
        record(("a", enum("X", "Y", default="X"))),
        record(("a", enum("X"))),
        ["a: symbol Y removed, and the newer enum has no default"],
    ),
    (record(("a", fixed(2))), record(("a", fixed(3))), ["a: size changed from 2 to 3"]),
    (
        record(("a", ["null", "long"])),
        record(("a", ["null", "string"])),
        ["a: union branch long removed", "a: union branch string added"],
    ),
    (record(A), record(A, name="Other"), ["schema: renamed from Sighting to Other"]),
    (
        record(("a", {"type": "array", "items": record(A, ("b", "long"), name="I")})),
        record(("a", {"type": "array", "items": record(A, name="I")})),
        ["a[].b: removed, and had no default"],
    ),
    (
        record(("a", ["null", record(A, name="I")])),
        record(("a", ["null", record(("a", "bytes"), name="I")])),
        ["a.a: type changed from long to bytes"],
    ),
    (record(A), record(A) | {"topic": "returns"}, ["topic changed from 'sightings' to 'returns'"]),
]


@pytest.mark.parametrize(("older", "newer", "problems"), INCOMPATIBLE)
def test_every_problem_is_named(older: Any, newer: Any, problems: list[str]) -> None:
    """A change that some reader cannot follow is named with the path of its field."""
    assert compare(older, newer) == problems


COMPATIBLE = [
    (record(A), record(A, ("b", "long", 0))),
    (record(A, ("b", "long", 0)), record(A)),
    (record(A, ("b", "string")), record(("b", "string"), A)),
    (record(("a", enum("X", default="X"))), record(("a", enum("X", "Y")))),
    (record(("a", ["null", "long"])), record(("a", ["long", "null"]))),
    (record(A), record(A) | {"doc": "other words"}),
]


@pytest.mark.parametrize(("older", "newer"), COMPATIBLE)
def test_changes_that_everyone_can_follow(older: Any, newer: Any) -> None:
    """Fields with defaults may come and go, in any order, and a default stands for unknown symbols."""
    assert compare(older, newer) == []


_TYPES = st.sampled_from(
    [
        "int",
        "long",
        "string",
        ["null", "string"],
        ["null", "long"],
        ["string", "null"],
        enum("X", "Y"),
        enum("X", "Y", "Z", default="X"),
        enum("X", "Z", default="Z"),
        fixed(1),
        fixed(2),
        {"type": "array", "items": "long"},
    ]
)
_DEFAULTS = {"int": 1, "long": 2, "string": "s"}


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two versions that share most of their fields."""
    pair: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]] = ([], [])
    for name in "abcd":
        chosen = draw(_TYPES)
        for fields in pair:
            kind = draw(_TYPES) if draw(st.integers(0, 9)) == 0 else chosen
            field = (name, kind | {"name": f"N{name}"} if isinstance(kind, dict) and "name" in kind else kind)
            default = (_DEFAULTS[kind],) if isinstance(kind, str) and draw(st.booleans()) else ()
            if not default or draw(st.booleans()):
                fields.append((*field, *default))
    return record(*pair[0]), record(*pair[1])


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.data())
def test_what_passes_is_readable_both_ways(data: st.DataObject) -> None:
    """When the check finds nothing, every value of each version can be read under the other."""
    older, newer = data.draw(_pairs())
    if compare(older, newer):
        return
    for writer, reader in ((older, newer), (newer, older)):
        value = data.draw(values_of(writer))
        compile_schema(reader).encode(project(value, writer, reader))
