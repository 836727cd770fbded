"""A progress bar on stderr while something long runs; nothing where no terminal is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broker.cli.output import words

__all__ = ["Moved", "progress"]

Moved = Callable[[int, int | None], None]
"""Called with how much is done, and of how much where that is known by now."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Moved]:
    """Show how far something is; ``total`` is None while nobody knows."""
    console = words()
    if not console.is_terminal:
        yield _nothing_to_show
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def move(done: int, of: int | None = None) -> None:
            bar.update(task, completed=done, total=of if of is not None else total)

        yield move


def _nothing_to_show(done: int, of: int | None = None) -> None:
    """What moves when no terminal shows it."""
