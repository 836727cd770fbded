"""Mutations of decoded values: what comes out can mostly be encoded, and something in it is wrong.

``Pool`` holds every value that was seen, by its class, so that a part of one value is put into another.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

__all__ = ["Pool", "mutated", "mutated_bytes"]

_NUMBERS = (0, 1, -1, 2, 255, 256, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**31), -(2**63))
_TEXTS = ("", "x", "a" * 5000, "XAA:police", "kas", "\x1b[31m", "\u202eevil", "\x00", "[bold]", "🙂" * 40)
_FIXED = (16, 32, 64)
"""Sizes of bytes that a schema fixes: another size is rarely encodable."""
_MAX_KEPT = 400
_known_hints: dict[Any, dict[str, Any]] = {}


@dataclass
class Pool:
    """Values by class, from whatever was taken apart so far."""

    values: dict[type, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def take(self, value: Any) -> None:
        """Keep a value and all its parts."""
        for _, part in _parts(value):
            kept = self.values[type(part)]
            if len(kept) < _MAX_KEPT:
                kept.append(part)

    def any_of(self, hint: Any, rng: random.Random) -> Any:
        """A value of one of the classes that a hint names, as far as one was seen."""
        classes = [one for one in _classes(hint) if self.values.get(one)]
        return rng.choice(self.values[rng.choice(classes)]) if classes else None


def _classes(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def _hints(value: object) -> dict[str, Any]:
    cls: Any = type(value)
    if cls not in _known_hints:
        _known_hints[cls] = get_type_hints(cls)
    return _known_hints[cls]


def _parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if is_dataclass(value):
        for one in fields(value):
            yield from _parts(getattr(value, one.name), (*path, one.name))
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _parts(part, (*path, i))


def mutated(value: Any, rng: random.Random, pool: Pool) -> Any:
    """The value with one to three of its parts changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = [path for path, _ in _parts(value) if path]
        if paths:
            value = _with(value, type(value), rng.choice(paths), rng, pool)
    return value


def _with(value: Any, hint: Any, path: tuple[Any, ...], rng: random.Random, pool: Pool) -> Any:
    if not path:
        return _changed(value, hint, rng, pool)
    first, rest = path[0], path[1:]
    if isinstance(value, tuple):
        changed = _with(value[first], _of_tuple(hint), rest, rng, pool)
        return (*value[:first], changed, *value[first + 1 :])
    inner = _with(getattr(value, first), _hints(value)[first], rest, rng, pool)
    return replace(value, **{first: inner})


def _of_tuple(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is tuple else object


def _changed(value: Any, hint: Any, rng: random.Random, pool: Pool) -> Any:
    if NoneType in _classes(hint) and rng.random() < 0.3:
        return None
    if value is None or is_dataclass(value) or rng.random() < 0.25:
        return pool.any_of(hint, rng) if rng.random() < 0.95 else rng.choice((None, b"", "x", 0))
    match value:
        case Enum():
            return rng.choice(list(type(value)))
        case bool():
            return not value
        case int():
            return rng.choice((value + 1, value - 1, -value, rng.choice(_NUMBERS), rng.randrange(2**62)))
        case str():
            return rng.choice((rng.choice(_TEXTS), value + "x", value[:-1], value.upper(), value * 2))
        case bytes():
            changed = mutated_bytes(value, rng)
            fixed = len(value) in _FIXED and rng.random() < 0.9
            return (changed + bytes(len(value)))[: len(value)] if fixed else changed
        case _:
            return _changed_tuple(value, _of_tuple(hint), rng, pool)


def _changed_tuple(value: tuple[Any, ...], hint: Any, rng: random.Random, pool: Pool) -> tuple[Any, ...]:
    kind = rng.randrange(6)
    if not value or kind == 0:
        return (*value, pool.any_of(hint, rng))
    at = rng.randrange(len(value))
    if kind == 1:
        return value[:at] + value[at + 1 :]
    if kind == 2:
        return (*value, value[at])
    if kind == 3:
        return value[::-1]
    if kind == 4:
        return ()
    return value * rng.choice((2, 17, 300 // len(value) + 1))


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with something wrong: a bit, the length, a part, or all of them."""
    kind = rng.randrange(6)
    if not data or kind == 0:
        return rng.randbytes(rng.choice((0, 1, 16, 32, 33, 2000)))
    at = rng.randrange(len(data))
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    if kind == 3:
        return data + rng.randbytes(rng.choice((1, 16, 255)))
    if kind == 4:
        return data[:at] + b"\xff" * min(10, len(data) - at) + data[at + 10 :]
    return bytes(len(data))
