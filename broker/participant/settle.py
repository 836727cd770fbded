"""Settling an append whose outcome is unknown: by reading the tail, never by guessing.

    append ──▶ offset                                            settled
       ├─ OutcomeUnknown ──▶ read the tail ─┬─ found ──▶ offset  settled
       │                                    └─ not found ──▶ append the same bytes again
       ├─ LogUnavailable ──▶ append the same bytes again
       └─ any other error                                        failed for good

While an outcome is unknown nothing is appended before the tail was read. The bytes are the same each
time, so that even an append which comes to light later is only a copy, and a copy counts once.
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
"""How often an append, or the reading that settles it, is tried."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0

_log = get_logger("broker.exchange")


class _Matcher:
    """Looks for a run of messages, contiguous and whole, among stored ones."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._wanted = [(message.key, message.value) for message in messages]
        self._seen: list[int] = []
        self._next = -1

    def feed(self, stored: StoredMessage) -> int | None:
        """Take the next stored message; the offset of the run's first once its last has come."""
        wanted, found = self._wanted, (stored.key, stored.value)
        before = self._seen if stored.offset == self._next else []
        self._next = stored.offset + 1
        self._seen = [count + 1 for count in (*before, 0) if wanted[count] == found]
        if self._seen and self._seen[0] == len(wanted):
            return stored.offset - len(wanted) + 1
        return None


def match_messages(stored: Iterable[StoredMessage], messages: Sequence[Message]) -> int | None:
    """The offset at which these messages stand, whole and with nothing between them; None if nowhere."""
    matcher = _Matcher(messages)
    return next((found for one in stored if (found := matcher.feed(one)) is not None), None)


async def find_messages(
    log: Log, partition: Partition, messages: Sequence[Message], start: int
) -> int | None:
    """``match_messages`` over a partition from ``start`` to its present end."""
    matcher = _Matcher(messages)
    async for stored in log.read(partition, start):
        if (found := matcher.feed(stored)) is not None:
            return found
    return None


def backoff_s(attempt: int) -> float:
    """How long to wait after this attempt, counted from 1: doubling, with jitter, at most five seconds."""
    return pause_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)


async def append_settled(
    log: Log,
    partition: Partition,
    messages: Sequence[Message],
    *,
    start: int | None = None,
    attempts: int = ATTEMPTS,
) -> int:
    """Append these messages once and return the offset of the first.

    ``start`` is an offset known to be at or before the partition's end before the append, by default
    asked of the log. OutcomeUnknown or LogUnavailable when ``attempts`` were not enough; the first
    says that the messages may yet be in the log. Cancelled, they are in the log whole or not at all.
    """
    unknown = False
    for attempt in range(1, attempts + 1):
        try:
            if start is None:
                start = (await log.ends([partition]))[partition]
            if unknown and (found := await find_messages(log, partition, messages, start)) is not None:
                _log.info("append settled", topic=partition.topic, partition=partition.number, offset=found)
                return found
            unknown = False
            return await log.append(partition, messages)
        except (OutcomeUnknown, LogUnavailable) as error:
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
    raise LogUnavailable(f"no attempt to append to {partition.topic}")
