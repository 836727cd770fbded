"""A log that takes a moment for each call, another one each time, so that what happens at once crosses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from broker.log import Log, Message, Partition, StoredMessage

__all__ = ["SlowLog"]

_LONGEST_S = 0.004


@dataclass
class SlowLog:
    """Does what ``inner`` does, some milliseconds before or after its caller would have thought."""

    inner: Log
    rng: random.Random

    @property
    def prefix(self) -> str:
        return self.inner.prefix

    async def _moment(self) -> None:
        await asyncio.sleep(self.rng.choice((0.0, 0.0, self.rng.random() * _LONGEST_S)))

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        await self._moment()
        offset = await self.inner.append(partition, messages)
        await self._moment()
        return offset

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        await self._moment()
        async for message in self.inner.read(partition, start, follow=follow):
            yield message

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        ends = await self.inner.ends(partitions)
        await self._moment()
        return ends

    async def partitions(self, topic: str) -> int:
        return await self.inner.partitions(topic)

    async def ensure(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        await self.inner.ensure(topic, partitions, compacted=compacted)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
