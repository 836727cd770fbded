"""The SQLite log keeps the contract of logs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from broker.log import SqliteLog
from log.contract import Away, Connect, LogAway, LogContract

# What a program does that finds the file as a crash has left it, and repairs it: it holds the locks for
# writing and for recovery (https://sqlite.org/walformat.html, "WAL Locks"), and the index is not valid.
REPAIRING = """
import fcntl, os, sys
index = os.open(sys.argv[1] + "-shm", os.O_RDWR)
fcntl.lockf(index, fcntl.LOCK_EX, 3, 120)
os.pwrite(index, bytes(48), 0)
print("away", flush=True)
sys.stdin.readline()
"""


class TestSqliteLog(LogContract):
    """Every test of the contract, on one file."""

    @pytest.fixture
    async def connect(self, tmp_path: Path) -> AsyncIterator[Connect]:
        """Return a function that opens the same file anew each time."""
        async with AsyncExitStack() as stack:

            async def connect() -> SqliteLog:
                return await stack.enter_async_context(await SqliteLog.open(tmp_path / "log.db"))

            yield connect

    @pytest.fixture
    async def again(self, tmp_path: Path) -> AsyncIterator[Connect]:
        """Open the same file, finished or not."""
        async with AsyncExitStack() as stack:

            async def again() -> SqliteLog:
                log = await SqliteLog.open(tmp_path / "log.db", may_be_unfinished=True)
                return await stack.enter_async_context(log)

            yield again

    @pytest.fixture
    def away(self, tmp_path: Path) -> Away:
        """Let another process have the file to itself, for longer than a call waits for that."""
        path = tmp_path / "log.db"

        @asynccontextmanager
        async def repaired() -> AsyncIterator[None]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", REPAIRING, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"away\n"
            try:
                yield
            finally:
                await process.communicate(b"\n")

        @asynccontextmanager
        async def away() -> AsyncIterator[LogAway]:
            async with await SqliteLog.open(path, busy_timeout_s=0.05) as log:
                yield LogAway(log, repaired)

        return away
