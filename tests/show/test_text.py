"""Text for people: instants, days, sizes, counts, and a peer's words made harmless."""

from __future__ import annotations

import json

import pytest

from broker.show.text import counted, day_text, instant_json, printable, size_text, time_text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 batches"), (1, "1 batch"), (2, "2 batches"), (2000, "2,000 batches")]
)
def test_a_count_has_its_noun(count: int, text: str) -> None:
    """Only one batch is written in the singular."""
    assert counted(count, "batch", "batches") == text


def test_a_regular_plural_need_not_be_given() -> None:
    """Without a plural, an s is added to the noun."""
    assert counted(3, "record") == "3 records"


def test_instants_are_in_utc() -> None:
    """People see whole seconds, programs see every microsecond."""
    assert time_text(1_795_500_000_250_000) == "2026-11-24 06:00:00Z"
    assert instant_json(1_795_500_000_250_000) == "2026-11-24T06:00:00.250000Z"
    assert day_text(20_781) == "2026-11-24"


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_an_instant_beyond_the_calendar_is_a_number(number: int) -> None:
    """A peer may sign any number as a time, and showing it must not fail."""
    assert time_text(number) == f"{number} µs"
    assert instant_json(number) == number


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024 * 1024, "3.0 MiB")]
)
def test_sizes_have_a_unit(size: int, text: str) -> None:
    """Sizes are bytes, KiB or MiB."""
    assert size_text(size) == text


def test_escapes_are_those_of_json() -> None:
    """Escaped inside a JSON text, a peer's words stay the same value."""
    hostile = "a\x1b[2J\u202eb\x7f"
    assert printable(hostile).isprintable()
    assert json.loads(f'"{printable(hostile)}"') == hostile
    assert printable("one\ntwo", but="\n") == "one\ntwo"


@pytest.mark.parametrize("unseen", ["\u3164", "\u034f", "\ufe0f", "\u115f", "\U000e0100", "\u2800", "\u200b"])
def test_what_nobody_sees_is_escaped(unseen: str) -> None:
    """Two texts that differ in an invisible character look different."""
    assert printable(f"police{unseen}") == "police" + json.dumps(unseen)[1:-1]


def test_a_day_beyond_the_calendar_is_named_by_its_number() -> None:
    """A peer can sign any number as a day: it is shown whole, never as the beginning of another one."""
    assert day_text(20_000) == "2024-10-04"
    assert day_text(2**31 - 1) == "day 2147483647"
