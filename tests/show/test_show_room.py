"""The room ``show`` gives values only, so that pages can use it as well as the command line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import broker.show

MODULES = sorted(Path(broker.show.__file__).parent.glob("*.py"))
TERMINAL = {"broker.cli", "click", "rich", "sys"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_nothing_is_printed_here(path: Path) -> None:
    """No module knows a terminal: it imports nothing that does, and calls no print."""
    tree = ast.parse(path.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert not [name for name in imported for known in TERMINAL if f"{name}.".startswith(f"{known}.")]
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "print" not in called
