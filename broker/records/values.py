"""Checks for the single values of a body: enums, codes, dates, UUIDs, numbers, bytes and the note.

A schema is compiled once (`broker.records.body`), and each of its fields becomes one check from here. So a
function of this module either is a check, or takes what the schema declares of a field and returns a check
for that field. `broker.records.check` says what a check is.

Two rules hold for all of them:

- A value passes only in the one form that the schema declares. Nothing is converted, trimmed or guessed,
  except that a UUID is kept in lower case: two spellings of one subject must be one subject.
- Every length is bounded before a regular expression or a conversion sees the value: a hostile writer could
  otherwise keep us busy with one long text.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Any

from broker.clock import DAY_US
from broker.records.check import Check, Circumstances, FieldSchema, Problem, wrong
from broker.records.codes import CodeList
from broker.records.words import choice, nearest

__all__ = [
    "check_boolean",
    "check_bytes",
    "check_code",
    "check_enum",
    "check_instant",
    "check_note",
    "check_partial_date",
    "check_pattern",
    "check_uuid",
    "check_whole",
    "is_uuid",
]

# re.ASCII throughout: without it \d takes the digits of every script, and int() reads them too.
_PARTIAL_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?~?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:Z|\+00:00)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Control and format characters, lone surrogates, unassigned and private characters: a terminal could be
# painted over with them, and text could be shown in another order than it is written.
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Cn", "Co"))


def check_enum(schema: FieldSchema) -> Check:
    """Return a check for the symbols of an enum, less those that the schema refuses as input."""
    allowed = tuple(symbol for symbol in schema["symbols"] if symbol not in schema.get("refused", ()))
    known = frozenset(allowed)
    expected = choice(allowed)

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and value in known:
            return value
        return wrong(problems, "this word is not allowed here", expected + nearest(value, allowed), value)

    return check


def check_code(codes: CodeList, expected: str, *, from_json: bool) -> Check:
    """Return a check for the codes of a list; ``expected`` describes them in a message.

    Only a clerk, whose record comes from JSON, is told of a similar code. A peer could fill a record with
    wrong codes, and the search for similar ones takes a thousand times as long as the check.
    """

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and value in codes:
            return value
        near = codes.nearest(value) if from_json and isinstance(value, str) else None
        hint = f" (did you mean {near}?)" if near else ""
        words = f"this code is not in the code list {codes.name} ({codes.version})"
        return wrong(problems, words, expected + hint, value)

    return check


def check_pattern(pattern: re.Pattern[str], longest: int, expected: str) -> Check:
    """Return a check for strings of at most ``longest`` characters that match the pattern as a whole."""

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and len(value) <= longest and pattern.fullmatch(value):
            return value
        return wrong(problems, "the value has the wrong form", expected, value)

    return check


def check_partial_date(value: Any, problems: list[Problem], around: Circumstances) -> Any:
    """Check a date that may lack its day or month; a trailing ``~`` means that it is approximate.

    This is ISO 8601-1 with reduced precision, and ISO 8601-2 (EDTF) for the ``~``.
    """
    if isinstance(value, str) and (match := _PARTIAL_DATE.fullmatch(value)):
        try:
            # Only the calendar is asked here, which refuses 2026-02-30. The text itself is kept, with its
            # precision.
            date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
            return value
        except ValueError:
            pass
    expected = "a date such as 2026-05-01, 2026-05 or 2026, with ~ if approximate"
    return wrong(problems, "the value is not a date", expected, value)


def check_uuid(*, is_random: bool) -> Check:
    """Return a check for UUIDs; ``is_random`` refuses versions 3 and 5.

    Those two are hashes of names. A reader with a list of names could hash them all and find the person.
    """

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if not isinstance(value, str) or not is_uuid(value):
            expected = "a UUID such as 6f9619ff-8b86-4011-b42d-00cf4fc964ff"
            return wrong(problems, "the value is not a UUID", expected, value)
        if not is_uuid(value, is_random=is_random):
            expected = "a random UUID (RFC 9562 version 4)"
            return wrong(problems, "the UUID is the hash of a name", expected, value)
        return value.lower()

    return check


def is_uuid(value: str, *, is_random: bool = False) -> bool:
    """Tell whether this is a UUID as RFC 9562 writes it; ``is_random`` refuses versions 3 and 5."""
    if _UUID.fullmatch(value) is None:
        return False
    # Character 14 is the version (RFC 9562, section 4.2). Character 19 begins the variant (section 4.1): only
    # with the variant of this RFC does the version mean anything.
    return not (is_random and value[14] in "35" and value[19] in "89abAB")


def check_note(longest: int) -> Check:
    """Return a check for the handling note, the only free text: printable and not blank."""

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        has_text = isinstance(value, str) and 0 < len(value) <= longest and bool(value.strip())
        if has_text and not any(unicodedata.category(character) in _UNPRINTABLE for character in value):
            return value
        expected = f"1 to {longest} printable characters"
        return wrong(problems, "the value is not a handling note", expected, value)

    return check


def check_instant(value: Any, problems: list[Problem], around: Circumstances) -> Any:
    """Check an instant in RFC 3339 (UTC only) and return it in microseconds since 1970-01-01."""
    if isinstance(value, str) and (match := _INSTANT.fullmatch(value)):
        try:
            # A leap second (23:59:60) is refused, because datetime has none.
            since = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) - _EPOCH
            # Whole numbers throughout: total_seconds() is a float, and loses microseconds.
            micros = int((match[2] or "").ljust(6, "0"))
            return since.days * DAY_US + since.seconds * 1_000_000 + micros
        except ValueError:
            pass
    expected = "a UTC time such as 2026-05-01T12:00:00Z (RFC 3339)"
    return wrong(problems, "the value is not a point in time", expected, value)


def check_whole(least: int, most: int) -> Check:
    """Return a check for whole numbers from ``least`` to ``most``."""

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        # type() and not isinstance(): True is an int to Python, and no number to a clerk.
        if type(value) is int and least <= value <= most:
            return value
        expected = f"a whole number from {least} to {most}"
        return wrong(problems, "the value is not an allowed number", expected, value)

    return check


def check_boolean(hints: FieldSchema) -> Check:
    """Return a check for true and false, or for the one of them that the field must be (``mustBe``)."""
    must = hints.get("mustBe")

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if type(value) is bool and (must is None or value is must):
            return value
        expected = "true or false" if must is None else "true" if must else "false"
        return wrong(problems, "this value is not allowed here", expected, value)

    return check


def check_bytes(least: int, most: int, from_json: bool) -> Check:
    """Return a check for ``least`` to ``most`` bytes, which are hexadecimal digits in JSON."""
    digits = f"{least * 2 if least == most else f'{least * 2} to {most * 2}'} hexadecimal digits"

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        raw = value
        if from_json:
            raw = _from_hex(value, most)
        if isinstance(raw, bytes) and least <= len(raw) <= most:
            return raw
        return wrong(problems, "the value has the wrong form", digits, value)

    return check


def _from_hex(value: object, most: int) -> bytes | None:
    if not isinstance(value, str) or len(value) > 2 * most or not value.isascii():
        return None
    # bytes.fromhex() skips white space, so that one value would have many spellings.
    if any(character.isspace() for character in value):
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None
