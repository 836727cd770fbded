"""A program that imports the broker keeps its stdout."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SAY = (
    "structlog.get_logger('broker.log').debug('small'); structlog.get_logger('broker.log').warning('large')"
)

_TO_STDOUT = "structlog.configure(logger_factory=structlog.PrintLoggerFactory())"


@pytest.mark.parametrize(
    ("program", "on_stdout"),
    [
        (f"import broker, structlog; {_SAY}", []),
        (f"import structlog, broker.publish.publisher; {_SAY}", []),
        (f"import structlog; structlog.configure(); import broker; {_SAY}", ["small", "large"]),
        (f"import broker, structlog; {_TO_STDOUT}; {_SAY}", ["large"]),
    ],
)
def test_what_the_library_logs_goes_to_stderr_unless_told_otherwise(
    program: str, on_stdout: list[str]
) -> None:
    """Warnings only, on stderr; a program that configures structlog, before or after, has its way."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert [word for word in ("small", "large") if word in done.stdout] == on_stdout
    assert ("large" in done.stderr) == (on_stdout == [])
    assert "small" not in done.stderr
