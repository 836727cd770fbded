"""The schemas that the broker knows: read from files, made self-contained, named by their hash.

A record type is one file ``<records>/<anything>.avsc`` whose top-level attribute ``topic`` says where
its records go and whose Avro name is the record type. Adding one touches no code. Older versions, whose
records are still in the logs, stay readable in ``<records>/older``; they are self-contained, since the
types that they were written with may have changed.

A schema file may name types that ``types/`` beside it defines, one to a file, by full name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import broker
from broker.avro.codec import Codec, compile_schema
from broker.avro.projection import project, projection
from broker.avro.shape import Schema, parse
from broker.errors import FormatError, UsageError

__all__ = [
    "RecordSchema",
    "Schema",
    "SchemaStore",
    "canonical",
    "default_store",
    "load_types",
    "project",
    "projection",
    "protocol_schema",
    "read_schema",
    "resolve",
    "schema_id",
    "schemas_folder",
]

MAX_FILE_BYTES = 1_000_000
"""Bytes of a schema file."""

_TOPIC = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_WORDS = frozenset(("null", "boolean", "int", "long", "bytes", "string", "map", "float", "double"))


def canonical(schema: Schema) -> bytes:
    """A schema as its identity sees it: JSON with sorted keys and no white space, in UTF-8.

    Avro's own parsing canonical form leaves out defaults and logical types; these keep their meaning here.
    """
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def schema_id(schema: Schema) -> bytes:
    """SHA-256 of the canonical schema: 32 bytes, never shortened."""
    return hashlib.sha256(canonical(schema)).digest()


def resolve(schema: Schema, types: Mapping[str, Schema]) -> Schema:
    """The schema with the first mention of each type in ``types`` replaced by its definition."""
    resolved: Schema = _Resolver(types).resolve(schema, "")
    return resolved


class _Resolver:
    def __init__(self, types: Mapping[str, Schema]) -> None:
        self._types = types
        self._defined: set[str] = set()
        self._open: list[str] = []

    def resolve(self, schema: Any, space: str) -> Any:
        if isinstance(schema, str):
            return self._inline(schema, space)
        if isinstance(schema, list):
            return [self.resolve(branch, space) for branch in schema]
        if not isinstance(schema, dict):
            raise UsageError(f"not an Avro schema: {schema!r:.100}")
        if schema.get("type") in ("record", "enum", "fixed"):
            full = _full_name(schema, space)
            self._defined.add(full)
            space = full.rpartition(".")[0]
            if schema["type"] != "record":
                return dict(schema)
            return schema | {"fields": [self._field(field, space) for field in schema.get("fields", ())]}
        key = "items" if schema.get("type") == "array" else "type"
        return schema | {key: self.resolve(schema.get(key), space)}

    def _field(self, field: Any, space: str) -> Any:
        if not isinstance(field, dict) or "type" not in field:
            raise UsageError(f"not a field: {field!r:.100}")
        return field | {"type": self.resolve(field["type"], space)}

    def _inline(self, name: str, space: str) -> Any:
        if name in _WORDS:
            return name
        candidates = [name] if "." in name or not space else [f"{space}.{name}", name]
        full = next((one for one in candidates if one in self._defined or one in self._types), None)
        if full is None:
            raise UsageError(f"unknown type {name!r}")
        if full in self._open:
            raise UsageError(f"recursive type {full!r} is not supported")
        if full in self._defined:
            return name
        self._open.append(full)
        definition = self.resolve(self._types[full], "")
        self._open.pop()
        if space and "." not in definition["name"] and "namespace" not in definition:
            definition["namespace"] = ""  # else it would take the namespace of where it now stands
        return definition


def _full_name(schema: Mapping[str, Any], space: str) -> str:
    name, inner = schema.get("name"), schema.get("namespace", space)
    if not isinstance(name, str) or not isinstance(inner, str):
        raise UsageError(f"not an Avro name: {name!r}")
    return name if "." in name or not inner else f"{inner}.{name}"


# Files. --------------------------------------------------------------------------------------------------


def schemas_folder() -> Path:
    """Where the schemas are: inside the installed package, else at the top of the repository."""
    package = Path(broker.__file__).parent
    for folder in (package / "_schemas", package.parent / "schemas"):
        if folder.is_dir():
            return folder
    raise UsageError("the schemas of the broker are missing", hint="install the package again")


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON object in a schema file."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        schema = json.loads(text.decode(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{path}: not a JSON object")
    return schema


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice in one object")
    return result


def load_types(folder: Path) -> dict[str, Schema]:
    """The types that ``folder`` defines, by full name; none when there is no such folder."""
    types: dict[str, Schema] = {}
    for path in sorted(folder.glob("*.avsc")):
        schema = read_schema(path)
        try:
            full = _full_name(schema, "")
            if full in types:
                raise UsageError(f"type {full!r} is defined twice")
        except UsageError as error:
            raise UsageError(f"{path}: {error.message}") from error
        types[full] = schema
    return types


def _load(path: Path, types: Mapping[str, Schema]) -> Schema:
    schema = read_schema(path)
    try:
        resolved = resolve(schema, types)
        parse(resolved)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}") from error
    return resolved


@functools.cache
def _protocol_types() -> Mapping[str, Schema]:
    return load_types(schemas_folder() / "protocol" / "types")


def protocol_schema(name: str) -> Schema:
    """The self-contained schema ``schemas/protocol/<name>.avsc``, or of a type that others are made of."""
    if (shared := _protocol_types().get(f"ftf.protocol.{name}")) is not None:
        return resolve(shared, {key: one for key, one in _protocol_types().items() if one is not shared})
    return _load(schemas_folder() / "protocol" / f"{name}.avsc", _protocol_types())


# Record types. -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)  # not slots: ``codec`` is kept in __dict__
class RecordSchema:
    """One version of a record type; ``id`` is what a manifest says of it."""

    record_type: str
    topic: str
    id: bytes
    schema: dict[str, Any]
    path: Path

    @functools.cached_property
    def codec(self) -> Codec:
        """Bytes of a body to its value and back."""
        return compile_schema(self.schema)

    @classmethod
    def from_file(cls, path: Path, types: Mapping[str, Schema]) -> RecordSchema:
        """Read one version; UsageError naming the file when it is no record schema."""
        schema = _load(path, types)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UsageError(f"{path}: not a record")
        topic = schema.get("topic")
        if not isinstance(topic, str) or not _TOPIC.match(topic):
            raise UsageError(f"{path}: attribute 'topic' must name a topic, got {topic!r}")
        name = str(schema["name"]).rpartition(".")[2]
        return cls(record_type=name, topic=topic, id=schema_id(schema), schema=schema, path=path)


class SchemaStore:
    """Every record type and every version of it that this participant can read."""

    def __init__(self, current: Mapping[str, RecordSchema], older: tuple[RecordSchema, ...]) -> None:
        self._current = dict(current)
        self._by_id = {schema.id: schema for schema in (*older, *current.values())}

    @classmethod
    def load(cls, *folders: Path) -> SchemaStore:
        """Read folders of record types; a later one may use the types of those before it."""
        current: dict[str, RecordSchema] = {}
        older: list[RecordSchema] = []
        types: dict[str, Schema] = {}
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"{folder}: not a folder")
            for name, schema in load_types(folder / "types").items():
                if name in types:
                    raise UsageError(f"{folder / 'types'}: type {name!r} is defined twice")
                types[name] = schema
            for version in _versions(folder, types):
                known = current.get(version.record_type)
                if known:
                    raise UsageError(f"{version.path}: {version.record_type} is defined in {known.path} too")
                current[version.record_type] = version
            older += _versions(folder / "older", {})
        for version in older:
            if version.record_type not in current:
                raise UsageError(f"{version.path}: {version.record_type} has no current version")
        return cls(current, tuple(older))

    @property
    def record_types(self) -> tuple[str, ...]:
        """Every record type, sorted."""
        return tuple(sorted(self._current))

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that a record type names, sorted, without the prefix."""
        return tuple(sorted({schema.topic for schema in self._current.values()}))

    def current(self, record_type: str) -> RecordSchema:
        """The version to write; UsageError when there is no such type."""
        if record_type not in self._current:
            raise UsageError(
                f"unknown record type {record_type!r}", hint=f"known: {', '.join(self.record_types)}"
            )
        return self._current[record_type]

    def by_id(self, id: bytes) -> RecordSchema | None:
        """The version with this id, or None: this participant is too old to read it."""
        return self._by_id.get(id)

    def written_with(self, id: bytes, *, record_type: str, topic: str) -> RecordSchema | None:
        """``by_id``, and FormatError when that schema is one of another record type or topic."""
        found = self.by_id(id)
        if found and (found.record_type, found.topic) != (record_type, topic):
            raise FormatError(
                f"schema of {found.record_type} on {found.topic!r}, expected of {record_type} on {topic!r}"
            )
        return found


def _versions(folder: Path, types: Mapping[str, Schema]) -> Iterator[RecordSchema]:
    for path in sorted(folder.glob("*.avsc")):
        yield RecordSchema.from_file(path, types)


@functools.cache
def default_store() -> SchemaStore:
    """The record types that come with the broker."""
    return SchemaStore.load(schemas_folder() / "records")
