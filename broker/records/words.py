"""The wording of a problem for a clerk: what is wrong, what was expected, and what was there.

A wrong value comes from outside and may have any size and any characters. So a message repeats at most
`MAX_SHOWN` characters of it, quoted and escaped, and never the whole of a list or an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Final

__all__ = ["EPOCH", "choice", "field_name", "iso_day", "join_path", "nearest", "said", "show"]

EPOCH: Final = date(1970, 1, 1)
"""The first day: days of the terms are counted from it."""

MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def said(words: str, expected: str, value: object) -> str:
    """Return a message without its field's path: what is wrong, then what was expected, then the value."""
    return f"{words}, expected {expected}, got {show(value)}"


def show(value: object) -> str:
    """Return a value as a message quotes it: short, whatever the value is."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 1] + "…")
        case int():
            # Python refuses to write out integers of thousands of digits.
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
    """Return several values as words: ``A, B or C``."""
    words = [show(value) if not isinstance(value, str) else value for value in values]
    if not words:
        return "nothing"
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def nearest(value: object, known: Sequence[str]) -> str:
    """Return a hint at the known word that looks most like a wrong value, with a leading blank.

    The hint is empty where no known word is similar.
    """
    # The search takes time that grows with the square of the length, and the value comes from outside.
    if not isinstance(value, str) or len(value) > MAX_SHOWN:
        return ""
    upper = {word.upper(): word for word in known}
    near = get_close_matches(value.upper().replace(" ", "_").replace("-", "_"), upper, n=1, cutoff=0.6)
    return f" (did you mean {upper[near[0]]}?)" if near else ""


def iso_day(day: int) -> str:
    """Return a day, counted from 1970-01-01, as an ISO 8601 date; a day beyond the calendar by its number."""
    try:
        return (EPOCH + timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day {day}"


def field_name(name: object) -> str:
    """Return a field's name as a path shows it; a long or strange name from outside is quoted."""
    plain = isinstance(name, str) and len(name) <= MAX_SHOWN and name.isascii() and name.isidentifier()
    return str(name) if plain else show(name)


def join_path(name: str, rest: str) -> str:
    """Return a field's name with the path inside the field behind it.

    A path that counts from the top of the record (``$``) stays as it is.
    """
    if rest.startswith("$"):
        return rest
    return name + rest if not rest or rest.startswith("[") else f"{name}.{rest}"
