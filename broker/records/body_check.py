"""Whether a decoded body is right, in one expression generated from its schema.

Nearly every record that is received is right, and then nobody reads the words that ``body`` would
find for what is wrong. So a body is first judged by this expression, at a tenth of the price; only
one that it does not take is looked at by ``body``, which has the last word. What it takes, ``body``
must find nothing wrong with: a property of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from broker.records.codes import CodeList
from broker.records.rules import ABSENT, Circumstances, Problem, Rules, compile_rules
from broker.records.values import FieldSchema, check_note, check_partial_date, is_uuid

__all__ = ["IsClean", "compile_clean"]

IsClean = Callable[[Any, Circumstances], bool]
_NOWHERE = Circumstances(terms={}, day=0)


def compile_clean(
    schema: FieldSchema,
    names: Mapping[str, Any],
    lists: Mapping[str, CodeList],
    *,
    max_items: int,
    max_text: int,
) -> IsClean:
    """Compile a record schema that ``body`` has compiled, so that it is known to declare nothing wrong."""
    judged = _Generator(names, lists, max_items, max_text).record(schema)

    def is_clean(value: Any, around: Circumstances) -> bool:
        try:
            return bool(judged(value, around))
        except (TypeError, KeyError, IndexError, AttributeError):
            return False  # no value that a decoder gives: body says what is wrong with it

    return is_clean


class _Generator:
    def __init__(
        self, names: Mapping[str, Any], lists: Mapping[str, CodeList], max_items: int, max_text: int
    ) -> None:
        self._names = names
        self._lists = lists
        self._max_items = max_items
        self._max_text = max_text
        self._bound: dict[str, object] = {}
        self._records: dict[int, str] = {}

    def record(self, schema: FieldSchema) -> Callable[[Any, Circumstances], object]:
        """A function of a decoded record and the circumstances that is true for one that is right."""
        # Made of the schema's own names, which Avro allows letters, digits and underscores only.
        found: Callable[[Any, Circumstances], object] = eval(self._record(schema), self._bound)  # noqa: S307
        return found

    def _bind(self, value: object) -> str:
        name = f"b{len(self._bound)}"
        self._bound[name] = value
        return name

    def _record(self, schema: FieldSchema) -> str:
        fields = schema["fields"]
        parts = [f"len(r) == {len(fields)}"]
        parts += [self._value(field["type"], field, f"r[{field['name']!r}]") for field in fields]
        if rules := compile_rules(schema, self._names):
            parts.append(f"{self._bind(_keeps(rules))}(r, a)")
        return f"lambda r, a: {' and '.join(part for part in parts if part != 'True')}"

    def _function(self, schema: FieldSchema) -> str:
        """The name of a nested record's function, which is made once."""
        name = self._records.get(id(schema))
        if name is None:
            name = self._records[id(schema)] = self._bind(self.record(schema))
        return name

    def _value(self, schema: Any, hints: FieldSchema, value: str) -> str:
        if isinstance(schema, list):
            inner = self._value(schema[1], hints, value)
            return "True" if inner == "True" else f"({value} is None or {inner})"
        if isinstance(schema, str):
            known = self._names.get(schema)
            if known is not None:
                return self._value(known, hints, value)
            return self._primitive(schema, None, hints, value)
        match schema["type"]:
            case "record":
                return f"{self._function(schema)}({value}, a)"
            case "enum":
                allowed = frozenset(schema["symbols"]) - frozenset(schema.get("refused", ()))
                return f"{value} in {self._bind(allowed)}"
            case "array":
                return self._array(schema, hints, value)
            case "fixed":
                return f"type({value}) is bytes and len({value}) == {schema['size']}"
            case str() as primitive:
                return self._primitive(primitive, schema.get("logicalType"), hints, value)
            case inner:
                return self._value(inner, hints, value)

    def _array(self, schema: FieldSchema, hints: FieldSchema, value: str) -> str:
        fewest = hints.get("minItems", 0)
        most = min(hints.get("maxItems", self._max_items), self._max_items)
        item = self._value(schema["items"], hints, "x")
        parts = [f"type({value}) is list", f"{fewest} <= len({value}) <= {most}"]
        if item != "True":
            parts.append(f"all([{item} for x in {value}])")
        if hints.get("unique", False):
            parts.append(f"{self._bind(_is_distinct)}({value})")
        return " and ".join(parts)

    def _primitive(self, kind: str, logical: str | None, hints: FieldSchema, value: str) -> str:
        match kind, logical:
            case "string", "uuid":
                is_random = hints.get("random", False)
                return f"{self._bind(is_uuid)}({value}, is_random={is_random})"
            case "string", _:
                return self._string(hints, value)
            case ("int" | "long") as integer, _:
                bits = 31 if integer == "int" else 63
                least, most = hints.get("minimum", -(2**bits)), hints.get("maximum", 2**bits - 1)
                if logical == "timestamp-micros":
                    least, most = -(2**63), 2**63 - 1
                return f"type({value}) is int and {least} <= {value} <= {most}"
            case "boolean", _:
                must = hints.get("mustBe")
                return f"type({value}) is bool" if must is None else f"{value} is {must}"
            case _:
                return f"type({value}) is bytes and len({value}) <= {hints.get('maxLength', self._max_text)}"

    def _string(self, hints: FieldSchema, value: str) -> str:
        longest = hints.get("maxLength", self._max_text)
        if name := hints.get("codes"):
            codes = self._lists[name]
            return f"({value} in {self._bind(codes.codes)} or {self._bind(codes.__contains__)}({value}))"
        if "pattern" in hints:
            pattern = re.compile(hints["pattern"], re.ASCII)
            return f"len({value}) <= {longest} and {self._bind(pattern.fullmatch)}({value}) is not None"
        if hints.get("format") == "partial-date":
            return f"{self._bind(_is_partial_date)}({value})"
        return f"{self._bind(_is_note(longest))}({value})"


def _keeps(rules: Rules) -> IsClean:
    def keeps(record: dict[str, Any], around: Circumstances) -> bool:
        problems: list[Problem] = []
        rules.check(record, around, problems)
        return not problems

    return keeps


def _is_distinct(values: list[Any]) -> bool:
    return len(values) < 2 or not any(entry in values[:i] for i, entry in enumerate(values))


@lru_cache(maxsize=8192)
def _is_partial_date(value: str) -> bool:
    return check_partial_date(value, [], _NOWHERE) is not ABSENT


def _is_note(longest: int) -> Callable[[str], bool]:
    check = check_note(longest)
    return lambda value: check(value, [], _NOWHERE) is not ABSENT
