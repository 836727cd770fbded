"""The file of rejects on the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from connectors.rejects import Rejects


def test_the_file_of_rejects_is_durable_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the run ends, the bytes of the file are synced first, and then the folder that names it."""
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", sync)
    with Rejects(tmp_path / "rows.rejects.jsonl") as rejects:
        rejects.add(7, ["no purpose"], {"ref": "1"})
    assert synced == ["file", "folder"]
