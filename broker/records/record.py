"""A record, from the JSON that an agency writes to what the log carries, with every rule checked.

Two gates apply the same rules: `from_json` before anything is published, with every problem in words
that a clerk understands, and `check_received` behind decryption, for what a peer has published. What
holds for all records is here; what a record type demands is declared in its schema (`broker.records.rules`).

An order (RESTRICT, ERASE, WITHDRAW) says nothing about a person: its body is empty, zero bytes of
Avro (LED art. 4(1)(c)). A RECTIFY carries the corrected body, whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from broker.avro.schema import RecordSchema, SchemaStore, default_store
from broker.errors import RecordInvalid
from broker.records.body import NOTE, BodyCheck, compile_body, to_json_value
from broker.records.codes import code_lists
from broker.records.json_terms import as_terms, check_retention, flat_terms, parse_terms, terms_to_json
from broker.records.rules import EPOCH, Circumstances, Problem
from broker.records.words import choice, field_name, join_path, nearest, said
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp

__all__ = [
    "MAX_BODY_BYTES",
    "ORDERS",
    "Action",
    "Handling",
    "HandlingCode",
    "Purpose",
    "Record",
    "RecordTerms",
    "Target",
    "Tlp",
    "check_received",
    "decode_body",
    "encode_body",
    "from_json",
    "new_record_id",
    "to_json",
]

MAX_BODY_BYTES: Final = 32 * 1024
"""Bytes of an encoded body, before padding."""

ORDERS: Final = frozenset((Action.RESTRICT, Action.ERASE, Action.WITHDRAW))
"""Actions that name records and carry no body of their own."""

MAX_PROBLEMS = 100
"""Problems of one record that are listed."""

_FIELDS = (
    "record_id",
    "record_type",
    "action",
    "targets",
    "handling",
    "purpose",
    "review_by",
    "erase_by",
    "body",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record before it is locked; ``body`` holds what its codec encodes and is empty for an order."""

    record_type: str
    record_id: bytes
    terms: RecordTerms
    body: dict[str, Any]


def new_record_id() -> bytes:
    """A fresh UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, the rest random."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def from_json(
    record_type: str | None,
    obj: object,
    *,
    store: SchemaStore,
    today: date,
    ceiling_days: int | None = None,
    new_id: Callable[[], bytes] = new_record_id,
) -> Record:
    """Read a record and check everything; RecordInvalid lists all that is wrong with it.

    ``record_type`` stands for one that the object does not name; ``ceiling_days`` is the channel's longest
    retention; ``new_id`` makes the id of a record that brings none.
    """
    if not isinstance(obj, dict):
        raise RecordInvalid((f"record: {said('is no object', 'an object with named fields', obj)}",))
    problems: list[Problem] = []
    _check_names(obj, problems)
    schema = _schema_of(record_type, obj, store, problems)
    record_id = _record_id(obj.get("record_id"), problems, new_id)
    forced = schema.schema.get("forced", {}).get("terms.handling.codes", ()) if schema else ()
    around = Circumstances(terms=parse_terms(obj, problems, forced), day=(today - EPOCH).days)
    check_retention(around.terms, around.day, ceiling_days, problems)
    body: dict[str, Any] = {}
    if schema is not None:
        action = around.terms.get("action")
        body = _checked_body(schema, obj.get("body"), action, around, problems, from_json=True)
    _check_note(obj.get("body"), around, problems)
    if schema is None or problems:
        raise RecordInvalid(_listed(problems))
    return Record(
        record_type=schema.record_type, record_id=record_id, terms=as_terms(around.terms), body=body
    )


def to_json(record: Record, *, schema: RecordSchema | None = None) -> dict[str, Any]:
    """The record as `from_json` reads it: dates in ISO 8601, instants in RFC 3339, optional blanks left out.

    ``schema`` is what the body was written with, by default the current one that comes with the broker.
    """
    schema = schema or default_store().current(record.record_type)
    said_terms = terms_to_json(record.terms)
    body = to_json_value(schema.schema, record.body)
    head = {"record_id": str(UUID(bytes=record.record_id)), "record_type": record.record_type}
    return head | said_terms | ({"body": body} if record.terms.action not in ORDERS else {})


def encode_body(record: Record, schema: RecordSchema) -> bytes:
    """The body as Avro, before padding; an order's is empty. RecordInvalid above 32 KiB."""
    if record.terms.action in ORDERS:
        return b""
    encoded = schema.codec.encode(record.body)
    if len(encoded) > MAX_BODY_BYTES:
        found = f"expected at most {MAX_BODY_BYTES} bytes, got {len(encoded)}"
        raise RecordInvalid((f"body: is too large, {found}",))
    return encoded


def decode_body(encoded: bytes, schema: RecordSchema) -> dict[str, Any]:
    """What `encode_body` encoded; FormatError for bytes that it would not write."""
    if not encoded:
        return {}
    decoded: dict[str, Any] = schema.codec.decode(encoded)
    return decoded


def check_received(
    record_type: str,
    schema: RecordSchema,
    terms: RecordTerms,
    body: object,
    *,
    issued_on: date,
    ceiling_days: int | None = None,
) -> tuple[str, ...]:
    """The rules that a peer's record breaks, judged on the day it was issued; empty when there is none.

    Never raises for what the record says: a subscriber reports and goes on.
    """
    problems: list[Problem] = []
    if schema.record_type != record_type:
        problems.append(("record_type", said("differs from its schema", schema.record_type, record_type)))
    around, found = _received_terms(terms, (issued_on - EPOCH).days, ceiling_days)
    problems += found
    _checked_body(schema, body, terms.action, around, problems, from_json=False)
    _check_note(body, around, problems)
    return _listed(problems)


# --- the parts of a record


@lru_cache(maxsize=1024)
def _received_terms(
    terms: RecordTerms, day: int, ceiling_days: int | None
) -> tuple[Circumstances, tuple[Problem, ...]]:
    """Terms as rules look at them, and what is wrong with them: once for all records that share them.

    The decoder has checked types; saying the terms and reading them again checks what types cannot.
    """
    problems: list[Problem] = []
    parse_terms(terms_to_json(terms), problems, ())
    around = Circumstances(terms=flat_terms(terms), day=day)
    check_retention(around.terms, day, ceiling_days, problems)
    return around, tuple(problems)


def _check_names(obj: dict[Any, Any], problems: list[Problem]) -> None:
    for name in [name for name in obj if name not in _FIELDS][:16]:
        problems.append(
            (field_name(name), f"is no field of a record{nearest(name, _FIELDS)}, expected it to be left out")
        )


def _schema_of(
    record_type: str | None, obj: dict[Any, Any], store: SchemaStore, problems: list[Problem]
) -> RecordSchema | None:
    named = obj.get("record_type", record_type)
    if record_type is not None and named != record_type:
        problems.append(("record_type", said("is another than this file's", record_type, named)))
    if isinstance(named, str) and named in store.record_types:
        return store.current(named)
    expected = choice(store.record_types) + nearest(named, store.record_types)
    problems.append(("record_type", said("is no record type known here", expected, named)))
    return None


def _record_id(value: object, problems: list[Problem], new_id: Callable[[], bytes]) -> bytes:
    if value is None:
        return new_id()
    if isinstance(value, str) and len(value) <= 36:
        try:
            found = UUID(value)
            if found.version == 7:
                return found.bytes
        except ValueError:
            pass
    problems.append(("record_id", said("is no UUIDv7", "one as RFC 9562 makes it, or none", value)))
    return b""


def _checked_body(
    schema: RecordSchema,
    given: object,
    action: object,
    around: Circumstances,
    problems: list[Problem],
    *,
    from_json: bool,
) -> dict[str, Any]:
    """The body with its defaults, everything about it checked; empty for an order."""
    check = _compiled(schema, from_json)
    found: list[Problem] = []
    if action not in ORDERS:
        body = check.check(given, around, found)
    else:
        body = {}
        check.rules.check({}, around, found)
        if given is not None and given != {}:
            words = f"is more than {action} says: the records it acts on"
            found.append(("", said(words, "no body (LED art. 4(1)(c))", given)))
    problems += [
        (path[1:] if path.startswith("$") else join_path("body", path), words) for path, words in found
    ]
    return body


_checks: dict[tuple[bytes, bool], BodyCheck] = {}


def _compiled(schema: RecordSchema, from_json: bool) -> BodyCheck:
    key = (schema.id, from_json)
    if key not in _checks:
        lists = code_lists(schema.path.parent)
        _checks[key] = compile_body(schema.schema, lists=lists, from_json=from_json)
    return _checks[key]


def _check_note(given: object, around: Circumstances, problems: list[Problem]) -> None:
    """H3 means what its note says: neither is there without the other (SIENA handling codes)."""
    codes = around.terms.get("handling.codes")
    note = given.get(NOTE) if isinstance(given, dict) else None
    if not isinstance(codes, tuple):
        return
    if HandlingCode.H3 in codes and note is None:
        words = "is missing, and the handling code H3 means what it says"
        problems.append((f"body.{NOTE}", said(words, "a note, or no H3 (SIENA handling codes)", note)))
    if HandlingCode.H3 not in codes and note is not None:
        words = "is there without the handling code H3"
        problems.append((f"body.{NOTE}", said(words, "no note, or H3 (SIENA handling codes)", note)))


def _listed(problems: list[Problem]) -> tuple[str, ...]:
    said_once = dict.fromkeys(f"{path}: {words}" for path, words in problems)
    listed = tuple(said_once)[:MAX_PROBLEMS]
    return (
        listed if len(said_once) <= MAX_PROBLEMS else (*listed, f"and {len(said_once) - MAX_PROBLEMS} more")
    )
