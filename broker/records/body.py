"""What a body may say: every value checked against its schema and the rules declared there.

Beside its Avro type a field may declare: ``pattern`` (whole string), ``codes`` (a list of
``schemas/codes/``), ``format`` (``partial-date``), ``maxLength``, ``minItems``, ``maxItems``, ``unique``,
``minimum``, ``maximum``, ``mustBe``, ``expected`` (words for messages), ``treatAs`` (for rules),
``random`` (a UUID that is no hash of a name), ``freeText``. On an array, what is about strings holds for
its items. An enum may declare ``refused``: symbols that exist for the evolution of schemas only. A string
that declares nothing of this would be free text, and a schema with free text outside the handling note is
refused: names would end up there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from broker.errors import UsageError
from broker.records.body_check import IsClean, compile_clean
from broker.records.codes import CodeList
from broker.records.rules import ABSENT, Circumstances, Problem, Rules, compile_rules
from broker.records.values import (
    Check,
    FieldSchema,
    check_boolean,
    check_bytes,
    check_code,
    check_enum,
    check_instant,
    check_note,
    check_partial_date,
    check_pattern,
    check_uuid,
    check_whole,
    wrong,
)
from broker.records.words import choice, field_name, join_path, nearest, show

__all__ = ["NOTE", "BodyCheck", "compile_body", "to_json_value"]

NOTE: Final = "handling_note"
"""The only field that may hold free text, at the top of a body."""

MAX_ITEMS = 256
MAX_TEXT = 1024
MAX_NOTE = 200
MAX_UNKNOWN_FIELDS = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELD_WORDS = frozenset(
    (
        "name",
        "type",
        "doc",
        "default",
        "pattern",
        "codes",
        "format",
        "maxLength",
        "minItems",
        "maxItems",
        "unique",
        "minimum",
        "maximum",
        "mustBe",
        "expected",
        "treatAs",
        "freeText",
        "random",
    )
)
_TYPE_WORDS = frozenset(
    (
        "type",
        "name",
        "namespace",
        "doc",
        "fields",
        "symbols",
        "default",
        "refused",
        "items",
        "size",
        "rules",
        "topic",
        "forced",
        "logicalType",
    )
)


@dataclass(frozen=True, slots=True)
class BodyCheck:
    """One schema, compiled: checks bodies from JSON or from a decoder."""

    run: Check
    rules: Rules
    """The rules of the record itself, for orders, which have no body."""
    is_clean: IsClean | None
    """Takes most decoded bodies that are right, and none that is wrong; none for bodies from JSON."""

    def check(self, value: object, around: Circumstances, problems: list[Problem]) -> dict[str, Any]:
        """The body with its defaults; what is wrong is left out of it and added to the problems."""
        if self.is_clean is not None and isinstance(value, dict) and self.is_clean(value, around):
            return value
        body = self.run(value, problems, around)
        return body if isinstance(body, dict) else {}


def compile_body(schema: FieldSchema, *, lists: Mapping[str, CodeList], from_json: bool) -> BodyCheck:
    """Compile a self-contained record schema; one that cannot be trusted is a UsageError.

    ``from_json``: instants are RFC 3339, bytes are hexadecimal, defaults may be left out.
    """
    if schema.get("type") != "record":
        raise UsageError(f"a record type is an Avro record, got {show(schema.get('type'))}")
    compiler = _Compiler(lists, from_json)
    run = compiler.compiled(schema, {}, "", top=True)
    names = compiler.names or {}
    is_clean = None
    if not from_json:
        is_clean = compile_clean(schema, names, lists, max_items=MAX_ITEMS, max_text=MAX_TEXT)
    return BodyCheck(run, compile_rules(schema, names), is_clean)


@dataclass(slots=True)
class _Compiler:
    lists: Mapping[str, CodeList]
    from_json: bool
    names: dict[str, Any] | None = None

    def compiled(self, schema: Any, hints: FieldSchema, where: str, *, top: bool = False) -> Check:
        """The check of one type; ``hints`` is the field that has it."""
        if self.names is None:
            self.names = {}
            _collect_names(schema, "", self.names)
        if isinstance(schema, list):
            return self._optional(schema, hints, where)
        if isinstance(schema, str):
            known = self.names.get(schema)
            return (
                self._primitive(schema, {}, hints, where)
                if known is None
                else self.compiled(known, hints, where)
            )
        if unknown := set(schema) - _TYPE_WORDS:
            raise UsageError(f"{where or schema.get('name')} declares {min(unknown)!r}, read by nothing")
        match schema["type"]:
            case "record":
                return self._record(schema, where, top=top)
            case "enum":
                return check_enum(schema)
            case "array":
                return self._array(schema, hints, where)
            case "fixed":
                return check_bytes(schema["size"], schema["size"], self.from_json)
            case str() as primitive:
                return self._primitive(primitive, schema, hints, where)
            case inner:
                return self.compiled(inner, hints, where)

    def _primitive(self, kind: str, schema: FieldSchema, hints: FieldSchema, where: str) -> Check:
        match kind, schema.get("logicalType"):
            case "string", "uuid":
                return check_uuid(is_random=hints.get("random", False))
            case "string", _:
                return self._string(hints, where)
            case "long", "timestamp-micros":
                return check_instant if self.from_json else check_whole(-(2**63), 2**63 - 1)
            case ("int" | "long") as integer, _:
                bits = 31 if integer == "int" else 63
                return check_whole(hints.get("minimum", -(2**bits)), hints.get("maximum", 2**bits - 1))
            case "boolean", _:
                return check_boolean(hints)
            case "bytes", _:
                return check_bytes(0, hints.get("maxLength", MAX_TEXT), self.from_json)
        raise UsageError(f"{where} has the type {kind!r}, which records do not use")

    def _string(self, hints: FieldSchema, where: str) -> Check:
        longest = hints.get("maxLength", MAX_TEXT)
        if name := hints.get("codes"):
            if name not in self.lists:
                raise UsageError(f"{where} names the code list {name!r}, which does not exist")
            return check_code(self.lists[name], hints.get("expected", f"a code of the list {name}"))
        if "pattern" in hints:
            try:
                pattern = re.compile(hints["pattern"], re.ASCII)
            except re.error as problem:
                raise UsageError(f"{where} has no valid pattern: {problem}") from problem
            return check_pattern(pattern, longest, hints.get("expected", f"the form {pattern.pattern}"))
        if hints.get("format") == "partial-date":
            return check_partial_date
        if hints.get("freeText") is True and where == NOTE and longest <= MAX_NOTE:
            return check_note(longest)
        raise UsageError(
            f"{where} would be free text; declare codes, a pattern, the format partial-date or the type uuid"
        )

    def _optional(self, branches: list[Any], hints: FieldSchema, where: str) -> Check:
        if len(branches) != 2 or branches[0] != "null":
            raise UsageError(f"{where} is a union other than [null, X]")
        inner = self.compiled(branches[1], hints, where)
        return lambda value, problems, around: None if value is None else inner(value, problems, around)

    def _array(self, schema: FieldSchema, hints: FieldSchema, where: str) -> Check:
        item = self.compiled(schema["items"], hints, where)
        fewest, most = hints.get("minItems", 0), min(hints.get("maxItems", MAX_ITEMS), MAX_ITEMS)
        unique = hints.get("unique", False)
        size = f"{'' if fewest == 0 else f'{fewest} to '}{'at most ' if fewest == 0 else ''}{most} of them"

        def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
            if not isinstance(value, list):
                return wrong(problems, "is no list", "a list", value)
            if not fewest <= len(value) <= most:
                return wrong(problems, "has too few or too many entries", size, value)
            result = []
            for index, entry in enumerate(value):
                before = len(problems)
                result.append(item(entry, problems, around))
                if len(problems) > before:
                    _prefix(problems, before, f"[{index}]")
            if unique and any(entry in result[:i] for i, entry in enumerate(result) if entry is not ABSENT):
                return wrong(problems, "names something twice", "each once", value)
            return [entry for entry in result if entry is not ABSENT]

        return check

    def _record(self, schema: FieldSchema, where: str, *, top: bool) -> Check:
        fields = []
        for field in schema["fields"]:
            name = field["name"]
            path = name if top else f"{where}.{name}"
            if unknown := set(field) - _FIELD_WORDS:
                raise UsageError(f"{path} declares {min(unknown)!r}, read by nothing")
            check = self.compiled(field["type"], field, path)
            optional = self.from_json and "default" in field
            fields.append((name, check, optional, field.get("default"), _expected(field, self.names or {})))
        known = {name for name, *_ in fields}
        listed = sorted(known)
        rules = compile_rules(schema, self.names or {})

        def check_record(value: Any, problems: list[Problem], around: Circumstances) -> Any:
            if not isinstance(value, dict):
                return wrong(problems, "is no object", "an object with named fields", value)
            result: dict[str, Any] = {}
            for name, check, optional, default, expected in fields:
                given = value.get(name, ABSENT)
                if given is ABSENT or (given is None and optional):
                    if optional:
                        result[name] = deepcopy(default) if isinstance(default, list | dict) else default
                    else:
                        problems.append((name, f"is missing, expected {expected}"))
                    continue
                before = len(problems)
                checked = check(given, problems, around)
                if checked is not ABSENT:
                    result[name] = checked
                if len(problems) > before:
                    _prefix(problems, before, name)
            if not value.keys() <= known:
                _unknown_fields(value, known, listed, problems)
            rules.check(result, around, problems)
            return result

        return check_record


def _collect_names(schema: Any, namespace: str, names: dict[str, Any]) -> None:
    """Every named type of a schema, by its full name and, for its own namespace, by its short one."""
    if isinstance(schema, list):
        for branch in schema:
            _collect_names(branch, namespace, names)
    if not isinstance(schema, dict):
        return
    namespace = schema.get("namespace", namespace)
    if (name := schema.get("name")) and schema.get("type") in ("record", "enum", "fixed"):
        names.setdefault(f"{namespace}.{name}" if namespace and "." not in name else name, schema)
        names.setdefault(name, schema)
    _collect_names(schema.get("items"), namespace, names)
    if isinstance(schema.get("type"), dict | list):
        _collect_names(schema["type"], namespace, names)
    for field in schema.get("fields", ()):
        _collect_names(field["type"], namespace, names)


def _expected(field: FieldSchema, names: Mapping[str, Any]) -> str:
    """What a missing field should have been, in words."""
    type_ = field["type"]
    while isinstance(type_, str) and type_ in names:
        type_ = names[type_]
    if isinstance(type_, dict) and type_.get("type") == "enum":
        return choice(s for s in type_["symbols"] if s not in type_.get("refused", ()))
    kind = type_.get("logicalType", type_["type"]) if isinstance(type_, dict) else type_
    words = {"record": "an object", "array": "a list", "boolean": "true or false", "uuid": "a UUID"}
    words |= {"timestamp-micros": "an instant such as 2026-05-01T12:00:00Z", "int": "a whole number"}
    if field.get("format") == "partial-date":
        return "a date such as 2026-05-01"
    fallback = f"a code of the list {field['codes']}" if "codes" in field else words.get(str(kind), "a value")
    return str(field.get("expected", fallback))


def _prefix(problems: list[Problem], start: int, name: str) -> None:
    problems[start:] = [(join_path(name, path), words) for path, words in problems[start:]]


def _unknown_fields(
    value: dict[Any, Any], known: set[str], listed: list[str], problems: list[Problem]
) -> None:
    unknown = [name for name in value if name not in known]
    for name in unknown[:MAX_UNKNOWN_FIELDS]:
        words = f"is no field of this record{nearest(name, listed)}, expected it to be left out"
        problems.append((field_name(name), words))
    if len(unknown) > MAX_UNKNOWN_FIELDS:
        problems.append(("", f"has {len(unknown) - MAX_UNKNOWN_FIELDS} more unknown fields"))


# --- the way back


def to_json_value(schema: Any, value: Any, names: dict[str, Any] | None = None) -> Any:
    """A decoded value as JSON says it: instants in RFC 3339, bytes in hexadecimal, no nulls."""
    if names is None:
        names = {}
        _collect_names(schema, "", names)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(schema, list):
        branch = next((s for s in schema if s != "null"), "null")
        return None if value is None else to_json_value(branch, value, names)
    if isinstance(schema, str):
        return to_json_value(names[schema], value, names) if schema in names else value
    if schema["type"] == "record" and isinstance(value, dict):
        typed = {field["name"]: field["type"] for field in schema["fields"]}
        return {
            k: to_json_value(typed[k], v, names) for k, v in value.items() if k in typed and v is not None
        }
    if schema["type"] == "array" and isinstance(value, list):
        return [to_json_value(schema["items"], item, names) for item in value]
    if schema.get("logicalType") == "timestamp-micros" and isinstance(value, int):
        return _rfc3339(value)
    return to_json_value(schema["type"], value, names) if isinstance(schema["type"], dict | list) else value


def _rfc3339(micros: int) -> str | int:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return micros
    return moment.replace(tzinfo=None).isoformat() + "Z"
