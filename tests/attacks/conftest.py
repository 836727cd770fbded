"""A played log for each attack."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.simulator import Simulator


@pytest.fixture
def world(tmp_path: Path) -> Simulator:
    """The played log, copied, for an adversary to alter and for everybody else to notice."""
    return Simulator.copy(tmp_path)
