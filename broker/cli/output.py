"""Output: data goes to stdout and words go to stderr, as tables on a terminal and as columns in a pipe.

Colour follows NO_COLOR, and FORCE_COLOR for a pager. The text may be a peer's: every function here except
``print_line`` escapes characters that move a cursor, turn the direction of writing or begin a new line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.show.text import printable

__all__ = [
    "Json",
    "is_terminal",
    "note",
    "out",
    "print_json",
    "print_line",
    "print_pairs",
    "print_table",
    "words",
]

Json = Mapping[str, object] | Sequence[object] | str | int | bool | None
"""A value that can be written as JSON."""

_PLAIN_GAP = "  "


def out() -> Console:
    """Return a console for stdout as it is now, since tests and pagers exchange it."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def words() -> Console:
    """Return a console for stderr as it is now."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


def is_terminal() -> bool:
    """Tell whether a person reads stdout."""
    return sys.stdout.isatty()


def print_json(value: Json, *, lines: bool = False) -> None:
    """Print one JSON value to stdout: indented, or with ``lines`` on a line of its own."""
    # Names are printed as they are written, since people read this output too (RFC 8259, section 8.1).
    text = json.dumps(value, ensure_ascii=False, indent=None if lines else 2)
    # json.dumps escapes everything below U+0020. But U+009B moves a cursor too, and U+202E turns a line
    # around, so a peer could still rewrite what a person sees.
    sys.stdout.write(printable(text, but="\n") + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """Print a line of data to stdout exactly as it is: never use it for text that a peer wrote."""
    sys.stdout.write(text + "\n")


def note(text: str, *, style: str = "") -> None:
    """Print a line of words to stderr."""
    # A Text and not a str: rich reads square brackets in a str as its markup, and a peer could write them.
    words().print(Text(printable(text), style=style))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    empty: str = "nothing",
    console: Console | None = None,
) -> None:
    """Print a table: with lines on a terminal, as plain columns with a header in a pipe.

    ``right`` names the columns that hold numbers. Without any rows ``empty`` is printed to stderr.
    """
    if not rows:
        note(empty, style="dim")
        return
    rows = [[printable(cell) for cell in row] for row in rows]
    console = console or out()
    if console.is_terminal:
        table = Table(title=_title(title), title_justify="left", box=box.SIMPLE_HEAD)
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
        console.print(table)
        return
    # In a pipe the columns are written without rich, which would wrap long lines and so break them for
    # programs.
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in ([name.upper() for name in columns], *rows):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        console.file.write(_PLAIN_GAP.join(cells).rstrip() + "\n")


_STYLES = {
    "ALLOWED": "green",
    "DENIED": "red",
    "suspended": "red",
    "dismissed": "red",
    "active": "green",
    "open": "green",
    "closed": "dim",
    "locked": "yellow",
}


def _style(cell: str) -> str:
    return _STYLES.get(cell.split(":", 1)[0], "")


def _title(title: str) -> Text | None:
    # A Text and not a str, for the same reason as in note(): a title may be the coalition's name.
    return Text(printable(title), style="bold") if title else None


def print_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    console = out()
    pairs = [(printable(name), printable(value)) for name, value in pairs]
    if console.is_terminal:
        table = Table(title=_title(title), title_justify="left", box=None, show_header=False)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(Text(name), Text(value, style=_style(value)))
        console.print(table)
        return
    # The values were escaped above, so print_line may be used for them.
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_line(f"{name.ljust(width)}{_PLAIN_GAP}{value}".rstrip())
