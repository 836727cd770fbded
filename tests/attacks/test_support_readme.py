"""The page that says how to write a test and an attack: its examples run as they stand there."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.verify.violations import Kind, Place
from support.coalition import POLICE_B
from support.deliveries import delivered_refs
from support.simulator import Simulator
from support.world import World

PAGE = Path(__file__).parents[1] / "support" / "README.md"


def _examples() -> dict[str, Callable[..., Any]]:
    """The functions in the page's Python blocks, by name, with the names that its text speaks of."""
    names: dict[str, Any] = {
        "Kind": Kind,
        "POLICE_B": POLICE_B,
        "Path": Path,
        "Place": Place,
        "Simulator": Simulator,
        "World": World,
        "delivered_refs": delivered_refs,
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
    return {name: thing for name, thing in names.items() if name.startswith("test_")}


def test_every_module_has_its_row() -> None:
    """The page names each module of tests/support, and no module that is not there."""
    named = set(re.findall(r"`([a-z_]+\.py)`", PAGE.read_text()))
    assert named == {file.name for file in PAGE.parent.glob("*.py")} - {"fixtures.py"}


@pytest.mark.parametrize("name", sorted(_examples()))
async def test_an_example_runs(name: str, world: Simulator, tmp_path: Path) -> None:
    """Each example passes, with the fixtures that it asks for."""
    example = _examples()[name]
    if inspect.iscoroutinefunction(example):
        folder = tmp_path / "own"
        folder.mkdir()
        await example(folder)
        return
    # The simulator runs event loops of its own, which must not be inside this one.
    await asyncio.to_thread(example, world)
