"""Text for people: a peer's words made harmless, and times, days and sizes written out."""

from __future__ import annotations

import json
from datetime import UTC, datetime

__all__ = ["day_text", "printable", "size_text", "time_text"]


def printable(text: str, *, but: str = "") -> str:
    """A peer's text as a terminal may show it: nothing in it moves the cursor or turns the direction."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in but else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    """As JSON writes it, so that in JSON it stays the same value (RFC 8259, section 7)."""
    return json.dumps(character)[1:-1] if character > "\x7f" else f"\\u{ord(character):04x}"


def time_text(microseconds: int) -> str:
    """An instant for people, in UTC: ``2026-11-24 05:57:03Z``."""
    try:
        moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # a signed statement may say any number
        return f"{microseconds} µs"
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def day_text(day: int) -> str:
    """A day counted from 1970-01-01, for people."""
    return time_text(day * 86_400_000_000)[:10]


def size_text(size: int) -> str:
    """A size for people: ``512 B``, ``14.2 KiB``."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
