"""Record types, and every version of each that this participant can read.

A record type is one file ``<records>/<anything>.avsc``. Its top-level attribute ``topic`` says where its
records go, and its Avro name is the record type. A new record type touches no code. Older versions, whose
records are still in the logs, stay readable in ``<records>/older``. They are self-contained, since the types
that they were written with may have changed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.avro.codec import Codec, compile_schema
from broker.avro.schema_file import load_schema, load_types, schema_id, schemas_folder
from broker.avro.shape import Schema
from broker.errors import FormatError, UsageError

__all__ = ["RecordSchema", "SchemaStore", "default_store"]

_TOPIC = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


# Without slots: functools.cached_property keeps ``codec`` in the object's __dict__.
@dataclass(frozen=True, kw_only=True)
class RecordSchema:
    """One version of a record type; manifests name it by its ``id``."""

    record_type: str
    topic: str
    id: bytes
    schema: dict[str, Any]
    path: Path

    @functools.cached_property
    def codec(self) -> Codec:
        """The codec of bodies of this version, compiled when it is first needed."""
        return compile_schema(self.schema)

    @classmethod
    def from_file(cls, path: Path, types: Mapping[str, Schema]) -> RecordSchema:
        """Read one version. Raises UsageError, which names the file, when it is not a record schema."""
        schema = load_schema(path, types)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UsageError(f"{path}: not a record")
        topic = schema.get("topic")
        if not isinstance(topic, str) or not _TOPIC.match(topic):
            raise UsageError(f"{path}: attribute 'topic' must name a topic, got {topic!r}")
        name = str(schema["name"]).rpartition(".")[2]
        return cls(record_type=name, topic=topic, id=schema_id(schema), schema=schema, path=path)


class SchemaStore:
    """Every record type, and every version of it, that this participant can read."""

    def __init__(self, current: Mapping[str, RecordSchema], older: tuple[RecordSchema, ...]) -> None:
        self._current = dict(current)
        # The current versions come last, so that they win where an older file has the same schema.
        self._by_id = {schema.id: schema for schema in (*older, *current.values())}

    @classmethod
    def load(cls, *folders: Path) -> SchemaStore:
        """Read folders of record types. A later folder may use the types that those before it define.

        Raises UsageError where two folders define the same name.
        """
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
            # Older versions get no types: a change of a shared type must not change what was written before.
            older += _versions(folder / "older", {})
        for version in older:
            if version.record_type not in current:
                raise UsageError(f"{version.path}: {version.record_type} has no current version")
        return cls(current, tuple(older))

    @property
    def record_types(self) -> tuple[str, ...]:
        """Every record type, in alphabetical order."""
        return tuple(sorted(self._current))

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that a record type names, without the log's prefix, in alphabetical order."""
        return tuple(sorted({schema.topic for schema in self._current.values()}))

    def current(self, record_type: str) -> RecordSchema:
        """Return the version that is written today. Raises UsageError when there is no such type."""
        if record_type not in self._current:
            raise UsageError(
                f"unknown record type {record_type!r}", hint=f"known: {', '.join(self.record_types)}"
            )
        return self._current[record_type]

    def by_id(self, id: bytes) -> RecordSchema | None:
        """Return the version with this id; None when this participant is too old to know it."""
        return self._by_id.get(id)

    def written_with(self, id: bytes, *, record_type: str, topic: str) -> RecordSchema | None:
        """Return the version with this id; None when this participant is too old to know it.

        Raises FormatError when the version is of another record type or topic: a manifest must not name one
        type and hold bodies of another.
        """
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
    """Return the record types that come with the broker."""
    return SchemaStore.load(schemas_folder() / "records")
