"""How the demo tells its story: panels and tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.panel import Panel
from rich.text import Text

from broker.cli.output import out, print_line, print_table

__all__ = ["Teller"]

_WIDTH = 100
"""Characters of a line of prose; longer ones are hard to read."""


@dataclass(slots=True)
class Teller:
    """Tells on stdout, or says nothing at all."""

    is_silent: bool = False
    _chapter: int = field(default=0)

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter: its title, and what happens in it."""
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
        sys.stdout.flush()

    def say(self, text: str, *, style: str = "") -> None:
        """A sentence."""
        if self.is_silent:
            return
        console = out()
        if console.is_terminal:
            console.print(Text(text, style=style), width=min(_WIDTH, console.width))
            return
        for line in textwrap.wrap(text, _WIDTH, subsequent_indent="  "):
            print_line(line)

    def good(self, text: str) -> None:
        """What went as it should."""
        self.say(text, style="green")

    def bad(self, text: str) -> None:
        """What was denied, rejected or found out."""
        self.say(text, style="red")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
    ) -> None:
        """A table."""
        if not self.is_silent:
            print_table("", columns, rows, right=right)

    def commands(self, title: str, commands: Sequence[tuple[str, str]]) -> None:
        """What to try next; each command stands on a line of its own, whole, to be pasted."""
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
                console.print(Text(command, style="cyan"), soft_wrap=True)
            else:
                print_line(f"# {what}")
                print_line(command)
