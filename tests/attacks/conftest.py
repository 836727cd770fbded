"""The fixture that gives each attack its own copy of the played log."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.simulator import Simulator


@pytest.fixture
def world(tmp_path: Path) -> Simulator:
    """A copy of the played log, which the adversary alters and everybody else observes."""
    return Simulator.copy(tmp_path)
