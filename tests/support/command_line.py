"""The command line run inside the test: a command, and what it said where."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from broker.cli.main import run

__all__ = ["Transcript", "ftf_broker"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on stdout, which is nothing else."""
        return json.loads(self.out)


def ftf_broker(*arguments: str) -> Transcript:
    """Run ``ftf-broker`` with these arguments, its stdout and stderr being no terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    return Transcript(code, out.getvalue(), err.getvalue())
