"""A partition's messages, read ahead of whoever takes them, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque

from broker.errors import BrokerError
from broker.log.protocol import Log, Partition, StoredMessage

__all__ = ["Feed"]

_MAX_MESSAGES = 1024
_MAX_BYTES = 4_000_000
_KEY_BYTES = 64


class Feed:
    """Reads a partition from ``start`` on, up to ``end`` or following for ever, in a task of its own.

    ``ring`` is set whenever there is something to look at: a message, the end, or an error, which
    ``take`` raises once the messages before it were taken.
    """

    def __init__(
        self, log: Log, partition: Partition, start: int, end: int | None, ring: asyncio.Event
    ) -> None:
        self.partition = partition
        self._log = log
        self._start = start
        self._end = end
        self._ring = ring
        self._room = asyncio.Event()
        self._messages: deque[StoredMessage] = deque()
        self._bytes = 0
        self._error: BrokerError | None = None
        self._is_done = end is not None and start >= end

    async def run(self) -> None:
        """Read until the end; errors of the log go to whoever takes."""
        try:
            if not self._is_done:
                await self._read()
        except BrokerError as error:
            self._error = error
        finally:
            self._is_done = True
            self._ring.set()

    async def _read(self) -> None:
        messages, end = self._messages, self._end
        async for message in self._log.read(self.partition, self._start, follow=end is None):
            if end is not None and message.offset >= end:
                return
            messages.append(message)
            self._bytes += _KEY_BYTES + len(message.value or b"")
            self._ring.set()
            while len(messages) >= _MAX_MESSAGES or self._bytes >= _MAX_BYTES:
                self._room.clear()
                await self._room.wait()
            if end is not None and message.offset + 1 >= end:
                return

    def take(self) -> StoredMessage | None:
        """The next message, or None where there is none yet."""
        if self._messages:
            message = self._messages.popleft()
            self._bytes -= _KEY_BYTES + len(message.value or b"")
            if not self._room.is_set() and (
                len(self._messages) < _MAX_MESSAGES // 2 and self._bytes < _MAX_BYTES // 2
            ):
                self._room.set()
            return message
        if self._error is not None:
            raise self._error
        return None

    @property
    def held(self) -> int:
        """How many messages wait to be taken."""
        return len(self._messages)

    @property
    def is_done(self) -> bool:
        """Tell whether every message was taken and none will come."""
        return self._is_done and not self._messages and self._error is None
