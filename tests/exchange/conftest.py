"""A coalition on a log for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.exchange import settle
from support.exchange import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A coalition on an embedded log of its own."""
    async with World.open(tmp_path) as world:
        yield world


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once, so that no test waits."""
    monkeypatch.setattr(settle, "_FIRST_PAUSE_S", 0.0)
