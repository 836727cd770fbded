"""A decoded body as JSON: the way back from what the log carries to what a clerk reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.records.named_types import named_types

__all__ = ["body_to_json"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def body_to_json(schema: Any, body: Any) -> Any:
    """Return a body as `broker.records.record.from_json` reads it.

    Instants are in RFC 3339, bytes in hexadecimal, and optional fields that hold nothing are left out.
    """
    return _to_json(schema, body, named_types(schema))


def _to_json(schema: Any, value: Any, names: Mapping[str, Any]) -> Any:
    # Bytes come first, since they are hexadecimal in JSON whether their type is bytes or fixed.
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(schema, list):
        branch = next((s for s in schema if s != "null"), "null")
        return None if value is None else _to_json(branch, value, names)
    if isinstance(schema, str):
        return _to_json(names[schema], value, names) if schema in names else value
    if schema["type"] == "record" and isinstance(value, dict):
        typed = {field["name"]: field["type"] for field in schema["fields"]}
        return {
            name: _to_json(typed[name], inner, names)
            for name, inner in value.items()
            if name in typed and inner is not None
        }
    if schema["type"] == "array" and isinstance(value, list):
        return [_to_json(schema["items"], item, names) for item in value]
    if schema.get("logicalType") == "timestamp-micros" and isinstance(value, int):
        return _rfc3339(value)
    return _to_json(schema["type"], value, names) if isinstance(schema["type"], dict | list) else value


def _rfc3339(micros: int) -> str | int:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return micros  # a peer may send any 64 bits; the year 9999 is the last that has a name
    # isoformat() writes +00:00 for UTC; every example that a clerk sees has the Z of RFC 3339.
    return moment.replace(tzinfo=None).isoformat() + "Z"
