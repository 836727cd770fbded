"""Log lines would stand between the numbers: only warnings are let through, to stderr."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["quiet"]


def quiet() -> None:
    """Say nothing below a warning from here on, in this process."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
