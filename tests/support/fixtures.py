"""What the tests of exchange and of participant share as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.log import outage
from broker.participant import settle
from support.world import World

__all__ = ["quick_retries", "world"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A coalition on an embedded log of its own."""
    async with World.open(tmp_path) as world:
        yield world


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once, so that no test waits."""
    monkeypatch.setattr(settle, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(outage, "_FIRST_PAUSE_S", 0.0)
