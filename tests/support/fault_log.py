"""A log whose appends fail as planned: kept or not, known or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

from broker.errors import LogUnavailable, OutcomeUnknown
from broker.log import Log, Message, Partition, StoredMessage

__all__ = ["Fault", "FaultLog"]


class Fault(Enum):
    """What becomes of an append, or of a reading."""

    NONE = "succeeds"
    KEPT = "kept, acknowledgement lost"
    LOST = "not kept, acknowledgement lost"
    REFUSED = "refused"


@dataclass
class FaultLog:
    """Does what ``inner`` does, except that the next appends, and readings, go as planned."""

    inner: Log
    appends: list[Fault] = field(default_factory=list)
    reads: list[Fault] = field(default_factory=list)
    appended: list[tuple[Partition, tuple[Message, ...]]] = field(default_factory=list)
    """Every append that was tried."""

    @property
    def prefix(self) -> str:
        return self.inner.prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        self.appended.append((partition, tuple(messages)))
        fault = self.appends.pop(0) if self.appends else Fault.NONE
        if fault is Fault.REFUSED:
            raise LogUnavailable("refused, as planned")
        if fault is Fault.LOST:
            raise OutcomeUnknown("lost, as planned")
        first = await self.inner.append(partition, messages)
        if fault is Fault.KEPT:
            raise OutcomeUnknown("acknowledgement lost, as planned")
        return first

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        if self.reads and self.reads.pop(0) is not Fault.NONE:
            raise LogUnavailable("not readable, as planned")
        async for message in self.inner.read(partition, start, follow=follow):
            yield message

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return await self.inner.ends(partitions)

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
