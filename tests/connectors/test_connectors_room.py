"""What is in the room of the connectors."""

from __future__ import annotations

import ast
from pathlib import Path

import connectors

ALLOWED = {"errors", "files", "avro", "records"}


def test_connectors_import_little_of_the_broker() -> None:
    """A connector knows errors, files, schemas and records, and no keys, log or command line."""
    found = set()
    for path in Path(connectors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found |= {name.split(".")[1] for name in names if name.startswith("broker.")}
    assert found <= ALLOWED
