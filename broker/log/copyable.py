"""A log as a copy of it is made: all of its topics, and messages written with the time that they had.

A copy that is not finished is marked. Whoever opens such a log for anything but copying is refused, since it
lacks messages that the original holds, or would give later ones a time that is not the log's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from broker.errors import LogUnavailable
from broker.log.protocol import Log, Partition, StoredMessage

__all__ = ["CopyableLog", "TopicShape", "unfinished"]


class TopicShape(NamedTuple):
    """What a topic is made with: its number of partitions, and whether it is compacted."""

    partitions: int
    compacted: bool


class CopyableLog(Log, Protocol):
    """A log that can be copied from, and be made as a copy."""

    @property
    def keeps_gaps(self) -> bool:
        """Whether a message can be put at an offset that is not the partition's end."""
        ...

    async def topics(self) -> Mapping[str, TopicShape]:
        """Return every topic of the log, by its name without the prefix."""
        ...

    async def begins(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset of each partition's first message, or its end if it has none."""
        ...

    async def is_unfinished(self) -> bool:
        """Tell whether this log is marked as a copy that is not finished."""
        ...

    async def begin_copy(self, topics: Mapping[str, TopicShape]) -> None:
        """Mark the log as an unfinished copy, and create these topics; what a copy began before goes on.

        Raises :class:`~broker.errors.UsageError` if the log has topics and is not marked.
        """
        ...

    async def put(self, partition: Partition, messages: Sequence[StoredMessage]) -> None:
        """Add messages of another log, all or none, at their offsets and with their times.

        In a compacted topic they stand behind the last message, whatever their offsets are. Raises
        :class:`~broker.errors.LogUnavailable` if one would not stand at its offset.
        """
        ...

    async def finish_copy(self) -> None:
        """Give the topics the settings of a log, and take the mark away."""
        ...


def unfinished(log: str) -> LogUnavailable:
    """Build the error for a log that is an unfinished copy."""
    return LogUnavailable(
        f"the log {log} is a copy that is not finished: it lacks messages of the original",
        hint="make the same copy again, which goes on where it stopped: ftf-broker log copy FROM TO",
    )
