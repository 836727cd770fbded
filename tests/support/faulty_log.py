"""A log that fails when it is told to, and shows old ends: around a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from broker.errors import BrokerError
from broker.log.protocol import Log, Message, Partition, StoredMessage

__all__ = ["FaultyLog"]

Hook = Callable[[], Awaitable[None]]


class FaultyLog:
    """Delegates to ``log``; ``fail_before`` and ``fail_after`` raise once, around the next append to a topic.

    ``before_append`` and ``after_append`` run once around the next append to a topic,
    ``after_ends`` between the next ends and their answer; ``old_ends`` are
    answered instead of the real ones; what stands at or above a ``hidden`` offset is not given;
    ``ends_asked`` keeps what was asked for in each call.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.fail_before: dict[str, BrokerError] = {}
        self.fail_after: dict[str, BrokerError] = {}
        self.before_append: dict[str, Hook] = {}
        self.after_append: dict[str, Hook] = {}
        self.hidden: dict[Partition, int] = {}
        self.after_ends: Hook | None = None
        self.old_ends: dict[Partition, int] = {}
        self.ends_asked: list[tuple[Partition, ...]] = []

    @property
    def prefix(self) -> str:
        """As the real one."""
        return self.log.prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        """Append, or fail before or behind it."""
        if partition.topic in self.fail_before:
            raise self.fail_before.pop(partition.topic)
        if partition.topic in self.before_append:
            await self.before_append.pop(partition.topic)()
        offset = await self.log.append(partition, messages)
        if partition.topic in self.after_append:
            await self.after_append.pop(partition.topic)()
        if partition.topic in self.fail_after:
            raise self.fail_after.pop(partition.topic)
        return offset

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """What is not hidden."""
        async for message in self.log.read(partition, start, follow=follow):
            if message.offset >= self.hidden.get(partition, message.offset + 1):
                return
            yield message

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The real ends, but for the old ones."""
        asked = tuple(partitions)
        self.ends_asked.append(asked)
        found = await self.log.ends(asked)
        if self.after_ends is not None:
            hook, self.after_ends = self.after_ends, None
            await hook()
        shown = {one: min(end, self.hidden.get(one, end)) for one, end in found.items()}
        return {one: self.old_ends.get(one, end) for one, end in shown.items()}

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """As the real one."""
        await self.log.ensure(topic, partitions, compacted=compacted)

    async def aclose(self) -> None:
        """The real one belongs to somebody else."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
