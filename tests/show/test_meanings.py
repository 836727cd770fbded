"""The words of the codes are complete, and lines about violations show every part."""

from __future__ import annotations

import json

import pytest

from broker.avro.schema_file import schemas_folder
from broker.show.meanings import (
    GRADES_OF_INFORMATION,
    GRADES_OF_SOURCES,
    HANDLING,
    KINDS,
    PURPOSES,
    REASONS,
    TLP,
    USE_LIMITS,
    Meaning,
    reason_meaning,
    violation_line,
)
from broker.subscribe.delivery import READER_TOO_OLD
from broker.verify.violations import Kind, Place, Violation
from broker.wire.manifest import Reason
from broker.wire.terms import HandlingCode, Purpose, Tlp


def use_limits() -> set[str]:
    """The limits that records may state, as their schema lists them."""
    schema = json.loads((schemas_folder() / "records/types/use_limit.avsc").read_text())
    return set(schema["symbols"]) - {"UNSPECIFIED"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (REASONS, {*Reason, READER_TOO_OLD}),
        (KINDS, set(Kind)),
        (PURPOSES, set(Purpose)),
        (HANDLING, set(HandlingCode)),
        (TLP, set(Tlp)),
        (GRADES_OF_SOURCES, set("ABCX")),
        (GRADES_OF_INFORMATION, {1, 2, 3, 4}),
        (USE_LIMITS, use_limits()),
    ],
)
def test_no_word_lacks_its_meaning(table: dict[object, object], words: set[object]) -> None:
    """Every reason, kind, purpose, handling code, label, grade and limit has its words, and no other has."""
    assert set(table) == words
    assert all(table.values())


def test_each_reason_says_what_to_do() -> None:
    """A denial has both a text and an advice, in our style: lower case and without a full stop."""
    for meaning in REASONS.values():
        for words in meaning:
            assert words
            assert words[0].islower()
            assert not words.endswith(".")


def test_a_reason_that_a_newer_service_gives_is_shown_as_it_is() -> None:
    """A code that this version does not know must not hide that access was denied."""
    assert reason_meaning("QUARANTINED") == Meaning(
        "QUARANTINED", "ask the operator of the key access service"
    )


def test_a_violation_is_one_line() -> None:
    """The line has the kind, the place, how many in a row, the detail and the cause."""
    root = Place("returns", 0, 2)
    violation = Violation(
        kind=Kind.UNACCOUNTED, place=Place("returns", 0, 3), count=4, detail="no manifest", caused_by=root
    )
    assert violation_line(violation) == (
        "unaccounted at returns/0@3 (4 in a row): no manifest, caused by returns/0@2"
    )
