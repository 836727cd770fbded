"""The partitions of one channel, one in each topic, read side by side into windows of verified batches.

A *window* is what one access request covers: up to 16 batches, with the violations met between them,
in order. With an end each topic is read to it in turn; following, whichever topic has something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from broker.directory import Channel
from broker.log.outage import Outage, outlasting
from broker.log.protocol import Partition, StoredMessage
from broker.participant.participant import Participant
from broker.participant.reading import feed_read
from broker.participant.tasks import Tasks
from broker.subscribe.read_ahead import Feed
from broker.verify.partition import Event, PartitionReader, ReaderState, VerifiedBatch

__all__ = ["MAX_WINDOW", "ReaderSet", "Window"]

MAX_WINDOW = 16
"""Batches in a window: as many as one access request may name."""

_MAX_EVENTS = 1024
_TURNS = 3


@dataclass(slots=True)
class Window:
    """Events in order, each with its partition, and where each partition's reader stood behind its last."""

    events: list[tuple[Partition, Event]] = field(default_factory=list)
    behind: dict[Partition, ReaderState] = field(default_factory=dict)
    batches: int = 0

    @property
    def is_full(self) -> bool:
        """Tell whether no more should join."""
        return self.batches >= MAX_WINDOW or len(self.events) >= _MAX_EVENTS


@dataclass(slots=True, eq=False)
class _Source:
    reader: PartitionReader
    feed: Feed
    is_flushed: bool = False
    read_behind: int = 0


class ReaderSet:
    """Reads the channel's partition in each of these topics; tasks read ahead until ``aclose``.

    Without ``ends`` it follows; give it the ``outage`` too by which it waits while the log is away.
    """

    def __init__(
        self,
        participant: Participant,
        channel: Channel,
        states: Mapping[Partition, ReaderState],
        ends: Mapping[Partition, int] | None,
        tasks: Tasks,
        *,
        outage: Outage | None = None,
    ) -> None:
        self._participant = participant
        self._ring = asyncio.Event()
        self._sources: list[_Source] = []
        self._is_following = ends is None
        self._outage = outage
        for partition, state in states.items():
            reader = participant.reader(channel, partition.topic, state=state)
            end = None if ends is None else ends[partition]
            feed = Feed(participant.log, partition, reader.next_offset, end, self._ring)
            self._sources.append(_Source(reader, feed))
        self._tasks = [
            tasks.create_task(source.feed.run(), name=f"read {source.feed.partition.topic}/{channel.number}")
            for source in self._sources
        ]

    async def aclose(self) -> None:
        """Stop reading ahead."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def next_window(self) -> Window | None:
        """The next window with anything in it; None at the end of every partition.

        LogUnavailable where the log cannot be read, unless an outage is waited out. Cancelled, what was taken
        is lost to this set, and read again by one that starts from an earlier window's ``behind``.
        """
        return await (self._follow() if self._is_following else self._read_in_turn())

    async def _read_in_turn(self) -> Window | None:
        window = Window()
        for source in self._sources:
            while not source.is_flushed:
                if window.is_full:
                    return window
                self._ring.clear()
                message = source.feed.take()
                if message is not None:
                    await self._feed(source, message, window)
                elif source.feed.is_done:
                    source.is_flushed = True
                    partition = source.feed.partition
                    _add(window, partition, source.reader.flush())
                    window.behind[partition] = source.reader.snapshot()
                else:
                    await self._ring.wait()
        return window if window.events or window.behind else None

    async def _follow(self) -> Window | None:
        window, idle_turns = Window(), 0
        while True:
            self._ring.clear()
            is_idle = True
            for source in self._sources:
                while not window.is_full and (message := source.feed.take()) is not None:
                    is_idle = False
                    await self._feed(source, message, window)
            if window.is_full:
                return window
            if not is_idle:
                idle_turns = 0
            elif not window.events:
                await self._ring.wait()
            elif idle_turns < _TURNS:
                idle_turns += 1
                await asyncio.sleep(0)  # lets the feeds read what the log already has
            else:
                return window

    async def _feed(self, source: _Source, message: StoredMessage, window: Window) -> None:
        reader = source.reader
        participant = self._participant
        feed = partial(feed_read, participant.log, reader, participant.follower, message, source.read_behind)
        events, source.read_behind = await outlasting(self._outage, feed)
        if events:
            partition = source.feed.partition
            _add(window, partition, events)
            if isinstance(events[-1], VerifiedBatch):
                # Only here is nothing awaited and nothing unreported: resuming repeats and loses nothing.
                window.behind[partition] = reader.snapshot()


def _add(window: Window, partition: Partition, events: Sequence[Event]) -> None:
    for event in events:
        window.events.append((partition, event))
        window.batches += isinstance(event, VerifiedBatch)
