"""A record, from the JSON that an agency writes to the bytes that the log carries, with every rule checked.

Two gates apply the same rules. `from_json` stands before anything is published, and lists every problem in
words that a clerk understands. `check_received` stands behind decryption, and checks what a peer has
published.

What holds for all records is here and in `broker.records.json_terms`. What a record type demands is declared
in its schema file and checked by `broker.records.body`.

An order (RESTRICT, ERASE, WITHDRAW) says nothing about a person: its body is empty, zero bytes of Avro
(LED art. 4(1)(c)). A RECTIFY carries the corrected body as a whole.
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
from broker.records.body import NOTE, BodyCheck, compile_body
from broker.records.body_json import body_to_json
from broker.records.check import Circumstances, Problem
from broker.records.codes import code_lists
from broker.records.json_terms import as_terms, check_retention, flat_terms, parse_terms, terms_to_json
from broker.records.words import EPOCH, choice, field_name, join_path, nearest, said
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
    """A record before it is locked.

    ``record_id`` is a UUIDv7 (16 bytes). ``body`` holds what the codec of its type encodes; it is empty for
    an order.
    """

    record_type: str
    record_id: bytes
    terms: RecordTerms
    body: dict[str, Any]


def new_record_id() -> bytes:
    """Return a fresh UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, the rest random."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F  # version 7
    raw[8] = 0x80 | raw[8] & 0x3F  # the variant of RFC 9562
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
    """Read a record from JSON and check everything about it.

    ``record_type`` is the type of an object that does not name its type. ``ceiling_days`` is the channel's
    longest retention. ``new_id`` makes the id of a record that brings no id. Raises RecordInvalid with every
    problem of the record.
    """
    if not isinstance(obj, dict):
        words = said("the value is not an object", "an object with named fields", obj)
        raise RecordInvalid((f"record: {words}",))
    # Nothing stops at the first problem: a clerk mends a row once, and not once for each of its problems.
    problems: list[Problem] = []
    _check_names(obj, problems)
    schema = _schema_of(record_type, obj, store, problems)
    record_id = _record_id(obj.get("record_id"), problems, new_id)
    forced = schema.schema.get("forced", {}).get("terms.handling.codes", ()) if schema else ()
    # The terms come before the body, since the rules of the body look at them.
    around = Circumstances(terms=parse_terms(obj, problems, forced), day=(today - EPOCH).days)
    check_retention(around.terms, around.day, ceiling_days, problems)
    body: dict[str, Any] = {}
    if schema is not None:
        action = around.terms.get("action")
        body = _checked_body(schema, obj.get("body"), action, around, problems, from_json=True)
    # This looks at the body as it was given. A note that is wrong by itself is missing from the checked body,
    # and would be reported a second time, as a missing note.
    _check_note(obj.get("body"), around, problems)
    # Without a schema there is always a problem. The first condition only tells mypy so.
    if schema is None or problems:
        raise RecordInvalid(_listed(problems))
    return Record(
        record_type=schema.record_type, record_id=record_id, terms=as_terms(around.terms), body=body
    )


def to_json(record: Record, *, schema: RecordSchema | None = None) -> dict[str, Any]:
    """Return the record as `from_json` reads it.

    Dates are in ISO 8601, instants in RFC 3339, and optional fields that hold nothing are left out.
    ``schema`` is the schema that the body was written with, by default the current one that comes with the
    broker.
    """
    schema = schema or default_store().current(record.record_type)
    shown: dict[str, Any] = {
        "record_id": str(UUID(bytes=record.record_id)),
        "record_type": record.record_type,
    }
    shown |= terms_to_json(record.terms)
    if record.terms.action not in ORDERS:
        shown["body"] = body_to_json(schema.schema, record.body)
    return shown


def encode_body(record: Record, schema: RecordSchema) -> bytes:
    """Return the body as Avro, before padding; the body of an order is empty.

    Raises RecordInvalid for a body of more than 32 KiB.
    """
    if record.terms.action in ORDERS:
        return b""
    encoded = schema.codec.encode(record.body)
    if len(encoded) > MAX_BODY_BYTES:
        found = f"expected at most {MAX_BODY_BYTES} bytes, got {len(encoded)}"
        raise RecordInvalid((f"body: the body is too large, {found}",))
    return encoded


def decode_body(encoded: bytes, schema: RecordSchema) -> dict[str, Any]:
    """Return the body that `encode_body` encoded.

    Raises FormatError for bytes that `encode_body` would not write.
    """
    # Zero bytes are the body of an order. `check_received` then checks that the action is an order.
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
    """Return the problems of a peer's record, judged on the day it was issued; empty for a right record.

    Never raises for what the record says: a subscriber reports the problems and goes on.
    """
    problems: list[Problem] = []
    if schema.record_type != record_type:
        words = "the record type is not the type of its schema"
        problems.append(("record_type", said(words, schema.record_type, record_type)))
    # The day of issue and not today: a record that was right when it was issued stays right for ever.
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
    """Return terms as rules look at them, and their problems.

    Cached, since the records of a batch mostly share their terms.
    """
    problems: list[Problem] = []
    # The decoder has checked types. Written as JSON and read again, the terms meet every other check.
    parse_terms(terms_to_json(terms), problems, ())
    around = Circumstances(terms=flat_terms(terms), day=day)
    check_retention(around.terms, day, ceiling_days, problems)
    return around, tuple(problems)


def _check_names(obj: dict[Any, Any], problems: list[Problem]) -> None:
    for name in [name for name in obj if name not in _FIELDS][:16]:
        words = f"the record has no field of this name{nearest(name, _FIELDS)}, expected it to be left out"
        problems.append((field_name(name), words))


def _schema_of(
    record_type: str | None, obj: dict[Any, Any], store: SchemaStore, problems: list[Problem]
) -> RecordSchema | None:
    named = obj.get("record_type", record_type)
    if record_type is not None and named != record_type:
        words = "the record type is not the type of this file"
        problems.append(("record_type", said(words, record_type, named)))
    if isinstance(named, str) and named in store.record_types:
        return store.current(named)
    expected = choice(store.record_types) + nearest(named, store.record_types)
    problems.append(("record_type", said("the record type is not known here", expected, named)))
    return None


def _record_id(value: object, problems: list[Problem], new_id: Callable[[], bytes]) -> bytes:
    if value is None:
        return new_id()
    # The length is bounded first, since UUID() copies a text several times before it refuses it.
    if isinstance(value, str) and len(value) <= 36:
        try:
            # UUID() also reads 32 digits without hyphens. That does no harm: the record keeps the 16 bytes.
            found = UUID(value)
            if found.version == 7:
                return found.bytes
        except ValueError:
            pass
    expected = "a UUIDv7 (RFC 9562), or no record_id"
    problems.append(("record_id", said("the value is not a UUIDv7", expected, value)))
    # No caller sees these bytes, because `from_json` raises when there is a problem.
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
    """Return the body with its defaults and check everything about it; the body of an order is empty."""
    check = _compiled(schema, from_json)
    found: list[Problem] = []
    if action not in ORDERS:
        body = check.check(given, around, found)
    else:
        body = {}
        # Rules about the terms hold for orders too; rules about fields find nothing to look at.
        check.rules.check({}, around, found)
        if given is not None and given != {}:
            words = f"{action} must not have a body, since it only names the records that it acts on"
            found.append(("", said(words, "no body (LED art. 4(1)(c))", given)))
    problems += [
        (path[1:] if path.startswith("$") else join_path("body", path), words) for path, words in found
    ]
    return body


_checks: dict[tuple[bytes, bool], BodyCheck] = {}
"""Compiled schemas by id, for JSON and for decoded bodies. `_compiled` alone writes to it.

A schema's id is the hash of its text, and an installation has few schemas. The code lists are those of the
folder from which the schema was read first: another folder with the same schema and other lists in the same
process would not get its own.
"""


def _compiled(schema: RecordSchema, from_json: bool) -> BodyCheck:
    key = (schema.id, from_json)
    if key not in _checks:
        lists = code_lists(schema.path.parent)
        _checks[key] = compile_body(schema.schema, lists=lists, from_json=from_json)
    return _checks[key]


def _check_note(given: object, around: Circumstances, problems: list[Problem]) -> None:
    """Check that the code H3 and the handling note come together: the note says what H3 means."""
    codes = around.terms.get("handling.codes")
    note = given.get(NOTE) if isinstance(given, dict) else None
    if not isinstance(codes, tuple):
        return
    if HandlingCode.H3 in codes and note is None:
        words = "the note that explains the handling code H3 is missing"
        problems.append((f"body.{NOTE}", said(words, "a note, or no H3 (SIENA handling codes)", note)))
    if HandlingCode.H3 not in codes and note is not None:
        words = "the note is there, but the handling code H3 is missing"
        problems.append((f"body.{NOTE}", said(words, "no note, or H3 (SIENA handling codes)", note)))


def _listed(problems: list[Problem]) -> tuple[str, ...]:
    """Return each problem once, as a line of text, and at most `MAX_PROBLEMS` of them."""
    # A rule and a check may find the same problem. dict.fromkeys() keeps the first, and the order.
    lines = tuple(dict.fromkeys(f"{path}: {words}" for path, words in problems))
    if len(lines) <= MAX_PROBLEMS:
        return lines
    return (*lines[:MAX_PROBLEMS], f"and {len(lines) - MAX_PROBLEMS} more")
