"""Outages of the log: which readers wait, for which errors, and which lines the program's log gets."""

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
    """The log lines of a test."""
    with capture_logs() as lines:
        yield lines


def away_for(times: int) -> Callable[[], Awaitable[str]]:
    """Return a call that gives up so many times, and then succeeds."""
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
    """A call is repeated however often it gives up; one line comes at the beginning, and one at the end."""
    assert await Outage(log="kafka://b:9092").outlast(away_for(3_000)) == "here"
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"]
    assert all(line["log"] == "kafka://b:9092" for line in lines)
    assert lines[0]["error"] == "no broker answers"


async def test_a_long_outage_is_told_again(lines: list[EventDict], monkeypatch: pytest.MonkeyPatch) -> None:
    """While an outage lasts, a line comes whenever ten minutes are over."""
    monkeypatch.setattr(module, "_SAY_AGAIN_S", 0.0)
    await Outage().outlast(away_for(5))
    assert [line["event"] for line in lines] == ["log is away, waiting for it"] * 5 + ["log is back"]


async def test_readers_that_wait_together_have_one_line(lines: list[EventDict]) -> None:
    """Of many readers of a log the first writes that it is away, and the last writes that it is back."""
    outage = Outage()
    found = await asyncio.gather(*(outage.outlast(away_for(times)) for times in (5, 1, 3, 5)))
    assert found == ["here"] * 4
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"]


async def test_each_outage_has_its_own_lines(lines: list[EventDict]) -> None:
    """A second outage is written like the first."""
    outage = Outage()
    for _ in range(2):
        await outage.outlast(away_for(1))
    assert [line["event"] for line in lines] == ["log is away, waiting for it", "log is back"] * 2


@pytest.mark.parametrize("error", [LogUnavailable("no topic"), OutcomeUnknown("?"), UsageError("closed")])
async def test_what_waiting_cannot_mend_is_raised(lines: list[EventDict], error: Exception) -> None:
    """An error other than LogUnreachable is raised, at once and in the middle of an outage."""
    errors = iter([LogUnreachable("away"), error, error])

    async def call() -> None:
        raise next(errors)

    for _ in range(2):
        with pytest.raises(type(error)):
            await Outage().outlast(call)
    assert [line["event"] for line in lines] == ["log is away, waiting for it"]


async def test_a_reader_that_waits_is_cancelled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of any length ends when its reader is cancelled; the next outage gets its own line."""
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
    """When the log is closed a reader that waits makes its call at once, which raises that it is closed."""
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


async def test_a_reader_to_an_end_waits_for_nothing(lines: list[EventDict]) -> None:
    """Without an outage the call is made once, and its error goes to the caller."""
    with pytest.raises(LogUnreachable):
        await outlasting(None, away_for(1))
    assert await outlasting(Outage(), away_for(1)) == "here"
    assert len(lines) == 2
