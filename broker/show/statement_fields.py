"""Every field of a directory statement in words, as a person sees them before a key signs it.

The sentence of ``statement_text`` says what a statement does. These lines leave nothing out, so that two
statements which differ anywhere differ here. They come from the fields of the class, so a field that is
added to a kind is shown without a change in this module. Three rules keep different values apart: a peer's
text is quoted and escaped as in JSON, a time has its microseconds, and bytes are shown whole or by their
whole SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256

from broker.crypto.seal import PUBLIC_BYTES, receiving_key_id
from broker.crypto.sign import signing_key_id
from broker.show.text import day_text, instant_json, printable
from broker.wire.encoding import Statement

__all__ = ["statement_fields"]

_SIGNING_KEYS = frozenset({"authority_keys", "signing_key"})
_SHOWN_BYTES = 64
"""The most bytes that are shown as they are; of longer ones the digest is shown."""


def statement_fields(statement: Statement) -> list[tuple[str, str]]:
    """Return the name and the value of each field, in the order in which they are signed."""
    return list(_pairs("", statement))


def _pairs(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    for name, part in _parts(value):
        if is_dataclass(part):
            yield from _pairs(f"{prefix}{name}.", part)
        elif isinstance(part, tuple) and part and is_dataclass(part[0]):
            for number, element in enumerate(part, start=1):
                yield f"{prefix}{name} {number}", _inline(element)
        else:
            yield f"{prefix}{name}", _text(name, part, value)


def _parts(value: object) -> list[tuple[str, object]]:
    if not is_dataclass(value):
        raise TypeError("only statements and their parts have fields")
    return [(field.name, getattr(value, field.name)) for field in fields(value)]


def _inline(value: object) -> str:
    return ", ".join(f"{name} {_text(name, part, value)}" for name, part in _parts(value))


def _text(name: str, value: object, owner: object) -> str:
    match value:
        case None:
            return "none"
        case Enum():
            return str(value.value)
        case bool():
            return "yes" if value else "no"
        case int():
            return _number(name, value)
        case str():
            return printable(json.dumps(value, ensure_ascii=False))
        case bytes():
            return _bytes(name, value, owner)
        case tuple():
            return "[" + ", ".join(_text(name, part, owner) for part in value) + "]"
        case _:
            return _inline(value)


def _number(name: str, value: int) -> str:
    if name == "issued_at":
        return str(instant_json(value))
    return f"{value} ({day_text(value)})" if name == "day" else str(value)


def _bytes(name: str, value: bytes, owner: object) -> str:
    is_signing = name in _SIGNING_KEYS or (name == "public_key" and getattr(owner, "use", None) == "SIGNING")
    if is_signing:
        return f"key {signing_key_id(value).hex()}"
    if len(value) == PUBLIC_BYTES:
        return f"key {receiving_key_id(value).hex()}"
    if len(value) <= _SHOWN_BYTES:
        return value.hex()
    return f"{len(value)} bytes with SHA-256 {sha256(value).hexdigest()}"
