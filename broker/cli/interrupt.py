"""Ctrl-C: the first one asks the work for a clean stop, and the second one ends it at once.

SIGTERM, which a service manager sends to stop a service, has the same effect.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

from broker.cli.output import note

__all__ = ["stoppable", "until_stopped"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(what: str) -> Iterator[asyncio.Event]:
    """Give an event that the first Ctrl-C sets; ``what`` tells the person what happens until the stop."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    stop = asyncio.Event()

    def ask() -> None:
        if not stop.is_set():
            note(f"{what}; once more to stop at once", style="yellow")
            stop.set()
        elif task is not None:
            task.cancel()

    try:
        for number in _SIGNALS:
            loop.add_signal_handler(number, ask)
    except (ValueError, RuntimeError, NotImplementedError):
        # Only the main thread gets signals. A program that runs us in another thread stops us itself.
        pass
    try:
        yield stop
    except asyncio.CancelledError:
        if stop.is_set():
            # The second Ctrl-C has cancelled us. A cancellation from elsewhere is passed on as it is.
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def until_stopped(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Run the work until it is done or ``stop`` is set; then cancel it and wait until it has cleaned up."""
    task = asyncio.create_task(work, name="work")
    asked = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        # ``cancel`` returns False when the work is already done.
        is_cut = task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        # Only the cancellation that we asked for ends here. An error of the work itself is always raised.
        if not is_cut or not stop.is_set():
            raise
