"""A log around a real one, which fails and shows old ends as a test plans it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

from broker.errors import BrokerError, LogUnavailable, LogUnreachable, OutcomeUnknown
from broker.log import Log, Message, Partition, StoredMessage

__all__ = ["Fault", "FaultLog"]

Hook = Callable[[], Awaitable[None]]


class Fault(Enum):
    """The outcome that is planned for an append or a read."""

    NONE = "succeeds"
    KEPT = "kept, acknowledgement lost"
    LOST = "not kept, acknowledgement lost"
    REFUSED = "refused"


@dataclass
class FaultLog:
    """A log that does what ``inner`` does, except for the faults that are planned.

    * ``appends`` and ``reads`` are the outcomes of the next appends and reads, in any topic.
    * ``fail_before`` and ``fail_after`` hold an error for a topic, raised once, before or after its next
      append; ``before_append`` and ``after_append`` hold a function that runs once there.
    * ``after_ends`` runs once, between the next question for ends and its answer. ``old_ends`` are answered
      in place of the real ends.
    * Messages at or above a partition's ``hidden`` offset are not read.
    * The log is ``away`` for this number of calls, which raise LogUnreachable: appends, ends, and reads to an
      end.
    """

    inner: Log
    appends: list[Fault] = field(default_factory=list)
    reads: list[Fault] = field(default_factory=list)
    appended: list[tuple[Partition, tuple[Message, ...]]] = field(default_factory=list)
    """Every append that was tried."""
    fail_before: dict[str, BrokerError] = field(default_factory=dict)
    fail_after: dict[str, BrokerError] = field(default_factory=dict)
    before_append: dict[str, Hook] = field(default_factory=dict)
    after_append: dict[str, Hook] = field(default_factory=dict)
    after_ends: Hook | None = None
    old_ends: dict[Partition, int] = field(default_factory=dict)
    hidden: dict[Partition, int] = field(default_factory=dict)
    away: int = 0
    ends_asked: list[tuple[Partition, ...]] = field(default_factory=list)
    """The partitions of each call of ``ends``."""

    @property
    def prefix(self) -> str:
        return self.inner.prefix

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        self._give_up()
        self.appended.append((partition, tuple(messages)))
        fault = self.appends.pop(0) if self.appends else Fault.NONE
        if fault is Fault.REFUSED:
            raise LogUnavailable("refused, as planned")
        if fault is Fault.LOST:
            raise OutcomeUnknown("lost, as planned")
        if partition.topic in self.fail_before:
            raise self.fail_before.pop(partition.topic)
        if partition.topic in self.before_append:
            await self.before_append.pop(partition.topic)()
        first = await self.inner.append(partition, messages)
        if partition.topic in self.after_append:
            await self.after_append.pop(partition.topic)()
        if partition.topic in self.fail_after:
            raise self.fail_after.pop(partition.topic)
        if fault is Fault.KEPT:
            raise OutcomeUnknown("acknowledgement lost, as planned")
        return first

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        if not follow:
            self._give_up()
        if self.reads and self.reads.pop(0) is not Fault.NONE:
            raise LogUnavailable("not readable, as planned")
        async for message in self.inner.read(partition, start, follow=follow):
            if message.offset >= self.hidden.get(partition, message.offset + 1):
                return
            yield message

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        self._give_up()
        asked = tuple(partitions)
        self.ends_asked.append(asked)
        found = await self.inner.ends(asked)
        if self.after_ends is not None:
            hook = self.after_ends
            self.after_ends = None
            await hook()
        shown = {partition: min(end, self.hidden.get(partition, end)) for partition, end in found.items()}
        return {partition: self.old_ends.get(partition, end) for partition, end in shown.items()}

    def _give_up(self) -> None:
        if self.away:
            self.away -= 1
            raise LogUnreachable("away, as planned")

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
