"""Reading a source that may block, such as a pipe, in a thread beside the event loop."""

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
    """Yield the items of an iterator, read in a thread of their own, until it ends or ``stop`` is set.

    The thread is a daemon, so that a thread which waits for a pipe does not keep the process alive.
    """
    loop = asyncio.get_running_loop()
    # The semaphore bounds the queue: only the event loop may touch an asyncio queue, so the thread cannot
    # wait for room in it.
    room = threading.Semaphore(_MAX_READ_AHEAD)
    queue: asyncio.Queue[T | _End] = asyncio.Queue()

    def read() -> None:
        end = _End()
        try:
            for item in items:
                room.acquire()
                loop.call_soon_threadsafe(queue.put_nowait, item)
        except Exception as error:  # noqa: BLE001 - it is raised again where the items are taken
            end = _End(error)
        # RuntimeError: the loop is closed, and nothing waits for the end any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, end)

    async def end_when_stopped() -> None:
        await stop.wait()
        queue.put_nowait(_End())

    # asyncio.to_thread would not do: Python waits for its threads when the process ends.
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
