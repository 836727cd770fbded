"""The narrator of the demo: panels and tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.panel import Panel
from rich.text import Text

from broker.cli.output import out, print_line, print_table

__all__ = ["Narrator"]

_WIDTH = 100
"""Characters of a line of prose, at most: longer lines are hard to read."""


@dataclass(slots=True)
class Narrator:
    """A narrator that writes to stdout, or is silent when a program wants JSON there."""

    is_silent: bool = False
    # The number of the last chapter; ``chapter`` alone writes it, and counts when it is silent too.
    _chapter: int = field(default=0)

    def chapter(self, title: str, text: str) -> None:
        """Begin the next chapter, and say what happens in it."""
        self._chapter += 1
        heading = f"{self._chapter}. {title}"
        if self.is_silent:
            return
        console = out()
        if console.is_terminal:
            width = min(_WIDTH, console.width)
            console.print()
            console.print(
                Panel(
                    Text(text),
                    title=Text(heading, style="bold"),
                    title_align="left",
                    border_style="cyan",
                    width=width,
                )
            )
            return
        if self._chapter > 1:
            print_line("")
        print_line(heading)
        for line in textwrap.wrap(text, _WIDTH):
            print_line(line)
        # The reader of a pipe sees this chapter now, and not only when the next one has been played.
        sys.stdout.flush()

    def say(self, text: str, *, style: str = "") -> None:
        """Print a sentence."""
        if self.is_silent:
            return
        console = out()
        if console.is_terminal:
            console.print(Text(text, style=style), width=min(_WIDTH, console.width))
            return
        for line in textwrap.wrap(text, _WIDTH, subsequent_indent="  "):
            print_line(line)

    def good(self, text: str) -> None:
        """Print what went as it should."""
        self.say(text, style="green")

    def bad(self, text: str) -> None:
        """Print what was denied, rejected or found wrong."""
        self.say(text, style="red")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
    ) -> None:
        """Print a table; ``right`` names the columns of numbers."""
        if not self.is_silent:
            print_table("", columns, rows, right=right)

    def commands(self, title: str, commands: Sequence[tuple[str, str]]) -> None:
        """Print commands to try. Each stands whole on one line, so that it can be pasted."""
        if self.is_silent:
            return
        console = out()
        if console.is_terminal:
            console.print()
            console.print(Text(title, style="bold"))
        else:
            print_line("")
            print_line(title)
        for what, command in commands:
            if console.is_terminal:
                console.print(Text(f"# {what}", style="dim"))
                # soft_wrap: a line break of ours inside a command would be pasted together with it.
                console.print(Text(command, style="cyan"), soft_wrap=True)
            else:
                print_line(f"# {what}")
                print_line(command)
