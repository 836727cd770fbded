"""How asyncio calls what blocks: writes in a worker thread, reads at once.

A read goes without a thread because threads make it slow: SQLite's module gives the interpreter
lock away for every row, and a thread that wants it back waits up to 5 ms for a busy event loop;
2.6 ms a message were measured. On the loop a read of 256 messages takes a third of a
millisecond.
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
    """Run a blocking call in a worker thread and give its result.

    Cancelled, it asks the call to ``stop``, waits until the thread is done with it, and only
    then raises CancelledError: nothing goes on behind it.
    """
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # cancelled already, and raised below
        if not running.cancelled():
            running.exception()  # looked at, or asyncio would report it as never retrieved
        raise


async def when_free(call: Callable[[], _T], timeout_s: float) -> _T:
    """Make a call that raises LogBusy while another process has the file to itself; wait for that."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return call()
        except LogBusy:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(jitter_s())


def jitter_s() -> float:
    """Give a short pause in seconds, each time another, so that processes do not keep step."""
    return random.uniform(0.001, 0.02)  # noqa: S311 - nothing secret
