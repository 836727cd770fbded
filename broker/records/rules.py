"""Rules that a schema declares about its records: when this holds, that must hold, and why.

A record type (or a type shared by several) carries a list ``rules`` in its schema file::

    {"id": "intended-is-assessment",
     "if":   {"stage": ["INTENDED"]},
     "then": {"evaluation.basis": {"in": ["ASSESSMENT"]}},
     "say":  "an intention is an assessment, not a fact",
     "source": "LED art. 7(1)"}

Paths go into the record that carries the rule, or with ``terms.`` into what the manifest says. All of
``if`` must hold (a list of values is short for ``in``; in an array one of them suffices); then all of
``then`` must. A rule is silent about a value that is missing or wrong by itself, which is reported on
its own, and about an optional value that is null, unless it asks for ``present``. A field's ``treatAs``
replaces a value for the rules only: an UNKNOWN age counts as CHILD.

=================  =====================================================================
``in``, ``notIn``  the value is, or is not, one of a list
``present``        true: the optional value is there; false: it is not
``contains``       the array has this item
``pattern``        the whole string matches a regular expression
``withinDays``     a date of the terms is at most so many days after today
``notAfterToday``  a date or an instant is not in the future (a day is allowed for clocks)
``notBefore``      a date is not before the date at another path
=================  =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, TypeAlias

from broker.errors import UsageError
from broker.records.words import choice, said

__all__ = ["ABSENT", "EPOCH", "MICROS_A_DAY", "Circumstances", "Problem", "Rules", "compile_rules"]

Problem: TypeAlias = tuple[str, str]
"""A field's path and what is wrong there; a path that begins with ``$`` counts from the top."""

EPOCH: Final = date(1970, 1, 1)
MICROS_A_DAY: Final = 86_400_000_000


class _Absent:
    """Stands for a value that is missing or wrong and has been reported already."""


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a rule may look at besides the record: the terms by dotted path, and the day (since 1970)."""

    terms: Mapping[str, object]
    day: int


_Get: TypeAlias = Callable[[dict[str, Any], Circumstances], object]
_Holds: TypeAlias = Callable[[object, dict[str, Any], Circumstances], bool]
_TERMS: Final = frozenset(
    (
        "action",
        "targets",
        "handling.codes",
        "handling.tlp",
        "handling.releasable_to",
        "purpose",
        "review_by",
        "erase_by",
    )
)


@dataclass(frozen=True, slots=True)
class _Demand:
    path: str
    get: _Get
    get_as_said: _Get
    """Without ``treatAs``, for the message."""
    holds: _Holds
    expected: str


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    conditions: tuple[tuple[_Get, _Holds], ...]
    demands: tuple[_Demand, ...]
    say: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one record type, ready to be applied."""

    rules: tuple[_Rule, ...]

    def __bool__(self) -> bool:
        return bool(self.rules)

    def check(self, record: dict[str, Any], around: Circumstances, problems: list[Problem]) -> None:
        """Add what breaks a rule to the problems; never raises."""
        for rule in self.rules:
            for get, holds in rule.conditions:
                value = get(record, around)
                if value is ABSENT or not holds(value, record, around):
                    break
            else:
                for demand in rule.demands:
                    value = demand.get(record, around)
                    if value is not ABSENT and not demand.holds(value, record, around):
                        shown = _shown(demand.path, demand.get_as_said(record, around))
                        words = said(rule.say, demand.expected, shown)
                        problems.append((_place(demand.path), words))


def compile_rules(record: Mapping[str, Any], names: Mapping[str, Any]) -> Rules:
    """Read the ``rules`` of a record schema; one that names no field or says nothing is a UsageError."""
    declared = record.get("rules", [])
    if not isinstance(declared, list):
        raise UsageError(f"the rules of {record['name']!r} are no list")
    return Rules(tuple(_rule(entry, record, names) for entry in declared))


def _rule(entry: Any, record: Mapping[str, Any], names: Mapping[str, Any]) -> _Rule:
    if (
        not isinstance(entry, dict)
        or set(entry) != {"id", "if", "then", "say", "source"}
        or not entry["then"]
    ):
        raise UsageError(f"rule {entry!r} of {record['name']!r} needs id, if, then, say and source")
    where = f"rule {entry['id']!r} of {record['name']!r}"
    conditions = []
    for path, wanted in entry["if"].items():
        get, field = _getter(path, record, names, where)
        holds, _ = _requirement(
            {"in": wanted} if isinstance(wanted, list) else wanted, field, record, names, where
        )
        conditions.append((get, holds))
    demands = []
    for path, wanted in entry["then"].items():
        get, field = _getter(path, record, names, where)
        holds, expected = _requirement(wanted, field, record, names, where, demanded=True)
        as_said, _ = _getter(path, record, names, where, treated=False)
        demands.append(_Demand(path, get, as_said, holds, f"{expected} ({entry['source']})"))
    return _Rule(entry["id"], tuple(conditions), tuple(demands), entry["say"])


# --- paths


def _getter(
    path: str, record: Mapping[str, Any], names: Mapping[str, Any], where: str, *, treated: bool = True
) -> tuple[_Get, Mapping[str, Any] | None]:
    """How to fetch the value at a path, and the field there (None in the terms)."""
    if path.startswith("terms."):
        key = path.removeprefix("terms.")
        if key not in _TERMS:
            raise UsageError(f"{where} names {path!r}, which the terms lack")
        return lambda _, around: around.terms.get(key, ABSENT), None
    field: Mapping[str, Any] | None = None
    inside: Mapping[str, Any] | None = record
    for step in path.split("."):
        field = next((f for f in inside["fields"] if f["name"] == step), None) if inside else None
        if field is None:
            raise UsageError(f"{where} names {path!r}, which does not exist")
        branch = _branch(field["type"], names)
        inside = branch if isinstance(branch, dict) and branch.get("type") == "record" else None
    treat: dict[str, str] = field.get("treatAs", {}) if field and treated else {}
    first, *rest = path.split(".")

    def get(value: dict[str, Any], _: Circumstances) -> object:
        found = value.get(first, ABSENT)
        for step in rest:
            if not isinstance(found, dict):
                return found
            found = found.get(step, ABSENT)
        return treat.get(found, found) if treat and isinstance(found, str) else found

    return get, field


def _branch(type_: Any, names: Mapping[str, Any]) -> Any:
    """A type with names resolved and the null of an optional one left out."""
    if isinstance(type_, list):
        return _branch(next((t for t in type_ if t != "null"), "null"), names)
    return names.get(type_, type_) if isinstance(type_, str) else type_


def _place(path: str) -> str:
    return "$" + path.removeprefix("terms.") if path.startswith("terms.") else path


def _shown(path: str, value: object) -> object:
    """Dates of the terms are kept as days and said as dates."""
    if path in ("terms.erase_by", "terms.review_by") and isinstance(value, int):
        return _iso(value)
    return _instant(value) if type(value) is int and abs(value) > MICROS_A_DAY else value


def _iso(day: int) -> str:
    try:
        return (EPOCH + timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day {day}"


def _instant(micros: int) -> str:
    return _iso(micros // MICROS_A_DAY)


# --- requirements


def _requirement(
    wanted: Any,
    field: Mapping[str, Any] | None,
    record: Mapping[str, Any],
    names: Mapping[str, Any],
    where: str,
    *,
    demanded: bool = False,
) -> tuple[_Holds, str]:
    """What must hold, as a function and as words. ``demanded``: null is no violation, save of ``present``."""
    match wanted:
        case {"in": list(values), **more} if not more:
            _check_symbols(values, field, names, where)
            holds = _one_of(values)
            return (lambda v, r, a: v is None or holds(v, r, a)) if demanded else holds, choice(values)
        case {"notIn": list(values), **more} if not more:
            _check_symbols(values, field, names, where)
            unwanted = _one_of(values)
            return lambda v, r, a: not unwanted(v, r, a), f"anything but {choice(values)}"
        case {"present": bool(present), **more} if not more:
            return lambda v, r, a: (v is not None) is present, "a value" if present else "none"
        case {"contains": item, **more} if not more:
            return lambda v, r, a: isinstance(v, list | tuple) and item in v, f"{choice([item])} among them"
        case {"pattern": str(text), **more} if not more:
            rx = _regex(text, where)
            return (
                lambda v, r, a: v is None or (isinstance(v, str) and bool(rx.fullmatch(v))),
                f"the form {text}",
            )
        case {"withinDays": int(days), **more} if not more:
            return (
                lambda v, r, a: not isinstance(v, int) or v <= a.day + days,
                f"at most {days} days from today",
            )
        case {"notAfterToday": True, **more} if not more:
            return lambda v, r, a: not _is_after(v, a.day + 1), "no later than today"
        case {"notBefore": str(path), **more} if not more:
            other, _ = _getter(path, record, names, where)
            return lambda v, r, a: not _is_before(v, other(r, a)), f"no earlier than {path}"
    raise UsageError(f"{where} asks for {wanted!r}, which is no requirement")


def _one_of(values: list[Any]) -> _Holds:
    # 1 and true are equal to Python, not to a clerk.
    known = {(isinstance(v, bool), v) for v in values}

    def holds(value: object, record: dict[str, Any], around: Circumstances) -> bool:
        if isinstance(value, list | tuple):
            return any(isinstance(v, str) and (False, v) in known for v in value)
        return isinstance(value, str | int) and (isinstance(value, bool), value) in known

    return holds


def _check_symbols(
    values: list[Any], field: Mapping[str, Any] | None, names: Mapping[str, Any], where: str
) -> None:
    branch = _branch(field["type"], names) if field else None
    if isinstance(branch, dict) and branch.get("type") == "array":
        branch = _branch(branch["items"], names)
    if (
        isinstance(branch, dict)
        and branch.get("type") == "enum"
        and not set(values) <= set(branch["symbols"])
    ):
        raise UsageError(f"{where} names {values!r}, not all of them symbols of {branch['name']!r}")


def _regex(text: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.ASCII)
    except re.error as problem:
        raise UsageError(f"{where} has no valid pattern {text!r}: {problem}") from problem


def _is_after(value: object, day: int) -> bool:
    if isinstance(value, int):
        return value >= (day + 1) * MICROS_A_DAY
    limit = _iso(day)
    return isinstance(value, str) and (date_ := value.rstrip("~")) > limit[: len(date_)]


def _is_before(value: object, other: object) -> bool:
    if not isinstance(value, str) or not isinstance(other, str) or "~" in value + other:
        return False
    shared = min(len(value), len(other))
    return value[:shared] < other[:shared]
