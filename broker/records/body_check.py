"""A quick check of decoded bodies: one expression, generated from the schema, that takes most right bodies.

Theory of operation. Nearly every record that is received is right, and then nobody reads the words that
`broker.records.body` would find for its problems. So a decoded body first meets the expression that is
generated here, which costs a tenth. It has two answers:

- true: the body is right, and nothing else looks at it;
- false: `broker.records.body` checks the body again and has the last word, with every problem in words.

So the expression may refuse a right body, which only costs time, but it must never take a body in which
`broker.records.body` finds a problem. ``tests/records/test_body_check.py`` tests that as a property. If you
add a check to `broker.records.values` or `broker.records.body`, add it here too.

How the expression is made: each field becomes a condition as text, over ``r`` (the record), ``a`` (the
circumstances) and ``x`` (an item of a list). What cannot be written as text (code lists, patterns, rules, the
functions of nested records) is bound to a name ``b0``, ``b1``… in the globals of the expression.

Against code in a schema file: whatever comes from the file enters the text through ``repr`` only, so that it
is a literal there and never runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from broker.records.check import ABSENT, Circumstances, FieldSchema, Problem
from broker.records.codes import CodeList
from broker.records.rules import Rules, compile_rules
from broker.records.values import check_note, check_partial_date, is_uuid

__all__ = ["IsClean", "compile_clean"]

IsClean = Callable[[Any, Circumstances], bool]
"""Tells whether a decoded body is right for certain; False may also mean: not known."""

_NOWHERE = Circumstances(terms={}, day=0)
"""For checks of single values, which do not look at the circumstances."""


def compile_clean(
    schema: FieldSchema,
    names: Mapping[str, Any],
    lists: Mapping[str, CodeList],
    *,
    max_items: int,
    max_text: int,
) -> IsClean:
    """Compile the quick check of a record schema.

    `broker.records.body` must have compiled the schema before: a schema that it refuses is not detected here.
    """
    expression = _Generator(names, lists, max_items, max_text).function(schema)

    def is_clean(value: Any, around: Circumstances) -> bool:
        try:
            return bool(expression(value, around))
        except (TypeError, KeyError, IndexError, AttributeError):
            return False  # a value that no decoder makes: body says what is wrong with it

    return is_clean


class _Generator:
    """Generates the expressions of one schema; owned by `compile_clean`, and not kept."""

    def __init__(
        self, names: Mapping[str, Any], lists: Mapping[str, CodeList], max_items: int, max_text: int
    ) -> None:
        self._names = names
        self._lists = lists
        self._max_items = max_items
        self._max_text = max_text
        self._bound: dict[str, object] = {}
        """The globals of every expression: one dictionary that grows while expressions are generated."""
        self._functions: dict[int, str] = {}
        """The bound name of each nested record's function, by the identity of its schema."""

    def function(self, schema: FieldSchema) -> Callable[[Any, Circumstances], object]:
        """Return a function of a decoded record and the circumstances that is true for a right record."""
        # eval() is safe here: the text holds literals that repr() wrote and names that _bind() made up, and
        # nothing else that stands in a schema file.
        made: Callable[[Any, Circumstances], object] = eval(self._record(schema), self._bound)  # noqa: S307
        return made

    def _bind(self, value: object) -> str:
        name = f"b{len(self._bound)}"
        self._bound[name] = value
        return name

    def _record(self, schema: FieldSchema) -> str:
        fields = schema["fields"]
        # With as many entries as fields, and each field there, the record has no unknown field.
        parts = [f"len(r) == {len(fields)}"]
        parts += [self._value(field["type"], field, f"r[{field['name']!r}]") for field in fields]
        if rules := compile_rules(schema, self._names):
            parts.append(f"{self._bind(_keeps(rules))}(r, a)")
        return f"lambda r, a: {' and '.join(part for part in parts if part != 'True')}"

    def _nested(self, schema: FieldSchema) -> str:
        # The identity is a safe key, because the caller keeps the whole schema alive while it is compiled.
        name = self._functions.get(id(schema))
        if name is None:
            name = self._bind(self.function(schema))
            self._functions[id(schema)] = name
        return name

    def _value(self, schema: Any, hints: FieldSchema, value: str) -> str:
        """Return the condition of a type on the value that the text ``value`` stands for."""
        if isinstance(schema, list):
            # broker.records.body has refused every union but [null, X], so the second branch is the type.
            inner = self._value(schema[1], hints, value)
            return "True" if inner == "True" else f"({value} is None or {inner})"
        if isinstance(schema, str):
            declared = self._names.get(schema)
            if declared is not None:
                return self._value(declared, hints, value)
            return self._primitive(schema, None, hints, value)
        match schema["type"]:
            case "record":
                return f"{self._nested(schema)}({value}, a)"
            case "enum":
                allowed = frozenset(schema["symbols"]) - frozenset(schema.get("refused", ()))
                # A value without a hash raises TypeError here, and `is_clean` answers False for it.
                return f"{value} in {self._bind(allowed)}"
            case "array":
                return self._array(schema, hints, value)
            case "fixed":
                return f"type({value}) is bytes and len({value}) == {schema['size']!r}"
            case str() as primitive:
                return self._primitive(primitive, schema.get("logicalType"), hints, value)
            case inner:
                return self._value(inner, hints, value)

    def _array(self, schema: FieldSchema, hints: FieldSchema, value: str) -> str:
        fewest = hints.get("minItems", 0)
        most = min(hints.get("maxItems", self._max_items), self._max_items)
        item = self._value(schema["items"], hints, "x")
        parts = [f"type({value}) is list", f"{fewest!r} <= len({value}) <= {most!r}"]
        if item != "True":
            # A list and not a generator: for the few items of a record it is faster.
            parts.append(f"all([{item} for x in {value}])")
        if hints.get("unique", False):
            parts.append(f"{self._bind(_is_distinct)}({value})")
        return " and ".join(parts)

    def _primitive(self, kind: str, logical: str | None, hints: FieldSchema, value: str) -> str:
        match kind, logical:
            case "string", "uuid":
                is_random = hints.get("random", False)
                return f"{self._bind(is_uuid)}({value}, is_random={is_random!r})"
            case "string", _:
                return self._string(hints, value)
            case ("int" | "long") as integer, _:
                bits = 31 if integer == "int" else 63
                least = hints.get("minimum", -(2**bits))
                most = hints.get("maximum", 2**bits - 1)
                if logical == "timestamp-micros":
                    least = -(2**63)
                    most = 2**63 - 1
                return f"type({value}) is int and {least!r} <= {value} <= {most!r}"
            case "boolean", _:
                must = hints.get("mustBe")
                return f"type({value}) is bool" if must is None else f"{value} is {must!r}"
            case _:
                # Only bytes are left: broker.records.body has refused all other primitive types.
                longest = hints.get("maxLength", self._max_text)
                return f"type({value}) is bytes and len({value}) <= {longest!r}"

    def _string(self, hints: FieldSchema, value: str) -> str:
        longest = hints.get("maxLength", self._max_text)
        if name := hints.get("codes"):
            codes = self._lists[name]
            # The dictionary first: most codes are listed one by one, and few match by a pattern.
            return f"({value} in {self._bind(codes.codes)} or {self._bind(codes.__contains__)}({value}))"
        if "pattern" in hints:
            pattern = re.compile(hints["pattern"], re.ASCII)
            # The length stands before the pattern: a regular expression must not run over a text of any size.
            return f"len({value}) <= {longest!r} and {self._bind(pattern.fullmatch)}({value}) is not None"
        if hints.get("format") == "partial-date":
            # The length stands first, since the answers are kept: a member could fill our memory with 8192
            # long texts that are no dates.
            return f"len({value}) <= {MAX_DATE_LENGTH} and {self._bind(_is_partial_date)}({value})"
        return f"{self._bind(_is_note(longest))}({value})"


def _keeps(rules: Rules) -> IsClean:
    def keeps(record: dict[str, Any], around: Circumstances) -> bool:
        problems: list[Problem] = []
        rules.check(record, around, problems)
        return not problems

    return keeps


def _is_distinct(values: list[Any]) -> bool:
    return len(values) < 2 or not any(entry in values[:i] for i, entry in enumerate(values))


MAX_DATE_LENGTH = len("2026-11-24~")
"""The longest partial date, in characters; ``~`` says that the date is approximate."""


@lru_cache(maxsize=8192)
def _is_partial_date(value: str) -> bool:
    return check_partial_date(value, [], _NOWHERE) is not ABSENT


def _is_note(longest: int) -> Callable[[str], bool]:
    check = check_note(longest)
    return lambda value: check(value, [], _NOWHERE) is not ABSENT
