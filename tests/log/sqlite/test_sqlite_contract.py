"""The embedded log keeps the contract of logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broker.log import Log, SqliteLog
from log.contract import Connect, LogContract


class TestSqliteLog(LogContract):
    """Every test of the contract, on one file."""

    @pytest.fixture
    async def connect(self, tmp_path: Path) -> AsyncIterator[Connect]:
        """Open the same file anew each time."""
        async with AsyncExitStack() as stack:

            async def connect() -> Log:
                return await stack.enter_async_context(await SqliteLog.open(tmp_path / "log.db"))

            yield connect
