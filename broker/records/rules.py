"""Rules that a schema declares about its records: when this holds, that must hold, and why.

A record type (or a type that several share) carries a list ``rules`` in its schema file::

    {"id": "intended-is-assessment",
     "if":   {"stage": ["INTENDED"]},
     "then": {"evaluation.basis": {"in": ["ASSESSMENT"]}},
     "say":  "an intention is an assessment, not a fact",
     "source": "LED art. 7(1)"}

How a rule is read:

1. A path leads into the record that carries the rule. With ``terms.`` in front it leads into the terms,
   which stand in the manifest.
2. ``if`` holds when every one of its conditions holds. A list of values is short for ``in``.
3. When ``if`` holds, every demand of ``then`` must be met. `broker.records.requirements` has the table of
   what a condition or a demand may say.
4. Each demand that is not met is one problem: ``say``, what was expected (``source``), and the value.

What a rule does not do:

- It is silent about a value that is missing or wrong by itself. That is reported once, by its own check,
  and not again by every rule that looks at it: such a value is `ABSENT` here.
- It is silent about an optional value that is null, unless it asks for ``present``.
- It never changes a record. A field's ``treatAs`` replaces a value for the rules only: an UNKNOWN age
  counts as CHILD, and stays UNKNOWN in the record.

Rules are compiled once for each schema, and a rule that could never hold (a misspelt path, symbol or
requirement) is refused then: otherwise the law that it stands for would silently be off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.clock import DAY_US
from broker.errors import UsageError
from broker.records.check import ABSENT, Circumstances, Problem
from broker.records.named_types import resolved
from broker.records.requirements import Get, Meets, compile_requirement
from broker.records.words import iso_day, said

__all__ = ["Rules", "compile_rules"]

_TERM_PATHS: Final = frozenset(
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
"""The paths of the terms, without ``terms.`` in front."""

_RULE_WORDS = frozenset(("id", "if", "then", "say", "source"))


@dataclass(frozen=True, slots=True)
class _Condition:
    """One entry of ``if``."""

    get: Get
    meets: Meets


@dataclass(frozen=True, slots=True)
class _Demand:
    """One entry of ``then``."""

    path: str
    get: Get
    get_as_given: Get
    """Fetches the value without ``treatAs``, since a message must quote what the clerk wrote."""
    meets: Meets
    expected: str


@dataclass(frozen=True, slots=True)
class _Rule:
    conditions: tuple[_Condition, ...]
    demands: tuple[_Demand, ...]
    say: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one record type, ready to be applied."""

    rules: tuple[_Rule, ...]

    def __bool__(self) -> bool:
        # For a record type without rules, broker.records.body_check leaves the call out of its expression.
        return bool(self.rules)

    def check(self, record: dict[str, Any], around: Circumstances, problems: list[Problem]) -> None:
        """Append a problem for each demand that the record does not meet; never raises."""
        for rule in self.rules:
            # The else of a for belongs to the loop: demands are looked at when no condition broke it off.
            for condition in rule.conditions:
                value = condition.get(record, around)
                if value is ABSENT or not condition.meets(value, record, around):
                    break
            else:
                for demand in rule.demands:
                    value = demand.get(record, around)
                    if value is not ABSENT and not demand.meets(value, record, around):
                        given = _as_date(demand.path, demand.get_as_given(record, around))
                        problems.append((_place(demand.path), said(rule.say, demand.expected, given)))


def compile_rules(record: Mapping[str, Any], names: Mapping[str, Any]) -> Rules:
    """Compile the ``rules`` of a record schema.

    ``names`` are the named types of the schema file. Raises UsageError for a rule that lacks a part, or
    that names a path, a symbol or a requirement that does not exist.
    """
    declared = record.get("rules", [])
    if not isinstance(declared, list):
        raise UsageError(f"the rules of {record['name']!r} are not a list")
    return Rules(tuple(_rule(entry, record, names) for entry in declared))


def _rule(entry: Any, record: Mapping[str, Any], names: Mapping[str, Any]) -> _Rule:
    # The keys must be exactly these. A misspelt "if" or "then" would otherwise be a rule that always holds.
    if not isinstance(entry, dict) or set(entry) != _RULE_WORDS or not entry["then"]:
        raise UsageError(f"rule {entry!r} of {record['name']!r} needs id, if, then, say and source")
    where = f"rule {entry['id']!r} of {record['name']!r}"
    return _Rule(
        tuple(_condition(path, wanted, record, names, where) for path, wanted in entry["if"].items()),
        tuple(
            _demand(path, wanted, entry["source"], record, names, where)
            for path, wanted in entry["then"].items()
        ),
        entry["say"],
    )


def _condition(
    path: str, wanted: Any, record: Mapping[str, Any], names: Mapping[str, Any], where: str
) -> _Condition:
    get, field = _getter(path, record, names, where)
    if isinstance(wanted, list):
        wanted = {"in": wanted}
    meets, _ = compile_requirement(
        wanted, field, names, where, lambda other: _getter(other, record, names, where)[0]
    )
    return _Condition(get, meets)


def _demand(
    path: str, wanted: Any, source: str, record: Mapping[str, Any], names: Mapping[str, Any], where: str
) -> _Demand:
    get, field = _getter(path, record, names, where)
    meets, expected = compile_requirement(
        wanted, field, names, where, lambda other: _getter(other, record, names, where)[0]
    )
    if isinstance(wanted, dict) and "in" in wanted:
        # A null is no violation of ``in`` when it is demanded, but it does not fulfil a condition.
        meets = _or_null(meets)
    get_as_given, _ = _getter(path, record, names, where, is_treated=False)
    return _Demand(path, get, get_as_given, meets, f"{expected} ({source})")


def _or_null(meets: Meets) -> Meets:
    return lambda value, record, around: value is None or meets(value, record, around)


def _getter(
    path: str, record: Mapping[str, Any], names: Mapping[str, Any], where: str, *, is_treated: bool = True
) -> tuple[Get, Mapping[str, Any] | None]:
    """Return how to fetch the value at a path, and the field there (None in the terms)."""
    if path.startswith("terms."):
        key = path.removeprefix("terms.")
        if key not in _TERM_PATHS:
            raise UsageError(f"{where} names {path!r}, which the terms lack")
        return lambda _, around: around.terms.get(key, ABSENT), None
    field = _field_at(path, record, names, where)
    treat: dict[str, str] = field.get("treatAs", {}) if is_treated else {}
    first, *rest = path.split(".")

    def get(value: dict[str, Any], _: Circumstances) -> object:
        found = value.get(first, ABSENT)
        for step in rest:
            # Null, or ABSENT: an optional part that is not there has no fields, and its fields are null too.
            if not isinstance(found, dict):
                return found
            found = found.get(step, ABSENT)
        return treat.get(found, found) if treat and isinstance(found, str) else found

    return get, field


def _field_at(
    path: str, record: Mapping[str, Any], names: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    field: Mapping[str, Any] | None = None
    inside: Mapping[str, Any] | None = record
    for step in path.split("."):
        field = next((f for f in inside["fields"] if f["name"] == step), None) if inside else None
        if field is None:
            raise UsageError(f"{where} names {path!r}, which does not exist")
        type_ = resolved(field["type"], names)
        inside = type_ if isinstance(type_, dict) and type_.get("type") == "record" else None
    return field or {}


def _place(path: str) -> str:
    """Return a path as a problem names it: the terms lie at the top of the record (``$``)."""
    return "$" + path.removeprefix("terms.") if path.startswith("terms.") else path


def _as_date(path: str, value: object) -> object:
    """Return a day or an instant as a date, as the clerk wrote it; any other value as it is."""
    if path in ("terms.erase_by", "terms.review_by") and isinstance(value, int):
        return iso_day(value)
    # No number of a body is as large as the microseconds of a day, except an instant.
    return iso_day(value // DAY_US) if type(value) is int and abs(value) > DAY_US else value
