"""A proxy between a client and a broker, which loses answers, holds requests back, or takes the broker away.

It reads the frames of Kafka's protocol: four bytes of length, then for a request its kind, its version and
its correlation id. In the answers it replaces the broker's port by its own, so that clients stay with it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = ["APPEND", "KafkaProxy"]

APPEND = 0
"""The kind of the request that appends (Produce)."""


@dataclass(eq=False)
class KafkaProxy:
    """A running proxy: ``async with KafkaProxy(port) as proxy``. Clients connect to ``proxy.port``."""

    broker_port: int
    port: int = 0
    holding: set[int] = field(default_factory=set)
    held: list[bytes] = field(default_factory=list)
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Counter[int] = field(default_factory=Counter)
    is_away: bool = False
    _losing: Counter[int] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def lose_answers(self, kind: int, count: int) -> None:
        """Let so many requests of a kind reach the broker, and close the connection on their answers."""
        self._losing[kind] += count

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Break every connection, and refuse new ones while the block lasts."""
        self.is_away = True
        for writer in self._writers:
            writer.close()
        try:
            yield
        finally:
            self.is_away = False

    async def release(self) -> list[bytes]:
        """Deliver the requests that were held, late, as a network may, and return the broker's answers."""
        answers = []
        held = self.held
        self.held = []
        for frame in held:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.broker_port)
            writer.write(struct.pack(">i", len(frame)) + frame)
            answers.append(await _frame(reader))
            writer.close()
            await writer.wait_closed()
        return answers

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.close()
            return
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.broker_port)
        self._writers |= {writer, broker_writer}
        lost: set[bytes] = set()
        for name, work in (
            ("requests", self._requests(reader, broker_writer, lost)),
            ("answers", self._answers(broker_reader, writer, broker_writer, lost)),
        ):
            task = asyncio.create_task(work, name=f"proxy {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _requests(
        self, reader: asyncio.StreamReader, broker: asyncio.StreamWriter, lost: set[bytes]
    ) -> None:
        try:
            while True:
                frame = await _frame(reader)
                (kind,) = struct.unpack_from(">h", frame)
                self.seen[kind] += 1
                if kind in self.holding:
                    self.held.append(frame)
                    self.holds.set()
                    continue
                if self._losing[kind]:
                    self._losing[kind] -= 1
                    lost.add(frame[4:8])
                broker.write(struct.pack(">i", len(frame)) + frame)
        except (asyncio.IncompleteReadError, OSError):
            broker.close()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        broker: asyncio.StreamWriter,
        lost: set[bytes],
    ) -> None:
        host = b"\0\x09127.0.0.1"
        theirs = host + struct.pack(">i", self.broker_port)
        ours = host + struct.pack(">i", self.port)
        try:
            while True:
                frame = await _frame(reader)
                if frame[:4] in lost:
                    break
                client.write(struct.pack(">i", len(frame)) + frame.replace(theirs, ours))
        except (asyncio.IncompleteReadError, OSError):
            pass
        client.close()
        broker.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
