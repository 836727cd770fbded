"""Following the directory live: the log's clock is held against one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.clock import system_clock
from broker.directory import drafts
from broker.errors import LogUnavailable
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from support.coalition import HOUR_US, Coalition

MINUTE_US = HOUR_US // 60


async def _close_a_channel(coalition: Coalition, log: SqliteLog, channel: str) -> None:
    statement = drafts.close_channel(coalition.directory, channel=channel, issued_at=1)
    await coalition.add_to(log, statement, *coalition.authority_keys)


@pytest.mark.parametrize("skew_us", [-20 * MINUTE_US, 0, 20 * MINUTE_US])
async def test_clocks_that_differ_by_minutes_stop_nobody(tmp_path: Path, skew_us: int) -> None:
    """A participant whose clock is a few minutes wrong follows the directory all the same."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await Coalition.live().write_to(log)
        follower = await DirectoryFollower.start(log, written.genesis, clock=lambda: system_clock() + skew_us)
        for channel in ("xaa-xbb", "xbb-xdd"):
            await _close_a_channel(written, log, channel)
            assert (await follower.refresh()).latest == written.directory


async def test_a_log_whose_clock_was_put_forward_is_not_read(tmp_path: Path) -> None:
    """Append times three days ahead, which would end every wait of 72 hours, are refused each time."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await Coalition.live().write_to(log)
        ahead = 0
        follower = await DirectoryFollower.start(log, written.genesis, clock=lambda: system_clock() + ahead)
        size, ahead = follower.history.size, -72 * HOUR_US
        await _close_a_channel(written, log, "xaa-xbb")
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="says it was appended at"):
                await follower.refresh()
        assert follower.history.size == size
        with pytest.raises(LogUnavailable, match="says it was appended at"):
            await DirectoryFollower.start(log, written.genesis, clock=lambda: system_clock() + ahead)
        ahead = 0
        assert (await follower.refresh()).latest == written.directory


async def test_an_announcement_that_is_dated_back_is_not_read(tmp_path: Path) -> None:
    """After the log was seen to end now, a message that claims to be three days old is refused."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await Coalition.live().write_to(log)
        follower = await DirectoryFollower.start(
            log, written.genesis, clock=lambda: system_clock() + 72 * HOUR_US
        )
        size = follower.history.size
        await _close_a_channel(written, log, "xaa-xbb")
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="says it was appended at"):
                await follower.refresh(size + 1)
        assert follower.history.size == size
