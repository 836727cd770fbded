"""Driving a reader over a log: the directory is read on when it must be, and no oftener."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from broker.errors import LogUnreachable
from broker.log.protocol import Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.reading import read_events
from broker.verify.violations import Kind, Violation
from support.coalition import Coalition
from support.fault_log import FaultLog
from support.partition_log import reader

RETURNS = Partition("returns", 0)


def _claim(i: int) -> Message:
    """A message that anybody can write: it has the form of a manifest, of an epoch that does not exist."""
    return Message(i.to_bytes(16, "big"), b"\x01\x00\x00\xff\xff" + bytes(2000))


async def test_a_flood_of_unknown_epochs_has_the_directory_read_once(tmp_path: Path) -> None:
    """A flood of an outsider's garbage costs one reading of the directory, and is one counted violation."""
    async with await SqliteLog.open(tmp_path / "log.db") as inner:
        await inner.ensure("returns", 1)
        log = FaultLog(inner)
        written = await Coalition.live().write_to(inner)
        follower = await DirectoryFollower.start(log, written.genesis)
        for i in range(40):
            await inner.append(RETURNS, [_claim(i)])
        partition_reader = reader(written, history=follower.history)
        found = [event async for event in read_events(log, partition_reader, follower, end=40)]
        found += partition_reader.flush()
        (violation,) = found
        assert isinstance(violation, Violation)
        assert (violation.kind, violation.count) == (Kind.EPOCH_UNKNOWN, 40)
        assert log.ends_asked == [(RETURNS,)]
        await inner.append(RETURNS, [_claim(40)])
        found = [event async for event in read_events(log, partition_reader, follower, end=41)]
        assert [*found, *partition_reader.flush()] != []
        assert log.ends_asked == [(RETURNS,), (RETURNS,)]


async def test_who_follows_outlasts_an_outage_while_the_directory_is_read_on(tmp_path: Path) -> None:
    """A message that needs more of the directory is fed when the log is back; to an end it is the error."""
    async with await SqliteLog.open(tmp_path / "log.db") as inner:
        await inner.ensure("returns", 1)
        log = FaultLog(inner)
        written = await Coalition.live().write_to(inner)
        follower = await DirectoryFollower.start(log, written.genesis)
        await inner.append(RETURNS, [_claim(0)])
        await inner.append(RETURNS, [Message(bytes(16), None)])
        following = reader(written, history=follower.history)
        log.away = 40
        async with aclosing(read_events(log, following, follower)) as events:
            waiting = asyncio.ensure_future(anext(events))
            async with asyncio.timeout(60):
                while following.next_offset < 2:  # noqa: ASYNC110 - it says nothing before the next message
                    await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert log.away == 0
        log.away = 1
        with pytest.raises(LogUnreachable):
            await anext(read_events(log, reader(written, history=follower.history), follower, end=2))
