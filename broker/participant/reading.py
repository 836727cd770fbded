"""Reading a partition: the one loop that takes a PartitionReader over a log.

A manifest names how much of the directory its issuer had seen. The reader raises DirectoryBehind when that
is more than was read here; then the directory is read on, and the same message is fed again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from hashlib import sha256

from broker.errors import LogForked
from broker.log.outage import Outage, outlasting
from broker.log.protocol import Log, Partition, StoredMessage
from broker.participant.follower import DirectoryFollower
from broker.verify.partition import DirectoryBehind, Event, PartitionReader
from broker.wire.log_leaf import message_leaf

__all__ = ["check_last", "feed_read", "last_read", "leaf_of", "read_events"]


async def read_events(
    log: Log, reader: PartitionReader, directory: DirectoryFollower, *, end: int | None = None
) -> AsyncGenerator[Event, None]:
    """Yield events from the reader's next offset up to ``end``; without ``end`` follow the log for ever.

    With ``end`` the caller flushes the reader afterwards, and an error of the log is raised. Without it, an
    event that the reader holds back is yielded with a later message, and an outage of the log is waited for.

    A reader with a tree first looks at the last message that it read. Raises LogForked where another one
    stands there: somebody replaced or restored the log.
    """
    outage = Outage(topic=reader.topic, partition=reader.partition) if end is None else None
    read_behind = 0
    last = last_read(reader)
    start = reader.next_offset if last is None else reader.next_offset - 1
    messages = log.read(Partition(reader.topic, reader.partition), start, follow=end is None)
    async for message in messages:
        if last is not None:
            check_last(Partition(reader.topic, reader.partition), start, message, last)
            last = None
            continue
        # The log may have grown since the caller asked for its end.
        if end is not None and message.offset >= end:
            break
        feed = partial(feed_read, log, reader, directory, message, read_behind)
        events, read_behind = await outlasting(outage, feed)
        for event in events:
            yield event


def last_read(reader: PartitionReader) -> bytes | None:
    """Return the leaf of the last message that the reader took; None where it keeps none."""
    return None if reader.tree is None else reader.tree.last


def check_last(partition: Partition, offset: int, message: StoredMessage, last: bytes) -> None:
    """Raise LogForked unless this message, which stands at ``offset``, is the last one that was read."""
    if message.offset != offset or leaf_of(message) != last:
        raise LogForked(
            f"{partition.topic}/{partition.number} holds another message {offset} than the one that was read",
            hint="somebody replaced, restored or altered the log: ask its operator, and see operations.md",
        )


def leaf_of(message: StoredMessage) -> bytes:
    """Return the leaf hash of a message."""
    digest = None if message.value is None else sha256(message.value).digest()
    return message_leaf(message.appended_at, message.key, digest)


async def feed_read(
    log: Log, reader: PartitionReader, directory: DirectoryFollower, message: StoredMessage, read_behind: int
) -> tuple[Sequence[Event], int]:
    """Feed one message, and read the directory on if the message needs more of it; return its events.

    ``read_behind`` is 0 at first, and then the second value that this function returned: the directory has
    been read since all messages below that offset were in the log. A message below it that claims more of
    the directory lies, so a flood of such messages costs one reading of the directory, not one for each.

    When the log cannot be read the message was not fed, and this may be called again.
    """
    try:
        return reader.feed(message, directory_read=message.offset < read_behind), read_behind
    except DirectoryBehind:
        partition = Partition(reader.topic, reader.partition)
        # The end is asked for before the directory is read: a message that is appended in between may need
        # what the directory was given in between, and must not count as lying.
        ends = await log.ends([partition])
        await directory.refresh()
        return reader.feed(message, directory_read=True), ends[partition]
