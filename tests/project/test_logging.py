"""A program that imports the broker keeps its stdout."""

from __future__ import annotations

import subprocess
import sys

import pytest

import broker

_SAY = (
    "from broker.logger import get_logger; log = get_logger('broker.log'); "
    "log.debug('small'); log.warning('large')"
)

_TO_STDOUT = "structlog.configure(logger_factory=structlog.PrintLoggerFactory())"


@pytest.mark.parametrize(
    ("program", "on_stdout"),
    [
        (f"import broker, structlog; {_SAY}", []),
        (f"import structlog, broker.publish.publisher; {_SAY}", []),
        (f"import structlog; structlog.configure(); import broker; {_SAY}", ["small", "large"]),
        (f"import broker, structlog; {_TO_STDOUT}; {_SAY}", ["small", "large"]),
    ],
)
def test_what_the_library_logs_goes_to_stderr_unless_told_otherwise(
    program: str, on_stdout: list[str]
) -> None:
    """Only warnings are written, to stderr; once a program configures structlog, its configuration counts."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert [word for word in ("small", "large") if word in done.stdout] == on_stdout
    assert ("large" in done.stderr) == (on_stdout == [])
    assert "small" not in done.stderr


def test_importing_the_broker_changes_nothing_in_the_program() -> None:
    """The host's structlog, logging, warnings and streams are what they were before the import."""
    rooms = "broker.cli.main, broker.services.key_access, broker.audit.replay, broker.log.kafka.kafka_log"
    program = f"""
import logging, sys, warnings
import structlog
def state():
    return (
        structlog.is_configured(), repr(structlog.get_config()), logging.root.handlers[:], logging.root.level,
        logging.lastResort, warnings.filters[:], sys.stdout, sys.stderr, sys.excepthook,
    )
before = state()
import broker, {rooms}
broker.open_profile
assert state() == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_importing_the_broker_loads_nothing_else() -> None:
    """A name of the package is loaded when it is used, so that importing it takes no time."""
    program = "import sys, broker; print(*(name for name in sys.modules if name.startswith('broker')))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["broker"]


@pytest.mark.parametrize("name", broker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What the package names as public can be imported from it; another name is an AttributeError."""
    assert getattr(broker, name) is not None
    assert name in dir(broker)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(broker, f"{name}_")
