"""The key access service in a process of its own, asked over a Unix socket: as it is deployed."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.coalition import Coalition, key_access
from bench.quiet import quiet
from broker.access.client import KeyAccess

__all__ = ["key_access_client", "key_access_process"]

_START_TIMEOUT_S = 60.0


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(size)


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@dataclass(slots=True)
class _Client:
    """One request after the other; the benchmark asks for nothing else."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def access(self, request: bytes, details: bytes) -> bytes:
        self.writer.write(_frame(request) + _frame(details))
        return await _read_frame(self.reader)

    async def collections(self, query: bytes) -> bytes:
        raise NotImplementedError("the benchmark does not ask for collections")


async def _serve(coalition: Coalition, ready: Connection) -> None:
    async with key_access(coalition) as service:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    request = await _read_frame(reader)
                    writer.write(_frame(await service.access(request, await _read_frame(reader))))
            except asyncio.IncompleteReadError:
                writer.close()

        await service.collect()
        server = await asyncio.start_unix_server(answer, _socket(coalition), limit=1 << 22)
        async with server:
            collecting = asyncio.create_task(service.run(), name="collect")
            ready.send(True)
            await asyncio.to_thread(ready.poll, None)  # until the other end is closed
            collecting.cancel()
            await asyncio.wait([collecting])


def _run(coalition: Coalition, ready: Connection) -> None:
    quiet()
    asyncio.run(_serve(coalition, ready))


def _socket(coalition: Coalition) -> Path:
    return coalition.folder / "kas.sock"


@asynccontextmanager
async def key_access_client(coalition: Coalition) -> AsyncIterator[KeyAccess]:
    """A client of the service that runs in its process."""
    reader, writer = await asyncio.open_unix_connection(_socket(coalition), limit=1 << 22)
    try:
        yield _Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def key_access_process(coalition: Coalition) -> AsyncIterator[KeyAccess]:
    """A client of a service that has taken over what the log holds; the process ends with the block."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(coalition, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not await asyncio.to_thread(ours.poll, _START_TIMEOUT_S):
            raise TimeoutError("the key access service did not start")
        ours.recv()
        async with key_access_client(coalition) as client:
            yield client
    finally:
        ours.close()
        await asyncio.to_thread(process.join)
