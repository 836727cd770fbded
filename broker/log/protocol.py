"""What a log is: named partitions of messages that are only ever added to.

Everything above this interface works the same on every log. The contract of each method stands
in its docstring and is checked for every implementation by one suite, ``tests/log/contract.py``.

Errors, wherever a log raises: :class:`~broker.errors.LogUnavailable` when the log cannot be
reached, refuses, or lacks the topic or the partition; of these
:class:`~broker.errors.LogUnreachable` when it gave up waiting, within the log's time-out, for what may
well be there later; :class:`~broker.errors.UsageError` when
the caller asks for what no log could do; from ``append`` also
:class:`~broker.errors.OutcomeUnknown`. A cancelled call leaves nothing running behind it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from broker.errors import UsageError

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_OFFSET",
    "MAX_PARTITIONS",
    "MESSAGE_OVERHEAD_BYTES",
    "Log",
    "Message",
    "Partition",
    "StoredMessage",
    "batch_bytes",
    "check_batch",
    "check_partitions",
    "check_prefix",
    "check_start",
    "check_topic",
    "physical",
]

MAX_BATCH_BYTES = 1_000_000
"""The most bytes in one append, as :func:`batch_bytes` counts them."""

MESSAGE_OVERHEAD_BYTES = 80
"""Counted for each message beside its key and value: more than any log adds to it."""

MAX_PARTITIONS = 100_000
"""The most partitions of a topic: a channel for each pair of 447 agencies."""

MAX_OFFSET = 2**63 - 2
"""The largest offset; one more, the end behind it, still fits a signed 64-bit integer."""

# Lower case, and of both alphabets what Kafka also allows in a topic name (at most 249 characters).
_TOPIC = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Partition(NamedTuple):
    """One ordered run of messages: the topic's name without the prefix, and a number from 0."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Message:
    """What is appended. A compacted topic needs a key; there ``value=None`` deletes what it had."""

    key: bytes | None
    value: bytes | None


class StoredMessage(NamedTuple):
    """A message as the log holds it. ``appended_at`` is in microseconds since 1970, UTC."""

    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: int


class Log(Protocol):
    """A place where messages are kept in order; use it as ``async with``, or ``aclose`` it."""

    @property
    def prefix(self) -> str:
        """What the names of this log's topics begin with: ``ftf`` unless configured."""
        ...

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Add messages, all or none, and return the offset of the first.

        They get contiguous offsets, no other message between them, and are durable on return.
        ``appended_at`` is the log's clock, the same for all of them, never lower than that of
        the message before. At least one message, at most :data:`MAX_BATCH_BYTES`.

        Raises :class:`~broker.errors.OutcomeUnknown` when the messages may or may not be in
        the log. A cancelled append is in the log whole or not at all, and nothing goes on
        behind it. Both are settled by reading the tail and comparing.
        """
        ...

    def read(self, partition: Partition, start: int, *, follow: bool = False) -> AsyncIterator[StoredMessage]:
        """Give the messages from offset ``start`` on, their offsets rising.

        Without ``follow`` it stops where the partition ended when the reading began (at once,
        if ``start`` is there or beyond); with it, it waits for more, without being busy, and
        never stops by itself. Offsets have gaps where messages were deleted. What the log
        holds is given as it is, true or not. The iterator may be abandoned at any time.

        While the log is away, without ``follow`` LogUnreachable is raised within the log's
        time-out. With it nothing is raised: it waits, for as long as it takes, with a line in
        the program's log when that begins and one when it is over, and goes on where it was.
        An outage ends it only when it is cancelled, or the log is closed. What waiting cannot
        mend (access refused, no such topic, a partition that was cut) ends it at once.
        """
        ...

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Tell the offset behind each partition's last message: 0 while it has none.

        One round trip for all of them, and one moment in time where the log can do that.
        """
        ...

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic, or grow it to at least so many partitions; it never shrinks.

        A compacted topic keeps only the newest message of each key of a partition. Whether a
        topic is compacted is settled when it is created: another wish later is a
        :class:`~broker.errors.UsageError`.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything; readers that still wait get a UsageError. Twice does no harm."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def physical(log: Log, topic: str) -> str:
    """Name a topic as the log's own tools show it: prefix and logical name, with a dot."""
    return f"{log.prefix}.{topic}"


def batch_bytes(messages: Sequence[Message]) -> int:
    """Count the bytes of one append: keys, values, and the overhead of each message."""
    held = sum(len(message.key or b"") + len(message.value or b"") for message in messages)
    return held + MESSAGE_OVERHEAD_BYTES * len(messages)


def check_batch(messages: Sequence[Message]) -> None:
    """Raise a UsageError unless the messages can be appended at once."""
    if not messages:
        raise UsageError("no messages to append: an append needs at least one")
    size = batch_bytes(messages)
    if size > MAX_BATCH_BYTES:
        raise UsageError(
            f"the {len(messages)} messages count as {size} bytes: an append takes at most {MAX_BATCH_BYTES}",
            hint="append fewer at once",
        )


def check_topic(topic: str) -> None:
    """Raise a UsageError unless this can be the logical name of a topic."""
    if _TOPIC.fullmatch(topic) is None:
        raise UsageError(
            f"invalid topic name {topic!r}",
            hint="at most 100 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
        )


def check_prefix(prefix: str) -> None:
    """Raise a UsageError unless this can be the prefix of a log's topics."""
    if _PREFIX.fullmatch(prefix) is None:
        raise UsageError(
            f"invalid prefix {prefix!r}",
            hint="at most 100 of a-z, A-Z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
        )


def check_partitions(partitions: int) -> None:
    """Raise a UsageError unless a topic can have so many partitions."""
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise UsageError(f"{partitions} partitions: a topic has at least 1 and at most {MAX_PARTITIONS}")


def check_start(start: int) -> None:
    """Raise a UsageError unless reading can begin at this offset."""
    if not 0 <= start <= MAX_OFFSET:
        raise UsageError(f"cannot read from offset {start}: offsets go from 0 to {MAX_OFFSET}")
