"""Checks for what holds other values: optional values, arrays, and records with named fields.

Each puts its own part of the path (a field's name, or an index) before the problems that the checks inside it
found, so that an inner check never needs to know where its value lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from broker.records.check import ABSENT, Check, Circumstances, Problem, wrong
from broker.records.rules import Rules
from broker.records.words import field_name, join_path, nearest

__all__ = ["Field", "check_array", "check_optional", "check_record"]

MAX_UNKNOWN_FIELDS = 16
"""Unknown fields of one record that are named; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a record, compiled."""

    name: str
    check: Check
    is_optional: bool
    """The field may be left out, and has its default then."""
    default: Any
    expected: str
    """Words for a field that is missing."""


def check_optional(inner: Check) -> Check:
    """Return a check that takes null, and leaves every other value to the inner check."""
    return lambda value, problems, around: None if value is None else inner(value, problems, around)


def check_array(item: Check, *, fewest: int, most: int, is_unique: bool) -> Check:
    """Return a check for lists of ``fewest`` to ``most`` entries that each pass the check of an item."""
    size = f"a list of {f'{fewest} to ' if fewest else 'at most '}{most}"

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if not isinstance(value, list):
            return wrong(problems, "the value is not a list", "a list", value)
        if not fewest <= len(value) <= most:
            return wrong(problems, "the list has too few or too many entries", size, value)
        entries: list[Any] = []
        for index, given in enumerate(value):
            # Problems behind this mark are those of this entry, and lack its index. Earlier ones have their
            # path.
            before = len(problems)
            entry = item(given, problems, around)
            if len(problems) > before:
                _prefix(problems, before, f"[{index}]")
            if entry is not ABSENT:
                entries.append(entry)
        # Compared one by one, since entries may be records, which have no hash.
        if is_unique and any(entry in entries[:i] for i, entry in enumerate(entries)):
            return wrong(problems, "the list names an entry twice", "each entry once", value)
        return entries

    return check


def check_record(fields: Sequence[Field], rules: Rules) -> Check:
    """Return a check for objects that have these fields and no others, and keep the rules."""
    # Tuples, since this loop runs for every field of every record that is published.
    unpacked = [(f.name, f.check, f.is_optional, f.default, f.expected) for f in fields]
    known = {field.name for field in fields}
    listed = sorted(known)

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if not isinstance(value, dict):
            return wrong(problems, "the value is not an object", "an object with named fields", value)
        result: dict[str, Any] = {}
        for name, check_field, is_optional, default, expected in unpacked:
            # None stands for a null in the JSON, so a field that is left out needs another mark.
            given = value.get(name, ABSENT)
            # A null counts as left out where there is a default, because exports of databases write a null
            # for every empty column.
            if given is ABSENT or (given is None and is_optional):
                if is_optional:
                    # A copy: one list in the schema must not become the list of every record.
                    result[name] = deepcopy(default) if isinstance(default, list | dict) else default
                else:
                    problems.append((name, f"the field is missing, expected {expected}"))
                continue
            before = len(problems)
            checked = check_field(given, problems, around)
            if checked is not ABSENT:
                result[name] = checked
            if len(problems) > before:
                _prefix(problems, before, name)
        if not value.keys() <= known:
            _report_unknown(value, known, listed, problems)
        # Rules come last: they see only values that are right by themselves.
        rules.check(result, around, problems)
        return result

    return check


def _prefix(problems: list[Problem], start: int, name: str) -> None:
    problems[start:] = [(join_path(name, path), words) for path, words in problems[start:]]


def _report_unknown(
    value: dict[Any, Any], known: set[str], listed: list[str], problems: list[Problem]
) -> None:
    unknown = [name for name in value if name not in known]
    for name in unknown[:MAX_UNKNOWN_FIELDS]:
        words = f"the record has no field of this name{nearest(name, listed)}, expected it to be left out"
        problems.append((field_name(name), words))
    if len(unknown) > MAX_UNKNOWN_FIELDS:
        problems.append(("", f"there are {len(unknown) - MAX_UNKNOWN_FIELDS} more unknown fields"))
