"""The identity of schemas, and the schema files that come with the broker."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from broker.avro.codec import compile_schema
from broker.avro.schema import default_store
from broker.avro.schema_file import canonical, protocol_schema, schema_id, schemas_folder
from broker.errors import UsageError


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
