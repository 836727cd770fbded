"""The requirements of a rule: what the value at one path must be like.

=================  =====================================================================
``in``, ``notIn``  the value is, or is not, one of a list
``present``        true: the optional value is there; false: it is not
``contains``       the array has this item
``pattern``        the whole string matches a regular expression
``withinDays``     a date of the terms is at most so many days after the day of issue
``notAfterToday``  a date or an instant is not in the future (a day is allowed for clocks)
``notBefore``      a date is not before the date at another path
=================  =====================================================================

Each requirement is one key with its argument: ``{"in": ["ASSESSMENT"]}``. It is compiled to a function that
tells whether a value meets it, and to words for what is expected. An array meets ``in`` when one of its
items does. A date of reduced precision (2026-05) is compared as far as both dates go; an approximate date
(2026-05~) is never before or after another by ``notBefore``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from broker.clock import DAY_US
from broker.errors import UsageError
from broker.records.check import Circumstances
from broker.records.named_types import resolved
from broker.records.words import choice, iso_day

__all__ = ["Get", "Meets", "Paths", "compile_requirement"]

Get: TypeAlias = Callable[[dict[str, Any], Circumstances], object]
"""Fetches a value from a record or from its circumstances; `ABSENT` where it is missing or wrong."""

Meets: TypeAlias = Callable[[object, dict[str, Any], Circumstances], bool]
"""Tells whether a value meets a requirement in this record and under these circumstances."""

Paths: TypeAlias = Callable[[str], Get]
"""Compiles a path; raises UsageError for a path that does not exist."""


def compile_requirement(
    wanted: Any, field: Mapping[str, Any] | None, names: Mapping[str, Any], where: str, paths: Paths
) -> tuple[Meets, str]:
    """Return the function of a requirement and the words for what it expects.

    ``field`` is the field that the requirement looks at, None in the terms; ``where`` names the rule.
    Raises UsageError for a requirement that does not exist, or that names what the schema does not have.
    """
    # A misspelt requirement must not be a requirement that always holds: hence exactly one known key.
    # In the lambdas below, v is the value, r the record and a the circumstances.
    match wanted:
        case {"in": list(values), **more} if not more:
            _check_symbols(values, field, names, where)
            return _one_of(values), choice(values)
        case {"notIn": list(values), **more} if not more:
            _check_symbols(values, field, names, where)
            unwanted = _one_of(values)
            return lambda v, r, a: not unwanted(v, r, a), f"anything but {choice(values)}"
        case {"present": bool(present), **more} if not more:
            return lambda v, r, a: (v is not None) is present, "a value" if present else "no value"
        case {"contains": item, **more} if not more:
            return lambda v, r, a: isinstance(v, list | tuple) and item in v, f"{choice([item])} among them"
        case {"pattern": str(text), **more} if not more:
            return _matches(_regex(text, where)), f"the form {text}"
        case {"withinDays": int(days), **more} if not more:
            return (
                lambda v, r, a: not isinstance(v, int) or v <= a.day + days,
                f"at most {days} days from today",
            )
        case {"notAfterToday": True, **more} if not more:
            # Two machines may disagree about the date around midnight: one day is allowed for that.
            return lambda v, r, a: not _is_after(v, a.day + 1), "no later than today"
        case {"notBefore": str(path), **more} if not more:
            other = paths(path)
            return lambda v, r, a: not _is_before(v, other(r, a)), f"no earlier than {path}"
    raise UsageError(f"{where} asks for {wanted!r}, which is not a requirement")


def _one_of(values: list[Any]) -> Meets:
    # 1 and true are equal to Python, not to a clerk.
    known = {(isinstance(value, bool), value) for value in values}

    def meets(value: object, record: dict[str, Any], around: Circumstances) -> bool:
        if isinstance(value, list | tuple):
            return any(isinstance(item, str) and (False, item) in known for item in value)
        return isinstance(value, str | int) and (isinstance(value, bool), value) in known

    return meets


def _check_symbols(
    values: list[Any], field: Mapping[str, Any] | None, names: Mapping[str, Any], where: str
) -> None:
    """Raise UsageError where a rule names a symbol that its enum lacks: it would never hold."""
    type_ = resolved(field["type"], names) if field else None
    if isinstance(type_, dict) and type_.get("type") == "array":
        type_ = resolved(type_["items"], names)
    if not isinstance(type_, dict) or type_.get("type") != "enum":
        return
    if not set(values) <= set(type_["symbols"]):
        raise UsageError(f"{where} names {values!r}, but not all of them are symbols of {type_['name']!r}")


def _matches(pattern: re.Pattern[str]) -> Meets:
    return lambda v, r, a: v is None or (isinstance(v, str) and bool(pattern.fullmatch(v)))


def _regex(text: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.ASCII)
    except re.error as problem:
        raise UsageError(f"{where} has no valid pattern {text!r}: {problem}") from problem


def _is_after(value: object, day: int) -> bool:
    """Tell whether an instant (microseconds) or a date (a string) lies after this day."""
    if isinstance(value, int):
        return value >= (day + 1) * DAY_US
    # Both dates are cut to the shorter form: 2026-05 lies after 2026-04-30, and not after 2026-05-01.
    limit = iso_day(day)
    return isinstance(value, str) and (shown := value.rstrip("~")) > limit[: len(shown)]


def _is_before(value: object, other: object) -> bool:
    if not isinstance(value, str) or not isinstance(other, str) or "~" in value + other:
        return False
    # ISO 8601 dates of one length are in the order of their characters, so the texts can be compared.
    shared = min(len(value), len(other))
    return value[:shared] < other[:shared]
