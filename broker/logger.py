"""Log lines of the library: warnings on stderr, or wherever the host program sends its own lines.

A program that imports this library keeps its structlog as it is. Until somebody configures structlog, it
prints every line to stdout, which belongs to the program. So in that state this library writes to stderr, and
only warnings. From the moment that the program configures structlog, before or after it imports the library,
its configuration counts.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

__all__ = ["get_logger"]


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a room of this package, such as ``broker.log``."""
    # A cast, because mypy cannot see that __getattr__ below answers for every method of a logger.
    return cast(structlog.typing.FilteringBoundLogger, _Deferred(room))


class _Deferred:
    """A logger that looks, at each line, whether the host has configured structlog by now."""

    __slots__ = ("_room",)

    def __init__(self, room: str) -> None:
        self._room = room

    def __getattr__(self, method: str) -> Any:
        if structlog.is_configured():
            return getattr(structlog.get_logger(self._room), method)
        # The logger is not kept: at the next line sys.stderr may be another file, as in a test or a daemon.
        printed = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            # With repr() no text of a peer reaches a terminal unescaped.
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.dev.ConsoleRenderer(colors=False, repr_native_str=True),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        )
        return getattr(printed, method)
