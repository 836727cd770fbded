"""A vector: a name, what it is, hex inputs, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Case", "fails", "flip", "valid"]

Case = dict[str, object]


def _hex(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: _hex(item) for key, item in value.items()}
        case list() | tuple():
            return [_hex(item) for item in value]
    return value


def valid(
    name: str, description: str, given: Mapping[str, object], output: Mapping[str, object] | None = None
) -> Case:
    """A case that every reader accepts, with what it must read."""
    case: Case = {"name": name, "description": description, "expect": "valid", "input": _hex(dict(given))}
    return case | ({"output": _hex(dict(output))} if output else {})


def fails(name: str, description: str, given: Mapping[str, object], check: str, error: str) -> Case:
    """A case that this check of the specification refuses; ``error`` is the class that the broker raises."""
    return {
        "name": name,
        "description": description,
        "expect": check,
        "error": error,
        "input": _hex(dict(given)),
    }


def flip(data: bytes, place: int = -1) -> bytes:
    """The bytes with the lowest bit of one of them changed."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)
