"""Driving a PartitionReader over a log: the one loop that every reader shares."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial

from broker.log.outage import Outage, outlasting
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.follower import DirectoryFollower
from broker.verify.partition import DirectoryBehind, Event, PartitionReader

__all__ = ["feed_read", "read_events"]


async def read_events(
    log: Log, reader: PartitionReader, directory: DirectoryFollower, *, end: int | None = None
) -> AsyncGenerator[Event, None]:
    """Events from the reader's next offset up to ``end``, or following for ever where ``end`` is None.

    The directory is read on when a manifest needs more of it than was read. With ``end`` the caller
    flushes the reader; without, what is not yet reported waits for the next message, and an outage of the
    log is outlasted.
    """
    outage = Outage(topic=reader.topic, partition=reader.partition) if end is None else None
    read_behind = 0
    messages = log.read(Partition(reader.topic, reader.partition), reader.next_offset, follow=end is None)
    async for message in messages:
        if end is not None and message.offset >= end:
            break
        feed = partial(feed_read, log, reader, directory, message, read_behind)
        events, read_behind = await outlasting(outage, feed)
        for event in events:
            yield event


async def feed_read(
    log: Log, reader: PartitionReader, directory: DirectoryFollower, message: StoredMessage, read_behind: int
) -> tuple[Sequence[Event], int]:
    """Feed a message, and read the directory on where that is needed.

    The directory was read since the messages below ``read_behind`` were in the log; returns the events
    and that offset anew. So a flood that claims what the directory does not have costs a reading for all
    that is there of it, not for each. Where the log cannot be read the message is not fed, and the call may
    be made again.
    """
    try:
        return reader.feed(message, directory_read=message.offset < read_behind), read_behind
    except DirectoryBehind:
        partition = Partition(reader.topic, reader.partition)
        ends = await log.ends([partition])  # before the directory is read
        await directory.refresh()
        return reader.feed(message, directory_read=True), ends[partition]
