"""The named types of a schema: a record, enum or fixed is declared once and then used by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["named_types", "resolved"]


def named_types(schema: Any) -> dict[str, Any]:
    """Return every named type of a schema by its full name and by its short name.

    Where two namespaces use one short name, the type that is declared first keeps it.
    """
    names: dict[str, Any] = {}
    _collect(schema, "", names)
    return names


def resolved(type_: Any, names: Mapping[str, Any]) -> Any:
    """Return a type without its indirections: a name becomes its declaration, ``[null, X]`` becomes X."""
    if isinstance(type_, list):
        return resolved(next((branch for branch in type_ if branch != "null"), "null"), names)
    return names.get(type_, type_) if isinstance(type_, str) else type_


def _collect(schema: Any, namespace: str, names: dict[str, Any]) -> None:
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, namespace, names)
    if not isinstance(schema, dict):
        return
    namespace = schema.get("namespace", namespace)
    if (name := schema.get("name")) and schema.get("type") in ("record", "enum", "fixed"):
        names.setdefault(f"{namespace}.{name}" if namespace and "." not in name else name, schema)
        names.setdefault(name, schema)
    # Maps, whose types would stand under "values", are left out on purpose: broker.records.body refuses them.
    _collect(schema.get("items"), namespace, names)
    if isinstance(schema.get("type"), dict | list):
        _collect(schema["type"], namespace, names)
    for field in schema.get("fields", ()):
        _collect(field["type"], namespace, names)
