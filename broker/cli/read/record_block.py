"""Records printed one after the other, as ``subscribe`` shows them: a title line, and rows below it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.show.record_view import RecordBlock
from broker.show.text import printable

__all__ = ["print_block"]

_NAME_WIDTH = 11
"""Characters of the column of names, in a pipe."""


def print_block(block: RecordBlock, console: Console) -> None:
    """Print a record as a block: a grid on a terminal, plain lines in a pipe."""
    title = Text.assemble((printable(block.record_type), "bold"), "  ", printable(block.headline))
    for warning in block.warnings:
        title.append("  ")
        title.append(f"[{warning}]", style="bold magenta" if warning == "CHILD" else "bold yellow")
    console.print(title)
    rows = [(printable(name), printable(value)) for name, value in block.rows]
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1, 0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(Text(name), Text(value))
        console.print(grid)
    else:
        for name, value in rows:
            console.print(Text(f"  {name.ljust(_NAME_WIDTH)}{value}"))
    console.print()
