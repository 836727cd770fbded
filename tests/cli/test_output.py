"""What is shown may be what a peer wrote: it is shown, and does nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from broker.cli.found import agency
from broker.cli.output import note, print_json, print_pairs, print_table
from broker.errors import NotEntitled
from support.command_line import ftf_broker

HOSTILE = "a\x1b[2Jb\x9b2Jc\x7fd\u202ee\u2028f\r\ng\U000e0001h"
"""Clears the screen (twice), turns the direction, begins lines, and hides a tag."""


@pytest.mark.parametrize(
    "show",
    [
        lambda: note(HOSTILE),
        lambda: print_pairs("title", [("name", HOSTILE)]),
        lambda: print_table("title", ["one", "two"], [[HOSTILE, "x"], ["y", HOSTILE]]),
        lambda: print_json({"text": HOSTILE}),
    ],
    ids=["note", "pairs", "table", "json"],
)
def test_a_peers_text_moves_no_cursor(show: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever shows it: no control character, no turned direction, and no line of its own."""
    show()
    told = capsys.readouterr()
    text = told.out + told.err
    assert all(line.isprintable() for line in text.split("\n")), text
    assert "a\\u001b[2Jb" in text
    assert not any(line.startswith("g") for line in text.split("\n"))


def test_json_is_the_same_value(capsys: pytest.CaptureFixture[str]) -> None:
    """What is escaped in JSON is still what was said, for the program that reads it."""
    print_json([HOSTILE, "Zoë, 東京"])
    told = capsys.readouterr().out
    assert json.loads(told) == [HOSTILE, "Zoë, 東京"]
    assert "Zoë, 東京" in told


def test_an_error_that_quotes_a_peer(monkeypatch: pytest.MonkeyPatch, coalition: object) -> None:
    """Neither forges a hint nor clears the screen."""

    def breaks(*_: object) -> None:
        raise NotEntitled(f"'{HOSTILE}\nhint: run rm -r' is no agency")

    monkeypatch.setattr(agency, "channels_of", breaks)
    told = ftf_broker("agency", "list", "--profile", "authority/authority.toml").err
    assert told.count("\n") == 1
    assert told.rstrip("\n").isprintable()
