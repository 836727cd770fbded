"""A partition's messages, read ahead within bounds."""

from __future__ import annotations

import asyncio

import pytest

from broker.errors import LogForked, LogUnavailable
from broker.log import Message, Partition
from broker.participant.reading import leaf_of
from broker.subscribe.read_ahead import ReadAhead
from support.fault_log import Fault, FaultLog
from support.world import World

RETURNS = Partition("returns", 0)


async def drained(feed: ReadAhead, ring: asyncio.Event) -> list[int]:
    """Take every message up to the end and return their offsets."""
    offsets = []
    while not feed.is_done:
        ring.clear()
        if (message := feed.take()) is not None:
            offsets.append(message.offset)
        elif not feed.is_done:
            await ring.wait()
    return offsets


async def test_it_reads_ahead_and_then_waits(world: World) -> None:
    """A bounded number of messages is held at a time, and all of them come, in order."""
    for _ in range(6):
        await world.log.append(RETURNS, [Message(b"k", b"v")] * 1000)
    ring = asyncio.Event()
    feed = ReadAhead(world.log, RETURNS, 5, 5990, ring)
    task = asyncio.ensure_future(feed.run())
    for _ in range(100):
        await asyncio.sleep(0)
    assert 0 < feed.held <= 1024
    async with asyncio.timeout(20):
        assert await drained(feed, ring) == list(range(5, 5990))
        await task


async def test_large_messages_are_bounded_by_bytes(world: World) -> None:
    """Only a few messages of a megabyte are held."""
    for _ in range(8):
        await world.log.append(RETURNS, [Message(b"k", bytes(900_000))])
    ring = asyncio.Event()
    feed = ReadAhead(world.log, RETURNS, 0, 8, ring)
    task = asyncio.ensure_future(feed.run())
    for _ in range(100):
        await asyncio.sleep(0)
    assert 0 < feed.held <= 5
    async with asyncio.timeout(20):
        assert len(await drained(feed, ring)) == 8
        await task


async def test_nothing_to_read_is_the_end(world: World) -> None:
    """Reading an empty range is done at once."""
    ring = asyncio.Event()
    feed = ReadAhead(world.log, RETURNS, 0, 0, ring)
    await feed.run()
    assert feed.is_done
    assert feed.take() is None
    assert ring.is_set()


@pytest.mark.parametrize("end", [None, 4])
async def test_the_message_before_the_start_is_looked_at(world: World, end: int | None) -> None:
    """It is not given again, and where it is another one nothing is given."""
    await world.log.append(RETURNS, [Message(b"k", b"%d" % i) for i in range(4)])
    (last, *_) = [message async for message in world.log.read(RETURNS, 1)]
    for leaf in (leaf_of(last), bytes(32)):
        ring = asyncio.Event()
        feed = ReadAhead(world.log, RETURNS, 2, end, ring, leaf)
        task = asyncio.ensure_future(feed.run())
        await asyncio.wait_for(ring.wait(), 5)
        if leaf == bytes(32):
            with pytest.raises(LogForked, match="another message 1 than the one that was read"):
                feed.take()
        else:
            message = feed.take()
            assert message is not None
            assert message.offset == 2
        task.cancel()
        await asyncio.wait([task])


async def test_an_error_comes_behind_what_was_read(world: World) -> None:
    """The log's error is raised by ``take``, and not in the task that reads."""
    feed = ReadAhead(FaultLog(world.log, reads=[Fault.REFUSED]), RETURNS, 0, None, asyncio.Event())
    await feed.run()
    with pytest.raises(LogUnavailable):
        feed.take()
