"""Outages of the log: who waits, for what, and what the program's own log says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from broker.errors import LogUnavailable, LogUnreachable, OutcomeUnknown, UsageError
from broker.log import outage as module
from broker.log.outage import Outage, outlasting


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.0)


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged meanwhile."""
    with capture_logs() as lines:
        yield lines


def away_for(times: int) -> Callable[[], Awaitable[str]]:
    """A call that gives up so many times, and then succeeds."""
    left = iter(range(times))

    async def call() -> str:
        if next(left, None) is not None:
            raise LogUnreachable("no broker answers")
        return "here"

    return call


async def test_nothing_is_said_while_the_log_answers(lines: list[EventDict]) -> None:
    """A call that succeeds at once is made once, and leaves no line."""
    assert await Outage().outlast(away_for(0)) == "here"
    assert lines == []


async def test_an_outage_of_any_length_is_outlasted(lines: list[EventDict]) -> None:
    """However often the call gives up it is made again; one line says so at first, and one at the end."""
    assert await Outage(log="kafka://b:9092").outlast(away_for(3_000)) == "here"
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"]
    assert all(line["log"] == "kafka://b:9092" for line in lines)
    assert lines[0]["error"] == "no broker answers"


async def test_a_long_outage_is_told_again(lines: list[EventDict], monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lasts a line comes each time that ten minutes are over."""
    monkeypatch.setattr(module, "_SAY_AGAIN_S", 0.0)
    await Outage().outlast(away_for(5))
    assert [line["event"] for line in lines] == ["log is away, waiting for it"] * 5 + ["log is back"]


async def test_who_waits_together_is_told_once(lines: list[EventDict]) -> None:
    """Of many readers of one log the first says that it is away, and the last that it is back."""
    outage = Outage()
    found = await asyncio.gather(*(outage.outlast(away_for(times)) for times in (5, 1, 3, 5)))
    assert found == ["here"] * 4
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"]


async def test_each_outage_has_its_own_lines(lines: list[EventDict]) -> None:
    """The next outage is told like the first."""
    outage = Outage()
    for _ in range(2):
        await outage.outlast(away_for(1))
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"] * 2


@pytest.mark.parametrize("error", [LogUnavailable("no topic"), OutcomeUnknown("?"), UsageError("closed")])
async def test_what_waiting_cannot_mend_is_raised(lines: list[EventDict], error: Exception) -> None:
    """An error that is no absence goes through, at once and in the middle of an outage."""
    errors = iter([LogUnreachable("away"), error, error])

    async def call() -> None:
        raise next(errors)

    for _ in range(2):
        with pytest.raises(type(error)):
            await Outage().outlast(call)
    assert [line["event"] for line in lines] == ["log is away, waiting for it"]


async def test_who_waits_is_cancelled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause, however long, ends when the reader is cancelled; the next outage is told anew."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 3600.0)
    outage = Outage()
    for _ in range(2):
        with capture_logs() as lines:
            waiting = asyncio.create_task(outage.outlast(away_for(1)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert [line["event"] for line in lines] == ["log is away, waiting for it"]


async def test_closing_ends_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log is closed whoever waits makes its call at once, and hears of the closing."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 3600.0)
    outage = Outage()
    errors = iter([LogUnreachable("away"), UsageError("the log is closed")])

    async def call() -> None:
        raise next(errors)

    waiting = asyncio.create_task(outage.outlast(call))
    await asyncio.sleep(0)
    outage.close()
    with pytest.raises(UsageError, match="closed"):
        await waiting


async def test_who_reads_to_an_end_waits_for_nothing(lines: list[EventDict]) -> None:
    """Without an outage to wait by the call is made once, and its error is the caller's."""
    with pytest.raises(LogUnreachable):
        await outlasting(None, away_for(1))
    assert await outlasting(Outage(), away_for(1)) == "here"
    assert len(lines) == 2
