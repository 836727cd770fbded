"""The interface of a log: named partitions, to which messages are only ever added.

Everything above this interface works the same on every log. The contract of each method stands in its
docstring. One suite, ``tests/log/contract.py``, checks it for every implementation.

Errors
------
* :class:`~broker.errors.UsageError`: the caller asks for something that no log could do.
* :class:`~broker.errors.LogUnavailable`: the log cannot be reached, refuses the call, or lacks the topic or
  the partition.
* :class:`~broker.errors.LogUnreachable`, a kind of LogUnavailable: the log did not answer within its
  time-out. The same call may well succeed later.
* :class:`~broker.errors.OutcomeUnknown`, from ``append`` only: the messages may or may not be in the log.

A cancelled call leaves nothing running behind it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from broker.errors import UsageError

__all__ = [
    "MAX_APPEND_BYTES",
    "MAX_COPIED_BYTES",
    "MAX_OFFSET",
    "MAX_PARTITIONS",
    "MESSAGE_OVERHEAD_BYTES",
    "Log",
    "Message",
    "Partition",
    "StoredMessage",
    "append_bytes",
    "check_batch",
    "check_partitions",
    "check_prefix",
    "check_start",
    "check_topic",
    "physical",
]

MAX_APPEND_BYTES = 1_000_000
"""The most bytes in one append, as :func:`append_bytes` counts them.

The largest batch of our format (``MAX_BATCH_BYTES`` of broker/wire/limits.py) fits one append.
"""

MAX_COPIED_BYTES = 1_048_588
"""The most bytes of one message that a log holds: another producer than ours can append a little more to
Kafka than one append of ours takes, and it is copied like any other.
"""

MESSAGE_OVERHEAD_BYTES = 80
"""The bytes that are counted for each message beside its key and value; no log adds more to a message."""

MAX_PARTITIONS = 100_000
"""The most partitions of a topic: enough for a channel between each two of 447 agencies."""

MAX_OFFSET = 2**63 - 2
"""The largest offset. The end behind it, which is one more, still fits a signed 64-bit integer."""

# Kafka allows these characters in the name of a topic, and at most 249 of them: a prefix, a dot and a topic
# are at most 201. Topics are in lower case only, so that two names never differ by case alone.
_TOPIC = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Partition(NamedTuple):
    """An ordered run of messages: the topic's name without the prefix, and a number from 0 on."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message to append.

    Each message of a compacted topic needs a key. There, ``value=None`` deletes the value that the key had.
    """

    key: bytes | None
    value: bytes | None


class StoredMessage(NamedTuple):
    """A message as the log holds it.

    ``appended_at`` is in microseconds since 1970, UTC, and a whole millisecond. A stored time that is below 0
    or above 2^53 ms comes as 0, and a line in the program's log says so.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: int


class Log(Protocol):
    """A store that keeps messages in order. Use it as ``async with``, or call ``aclose`` in the end."""

    @property
    def prefix(self) -> str:
        """The beginning of the names of this log's topics: ``ftf`` unless another was configured."""
        ...

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Add messages, all or none, and return the offset of the first.

        They get contiguous offsets, with no other message between them, and are durable on return.
        ``appended_at`` is the time of the log's clock, and the same for all of them. That clock may be set
        back, so that it may be lower than that of the message before. An append takes at least one message,
        and at most :data:`MAX_APPEND_BYTES`.

        Raises :class:`~broker.errors.OutcomeUnknown` when the messages may or may not be in the log. A
        cancelled append is in the log whole or not at all. In both cases the caller finds out by reading the
        partition's tail and comparing.
        """
        ...

    def read(self, partition: Partition, start: int, *, follow: bool = False) -> AsyncIterator[StoredMessage]:
        """Yield the messages from offset ``start`` on, in the order of their offsets.

        Without ``follow``, the iterator stops where the partition ended when the reading began; it stops at
        once if ``start`` is there or beyond. With ``follow``, it waits for more messages, without being
        busy, and never stops by itself. Offsets have gaps where messages were deleted. The log does not
        check what it holds: a message comes as it is stored. The iterator may be abandoned at any time.

        While the log is away, a reader without ``follow`` gets LogUnreachable within the log's time-out. A
        reader with ``follow`` gets no error: it waits for as long as the outage lasts, and then goes on
        where it was. A line in the program's log says when an outage begins, another when it is over. Only
        cancelling the reader or closing the log ends this wait. An error that waiting cannot mend ends the
        reader at once: access is refused, the topic is missing.

        A reader with ``follow`` gets :class:`~broker.errors.LogForked` when the last message that it was
        given is not at its place any more, before it is given anything that stands behind it: the partition
        was cut, restored or made anew. So a compacted topic cannot be followed.
        """
        ...

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset behind the last message of each partition, which is 0 while it has no message.

        This takes one round trip for all of them. A log that can do so gives them all as of one moment.
        """
        ...

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has, which is 0 if there is no such topic."""
        ...

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic, or grow it to at least ``partitions`` partitions. A topic never shrinks.

        A compacted topic keeps only the newest message of each key in a partition. Whether a topic is
        compacted is settled when it is created. Raises :class:`~broker.errors.UsageError` when a topic
        exists and is of the other kind.
        """
        ...

    async def aclose(self) -> None:
        """Close the log; readers that still wait get a UsageError. Closing it again does no harm."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def physical(log: Log, topic: str) -> str:
    """Return a topic's name as the log's own tools show it: the prefix, a dot, and the logical name."""
    return f"{log.prefix}.{topic}"


def append_bytes(messages: Sequence[Message]) -> int:
    """Count the bytes of one append: keys, values, and the overhead of each message."""
    held = sum(len(message.key or b"") + len(message.value or b"") for message in messages)
    return held + MESSAGE_OVERHEAD_BYTES * len(messages)


def check_batch(messages: Sequence[Message]) -> None:
    """Raise a UsageError unless the messages can be appended at once."""
    if not messages:
        raise UsageError("no messages to append: an append needs at least one")
    size = append_bytes(messages)
    if size > MAX_APPEND_BYTES:
        raise UsageError(
            f"the {len(messages)} messages count as {size} bytes: an append takes at most {MAX_APPEND_BYTES}",
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
