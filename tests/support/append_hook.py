"""A log on which something happens at the appends to one topic: around a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from broker.log import Log, Message, Partition, StoredMessage

__all__ = ["AppendHook"]


class AppendHook:
    """Does what ``inner`` does; ``then`` is called at the ``after``-th append to a topic, or behind it."""

    def __init__(
        self, inner: Log, topic: str, after: int, *, is_behind: bool, then: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._topic = topic
        self._left = after
        self._is_behind = is_behind
        self._then = then

    @property
    def prefix(self) -> str:
        return self._inner.prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        self._left -= partition.topic == self._topic
        happens = self._left == 0 and partition.topic == self._topic
        if happens and not self._is_behind:
            self._then()
        offset = await self._inner.append(partition, messages)
        if happens:
            self._then()
        return offset

    def read(self, partition: Partition, start: int, *, follow: bool = False) -> AsyncIterator[StoredMessage]:
        return self._inner.read(partition, start, follow=follow)

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return await self._inner.ends(partitions)

    async def partitions(self, topic: str) -> int:
        return await self._inner.partitions(topic)

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        await self._inner.ensure(topic, partitions, compacted=compacted)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
