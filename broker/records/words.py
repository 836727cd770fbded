"""How a problem is said to a clerk: what is wrong, what was expected, what was there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["choice", "field_name", "join_path", "nearest", "said", "show"]

MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def said(words: str, expected: str, value: object) -> str:
    """The part of a message behind the field's path."""
    return f"{words}, expected {expected}, got {show(value)}"


def show(value: object) -> str:
    """A value as a message quotes it: short, whatever it is."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 1] + "…")
        case int():
            return repr(value) if value.bit_length() <= 64 else "a very large number"
        case float():
            return repr(value)
        case bytes():
            return f"{len(value)} bytes"
        case dict():
            return "an object"
        case list() | tuple():
            shown = [item for item in value if isinstance(item, str)]
            if len(value) > 8 or len(shown) != len(value):
                return f"a list of {len(value)}"
            return f"[{', '.join(show(item) for item in shown)}]"
    return f"a {type(value).__name__}"


def choice(values: Iterable[object]) -> str:
    """Several values as words: ``A, B or C``."""
    words = [show(value) if not isinstance(value, str) else value for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}" if words else "nothing"


def nearest(value: object, known: Sequence[str]) -> str:
    """A hint at the known word that looks most like the wrong one, with a leading blank; or nothing."""
    if not isinstance(value, str) or len(value) > MAX_SHOWN:
        return ""
    upper = {word.upper(): word for word in known}
    near = get_close_matches(value.upper().replace(" ", "_").replace("-", "_"), upper, n=1, cutoff=0.6)
    return f" (did you mean {upper[near[0]]}?)" if near else ""


def field_name(name: object) -> str:
    """A name that came from outside, as a path shows it: as it is where that is short and plain."""
    plain = isinstance(name, str) and len(name) <= MAX_SHOWN and name.isascii() and name.isidentifier()
    return str(name) if plain else show(name)


def join_path(name: str, rest: str) -> str:
    """Put a field's name before a path inside it; a path from the top (``$``) stays as it is."""
    if rest.startswith("$"):
        return rest
    return name + rest if not rest or rest.startswith("[") else f"{name}.{rest}"
