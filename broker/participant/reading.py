"""Driving a PartitionReader over a log: the one loop that every reader shares."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from broker.log.protocol import Log, Partition
from broker.participant.follower import DirectoryFollower
from broker.verify.partition import DirectoryBehind, Event, PartitionReader

__all__ = ["read_events"]


async def read_events(
    log: Log, reader: PartitionReader, directory: DirectoryFollower, *, end: int | None = None
) -> AsyncGenerator[Event, None]:
    """Events from the reader's next offset up to ``end``, or following for ever where ``end`` is None.

    The directory is read on when a manifest needs more of it than was read. With ``end`` the caller
    flushes the reader; without, what is not yet reported waits for the next message.
    """
    messages = log.read(Partition(reader.topic, reader.partition), reader.next_offset, follow=end is None)
    async for message in messages:
        if end is not None and message.offset >= end:
            break
        try:
            events = reader.feed(message)
        except DirectoryBehind:
            await directory.refresh()
            events = reader.feed(message, directory_read=True)
        for event in events:
            yield event
