"""Readers of one channel: its partition in each topic, read side by side into windows of verified batches.

A *window* has up to 16 batches, and the violations between them, in order. Its records are asked for before
any of them is handed over, by one access request for each issuer.
Up to an end, one topic is read after another, so that windows are full. Without an end, a window takes
whatever any topic has, and is given out when nothing more comes at once: a record must not wait for fifteen
others.

A reader's position is stored only as it stood right after a verified batch (``Window.behind``). There the
reader waits for no body and has reported everything, so that resuming from it repeats nothing and loses
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from broker.crypto.log_tree import Frontier, LogTree
from broker.directory import Channel
from broker.log.outage import Outage, outlasting
from broker.log.protocol import Partition, StoredMessage
from broker.participant.participant import Participant
from broker.participant.reading import feed_read, last_read
from broker.participant.tasks import Tasks
from broker.subscribe.read_ahead import ReadAhead
from broker.verify.partition import Event, PartitionReader, ReaderState, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.manifest import TopicHead

__all__ = ["MAX_WINDOW", "ReaderSet", "Window"]

MAX_WINDOW = 16
"""Batches in a window: as many as one access request may name, since all may have one issuer."""

_MAX_EVENTS = 1024
"""Events in a window: without this bound, a flood of violations without a batch would fill the memory."""
_MAX_LEAVES = 8192
"""Leaves of a partition's tree that are kept, at most, between two windows."""
_TURNS = 3
"""Turns of the event loop without a message, after which a window is given out while following."""


@dataclass(slots=True)
class Window:
    """Events in order, each with its partition, and the readers' positions behind them.

    ``ReaderSet`` fills it; after that nothing changes it.
    """

    events: list[tuple[Partition, Event]] = field(default_factory=list)
    behind: dict[Partition, ReaderState] = field(default_factory=dict)
    """Where reading goes on once everything in the window is done; only partitions that moved are named."""
    seen: dict[str, TopicHead] = field(default_factory=dict)
    """How far each topic of its batches was read, with the root there, when the window was given out."""
    faults: dict[Partition, dict[int, bytes]] = field(default_factory=dict)
    """The leaf of each message that was not as it must be, by its offset."""
    batches: int = 0

    @property
    def is_full(self) -> bool:
        """Tell whether no more events should be added."""
        return self.batches >= MAX_WINDOW or len(self.events) >= _MAX_EVENTS


@dataclass(slots=True, eq=False)
class _Source:
    reader: PartitionReader
    ahead: ReadAhead
    is_flushed: bool = False
    read_behind: int = 0
    """See ``broker.participant.reading.feed_read``."""

    def forget_leaves(self) -> None:
        """Drop what no position and no receipt to come can ask for, so that memory stays flat."""
        tree = self.reader.tree
        if tree is not None and tree.kept > _MAX_LEAVES and tree.last is not None:
            self.reader.tree = tree.copy(self.reader.settled_offset)


class ReaderSet:
    """Reads the given partitions of a channel; its tasks read ahead until ``aclose``.

    Without ``ends`` it follows the partitions without end; ``outage`` is then how it waits for the log.
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
            # A position without a frontier is the beginning.
            tree = LogTree(state.frontier)
            reader = participant.reader(channel, partition.topic, state=state, tree=tree)
            end = None if ends is None else ends[partition]
            ahead = ReadAhead(
                participant.log, partition, reader.next_offset, end, self._ring, last_read(reader)
            )
            self._sources.append(_Source(reader, ahead))
        self._tasks = [
            tasks.create_task(
                source.ahead.run(), name=f"read {source.ahead.partition.topic}/{channel.number}"
            )
            for source in self._sources
        ]

    async def aclose(self) -> None:
        """Stop reading ahead."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # ``wait`` raises nothing: an error of these tasks was kept for ``take``, and nobody takes any
            # more.
            await asyncio.wait(self._tasks)

    async def next_window(self) -> Window | None:
        """Return the next window that holds anything, or None at the end of every partition.

        Raises LogUnavailable when the log cannot be read, except during an outage that is waited for.
        Cancelled, the messages that were taken are lost to this set; another set that starts from an
        earlier window's ``behind`` reads them again.
        """
        for source in self._sources:
            source.forget_leaves()
        window = await (self._follow() if self._is_following else self._read_in_turn())
        if window is not None:
            topics = {event.topic for _, event in window.events if isinstance(event, VerifiedBatch)}
            for partition, tree in self.trees.items():
                root = tree.root if partition.topic in topics else None
                if root is not None:
                    head = TopicHead(topic=partition.topic, size=tree.size, root=root)
                    window.seen[partition.topic] = head
        return window

    @property
    def trees(self) -> dict[Partition, LogTree]:
        """The tree of each partition, up to the last message that was taken."""
        found: dict[Partition, LogTree] = {}
        for source in self._sources:
            if source.reader.tree is not None:
                found[source.ahead.partition] = source.reader.tree
        return found

    @property
    def frontiers(self) -> dict[Partition, Frontier]:
        """What was read of each partition, up to the last message that was taken."""
        found = {partition: tree.frontier_at(tree.size) for partition, tree in self.trees.items()}
        return {partition: frontier for partition, frontier in found.items() if frontier is not None}

    async def _read_in_turn(self) -> Window | None:
        window = Window()
        for source in self._sources:
            while not source.is_flushed:
                if window.is_full:
                    return window
                # The ring is cleared before the look: a message that arrives after the look rings again.
                self._ring.clear()
                message = source.ahead.take()
                if message is not None:
                    await self._feed(source, message, window)
                elif source.ahead.is_done:
                    source.is_flushed = True
                    partition = source.ahead.partition
                    # The end is only where the log ended when reading began, so the reader reports what it
                    # holds back and does not judge a batch whose bodies may still come.
                    _add(window, source, source.reader.flush())
                    window.behind[partition] = source.reader.snapshot()
                else:
                    await self._ring.wait()
        return window if window.events or window.behind else None

    async def _follow(self) -> Window | None:
        window = Window()
        idle_turns = 0
        while True:
            self._ring.clear()
            is_idle = True
            for source in self._sources:
                while not window.is_full and (message := source.ahead.take()) is not None:
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
                # One turn of the event loop lets the reading tasks fetch messages that the log already has.
                await asyncio.sleep(0)
            else:
                return window

    async def _feed(self, source: _Source, message: StoredMessage, window: Window) -> None:
        reader = source.reader
        participant = self._participant
        feed = partial(feed_read, participant.log, reader, participant.follower, message, source.read_behind)
        events, source.read_behind = await outlasting(self._outage, feed)
        if events:
            partition = source.ahead.partition
            _add(window, source, events)
            if isinstance(events[-1], VerifiedBatch):
                # A position is taken only behind a verified batch. Behind any other event the reader may have
                # seen a manifest and still wait for its bodies, and resuming there would lose that batch.
                window.behind[partition] = reader.snapshot()


def _add(window: Window, source: _Source, events: Sequence[Event]) -> None:
    partition, tree = source.ahead.partition, source.reader.tree
    for event in events:
        window.events.append((partition, event))
        window.batches += isinstance(event, VerifiedBatch)
        if isinstance(event, Violation) and event.caused_by is None and tree is not None:
            leaf = tree.leaf_at(event.place.offset)
            if leaf is not None:
                window.faults.setdefault(partition, {})[event.place.offset] = leaf
