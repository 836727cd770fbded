"""Text for people and programs: a peer's words made harmless; instants, days, sizes and counts in words."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from broker.records.words import iso_day

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
"""Default ignorable code points (Unicode 16, DerivedCoreProperties) that Python calls printable, such as the
Hangul filler U+3164, and the blank pattern of Braille."""

__all__ = ["counted", "day_text", "instant_json", "printable", "size_text", "time_text"]


def printable(text: str, *, but: str = "") -> str:
    """Return a peer's text with every character escaped that could act on a terminal.

    A peer could otherwise clear the screen, begin a line that looks like ours, or turn the direction of
    writing. What nobody sees is escaped too, so that two texts that differ look different. The characters in
    ``but`` are kept as they are.
    """
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(
        character if _is_seen(character) or character in but else _escaped(character) for character in text
    )


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _UNSEEN.match(character)


def _escaped(character: str) -> str:
    # The escape is the one of JSON (RFC 8259, section 7): inside a JSON text the value stays the same.
    # json.dumps leaves U+007F as it is, and printing it is what must not happen.
    return json.dumps(character)[1:-1] if character > "\x7f" else f"\\u{ord(character):04x}"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number and its noun: ``1 batch``, ``2,000 records``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def time_text(microseconds: int) -> str:
    """Return an instant in UTC for people: ``2026-11-24 05:57:03Z``; fractions of a second are dropped."""
    try:
        moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # a peer may sign any 64-bit number as a time
        return f"{microseconds} µs"
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def instant_json(microseconds: int) -> str | int:
    """Return an instant as RFC 3339 text, or the number itself when it is beyond the calendar."""
    try:
        # Whole seconds only: fromtimestamp() takes a float for fractions, and a float loses microseconds.
        moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # a peer may sign any 64-bit number as a time
        return microseconds
    return moment.replace(microsecond=microseconds % 1_000_000).isoformat().replace("+00:00", "Z")


def day_text(day: int) -> str:
    """Return a day, counted from 1970-01-01, for people: ``2026-11-24``, or ``day N`` beyond the calendar."""
    return iso_day(day)


def size_text(size: int) -> str:
    """Return a number of bytes for people: ``512 B``, ``14.2 KiB``."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
