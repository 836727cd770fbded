"""Every protocol value to bytes and back, and any bytes to a value or our error."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import broker.wire.access
import broker.wire.manifest
import broker.wire.statements
import broker.wire.terms
from broker.avro.schema_file import protocol_schema, schemas_folder
from broker.avro.shape import Array, Enum, Fixed, Primitive, Record, Shape, Union, parse
from broker.errors import FormatError, UsageError
from broker.wire.encoding import KINDS, STATEMENT_KINDS, decode, decode_content, encode, kind_of
from broker.wire.manifest import Header, Signed
from broker.wire.statements import Genesis
from spec import decoder
from vectors.coalition import GENESIS_SIGNED, header

MODULES = (
    broker.wire.terms,
    broker.wire.manifest,
    broker.wire.access,
    broker.wire.statements,
)
NAMED: dict[str, type] = {
    name: found
    for module in MODULES
    for name in module.__all__
    if isinstance(found := getattr(module, name), type)
}
CLASSES = {name: found for name, found in NAMED.items() if not issubclass(found, enum.Enum)}
ENUMS = {name: list(found) for name, found in NAMED.items() if issubclass(found, enum.StrEnum)}
PROTOCOL = schemas_folder() / "protocol"


def _schemas() -> dict[str, dict[str, Any]]:
    paths = sorted([*PROTOCOL.glob("*.avsc"), *(PROTOCOL / "types").glob("*.avsc")])
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _values(shape: Shape) -> st.SearchStrategy[Any]:
    """Any value of a shape, in the classes of the protocol."""
    match shape:
        case Primitive(kind="null"):
            return st.none()
        case Primitive(kind="boolean"):
            return st.booleans()
        case Primitive(kind="int"):
            return st.integers(-(2**31), 2**31 - 1)
        case Primitive(kind="long"):
            return st.integers(-(2**63), 2**63 - 1)
        case Primitive(kind="bytes"):
            return st.binary(max_size=40)
        case Primitive():
            return st.text(max_size=12)
        case Fixed(size=size):
            return st.binary(min_size=1, max_size=8).map(lambda some: (some * size)[:size])
        case Enum(name=name):
            return st.sampled_from(ENUMS[name.rpartition(".")[2]])
        case Array(items=items):
            return st.lists(_values(items), max_size=3).map(tuple)
        case Union(branches=branches):
            return st.one_of(*map(_values, branches))
        case Record(name=name, fields=fields):
            found = CLASSES[name.rpartition(".")[2]]
            return st.builds(found, **{field.name: _values(field.shape) for field in fields})


STRATEGIES = {name: _values(parse(protocol_schema(name))) for name in CLASSES}
each_class = pytest.mark.parametrize("name", sorted(CLASSES))


@each_class
@given(data=st.data())
@settings(max_examples=25)
def test_round_trip(name: str, data: st.DataObject) -> None:
    """Every value comes back from its bytes, and the independent decoder takes the same bytes."""
    value = data.draw(STRATEGIES[name])
    encoded = encode(value)
    assert decode(CLASSES[name], encoded) == value
    decoder.decode(decoder.protocol(name), encoded)


@each_class
@given(data=st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes(name: str, data: bytes) -> None:
    """Whatever the bytes, decoding ends in the value that encodes to them, or in FormatError."""
    try:
        value = decode(CLASSES[name], data)
    except FormatError:
        return
    assert encode(value) == data


@each_class
@given(data=st.data())
@settings(max_examples=25)
def test_mutated_bytes(name: str, data: st.DataObject) -> None:
    """Changed, cut or longer bytes of a value decode to the value that encodes to them, or to FormatError."""
    encoded = bytearray(encode(data.draw(STRATEGIES[name])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change" if place < len(encoded):
                encoded[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del encoded[place : place + data.draw(st.integers(1, 4))]
            case "insert":
                encoded[place:place] = data.draw(st.binary(min_size=1, max_size=4))
            case _:
                del encoded[place:]
    try:
        value = decode(CLASSES[name], bytes(encoded))
    except FormatError:
        return
    assert encode(value) == bytes(encoded)


@each_class
@given(data=st.data())
@settings(max_examples=10)
def test_trailing_byte(name: str, data: st.DataObject) -> None:
    """A byte behind a value makes it invalid, whatever its class."""
    encoded = encode(data.draw(STRATEGIES[name]))
    with pytest.raises(FormatError, match="behind its end"):
        decode(CLASSES[name], encoded + b"\0")


def test_classes_and_files_are_the_same_list() -> None:
    """Every schema file has its class or is a bare type, and every class has its file."""
    bare = {name for name, schema in _schemas().items() if schema["type"] == "fixed"}
    assert _schemas().keys() - bare == NAMED.keys()
    for name, schema in _schemas().items():
        assert (schema["name"], schema["namespace"]) == (name, "ftf.protocol")


def test_fields_and_symbols_are_the_schemas() -> None:
    """A class has the fields of its schema in the same order, and an enum its symbols."""
    for name, schema in _schemas().items():
        found = NAMED.get(name)
        if schema["type"] == "record":
            assert found is not None
            assert dataclasses.is_dataclass(found)
            names = [field.name for field in dataclasses.fields(found)]
            assert names == [field["name"] for field in schema["fields"]], name
        elif schema["type"] == "enum":
            assert [str(member) for member in ENUMS[name]] == schema["symbols"], name


def test_every_schema_says_what_it_is() -> None:
    """Every schema and every field has its documentation, since the specification's tables are made of it."""
    for name, schema in _schemas().items():
        assert schema["doc"], name
        assert all(field.get("doc") for field in schema.get("fields", ())), name


def test_kinds_are_those_of_the_files() -> None:
    """The closed list of kinds equals that of the schema files, and directory statements have a header."""
    kinds = {schema["kind"]: name for name, schema in _schemas().items() if "kind" in schema}
    assert {kind: cls.__name__ for kind, cls in KINDS.items()} == kinds
    assert all(set(kind) <= set("abcdefghijklmnopqrstuvwxyz-") for kind in KINDS)
    for cls in STATEMENT_KINDS.values():
        first = dataclasses.fields(cls)[0]
        assert first.name == "header"
    assert [kind_of(_dummy(cls)) for cls in KINDS.values()] == list(KINDS)


def _dummy(cls: type) -> object:
    return object.__new__(cls)


@pytest.mark.parametrize("kind", ["", "Genesis", "founding", "manifest\n", "\x1b[2J", "m" * 1000])
def test_unknown_kind(kind: str) -> None:
    """Content of an unknown kind is never decoded, and the message shows no control characters."""
    signed = Signed(kind=kind, content=b"", signatures=())
    with pytest.raises(FormatError, match="unknown kind") as raised:
        decode_content(signed)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 200


def test_content_is_decoded_by_its_kind() -> None:
    """A signed statement's content is of the class that its kind names."""
    signed = decode(Signed, GENESIS_SIGNED)
    statement = decode_content(signed)
    assert isinstance(statement, Genesis)
    assert kind_of(statement) == signed.kind == "genesis"
    with pytest.raises(FormatError):
        decode_content(dataclasses.replace(signed, kind="agency-admitted"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("issuer", "\ud800"),
        ("issuer", None),
        ("issuer", b"XAA:police"),
        ("partition", 2**31),
        ("partition", 1.5),
        ("partition", True),
        ("issued_at", 2**63),
        ("directory_root", bytes(31)),
        ("stream", bytearray(16)),
    ],
)
def test_value_that_does_not_fit(field: str, value: object) -> None:
    """A field that cannot hold its value ends in UsageError, which names the field."""
    wrong = dataclasses.replace(header(), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=field):
        encode(wrong)


def test_what_is_no_protocol_value() -> None:
    """A class that is not of the protocol is a mistake of the caller."""
    with pytest.raises(UsageError):
        encode("text")


def test_header_byte_by_byte() -> None:
    """A header is its fields one after another, as Avro writes them."""
    expected = b"".join(
        (
            b"\x0ereturns",
            b"\x0e",  # partition 7
            b"\x06",  # epoch 3
            b"\x14XAA:police",
            bytes.fromhex("8080bdbf8cd7a306"),  # 2026-01-02, in microseconds
            b"\x02",  # directory_size 1
            header().directory_root,
            b"\xe1" * 16,
            b"\x00",
            bytes(32),
        )
    )
    assert encode(header()) == expected
    assert decode(Header, expected).issued_at == 1_767_312_000_000_000


def test_schemas_are_shipped() -> None:
    """The schema files are where the package looks for them."""
    assert isinstance(PROTOCOL, Path)
    assert len(list(PROTOCOL.glob("*.avsc"))) > 20
