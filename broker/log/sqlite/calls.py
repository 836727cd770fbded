"""Blocking calls from asyncio: writes run in a worker thread, reads run on the event loop.

Reads run on the loop because a thread makes them slow. Python's sqlite3 module releases the interpreter lock
for every row, and a thread that wants it back waits up to 5 ms for a busy event loop; 2.6 ms for each message
were measured. On the loop a read of 256 messages takes a third of a millisecond.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from broker.log.sqlite.failures import LogBusy

__all__ = ["in_thread", "jitter_s", "when_free"]

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T], *, stop: Callable[[], None] | None = None) -> _T:
    """Run a blocking call in a worker thread and return its result.

    When it is cancelled, it calls ``stop``, waits until the thread has finished the call, and raises
    CancelledError only then: nothing goes on in the background.
    """
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        # Shielded: a cancelled future would be forgotten while its thread goes on writing.
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # a second cancellation; the first one is raised below
        if not running.cancelled():
            running.exception()  # retrieved, or asyncio would report that it never was
        raise


async def when_free(call: Callable[[], _T], timeout_s: float) -> _T:
    """Make a call, and repeat it for as long as it raises LogBusy, at most until the time-out is over.

    A read meets LogBusy while another process recovers the file, or closes it as the last one.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return call()
        except LogBusy:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(jitter_s())


def jitter_s() -> float:
    """Return a short random pause in seconds, so that two processes do not try in step for ever."""
    return random.uniform(0.001, 0.02)  # noqa: S311 - nothing secret
