"""Commands that run side by side, each in a process of its own, and what they wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from support.cli_coalition import CliCoalition

__all__ = ["Process", "numbers"]


class Process:
    """A command that runs in a process of its own."""

    def __init__(self, place: CliCoalition, name: str, *arguments: str | Path) -> None:
        self.said = place.folder / f"said-{len(list(place.folder.glob('said-*')))}"
        command = [sys.executable, "-c", "import sys; from broker.cli.main import main; sys.exit(main())"]
        with open(self.said, "wb") as said:
            self._process = subprocess.Popen(
                [*command, "--profile", str(place.profile(name)), *map(str, arguments)],
                stdout=said,
                stderr=said,
            )

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.poll() is None

    def ended(self, timeout_s: float = 120) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """Press Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.ended()

    def kill(self) -> None:
        """End it, if it runs."""
        self._process.kill()
        self._process.wait()


def numbers(file: Path) -> list[int]:
    """The numbers of the persons in a file of delivered records, as ``row`` gave them."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [
        int(str(json.loads(line)["record"]["body"]["subject"]["ref"]).rpartition("-")[2], 16)
        for line in lines
    ]
