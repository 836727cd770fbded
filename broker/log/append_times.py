"""Append times: whole milliseconds of the log's clock, and those that no clock gives.

``StoredMessage.appended_at`` is in microseconds, as all times in this program, and always a whole
millisecond, which is what both logs keep. Nobody signs it: it is the clock of whoever stores it, and it may
fall from one message to the next. A time below 0 or above 2^53 ms counts as 0 (schemas/README.md, "The
messages of a partition").
"""

from __future__ import annotations

import time

from broker.log.protocol import StoredMessage
from broker.logger import get_logger

__all__ = ["MAX_APPENDED_MS", "NO_TIME", "AppendTimes", "microseconds", "now_ms"]

MAX_APPENDED_MS = 2**53
"""The latest append time that counts, in milliseconds since 1970: the largest of which every program that
reads JSON numbers knows the last digit."""

NO_TIME = -1
"""``appended_at`` of a message whose stored time does not count, before a log gives it to a reader as 0."""


def now_ms() -> int:
    """Return the time of this machine's clock in whole milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def microseconds(milliseconds: int) -> int:
    """Return a stored time as ``appended_at`` has it: NO_TIME if it does not count."""
    return milliseconds * 1000 if 0 <= milliseconds <= MAX_APPENDED_MS else NO_TIME


class AppendTimes:
    """The partitions of one open log in which a time was met that does not count; each is reported once."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._reported: set[tuple[str, int]] = set()

    def counted(self, message: StoredMessage, topic: str, number: int) -> StoredMessage:
        """Return a message whose time is NO_TIME with the time 0, and report its partition."""
        if (topic, number) not in self._reported:
            self._reported.add((topic, number))
            get_logger("broker.log").warning(
                "a message has a time that no clock gives, which counts as 0",
                log=self._log,
                topic=topic,
                partition=number,
                offset=message.offset,
            )
        return message._replace(appended_at=0)
