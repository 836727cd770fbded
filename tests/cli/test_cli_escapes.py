"""What a peer wrote on a terminal: no text of a peer moves a cursor, turns the writing, or is markup."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog

from broker.cli.main import configure_logging, run
from broker.cli.output import print_pairs, print_table
from broker.cli.progress_bar import progress
from broker.cli.read.record_block import print_block
from broker.show.record_view import RecordBlock
from support.cli_coalition import row
from support.command_line import ftf_broker

HOSTILE = "\x1b[2J\x9b1m\u202e[bold red]x[/]\u2066\r\nerror: y\x7f"
SHOWN = "[bold red]x[/]"
"""The part of it that is printed as it is; were it read as markup, it would be gone."""
RECORD = "01a20c30-93d5-78ba-bd84-000000000000"


class Terminal(io.StringIO):
    """A stream that is a terminal, on which rich writes no codes of its own (TERM=dumb)."""

    def isatty(self) -> bool:
        return True


def _run(arguments: Sequence[str], stream: type[io.StringIO]) -> tuple[int, str]:
    """Run a command; its exit code, and everything that it said."""
    out, err = stream(), stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    return code, out.getvalue() + err.getvalue()


def _is_harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.fixture(autouse=True)
def _dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "2000")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coalition in which every text that may hold any character holds a hostile one."""
    folder = tmp_path_factory.mktemp("hostile")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTF_PASSPHRASE", "an exercise")
        _found(folder)
    return folder


def _found(folder: Path) -> None:
    authority = ("--profile", "authority/authority.toml")
    like = ("--like", "authority/authority.toml", "--kas", "local:kas/kas.toml")
    (folder / "rows.jsonl").write_text(json.dumps(row(0, record_id=RECORD)) + "\n")
    members = ("--member", "XAA:police", "--member", "XBB:police")
    texts = ("--type", "all", "--purpose", "PUBLIC_SECURITY", "--legal-basis", HOSTILE)
    said = ("--person", HOSTILE, "--role", HOSTILE, "--legal-basis", HOSTILE, "--justification", HOSTILE)
    consult = ("--channel", "pair", "--record", RECORD, "--case", HOSTILE)
    for command in (
        ("init", HOSTILE, "authority", "--log", "sqlite:log.db", "--keys", "1", "--threshold", "1"),
        ("kas", "init", "kas", "kas", "--like", "authority/authority.toml"),
        ("kas", "add", "kas/kas.statement", *authority),
        *_agency("XAA:police", "xaa-police", like),
        *_agency("XBB:police", "xbb-police", like),
        *_agency("XCC:border", "xcc-border", like),
        ("auditor", "init", "auditor", "auditor", *like, "--title", HOSTILE),
        ("auditor", "add", "auditor/auditor.statement", *authority),
        ("channel", "open", "pair", *members, *texts, *authority),
        ("channel", "rotate", "pair", "--profile", "xaa-police/xaa-police.toml"),
        ("kas", "announce", "--profile", "kas/kas.toml"),
        (
            "publish",
            "--channel",
            "pair",
            "--type",
            "ReturnEvent",
            "rows.jsonl",
            "--profile",
            "xaa-police/xaa-police.toml",
        ),
        (
            "consult",
            *consult,
            *said,
            "--purpose",
            "PUBLIC_SECURITY",
            "--profile",
            "xbb-police/xbb-police.toml",
        ),
        ("agency", "suspend", "XCC:border", "--reason", HOSTILE, *authority),
        ("agency", "suspend", "XBB:police", "--reason", HOSTILE, "--out", "s.statement", *authority),
    ):
        told = ftf_broker(*command)
        assert told.code == 0, (command, told)


def _agency(name: str, slug: str, like: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        ("agency", "init", name, slug, *like, "--title", HOSTILE),
        ("agency", "add", f"{slug}/{slug}.statement", "--profile", "authority/authority.toml"),
    ]


READING = ("--person", "p", "--role", "r", "--legal-basis", "l", "--justification", "j")


@pytest.mark.parametrize("is_json", [False, True], ids=["words", "json"])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "pipe"])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("authority", ("authority", "show")),
        ("authority", ("agency", "list")),
        ("authority", ("agency", "show", "XAA:police")),
        ("authority", ("agency", "show", "auditor")),
        ("authority", ("agency", "show", "XCC:border")),
        ("authority", ("channel", "list")),
        ("authority", ("channel", "show", "pair")),
        ("authority", ("statement", "show", "s.statement")),
        ("authority", ("log", "inspect", "--topic", "directory")),
        ("xaa-police", ("log", "inspect", "--topic", "returns")),
        ("auditor", ("log", "inspect", "--topic", "access")),
        ("auditor", ("audit", "replay")),
        ("auditor", ("audit", "accesses", "--agency", "XBB:police", "--purpose", "LAWFULNESS", *READING)),
        ("authority", ("agency", "show", HOSTILE)),
        ("authority", ("channel", "show", HOSTILE)),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value,
)
def test_no_peer_acts_on_the_terminal(
    hostile: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: tuple[str, ...],
    stream: type[io.StringIO],
    is_json: bool,
) -> None:
    """Control characters, marks of direction and markup are shown, and do nothing."""
    monkeypatch.chdir(hostile)
    code, said = _run(
        [*command, *(["--json"] if is_json else []), "--profile", f"{name}/{name}.toml"], stream
    )
    assert code in (0, 2), said
    assert said
    assert _is_harmless(said)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("authority", ("agency", "list")),
        ("authority", ("channel", "list")),
        ("authority", ("log", "inspect", "--topic", "directory")),
        ("authority", ("statement", "show", "s.statement")),
        ("auditor", ("audit", "accesses", "--agency", "XBB:police", "--purpose", "LAWFULNESS", *READING)),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value,
)
def test_markup_is_text(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: tuple[str, ...]
) -> None:
    """A name or reason that looks like markup is printed as it was written, titles included."""
    monkeypatch.chdir(hostile)
    _, said = _run([*command, "--profile", f"{name}/{name}.toml"], Terminal)
    # A cell may be folded over several lines.
    assert "".join(SHOWN.split()) in "".join(said.split())


def test_every_way_to_the_terminal_escapes() -> None:
    """Titles, names, values, records, progress and log lines pass the same function."""
    out = Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        print_table(HOSTILE, ("a", "b"), [(HOSTILE, "1")], right=("b",))
        print_pairs(HOSTILE, [(HOSTILE, HOSTILE)])
        block = RecordBlock(record_type=HOSTILE, headline=HOSTILE, warnings=(), rows=((HOSTILE, HOSTILE),))
        from broker.cli.output import out as console

        print_block(block, console())
        with progress(HOSTILE) as moved:
            moved(1, 2)
        configure_logging(2)
        try:
            structlog.get_logger("broker").warning("a phrase", detail=HOSTILE, names=[HOSTILE], number=1)
        finally:
            structlog.reset_defaults()
    assert _is_harmless(out.getvalue())
    assert out.getvalue().count(SHOWN) >= 8
