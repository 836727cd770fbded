"""Record types and their versions, loaded from folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.avro.codec import compile_schema
from broker.avro.schema import SchemaStore
from broker.avro.schema_file import canonical, resolve, schema_id
from broker.errors import FormatError, UsageError

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
