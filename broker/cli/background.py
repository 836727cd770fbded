"""Reading what may keep us waiting, such as a pipe, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["read_beside"]

T = TypeVar("T")

_MAX_READ_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None = None


async def read_beside(items: Iterator[T], stop: asyncio.Event) -> AsyncGenerator[T, None]:
    """What the iterator gives, read in a thread of its own, until it ends or ``stop`` is set.

    The thread is a daemon: one that waits for a pipe holds up nobody who leaves.
    """
    loop, room = asyncio.get_running_loop(), threading.Semaphore(_MAX_READ_AHEAD)
    queue: asyncio.Queue[T | _End] = asyncio.Queue()

    def read() -> None:
        end = _End()
        try:
            for item in items:
                room.acquire()
                loop.call_soon_threadsafe(queue.put_nowait, item)
        except Exception as error:  # noqa: BLE001 - raised again where the items are taken
            end = _End(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(queue.put_nowait, end)

    async def end_when_stopped() -> None:
        await stop.wait()
        queue.put_nowait(_End())

    threading.Thread(target=read, name="rows", daemon=True).start()
    stopping = asyncio.create_task(end_when_stopped(), name="stop")
    try:
        while not isinstance(item := await queue.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopping.cancel()
