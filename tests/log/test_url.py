"""URLs of logs: each opens the log that it names, and a wrong one gets an error that says what is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import UsageError
from broker.log import check_url, open_log, physical


async def test_an_absolute_path(tmp_path: Path) -> None:
    """``sqlite:///path`` opens that file; leaving the context closes it."""
    async with open_log(f"sqlite://{tmp_path}/log.db") as log:
        assert log.prefix == "ftf"
        assert physical(log, "returns") == "ftf.returns"
        assert (tmp_path / "log.db").exists()
    with pytest.raises(UsageError, match="closed"):
        await log.ensure("returns", 1)


async def test_awaiting_gives_an_open_log(tmp_path: Path) -> None:
    """``await open_log(url)`` opens a log, which the caller closes."""
    log = await open_log(f"SQLITE:{tmp_path}/log.db")
    await log.ensure("returns", 1)
    await log.aclose()


async def test_a_relative_path_and_a_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sqlite:name`` is in the working directory; ``prefix`` begins the names of topics."""
    monkeypatch.chdir(tmp_path)
    async with open_log("sqlite:log.db?prefix=exercise-1") as log:
        assert physical(log, "returns") == "exercise-1.returns"
        monkeypatch.chdir("/")
        await log.ensure("returns", 1)  # the working directory counts when the log is opened
    assert (tmp_path / "log.db").exists()


@pytest.mark.parametrize(
    ("written", "name"), [("a%20b%3F%23%25.db", "a b?#%.db"), ("%FF.db", "\udcff.db"), ("é'.db", "é'.db")]
)
async def test_any_file_name_can_be_written(tmp_path: Path, written: str, name: str) -> None:
    """Characters that mean something in a URL are percent-encoded, all others stand for themselves."""
    async with open_log(f"sqlite://{tmp_path}/{written}"):
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no scheme"),
        ("log.db", "no scheme"),
        ("/srv/log.db", "no scheme"),
        ("postgres://host/db", "unknown kind of log 'postgres'"),
        ("kafka://host:9092,host:9093?cert=x", "cert and key belong together"),
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///srv/", "names no file"),
        ("sqlite:a%00b", "names no file"),
        ("sqlite::memory:", "not durable"),
        ("sqlite://log.db", "stands where a host would"),
        ("sqlite://host/log.db", "stands where a host would"),
        ("sqlite:log.db#1", "fragment"),
        ("sqlite:log.db?mode=ro", "unknown option 'mode'"),
        ("sqlite:log.db?prefix", "invalid options"),
        ("sqlite:log.db?prefix=", "invalid prefix ''"),
        ("sqlite:log.db?prefix=a&prefix=b", "given twice"),
        ("sqlite:log.db?prefix=a'b", "invalid prefix"),
        ("sqlite://[/log.db", "invalid log URL"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, says: str) -> None:
    """Each mistake in a URL is a UsageError that quotes it, before anything is opened."""
    with pytest.raises(UsageError) as caught:
        open_log(url)
    assert says in caught.value.message
    with pytest.raises(UsageError):
        check_url(url)


@given(st.text() | st.text().map("sqlite:".__add__) | st.text().map("sqlite:x?".__add__))
def test_any_text_is_a_url_or_a_usage_error(url: str) -> None:
    """No text makes another error than a UsageError."""
    with contextlib.suppress(UsageError):
        check_url(url)
