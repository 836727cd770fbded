"""deploy/README.md: its commands lead from nothing to a running coalition, on brokers of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import kafka_jvm
from support.document import Shell, Step, play, steps
from support.kafka import none_there

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
PORT = 19191  # the document's; a cluster of the person who runs the tests may be there
SIX = 6


def free_ports_in_a_row() -> int:
    """Find the first of six ports in a row that nobody listens on."""
    for first in range(PORT + 1000, 32_000, SIX):
        with ExitStack() as held:
            try:
                for port in range(first, first + SIX):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no six free ports in a row")


def with_ports(text: str, first: int) -> str:
    """Replace the document's ports in a text by ours."""
    for number in range(SIX):
        text = text.replace(str(PORT + number), str(first + number))
    return text


def test_the_readme_leads_from_nothing_to_a_running_coalition(tmp_path: Path) -> None:
    """Each command of the document runs as it stands, and prints what the document shows."""
    if (obstacle := kafka_jvm.missing()) is not None:
        none_there(f"this test runs brokers of its own; {obstacle}")
    for folder in ("deploy", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    first = free_ports_in_a_row()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FTF_", "MAKE"))}
    programs = Path(sys.executable).parent
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "COLUMNS": "100",
        "FTF_CLUSTER_PORT": str(first),
    }  # fmt: skip
    text = with_ports((ROOT / "deploy" / "README.md").read_text(), first)
    try:
        with Shell(tmp_path, environment) as shell:
            try:
                play(shell, steps(text))
            finally:
                shell.run("kill $KAS 2>/dev/null; true")
    finally:
        down = [sys.executable, str(tmp_path / "deploy" / "cluster.py"), "down"]
        subprocess.run(down, env=environment, check=True, capture_output=True)


def test_the_readme_is_followed_step_by_step() -> None:
    """Each step stands in blocks that the test runs; only containers are described in words."""
    text = (ROOT / "deploy" / "README.md").read_text()
    commands = [step.command for step in steps(text)]
    for word in (
        "make cluster-up",
        "log topics",
        "apply.sh",
        "log check",
        "init",
        "channel open",
        "channel rotate",
        "kas run",
        "publish",
        "subscribe",
        "audit replay",
        "cluster.py restart",
        "cluster-down",
    ):
        assert any(word in command for command in commands), word
    assert not [command for command in commands if "docker" in command]
    assert Step("cd amber", ()) in steps(text)
