"""Settling an append: when its outcome is unknown, the end of the partition is read to find out.

    append ──▶ offset                                            settled
       ├─ OutcomeUnknown ──▶ read the tail ─┬─ found ──▶ offset  settled
       │                                    └─ not found ──▶ append the same bytes again
       ├─ LogUnavailable ──▶ append the same bytes again
       └─ any other error                                        failed for good

While an outcome is unknown nothing is appended before the tail, the messages at the partition's end, was
read. The same bytes are appended each time: an append that comes to light later, after the tail was read, is
then only a copy of the same batch, and readers count a copy once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from broker.errors import LogUnavailable, OutcomeUnknown
from broker.log.pause import pause_s
from broker.log.protocol import Log, Message, Partition, StoredMessage
from broker.logger import get_logger

__all__ = ["ATTEMPTS", "append_settled", "backoff_s", "find_messages", "match_messages"]

ATTEMPTS = 6
"""The most attempts; an attempt is an append, or the reading of the tail that settles one."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0

_log = get_logger("broker.participant")


class _Matcher:
    """Looks among stored messages for a run of messages that stand whole and side by side."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._wanted = [(message.key, message.value) for message in messages]
        self._seen: list[int] = []
        """How many messages of the run have come, for each run that may have begun; longest first.

        There may be several, since a run can begin in the middle of another: in A A B the run A B begins
        at the second A.
        """
        self._next = -1

    def feed(self, stored: StoredMessage) -> int | None:
        """Take the next stored message; return the offset of the run's first message if it ends here."""
        wanted = self._wanted
        found = (stored.key, stored.value)
        before = self._seen if stored.offset == self._next else []  # A gap ends every run.
        self._next = stored.offset + 1
        self._seen = [count + 1 for count in (*before, 0) if wanted[count] == found]
        if self._seen and self._seen[0] == len(wanted):
            return stored.offset - len(wanted) + 1
        return None


def match_messages(stored: Iterable[StoredMessage], messages: Sequence[Message]) -> int | None:
    """Return the offset at which these messages stand, with nothing between them; None if nowhere."""
    matcher = _Matcher(messages)
    offsets = map(matcher.feed, stored)
    return next((offset for offset in offsets if offset is not None), None)


async def find_messages(
    log: Log, partition: Partition, messages: Sequence[Message], start: int
) -> int | None:
    """Look for these messages in a partition, from ``start`` to its present end; see ``match_messages``."""
    matcher = _Matcher(messages)
    async for stored in log.read(partition, start):
        if (found := matcher.feed(stored)) is not None:
            return found
    return None


def backoff_s(attempt: int) -> float:
    """Return the pause in seconds after this attempt, counted from 1: doubling, with jitter, at most five."""
    return pause_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)


async def append_settled(
    log: Log,
    partition: Partition,
    messages: Sequence[Message],
    *,
    start: int | None = None,
    attempts: int = ATTEMPTS,
    was_tried: bool = False,
) -> int:
    """Append these messages once, and return the offset of the first.

    ``start`` is an offset at or before the partition's end as it is before the append; without it the log is
    asked for its end. ``was_tried`` says that these messages may have been appended before, behind ``start``:
    the tail is read first. Raises LogUnavailable when ``attempts`` were not enough, and OutcomeUnknown when
    the messages may be in the log all the same. Cancelled, the log holds all of the messages or none.
    """
    # True while an append was tried whose messages may or may not be in the log.
    unknown = was_tried
    for attempt in range(1, attempts + 1):
        try:
            # The end is asked for before the first append, because the tail that settles it begins here.
            if start is None:
                start = (await log.ends([partition]))[partition]
            if unknown and (found := await find_messages(log, partition, messages, start)) is not None:
                _log.info("append settled", topic=partition.topic, partition=partition.number, offset=found)
                return found
            # The tail was read and does not hold the messages. Only now may the same bytes be appended again.
            unknown = False
            return await log.append(partition, messages)
        except (OutcomeUnknown, LogUnavailable) as error:
            # A LogUnavailable of the reading that should settle an append leaves the outcome unknown.
            unknown = unknown or isinstance(error, OutcomeUnknown)
            _log.warning(
                "append retried" if attempt < attempts else "append failed",
                topic=partition.topic,
                partition=partition.number,
                attempt=attempt,
                attempts=attempts,
                outcome="unknown" if unknown else "not appended",
                error=error.message,
            )
            if attempt == attempts:
                if unknown and not isinstance(error, OutcomeUnknown):
                    raise OutcomeUnknown(f"an append to {partition.topic} is not settled") from error
                raise
        await asyncio.sleep(backoff_s(attempt))
    # Only a caller that allows no attempt comes here.
    raise LogUnavailable(f"no attempt to append to {partition.topic}")
