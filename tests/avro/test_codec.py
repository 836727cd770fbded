"""The codec: the same bytes as fastavro, and nothing else."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pprint import pformat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.avro.codec import compile_schema
from broker.errors import FormatError, UsageError
from support.avro_values import reference_decode, reference_encode, schemas, values_of

seeded = settings(derandomize=True, deadline=None, max_examples=150)


def record(*types: Any, name: str = "R") -> dict[str, Any]:
    """A record with fields a, b, c …"""
    fields = [{"name": letter, "type": kind} for letter, kind in zip("abcdefgh", types, strict=False)]
    return {"type": "record", "name": name, "fields": fields}


def enum_of(count: int) -> dict[str, Any]:
    """An enum with symbols S0, S1 …"""
    return {"type": "enum", "name": "E", "symbols": [f"S{i}" for i in range(count)]}


LONGS = {"type": "array", "items": "long"}


@seeded
@given(st.data())
def test_same_bytes_and_values_as_fastavro(data: st.DataObject) -> None:
    """For any schema and value, the bytes equal those of fastavro, and both readers find the same value."""
    schema = data.draw(schemas())
    value = data.draw(values_of(schema))
    codec = compile_schema(schema)
    written = codec.encode(value)
    assert written == reference_encode(schema, value)
    assert codec.decode(written) == value == reference_decode(schema, written)


@seeded
@given(st.data())
def test_a_value_comes_back(data: st.DataObject) -> None:
    """A value comes back even from a union whose branches look alike, where fastavro has to guess."""
    schema = data.draw(schemas(ambiguous=True))
    value = data.draw(values_of(schema))
    codec = compile_schema(schema)
    again = codec.decode(codec.encode(value))
    assert again == value
    assert pformat(again) == pformat(value)  # True is not 1


def _check_any_bytes(schema: Any, received: bytes) -> None:
    codec = compile_schema(schema)
    try:
        value = codec.decode(received)
    except FormatError:
        return
    assert codec.encode(value) == received


@seeded
@given(st.data())
def test_any_bytes_give_a_value_or_our_error(data: st.DataObject) -> None:
    """Any bytes give FormatError, or a value that gives the same bytes again."""
    _check_any_bytes(data.draw(schemas(ambiguous=True)), data.draw(st.binary(max_size=60)))


@settings(seeded, max_examples=300)
@given(st.data())
def test_altered_bytes_give_a_value_or_our_error(data: st.DataObject) -> None:
    """A valid message with a byte changed, added, dropped or cut off gives no other exception."""
    schema = data.draw(schemas(ambiguous=True))
    valid = compile_schema(schema).encode(data.draw(values_of(schema)))
    at = data.draw(st.integers(0, len(valid)))
    inserted = data.draw(
        st.sampled_from((b"", b"\x00", b"\x01", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\x0f"))
    )
    dropped = data.draw(st.sampled_from((0, 1, 2, len(valid))))
    _check_any_bytes(schema, valid[:at] + inserted + valid[at + dropped :])


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(st.sampled_from(("int", "string", "ftf.test.Record0")), inner)
        | st.dictionaries(st.sampled_from(("f0", "f1", "f2")), inner, max_size=3)
    ),
)


@settings(seeded, max_examples=300)
@given(st.data())
def test_any_value_gives_bytes_or_our_error(data: st.DataObject) -> None:
    """Whatever the caller passes gives UsageError, or bytes that give the same value again."""
    schema = data.draw(schemas(ambiguous=True))
    good = data.draw(values_of(schema))
    value = good | {data.draw(st.sampled_from(("f0", "f1", "more"))): data.draw(_anything)}
    codec = compile_schema(schema)
    try:
        written = codec.encode(value)
    except UsageError:
        return
    assert codec.decode(written) == value


REFUSED_BYTES = [
    ("long", b"\x02\x00", "bytes behind its end"),
    ("long", b"\x82\x00", "an integer in more bytes than it needs"),
    ("long", b"\x80\x80\x00", "an integer in more bytes than it needs"),
    ("long", b"\xff" * 9 + b"\x03", "an integer of more than 64 bits"),
    ("long", b"\xff" * 9 + b"\x81\x00", "an integer of more than 64 bits"),
    ("long", b"\x80" * 9 + b"\x00", "an integer in more bytes than it needs"),
    ("long", b"\x80", "ends early"),
    ("long", b"", "ends early"),
    ("int", b"\x80\x80\x80\x80\x10", "an integer of more than 32 bits"),
    ("boolean", b"\x02", "a boolean of 0 or 1"),
    ("boolean", b"\xff", "a boolean of 0 or 1"),
    ("string", b"\x01", "a negative length"),
    ("string", b"\x81\x01", "a negative length"),
    ("string", b"\x02\xff", "text that is not UTF-8"),
    ("string", b"\x06\xed\xa0\x80", "text that is not UTF-8"),
    ("string", b"\x04a", "ends early"),
    ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends early"),
    ("bytes", b"\x04a", "ends early"),
    ({"type": "fixed", "name": "F", "size": 4}, b"abc", "ends early"),
    (enum_of(3), b"\x06", "an index below 3"),
    (enum_of(3), b"\x01", "an index below 3"),
    (enum_of(65), b"\x82\x01", "an index below 65"),
    (enum_of(65), b"\x80\x00", "an integer in more bytes than it needs"),
    (["null", "long"], b"\x01\x02", "a branch below 2"),
    (["null", "long"], b"\x04", "a branch below 2"),
    (["null", "long"], b"\x80\x00", "a branch below 2"),
    (LONGS, b"\x01\x02\x02\x00", "a negative length"),  # one block, with its size
    (LONGS, b"\x02\x02\x02\x02\x00", "a second block of items"),
    (LONGS, b"\x02\x02", "ends early"),
    (LONGS, b"\x80\x80\x80\x80\x10", "more items than bytes"),
    (
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 9}},
        b"\x04" + b"x" * 17,
        "more items",
    ),
]


@pytest.mark.parametrize(("schema", "received", "why"), REFUSED_BYTES)
def test_refused_bytes(schema: Any, received: bytes, why: str) -> None:
    """Bytes that our encoder never makes are refused, and the error says why."""
    with pytest.raises(FormatError) as caught:
        compile_schema(record(schema)).decode(received)
    assert why in caught.value.message


def test_a_failure_names_the_field() -> None:
    """When bytes are refused, the error names the field, and the item of an array."""
    inner = record("string", "boolean", name="Inner")
    codec = compile_schema(record("long", {"type": "array", "items": inner}))
    good = codec.encode({"a": 1, "b": [{"a": "x", "b": True}, {"a": "y", "b": True}]})
    assert good[-2:] == b"\x01\x00"
    with pytest.raises(FormatError, match=r"^b\[1\]\.b: expected a boolean"):
        codec.decode(good[:-2] + b"\x07\x00")


def test_decode_takes_bytes_only() -> None:
    """A bytearray is refused, since its slices would become values that change."""
    with pytest.raises(FormatError, match="expected bytes"):
        compile_schema("bytes").decode(bytearray(b"\x02a"))  # type: ignore[arg-type]


REFUSED_VALUES = [
    ("long", 1.5, "a: expected int within the range of an Avro long, got float 1.5"),
    ("long", True, "a: expected int within the range of an Avro long, got True"),
    ("long", 1 << 63, "a: expected int within the range of an Avro long"),
    ("long", -(1 << 63) - 1, "a: expected int within the range of an Avro long"),
    ("int", 1 << 31, "a: expected int within the range of an Avro int, got 2147483648"),
    ("int", "1", "a: expected int within the range of an Avro int, got '1'"),
    ("boolean", 1, "a: expected True or False, got 1"),
    ("null", 0, "a: expected None, got 0"),
    ("string", b"x", "a: expected str, got bytes b'x'"),
    ("string", "\ud800", "a: expected text that UTF-8 can write"),
    ("bytes", "x", "a: expected bytes, got 'x'"),
    ("bytes", bytearray(b"x"), "a: expected bytes, got bytearray"),
    ({"type": "fixed", "name": "F", "size": 4}, b"abc", "a: expected 4 bytes, got bytes b'abc'"),
    (enum_of(2), "S2", "a: expected one of S0, S1, got 'S2'"),
    (enum_of(2), 0, "a: expected one of S0, S1, got 0"),
    (enum_of(2), [], "a: expected one of S0, S1, got list []"),
    (LONGS, (1, 2), "a: expected list, got tuple (1, 2)"),
    (LONGS, [1, 2, "x"], "a[2]: expected int within the range of an Avro long, got 'x'"),
    (["null", "string"], 5, "a: expected str, got 5"),
    (["string", "long"], None, "a: expected one of str, int, got None"),
    (["long", "boolean"], 1.0, "a: expected one of int, bool, got float 1.0"),
    (["int", "long"], 5, "a: expected one of ('int', value), ('long', value), got 5"),
    (record("long", name="Inner"), {}, "a.a: missing"),
    (record("long", name="Inner"), {"a": 1, "b": 2}, "a: expected only the fields a, got dict"),
    (record("long", name="Inner"), [("a", 1)], "a: expected dict for record Inner, got list"),
]


@pytest.mark.parametrize(("schema", "value", "message"), REFUSED_VALUES)
def test_refused_values(schema: Any, value: Any, message: str) -> None:
    """A value of the wrong type, range or size is refused, naming the field and the value."""
    with pytest.raises(UsageError) as caught:
        compile_schema(record(schema)).encode({"a": value})
    assert caught.value.message.startswith(message)


EMPTY = {"type": "record", "name": "Empty", "fields": []}

REFUSED_SCHEMAS: list[tuple[Any, str]] = [
    ({"type": "map", "values": "long"}, "'map' is not supported"),
    ("float", "'float' is not supported"),
    (["null", "double"], "'double' is not supported"),
    ({"type": "array", "items": "null"}, "may take no bytes"),
    ({"type": "array", "items": EMPTY}, "may take no bytes"),
    ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "may take no bytes"),
    ({"type": "array", "items": record("null", EMPTY)}, "may take no bytes"),
    (record(["null", "R"]), "recursive type 'R'"),
    (record("Unknown"), "unknown type 'Unknown'"),
    ([], "not a union"),
    (["null", "null"], "not a union"),
    (["null", ["long"]], "not a union"),
    (record("long", EMPTY, EMPTY), "'Empty' is defined twice"),
    ({"type": "record", "name": "R"}, "no list of fields"),
    ({"type": "record", "name": "R", "fields": [{"name": "a b", "type": "long"}]}, "not an Avro name"),
    (
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}] * 2},
        "two fields of one name",
    ),
    ({"type": "record", "name": "array", "fields": []}, "a word of Avro"),
    ({"type": "record", "name": "a-b", "fields": []}, "not an Avro name"),
    ({"type": "record", "name": "R", "namespace": 5, "fields": []}, "not an Avro namespace"),
    ({"type": "enum", "name": "E", "symbols": []}, "no list of different symbols"),
    ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "no list of different symbols"),
    ({"type": "enum", "name": "E", "symbols": ["a-b"]}, "not an Avro name"),
    ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "'B' is no symbol"),
    ({"type": "fixed", "name": "F", "size": -1}, "not a size"),
    ({"type": "fixed", "name": "F", "size": True}, "not a size"),
    ({"type": "fixed"}, "not an Avro name"),
    ({"type": "array"}, "not an Avro schema"),
    ({}, "not an Avro schema"),
    (5, "not an Avro schema"),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED_SCHEMAS)
def test_refused_schemas(schema: Any, why: str) -> None:
    """A schema that is wrong, or whose values have no unique bytes, is refused when it is compiled."""
    with pytest.raises(UsageError) as caught:
        compile_schema(schema)
    assert why in caught.value.message


@pytest.mark.parametrize("depth", [10, 20, 30, 2000])
def test_deep_schemas_compile_or_are_refused(depth: int) -> None:
    """A schema too deep for Python's own limits is a UsageError, not a SyntaxError."""
    schema: Any = "long"
    value: Any = 1
    for _ in range(depth):
        schema, value = {"type": "array", "items": schema}, [value]
    if depth == 10:
        codec = compile_schema(schema)
        assert codec.decode(codec.encode(value)) == value
    else:
        with pytest.raises(UsageError, match="nests"):
            compile_schema(schema)


def test_a_schema_that_doubles_with_each_reference_is_refused() -> None:
    """Thirty small records, each twice in the next, do not fill the memory with generated code."""
    schema = record("long", name="T0")
    for i in range(1, 20):
        schema = record(schema, f"T{i - 1}", name=f"T{i}")
    with pytest.raises(UsageError, match="too large"):
        compile_schema(schema)


def test_logical_types_are_left_raw() -> None:
    """A timestamp is an int of microseconds and a UUID its text."""
    schema = record(
        {"type": "long", "logicalType": "timestamp-micros"}, {"type": "string", "logicalType": "uuid"}
    )
    value = {"a": 1_790_000_000_000_000, "b": "00000000-0000-7000-8000-000000000000"}
    codec = compile_schema(schema)
    assert codec.encode(value) == reference_encode(schema, value)
    assert codec.decode(codec.encode(value)) == value


class Colour(enum.StrEnum):
    """An enum whose names in Python are not its symbols."""

    A_RED = "RED"
    A_BLUE = "BLUE"


@dataclass(frozen=True, slots=True)
class Point:
    """Fields in the schema's order: made by position."""

    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Fields in another order: made by name."""

    points: tuple[Point, ...]
    colour: Colour | None
    shape: Point | Circle | str | None

    def __post_init__(self) -> None:
        if not self.points:
            raise UsageError("a line without points")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """A second branch of a union."""

    y: int
    x: int


POINT = {
    "type": "record",
    "name": "Point",
    "namespace": "d",
    "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": "int"}],
}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["BLUE", "RED"]}
LINE = {
    "type": "record",
    "name": "d.Line",
    "fields": [
        {"name": "colour", "type": ["null", COLOUR]},
        {"name": "points", "type": {"type": "array", "items": POINT}},
        {"name": "shape", "type": ["string", "null", "Point", POINT | {"name": "Circle"}]},
    ],
}
CLASSES: dict[str, type] = {"d.Line": Line, "d.Point": Point, "d.Circle": Circle, "d.Colour": Colour}
ONE = Line(points=(Point(1, -2), Point(300, 4)), colour=Colour.A_RED, shape=Circle(x=1, y=2))
PLAIN = {
    "points": [{"x": 1, "y": -2}, {"x": 300, "y": 4}],
    "colour": "RED",
    "shape": ("d.Circle", {"x": 1, "y": 2}),
}


def test_classes_and_plain_values_have_the_same_bytes() -> None:
    """A dataclass is encoded like the dict of its fields, and comes back as that dataclass."""
    codec = compile_schema(LINE, classes=CLASSES)
    written = codec.encode(ONE)
    assert written == compile_schema(LINE).encode(PLAIN) == reference_encode(LINE, PLAIN)
    again = codec.decode(written)
    assert again == ONE
    assert type(again.points) is tuple
    assert type(again.colour) is Colour


@pytest.mark.parametrize("shape", [Point(1, 2), Circle(x=1, y=2), None, "text"])
def test_branches_are_told_apart_by_class(shape: Any) -> None:
    """A union of dataclasses, text and null comes back as the value that it was."""
    codec = compile_schema(LINE, classes=CLASSES)
    line = Line(points=(Point(0, 0),), colour=None, shape=shape)
    assert codec.decode(codec.encode(line)) == line


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Line(points=(Point(1, 1 << 40),), colour=None, shape=None), r"points\[0\]\.y: expected int"),
        (
            Line(points=(Point(1, 1), Circle(x=1, y=1)), colour=None, shape=None),  # type: ignore[arg-type]
            r"points\[1\]: expected Point",
        ),
        (Line(points=[Point(1, 1)], colour=None, shape=None), "points: expected tuple"),  # type: ignore[arg-type]
        (Line(points=(Point(1, 1),), colour=None, shape=5), "shape: expected one of str, NoneType, Point"),  # type: ignore[arg-type]
        (Line(points=(Point(1, 1),), colour="GREEN", shape=None), "colour: expected one of BLUE, RED"),  # type: ignore[arg-type]
        (PLAIN, "expected Line, got dict"),
    ],
)
def test_refused_objects(value: Any, message: str) -> None:
    """An object of another class, or with a field out of range, is refused by path."""
    with pytest.raises(UsageError, match=message):
        compile_schema(LINE, classes=CLASSES).encode(value)


def test_what_a_class_refuses_is_a_format_error() -> None:
    """When a class refuses the decoded values, decoding ends in FormatError."""
    plain = PLAIN | {"points": []}
    with pytest.raises(FormatError, match="a line without points"):
        compile_schema(LINE, classes=CLASSES).decode(compile_schema(LINE).encode(plain))


@dataclass
class Short:
    """A class that lacks a field."""

    x: int


@dataclass
class Long:
    """A class with a field too many."""

    x: int
    y: int
    z: int = 0


class Grey(enum.StrEnum):
    """A class with other symbols."""

    GREY = "GREY"


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ({"d.Point": Short}, "not the same fields: y"),
        ({"d.Point": Long}, "not the same fields: z"),
        ({"d.Point": dict}, "not a dataclass"),
        ({"d.Colour": Grey}, "not the same symbols"),
        ({"d.Colour": str}, "not a StrEnum"),
    ],
)
def test_classes_that_do_not_fit(classes: dict[str, type], why: str) -> None:
    """A class that does not fit the schema is refused when the schema is compiled."""
    with pytest.raises(UsageError, match=why):
        compile_schema(LINE, classes=classes)


def test_a_class_whose_fields_changed_places() -> None:
    """Fields of the same type that a class has in another order are passed by name."""
    codec = compile_schema(POINT | {"name": "Circle"}, classes={"d.Circle": Circle})
    assert codec.decode(codec.encode(Circle(x=1, y=2))) == Circle(x=1, y=2)
