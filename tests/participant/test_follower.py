"""Following the directory live: nothing is refused for its date, and a date ahead is worth a warning."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from broker.clock import DAY_US, MINUTE_US, system_clock
from broker.directory import drafts
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from support.coalition import Coalition


async def _close_a_channel(coalition: Coalition, log: SqliteLog, channel: str) -> None:
    statement = drafts.close_channel(coalition.directory, channel=channel, issued_at=1)
    await coalition.add_to(log, statement, *coalition.authority_keys)


@pytest.mark.parametrize("skew_us", [-9 * DAY_US, -6 * MINUTE_US, -4 * MINUTE_US, 0, 9 * DAY_US])
async def test_clocks_that_differ_stop_nobody(tmp_path: Path, skew_us: int) -> None:
    """A participant whose clock is wrong, or whose log's is, goes on, and is warned once of a date ahead."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await Coalition.live().write_to(log)
        with structlog.testing.capture_logs() as lines:
            follower = await DirectoryFollower.start(
                log, written.genesis, clock=lambda: system_clock() + skew_us
            )
            for channel in ("xaa-xbb", "xbb-xdd"):
                await _close_a_channel(written, log, channel)
                assert (await follower.refresh()).latest == written.directory
    events = [line["event"] for line in lines]
    warning = "the newest message of the directory is dated ahead of this machine's clock"
    assert events == ([warning] if skew_us < -5 * MINUTE_US else [])


async def test_a_log_that_nobody_writes_to_is_not_warned_about(tmp_path: Path) -> None:
    """Without a clock of one's own, as in a replay, no date is compared."""
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        written = await Coalition.live().write_to(log)
        with structlog.testing.capture_logs() as lines:
            await DirectoryFollower.start(log, written.genesis)
    assert lines == []
