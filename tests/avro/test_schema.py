"""Schemas from files, their names, and records of other versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.avro.codec import compile_schema
from broker.avro.projection import project
from broker.avro.schema import SchemaStore, default_store
from broker.avro.schema_file import canonical, protocol_schema, resolve, schema_id, schemas_folder
from broker.errors import FormatError, UsageError
from support.avro_values import reference_decode, schemas, values_of

SUBJECT = {
    "type": "record",
    "name": "Subject",
    "namespace": "x.types",
    "fields": [{"name": "sex", "type": "x.types.Sex"}],
}
SEX = {"type": "enum", "name": "x.types.Sex", "symbols": ["M", "F"]}
SIGHTING: dict[str, Any] = {
    "type": "record",
    "name": "Sighting",
    "namespace": "x.records",
    "topic": "sightings",
    "fields": [
        {"name": "subject", "type": "x.types.Subject"},
        {"name": "others", "type": {"type": "array", "items": "x.types.Subject"}, "default": []},
        {"name": "sex", "type": ["null", "x.types.Sex"], "default": None},
    ],
}


def write(path: Path, schema: object) -> None:
    """One schema file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One record type that uses two types, one through the other."""
    write(tmp_path / "records/sighting.avsc", SIGHTING)
    write(tmp_path / "records/types/subject.avsc", SUBJECT)
    write(tmp_path / "records/types/sex.avsc", SEX)
    return tmp_path / "records"


# Loading. ------------------------------------------------------------------------------------------------


def test_adding_a_record_type_is_adding_a_file(folder: Path) -> None:
    """A file in the folder is a record type, with its topic, its id and a codec."""
    store = SchemaStore.load(folder)
    assert store.record_types == ("Sighting",)
    assert store.topics == ("sightings",)
    schema = store.current("Sighting")
    value = {"subject": {"sex": "F"}, "others": [{"sex": "M"}], "sex": "F"}
    assert schema.codec.decode(schema.codec.encode(value)) == value
    assert store.by_id(schema.id) is schema


def test_types_are_inlined_once(folder: Path) -> None:
    """The resolved schema stands alone: the first mention is the definition, the others are names."""
    text = canonical(SchemaStore.load(folder).current("Sighting").schema).decode()
    assert text.count('"symbols":') == 1
    assert text.count('"name":"Subject"') == 1
    assert '"items":"x.types.Subject"' in text


def test_a_later_folder_may_use_the_types_of_an_earlier(folder: Path, tmp_path: Path) -> None:
    """An agency's own record types come from a folder of their own and share the common types."""
    write(tmp_path / "mine/report.avsc", SIGHTING | {"name": "Report", "topic": "reports"})
    store = SchemaStore.load(folder, tmp_path / "mine")
    assert store.record_types == ("Report", "Sighting")
    assert store.topics == ("reports", "sightings")


def test_folders_may_not_disagree_on_a_type(folder: Path, tmp_path: Path) -> None:
    """A type that two folders define is refused, whatever their order."""
    write(tmp_path / "mine/types/sex.avsc", SEX)
    with pytest.raises(UsageError, match=r"mine.*'x\.types\.Sex' is defined twice"):
        SchemaStore.load(folder, tmp_path / "mine")


def test_a_type_without_namespace_stays_without(tmp_path: Path) -> None:
    """A type does not take the namespace of the record that it is put into."""
    types = {"Bare": {"type": "fixed", "name": "Bare", "size": 2}}
    schema = SIGHTING | {"fields": [{"name": "a", "type": "Bare"}, {"name": "b", "type": "Bare"}]}
    resolved = resolve(schema, types)
    assert isinstance(resolved, dict)
    assert resolved["fields"][0]["type"] == {"type": "fixed", "name": "Bare", "size": 2, "namespace": ""}
    assert compile_schema(resolved).encode({"a": b"12", "b": b"34"}) == b"1234"


def test_older_versions_stay_readable(folder: Path) -> None:
    """A schema in older/ is found by its id, and is not what new records are written with."""
    older = SIGHTING | {"fields": [{"name": "n", "type": "long"}]}
    write(folder / "older/sighting.1.avsc", older)
    store = SchemaStore.load(folder)
    found = store.by_id(schema_id(older))
    assert found is not None
    assert found.codec.encode({"n": 1}) == b"\x02"
    assert store.current("Sighting").id != found.id


def test_an_id_belongs_to_its_type_and_topic(folder: Path) -> None:
    """A schema of another record type or topic is refused; an unknown schema gives None."""
    store = SchemaStore.load(folder)
    schema = store.current("Sighting")
    assert store.written_with(schema.id, record_type="Sighting", topic="sightings") is schema
    assert store.written_with(bytes(32), record_type="Sighting", topic="sightings") is None
    for record_type, topic in (("Sighting", "returns"), ("ReturnEvent", "sightings")):
        with pytest.raises(FormatError, match="schema of Sighting on 'sightings'"):
            store.written_with(schema.id, record_type=record_type, topic=topic)


def test_unknown_record_type(folder: Path) -> None:
    """The error for an unknown record type names those that are known."""
    with pytest.raises(UsageError, match="unknown record type 'Nothing'") as caught:
        SchemaStore.load(folder).current("Nothing")
    assert caught.value.hint == "known: Sighting"


@pytest.mark.parametrize(
    ("name", "schema", "why"),
    [
        ("sighting.avsc", "{", "not JSON"),
        ("sighting.avsc", '{"a": 1, "a": 2}', "a key twice"),
        ("sighting.avsc", "[" * 100_000, "not JSON"),
        ("sighting.avsc", " " * 1_000_001, "larger than"),
        ("sighting.avsc", '["null"]', "not a JSON object"),
        ("sighting.avsc", SEX, "not a record"),
        ("sighting.avsc", {k: v for k, v in SIGHTING.items() if k != "topic"}, "'topic' must name a topic"),
        ("sighting.avsc", SIGHTING | {"topic": "../x"}, "'topic' must name a topic"),
        ("sighting.avsc", SIGHTING | {"fields": [{"name": "a", "type": "x.Lost"}]}, "unknown type 'x.Lost'"),
        ("sighting.avsc", SIGHTING | {"fields": [{"name": "a"}]}, "not a field"),
        (
            "sighting.avsc",
            SIGHTING | {"fields": [{"name": "a", "type": "float"}]},
            "'float' is not supported",
        ),
        ("sighting.avsc", SIGHTING | {"fields": [{"name": "a", "type": "Sighting"}]}, "recursive"),
        ("second.avsc", SIGHTING, "Sighting is defined in"),
        ("types/sex_again.avsc", SEX, "'x.types.Sex' is defined twice"),
        ("types/nameless.avsc", {"type": "fixed", "size": 1}, "not an Avro name"),
        ("types/sex.avsc", SUBJECT | {"name": "Sex", "fields": SIGHTING["fields"]}, "recursive"),
        ("older/sighting.1.avsc", SIGHTING, "unknown type 'x.types.Subject'"),
        ("older/gone.1.avsc", SIGHTING | {"name": "Gone", "fields": []}, "Gone has no current version"),
    ],
)
def test_a_bad_file_is_named(folder: Path, name: str, schema: object, why: str) -> None:
    """Whatever is wrong with a schema file, the error says it and names the file."""
    write(folder / name, schema)
    with pytest.raises(UsageError) as caught:
        SchemaStore.load(folder)
    assert why in caught.value.message
    guilty = "sighting.avsc" if name == "types/sex.avsc" else name
    assert str(folder / guilty) in caught.value.message


def test_a_missing_folder(tmp_path: Path) -> None:
    """A missing folder is an error, and not a folder without record types."""
    with pytest.raises(UsageError, match="not a folder"):
        SchemaStore.load(tmp_path / "nowhere")


# Names. --------------------------------------------------------------------------------------------------


def test_the_id_is_the_hash_of_sorted_json() -> None:
    """The id is SHA-256 of the JSON with sorted keys, no white space, in UTF-8."""
    schema = {"type": "enum", "name": "É", "symbols": ["B", "A"], "doc": "é"}
    expected = '{"doc":"é","name":"É","symbols":["B","A"],"type":"enum"}'.encode()
    assert canonical(schema) == expected
    assert schema_id(schema) == hashlib.sha256(expected).digest()
    assert schema_id(dict(reversed(schema.items()))) == schema_id(schema)


@pytest.mark.parametrize(
    "change", [{"default": 5}, {"type": {"type": "long", "logicalType": "timestamp-micros"}}, {"custom": 1}]
)
def test_the_id_covers_what_avro_leaves_out(change: dict[str, Any]) -> None:
    """Defaults, logical types and custom attributes are part of a schema's identity."""
    field = {"name": "a", "type": "long"}
    before, after = ({"type": "record", "name": "R", "fields": [each]} for each in (field, field | change))
    assert schema_id(before) != schema_id(after)


# The schemas that come with the broker. ------------------------------------------------------------------


def test_every_schema_of_the_broker_compiles() -> None:
    """Each record type and each protocol schema loads and has a codec."""
    store = default_store()
    for name in store.record_types:
        store.current(name).codec  # noqa: B018 - compiles it
    names = [path.stem for path in (schemas_folder() / "protocol").glob("*.avsc")]
    assert "RecordManifest" in names
    for name in names:
        compile_schema(protocol_schema(name))


def test_unknown_protocol_schema() -> None:
    """The error for a missing protocol schema names it."""
    with pytest.raises(UsageError, match=r"Nothing\.avsc"):
        protocol_schema("Nothing")


# Projection. ---------------------------------------------------------------------------------------------


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
