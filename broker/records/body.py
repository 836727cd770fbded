"""The check of a body: every value against its schema, and every rule that the schema declares.

A schema is compiled once to a `BodyCheck`, a tree of checks that mirrors it: `broker.records.values` has the
checks of single values, `broker.records.containers` those of arrays and records, and `broker.records.rules`
the rules of a record.

What a field may declare beside its Avro type:

=====================================  ==========================================================
``pattern``                            the whole string matches this regular expression
``codes``                              the string is in this list of ``schemas/codes/``
``format``                             ``partial-date``: 2026-05-01, 2026-05 or 2026
``freeText``                           the string is the handling note
``maxLength``                          characters of a string, or bytes
``minItems``, ``maxItems``             entries of an array
``unique``                             the array has each entry once
``minimum``, ``maximum``               of a whole number
``mustBe``                             of a boolean
``random``                             a UUID that is not the hash of a name
``expected``                           words for the message
``treatAs``                            the value that the rules look at in place of this one
=====================================  ==========================================================

On an array, a declaration about strings holds for its items. An enum may declare ``refused``: symbols that
exist for later versions of the schema only.

Two kinds of schema are refused, both because a mistake there would let names of people through: a string that
declares none of these, since it would be free text, and a declaration that nothing reads, since a misspelt
restriction restricts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.errors import UsageError
from broker.records.body_check import IsClean, compile_clean
from broker.records.check import Check, Circumstances, FieldSchema, Problem
from broker.records.codes import CodeList
from broker.records.containers import Field, check_array, check_optional, check_record
from broker.records.named_types import named_types
from broker.records.rules import Rules, compile_rules
from broker.records.values import (
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
)
from broker.records.words import choice, show

__all__ = ["MAX_ITEMS", "NOTE", "BodyCheck", "compile_body"]

NOTE: Final = "handling_note"
"""The only field that may hold free text, at the top of a body."""

# The check for distinct entries compares each entry with each, so this bound keeps that work short too.
MAX_ITEMS = 256
"""Entries of an array. A schema can lower this bound for a field and never raise it."""
MAX_TEXT = 1024
"""Characters of a string, or bytes. It is a default: ``maxLength`` of a field may also be larger."""
MAX_NOTE = 200
"""Characters of the handling note."""

# Every word below is read somewhere in this package. Before you add a word here, write the code that reads
# it: a word that is known and not read is a restriction that restricts nothing.
_AVRO_WORDS = frozenset(("name", "type", "doc", "default"))
_STRING_WORDS = frozenset(("pattern", "codes", "format", "freeText", "maxLength", "random"))
_OTHER_WORDS = frozenset(("minItems", "maxItems", "unique", "minimum", "maximum", "mustBe"))
_FIELD_WORDS = _AVRO_WORDS | _STRING_WORDS | _OTHER_WORDS | {"expected", "treatAs"}
_TYPE_WORDS = _AVRO_WORDS | {
    "namespace",
    "fields",
    "symbols",
    "refused",
    "items",
    "size",
    "rules",
    "topic",
    "forced",
    "logicalType",
}


@dataclass(frozen=True, slots=True)
class BodyCheck:
    """A schema, compiled: checks bodies that come from JSON, or bodies that a decoder made."""

    run: Check
    rules: Rules
    """The rules of the record itself, for orders, which have no body."""
    is_clean: IsClean | None
    """Takes most decoded bodies that are right and no body that is wrong; None for bodies from JSON."""

    def check(self, value: object, around: Circumstances, problems: list[Problem]) -> dict[str, Any]:
        """Return the body with its defaults; a wrong part is left out of it and added to the problems."""
        # The decoded body itself is returned, and its UUIDs may still be in upper case. That does no harm:
        # the caller keeps its own decoded body and wants the problems only.
        if self.is_clean is not None and isinstance(value, dict) and self.is_clean(value, around):
            return value
        body = self.run(value, problems, around)
        return body if isinstance(body, dict) else {}


def compile_body(schema: FieldSchema, *, lists: Mapping[str, CodeList], from_json: bool) -> BodyCheck:
    """Compile a self-contained record schema.

    With ``from_json`` the check takes instants in RFC 3339 and bytes in hexadecimal, and fills in defaults
    that are left out. Raises UsageError for a schema that cannot be trusted.
    """
    if schema.get("type") != "record":
        raise UsageError(f"a record type must be an Avro record, got {show(schema.get('type'))}")
    names = named_types(schema)
    # This order matters: the compiler refuses a schema that cannot be trusted, and the quick check below
    # trusts every schema that it is given.
    run = _Compiler(lists, from_json, names).compiled(schema, {}, "", top=True)
    is_clean = None
    # A body from JSON gets no quick check, since its values must be converted and its defaults filled in.
    if not from_json:
        is_clean = compile_clean(schema, names, lists, max_items=MAX_ITEMS, max_text=MAX_TEXT)
    return BodyCheck(run, compile_rules(schema, names), is_clean)


@dataclass(frozen=True, slots=True)
class _Compiler:
    """Compiles the types of one schema; nothing in it changes."""

    lists: Mapping[str, CodeList]
    from_json: bool
    names: Mapping[str, Any]

    def compiled(self, schema: Any, hints: FieldSchema, where: str, *, top: bool = False) -> Check:
        """Return the check of a type.

        ``hints`` is the field that has this type, and ``where`` its path for messages.
        """
        if isinstance(schema, list):
            return self._optional(schema, hints, where)
        if isinstance(schema, str):
            declared = self.names.get(schema)
            if declared is None:
                return self._primitive(schema, {}, hints, where)
            return self.compiled(declared, hints, where)
        if unknown := set(schema) - _TYPE_WORDS:
            raise UsageError(_unread(where or schema.get("name"), unknown))
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
            # Avro lets a type be wrapped in an object once more, as in {"type": {"type": "array", …}}.
            case inner:
                return self.compiled(inner, hints, where)

    def _primitive(self, kind: str, schema: FieldSchema, hints: FieldSchema, where: str) -> Check:
        # A logical type comes before its plain type: every uuid is a string as well.
        match kind, schema.get("logicalType"):
            case "string", "uuid":
                return check_uuid(is_random=hints.get("random", False))
            case "string", _:
                return self._string(hints, where)
            case "long", "timestamp-micros":
                # A decoder has turned the instant into microseconds. Any 64 bits pass here, even beyond the
                # calendar: the rules compare numbers, and a check must not raise for what a peer sends.
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
            expected = hints.get("expected", f"a code of the list {name}")
            return check_code(self.lists[name], expected, from_json=self.from_json)
        if "pattern" in hints:
            try:
                # Without re.ASCII, \d and \w would also match the digits and letters of every other script.
                pattern = re.compile(hints["pattern"], re.ASCII)
            except re.error as problem:
                raise UsageError(f"{where} has no valid pattern: {problem}") from problem
            return check_pattern(pattern, longest, hints.get("expected", f"the form {pattern.pattern}"))
        if hints.get("format") == "partial-date":
            return check_partial_date
        # The place counts as well: a schema file cannot open a second field for free text.
        if hints.get("freeText") is True and where == NOTE and longest <= MAX_NOTE:
            return check_note(longest)
        raise UsageError(
            f"{where} would be free text; declare codes, a pattern, the format partial-date or the type uuid"
        )

    def _optional(self, branches: list[Any], hints: FieldSchema, where: str) -> Check:
        # Any other union needs a tag in JSON that names the branch (Avro specification, "JSON Encoding"), and
        # no clerk writes such tags.
        if len(branches) != 2 or branches[0] != "null":
            raise UsageError(f"{where} is a union other than [null, X]")
        return check_optional(self.compiled(branches[1], hints, where))

    def _array(self, schema: FieldSchema, hints: FieldSchema, where: str) -> Check:
        return check_array(
            self.compiled(schema["items"], hints, where),
            fewest=hints.get("minItems", 0),
            # min(): a schema file must not be able to raise the bound of this package.
            most=min(hints.get("maxItems", MAX_ITEMS), MAX_ITEMS),
            is_unique=hints.get("unique", False),
        )

    def _record(self, schema: FieldSchema, where: str, *, top: bool) -> Check:
        fields = [self._field(field, where, top=top) for field in schema["fields"]]
        return check_record(fields, compile_rules(schema, self.names))

    def _field(self, field: FieldSchema, where: str, *, top: bool) -> Field:
        name = field["name"]
        path = name if top else f"{where}.{name}"
        if unknown := set(field) - _FIELD_WORDS:
            raise UsageError(_unread(path, unknown))
        return Field(
            name=name,
            check=self.compiled(field["type"], field, path),
            # A decoder always gives every field. A decoded body without a field is wrong, and gets no
            # default.
            is_optional=self.from_json and "default" in field,
            default=field.get("default"),
            expected=_expected(field, self.names),
        )


def _unread(where: object, unknown: set[str]) -> str:
    return f"{where} declares {min(unknown)!r}, which nothing reads"


def _expected(field: FieldSchema, names: Mapping[str, Any]) -> str:
    """Return in words what a missing field should have been."""
    type_ = field["type"]
    while isinstance(type_, str) and type_ in names:
        type_ = names[type_]
    if isinstance(type_, dict) and type_.get("type") == "enum":
        return choice(symbol for symbol in type_["symbols"] if symbol not in type_.get("refused", ()))
    kind = type_.get("logicalType", type_["type"]) if isinstance(type_, dict) else type_
    words = {
        "record": "an object",
        "array": "a list",
        "boolean": "true or false",
        "uuid": "a UUID",
        "timestamp-micros": "a point in time such as 2026-05-01T12:00:00Z",
        "int": "a whole number",
    }
    if field.get("format") == "partial-date":
        return "a date such as 2026-05-01"
    fallback = f"a code of the list {field['codes']}" if "codes" in field else words.get(str(kind), "a value")
    return str(field.get("expected", fallback))
