"""Small Avro schemas for tests of versions: a record type, an enum and a fixed type."""

from __future__ import annotations

from typing import Any

__all__ = ["A", "enum", "fixed", "record"]

A = ("a", "long")
"""A field that stays the same in every version."""


def record(*fields: tuple[Any, ...], name: str = "Sighting") -> dict[str, Any]:
    """A record of (name, type) and (name, type, default)."""
    listed = [dict(zip(("name", "type", "default"), field, strict=False)) for field in fields]
    return {"type": "record", "name": name, "topic": "sightings", "fields": listed}


def enum(*symbols: str, default: str | None = None) -> dict[str, Any]:
    """An enum type."""
    return {"type": "enum", "name": "E", "symbols": list(symbols)} | ({"default": default} if default else {})


def fixed(size: int) -> dict[str, Any]:
    """A fixed type."""
    return {"type": "fixed", "name": "F", "size": size}
