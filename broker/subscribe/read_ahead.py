"""Reading ahead: a task reads a partition's messages before they are needed, within bounds.

The log is read while the messages before are verified and opened. The reading task pauses when 1024
messages or 4,000,000 bytes are waiting, and goes on when half of them were taken: were it woken for each
message that is taken, the two tasks would change places with every message.
"""

from __future__ import annotations

import asyncio
from collections import deque

from broker.errors import BrokerError
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.reading import check_last

__all__ = ["ReadAhead"]

_MAX_MESSAGES = 1024
_MAX_BYTES = 4_000_000
_KEY_BYTES = 64
"""Bytes that a message is counted for besides its value, so that empty messages have a bound too."""


class ReadAhead:
    """Messages of a partition from ``start`` up to ``end``, or without end, read by the task of ``run``.

    ``ring`` is set whenever ``take`` may have something new: a message, the end, or an error. Several
    partitions may share one ring. Only the task adds messages, and only ``take`` removes them.

    ``last`` is the leaf of the message before ``start``, where it was read. The log must still hold it.
    """

    def __init__(
        self,
        log: Log,
        partition: Partition,
        start: int,
        end: int | None,
        ring: asyncio.Event,
        last: bytes | None = None,
    ) -> None:
        self.partition = partition
        self._log = log
        self._start = start
        self._end = end
        self._last = last
        self._ring = ring
        self._room = asyncio.Event()
        self._messages: deque[StoredMessage] = deque()
        self._bytes = 0
        self._error: BrokerError | None = None
        self._is_done = end is not None and start >= end

    async def run(self) -> None:
        """Read until the end; an error of the log is kept for the caller of ``take``."""
        try:
            if not self._is_done:
                await self._read()
        except BrokerError as error:
            # It is not raised here: the consumer first gets the messages that were read before the error.
            self._error = error
        finally:
            self._is_done = True
            self._ring.set()

    async def _read(self) -> None:
        messages = self._messages
        end = self._end
        last = self._last
        start = self._start if last is None else self._start - 1
        async for message in self._log.read(self.partition, start, follow=end is None):
            if last is not None:
                check_last(self.partition, start, message, last)
                last = None
                continue
            # Offsets have gaps where messages were deleted, so the first message past the end may be the
            # first sign that the end was reached.
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
        """Return the next message, or None when there is none yet.

        Raises the log's error, if there was one, after the messages before it were taken.
        """
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
        """Tell whether every message was taken and no other will come."""
        return self._is_done and not self._messages and self._error is None
