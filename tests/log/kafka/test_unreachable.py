"""Ports that are no broker's: each ends in a LogUnreachable that says what is there, and never in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.errors import LogUnreachable
from broker.log import open_log
from support.certificates import Authority

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def stands_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and answer nothing, as a broker that was stopped by SIGSTOP does."""
    while await reader.read(1_000):
        pass
    writer.close()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close at the first bytes, as a broker without TLS does when it takes TLS for a request."""
    await reader.read(10)
    writer.close()


async def speaks_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in words, as another server does."""
    await reader.read(10)
    writer.write(b"220 welcome\r\n" * 20)
    while await reader.read(1_000):
        pass
    writer.close()


@asynccontextmanager
async def port_of(serve: Serve) -> AsyncIterator[int]:
    """Listen on a port of this machine."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def refusal(port: int, ca: Path | None) -> LogUnreachable:
    """Open a log there, and return the error."""
    options = "timeout_ms=600" + (f"&ca={ca}" if ca else "")
    with pytest.raises(LogUnreachable) as caught:
        await open_log(f"kafka://127.0.0.1:{port}?{options}")
    assert caught.value.hint
    return caught.value


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """A file with a certificate, which turns TLS on."""
    Authority.make(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_broker_that_stands_still(tls: bool, ca: Path) -> None:
    """A frozen broker is named with the time that was given to it."""
    async with port_of(stands_still) as port:
        error = await refusal(port, ca if tls else None)
    assert error.message == (
        f"the log kafka://127.0.0.1:{port} cannot be reached in 0.6 s: 127.0.0.1:{port} does not answer"
    )


@pytest.mark.parametrize(
    ("serve", "said"),
    [(closes, "this port may not have TLS"), (speaks_something_else, "there is no TLS at this port")],
)
async def test_tls_to_a_port_without_tls(serve: Serve, said: str, ca: Path) -> None:
    """With ca in the URL and no TLS at the port, the error and its hint speak of TLS."""
    async with port_of(serve) as port:
        error = await refusal(port, ca)
    assert error.message.startswith(f"the log kafka://127.0.0.1:{port} cannot be reached in 0.6 s: ")
    assert said in error.message
    assert "leave ca out" in (error.hint or "")
