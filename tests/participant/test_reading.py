"""Driving a reader over a log: the directory is read on when it must be, and no oftener."""

from __future__ import annotations

from pathlib import Path

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
    """What anybody can write: the form of a manifest, of an epoch that nobody published."""
    return Message(i.to_bytes(16, "big"), b"\x01\x00\x00\xff\xff" + bytes(2000))


async def test_a_flood_of_unknown_epochs_has_the_directory_read_once(tmp_path: Path) -> None:
    """An outsider's garbage costs no reading of the directory each, and is one counted violation."""
    async with await SqliteLog.open(tmp_path / "log.db") as inner:
        await inner.ensure("returns", 1)
        log = FaultLog(inner)
        written = await Coalition.live().write_to(inner)
        follower = await DirectoryFollower.start(log, written.genesis)
        for i in range(40):
            await inner.append(RETURNS, [_claim(i)])
        one = reader(written, history=follower.history)
        found = [event async for event in read_events(log, one, follower, end=40)]
        found += one.flush()
        (violation,) = found
        assert isinstance(violation, Violation)
        assert (violation.kind, violation.count) == (Kind.EPOCH_UNKNOWN, 40)
        assert log.ends_asked == [(RETURNS,)]
        await inner.append(RETURNS, [_claim(40)])
        found = [event async for event in read_events(log, one, follower, end=41)]
        assert [*found, *one.flush()] != []
        assert log.ends_asked == [(RETURNS,), (RETURNS,)]
