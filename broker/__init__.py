"""Signed, access-logged, replayable exchange of records between agencies.

What goes wrong is logged on stderr, unless structlog was told already, or is told later, where to.
"""

import logging
import sys

import structlog

__all__: list[str] = []


def _stderr(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)


# structlog prints everything to stdout until told otherwise, and stdout is the program's that imports us.
if not structlog.is_configured():
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=_stderr
    )
