"""One check for each kind of value in a body: the value as it is kept, or a problem in plain words.

A check gets the value, the list of problems to add to, and the circumstances; it returns the value, or
``ABSENT`` where it is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

from broker.records.codes import CodeList
from broker.records.rules import ABSENT, MICROS_A_DAY, Circumstances, Problem
from broker.records.words import choice, nearest, said

__all__ = [
    "Check",
    "FieldSchema",
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
    "wrong",
]

Check: TypeAlias = Callable[[Any, list[Problem], Circumstances], Any]
FieldSchema: TypeAlias = Mapping[str, Any]
"""A field, or a type, as its schema file says it."""

_PARTIAL_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?~?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:Z|\+00:00)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wrong(problems: list[Problem], words: str, expected: str, value: object) -> Any:
    problems.append(("", said(words, expected, value)))
    return ABSENT


def check_enum(schema: FieldSchema) -> Check:
    allowed = tuple(s for s in schema["symbols"] if s not in schema.get("refused", ()))
    known, expected = frozenset(allowed), choice(allowed)

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and value in known:
            return value
        return wrong(problems, "is none of the words allowed here", expected + nearest(value, allowed), value)

    return check


def check_code(codes: CodeList, expected: str) -> Check:
    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and value in codes:
            return value
        near = codes.nearest(value) if isinstance(value, str) else None
        hint = f" (did you mean {near}?)" if near else ""
        return wrong(
            problems, f"is not in the code list {codes.name} ({codes.version})", expected + hint, value
        )

    return check


def check_pattern(pattern: re.Pattern[str], longest: int, expected: str) -> Check:
    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if isinstance(value, str) and len(value) <= longest and pattern.fullmatch(value):
            return value
        return wrong(problems, "does not have the form it needs", expected, value)

    return check


def check_partial_date(value: Any, problems: list[Problem], around: Circumstances) -> Any:
    # ISO 8601 with reduced precision; a trailing ~ means approximate (ISO 8601-2).
    if isinstance(value, str) and (match := _PARTIAL_DATE.fullmatch(value)):
        try:
            date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
            return value
        except ValueError:
            pass
    return wrong(
        problems, "is no date", "a date such as 2026-05-01, 2026-05 or 2026, with ~ if approximate", value
    )


def check_uuid(*, is_random: bool) -> Check:
    """``is_random`` refuses versions 3 and 5, which are hashes of names: a dictionary finds the names."""

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if not isinstance(value, str) or not is_uuid(value):
            return wrong(problems, "is no UUID", "such as 6f9619ff-8b86-4011-b42d-00cf4fc964ff", value)
        if not is_uuid(value, is_random=is_random):
            return wrong(problems, "is the hash of a name", "a random UUID (RFC 9562 version 4)", value)
        return value.lower()

    return check


def is_uuid(value: str, *, is_random: bool = False) -> bool:
    """Whether this is a UUID as RFC 9562 writes it; ``is_random`` refuses versions 3 and 5."""
    if _UUID.fullmatch(value) is None:
        return False
    return not (is_random and value[14] in "35" and value[19] in "89abAB")  # version and variant, 4.1


def check_note(longest: int) -> Check:
    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        printable = isinstance(value, str) and 0 < len(value) <= longest and bool(value.strip())
        if printable and not any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Cn", "Co") for c in value):
            return value
        return wrong(problems, "is no handling note", f"1 to {longest} printable characters", value)

    return check


def check_instant(value: Any, problems: list[Problem], around: Circumstances) -> Any:
    if isinstance(value, str) and (match := _INSTANT.fullmatch(value)):
        try:
            moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
            whole = moment - _EPOCH
            return (whole.days * MICROS_A_DAY + whole.seconds * 1_000_000) + int(
                (match[2] or "").ljust(6, "0")
            )
        except ValueError:
            pass
    return wrong(problems, "is no instant", "a UTC time such as 2026-05-01T12:00:00Z (RFC 3339)", value)


def check_whole(least: int, most: int) -> Check:
    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if type(value) is int and least <= value <= most:
            return value
        return wrong(problems, "is no number allowed here", f"a whole number from {least} to {most}", value)

    return check


def check_boolean(hints: FieldSchema) -> Check:
    must = hints.get("mustBe")

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        if type(value) is bool and (must is None or value is must):
            return value
        expected = "true or false" if must is None else "true" if must else "false"
        return wrong(problems, "is not what it must be", expected, value)

    return check


def check_bytes(least: int, most: int, from_json: bool) -> Check:
    digits = f"{least * 2 if least == most else f'{least * 2} to {most * 2}'} hexadecimal digits"

    def check(value: Any, problems: list[Problem], around: Circumstances) -> Any:
        raw = value
        if from_json and isinstance(value, str) and len(value) <= 2 * most and value.isascii():
            try:
                raw = bytes.fromhex(value) if " " not in value else None
            except ValueError:
                raw = None
        if isinstance(raw, bytes) and least <= len(raw) <= most and (not from_json or isinstance(value, str)):
            return raw
        return wrong(problems, "does not have the form it needs", digits, value)

    return check
