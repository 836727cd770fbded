"""Connections to the brokers of a cluster, opened when they are needed and replaced when they break.

A connection serves one kind of work (:class:`Use`), since a broker answers the requests of a connection one
at a time, in their order. An append that waits for replicas must not hold up a read, nor a follower that
waits at the end of a partition hold up ``ends``.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from broker.errors import UsageError
from broker.log.kafka.wire import Address, Connection, NotSent, Security
from broker.logger import get_logger

__all__ = ["Connections", "Use"]

_log = get_logger("broker.log")


class Use(Enum):
    """The kind of work that a connection does."""

    ASK = "ask"
    APPEND = "append"
    READ = "read"
    FOLLOW_0 = "follow 0"
    FOLLOW_1 = "follow 1"
    FOLLOW_2 = "follow 2"
    FOLLOW_3 = "follow 3"


class Connections:
    """The connections of one log. Only its own methods write its fields, on the event loop of the log."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._open: dict[tuple[int, Use], Connection] = {}
        # Held while a connection is opened, so that callers that come at the same time share it.
        self._opening: dict[tuple[int, Use], asyncio.Lock] = {}
        # Brokers for which the last attempt failed. Each has its log line, and gets another when it answers.
        self._silent: set[Address] = set()
        self.closed = False

    def check_open(self) -> None:
        """Raise a UsageError when the log was closed."""
        if self.closed:
            raise UsageError("the log is closed")

    def is_open(self, node: int, use: Use) -> bool:
        """Tell whether a connection to this broker can be used at once."""
        connection = self._open.get((node, use))
        return connection is not None and connection.usable

    def is_silent(self, address: Address) -> bool:
        """Tell whether the last attempt to reach this broker failed."""
        return address in self._silent

    async def to(self, node: int, address: Address | None, use: Use, timeout_s: float) -> Connection:
        """Return the connection to a broker for this use, and open it if there is none that works.

        Raises NotSent, also for an ``address`` of None: the broker is not up.
        """
        key = (node, use)
        async with self._opening.setdefault(key, asyncio.Lock()):
            self.check_open()
            connection = self._open.get(key)
            if connection is not None and connection.usable:
                return connection
            if connection is not None:
                del self._open[key]
                connection.abort()
            if address is None:
                raise NotSent(f"broker {node} is not up")
            connection = await self.open(address, timeout_s)
            # The log may have been closed while this connection was made, and nobody else would close it.
            if self.closed:
                connection.abort()
                self.check_open()
            self._open[key] = connection
            return connection

    async def open(self, address: Address, timeout_s: float) -> Connection:
        """Open a connection that is the caller's alone, and that the caller closes. Raises NotSent."""
        try:
            return await Connection.open(*address, self._security, timeout_s)
        except NotSent as error:
            self.note_silence(address, error.reason)
            raise

    def note_silence(self, address: Address | None, reason: str = "no answer") -> None:
        """Write a log line when a broker fails to answer for the first time."""
        if address is not None and address not in self._silent:
            self._silent.add(address)
            _log.warning("broker does not answer", broker=f"{address[0]}:{address[1]}", error=reason)

    def note_answer(self, address: Address | None) -> None:
        """Write a log line when a broker answers for the first time after a silence."""
        if address is not None and address in self._silent:
            self._silent.discard(address)
            _log.info("broker answers again", broker=f"{address[0]}:{address[1]}")

    def close_to_callers(self) -> None:
        """Let every further use raise a UsageError; the connections stay open until ``aclose``."""
        self.closed = True

    async def aclose(self) -> None:
        """Close all connections; requests that wait for an answer fail."""
        self.closed = True
        connections = list(self._open.values())
        self._open.clear()
        await asyncio.gather(*(connection.aclose() for connection in connections))
