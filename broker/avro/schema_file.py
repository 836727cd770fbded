"""Schema files: read with the types that they name, made self-contained, named by their hash.

A schema file may name types that a folder ``types/`` beside it defines, one type in a file, by full name. A
schema that is used or stored is self-contained: the definition of each such type stands in it, where the
type is mentioned first. So a change in ``types/`` never changes a schema that is in use somewhere.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import broker
from broker.avro.shape import Schema, parse
from broker.errors import UsageError

__all__ = [
    "canonical",
    "load_schema",
    "load_types",
    "protocol_schema",
    "read_schema",
    "resolve",
    "schema_id",
    "schemas_folder",
]

MAX_FILE_BYTES = 1_000_000
"""The largest schema file that is read, in bytes."""

_WORDS = frozenset(("null", "boolean", "int", "long", "bytes", "string", "map", "float", "double"))


def canonical(schema: Schema) -> bytes:
    """Return the bytes that identify a schema: its JSON in UTF-8, with sorted keys and no white space.

    Avro's own "parsing canonical form" leaves out defaults and logical types. Here they count, since they
    change what a record means.
    """
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def schema_id(schema: Schema) -> bytes:
    """Return the SHA-256 of the canonical schema: 32 bytes, never shortened."""
    return hashlib.sha256(canonical(schema)).digest()


def resolve(schema: Schema, types: Mapping[str, Schema]) -> Schema:
    """Return the schema with the first mention of each type in ``types`` replaced by its definition."""
    resolved: Schema = _Resolver(types).resolve(schema, "")
    return resolved


class _Resolver:
    """One pass over one schema. ``space`` is the namespace of the definition around the current place."""

    def __init__(self, types: Mapping[str, Schema]) -> None:
        self._types = types
        self._defined: set[str] = set()
        """Full names that the pass has met the definition of; they are only mentioned from then on."""
        self._open: list[str] = []
        """Full names whose definition the pass is inside of: a mention of one of them is a recursion."""

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
        known = self._defined | self._types.keys()
        full = next((candidate for candidate in candidates if candidate in known), None)
        if full is None:
            raise UsageError(f"unknown type {name!r}")
        if full in self._open:
            raise UsageError(f"recursive type {full!r} is not supported")
        if full in self._defined:
            return name
        self._open.append(full)
        definition = self.resolve(self._types[full], "")
        self._open.pop()
        # Without this the definition would take the namespace of the place where it stands now.
        if space and "." not in definition["name"] and "namespace" not in definition:
            definition["namespace"] = ""
        return definition


def _full_name(schema: Mapping[str, Any], space: str) -> str:
    name = schema.get("name")
    inner = schema.get("namespace", space)
    if not isinstance(name, str) or not isinstance(inner, str):
        raise UsageError(f"not an Avro name: {name!r}")
    return name if "." in name or not inner else f"{inner}.{name}"


def schemas_folder() -> Path:
    """Return the folder of the schemas: in the installed package, or else at the top of the repository."""
    package = Path(broker.__file__).parent
    for folder in (package / "_schemas", package.parent / "schemas"):
        if folder.is_dir():
            return folder
    raise UsageError("the schemas of the broker are missing", hint="install the package again")


def read_schema(path: Path) -> dict[str, Any]:
    """Read the JSON object in a schema file. Raises UsageError, which names the file."""
    try:
        with path.open("rb") as file:
            # One byte more than allowed is enough to tell that a file is too large.
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
    # JSON leaves open which of two equal keys counts, so two readers could see two schemas in one file.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice in one object")
    return result


def load_types(folder: Path) -> dict[str, Schema]:
    """Read the types that a folder defines, by full name. A folder that does not exist defines none."""
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


def load_schema(path: Path, types: Mapping[str, Schema]) -> Schema:
    """Read a schema file and make it self-contained. Raises UsageError, which names the file."""
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
    """Return a protocol schema, self-contained: of a message, or of a type that messages are made of."""
    types = _protocol_types()
    shared = types.get(f"ftf.protocol.{name}")
    if shared is None:
        return load_schema(schemas_folder() / "protocol" / f"{name}.avsc", types)
    return resolve(shared, {full: schema for full, schema in types.items() if schema is not shared})
