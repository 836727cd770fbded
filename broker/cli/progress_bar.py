"""A progress bar on stderr while long work runs; without a terminal nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broker.cli.output import words
from broker.show.text import printable

__all__ = ["Moved", "progress"]

Moved = Callable[[int, int | None], None]
"""Called with the amount that is done, and with the total where it is known by now."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Moved]:
    """Show how far the work ``what`` has come; ``total`` is None while it is not known."""
    console = words()
    # Without a terminal stderr is often the log file of a job, and a bar does not belong there.
    if not console.is_terminal:
        yield _nothing_to_show
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(printable(what), total=total)

        def move(done: int, of: int | None = None) -> None:
            bar.update(task, completed=done, total=of if of is not None else total)

        yield move


def _nothing_to_show(done: int, of: int | None = None) -> None:
    """Take the progress and show nothing."""
