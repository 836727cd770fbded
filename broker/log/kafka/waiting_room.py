"""The waiting rooms of followers: those at the ends of partitions that one broker leads wait together.

Rules
-----
* The waiters of a broker share one request, which the broker answers as soon as there is anything for one of
  them. Otherwise thousands of followers would need thousands of connections.
* A request cannot be changed once it is sent. So a follower that comes while one is under way gets a request
  of its own, on another connection. When a request ends, the waiters that it did not serve join the next.
* When all of these connections carry a request, a bridge asks for the followers that come, every few
  milliseconds and without waiting at the broker, until a connection is free.
* A waiter is told what happened to its partition: messages, an error code, or :class:`Moved`, after which its
  reader asks for itself and finds out what is the matter.

Who owns which field
--------------------
``wait`` adds a waiter to ``waiting`` and takes an idle connection out. ``_serve`` takes the waiters over, and
puts its connection back when it ends; ``_bridge`` only removes waiters that it has served. None of them
awaits between looking and changing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.log.kafka.brokers import Brokers
from broker.log.kafka.connections import Use
from broker.log.kafka.wire import Fetched, NoAnswer, NotSent, Place
from broker.log.protocol import MAX_OFFSET

__all__ = ["CHUNK_BYTES", "Moved", "WaitingRoom"]

CHUNK_BYTES = 1_048_576
"""The bytes that are asked for at once; a larger batch comes whole all the same (KIP-74)."""

_SHORTEST_WAIT_MS = 500
_LONGEST_WAIT_MS = 5_000
_BETWEEN_S = 0.02
_FOLLOWING = (Use.FOLLOW_0, Use.FOLLOW_1, Use.FOLLOW_2, Use.FOLLOW_3)


class Moved(Exception):
    """Waiting at this broker is over: it does not answer, or no longer leads the partition."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A follower that waits for messages from ``offset`` on."""

    place: Place
    offset: int
    found: asyncio.Future[Fetched]


@dataclass(slots=True)
class _Gate:
    """The waiters at one broker that no request carries yet, and the connections that carry no request."""

    waiting: list[_Waiter] = field(default_factory=list)
    idle: list[Use] = field(default_factory=lambda: list(_FOLLOWING))
    is_bridged: bool = False


class WaitingRoom:
    """The followers of one log that wait for messages."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._gates: dict[int, _Gate] = {}

    async def wait(self, place: Place, offset: int) -> Fetched:
        """Wait for messages of a partition from this offset on, or for an error code; raises Moved."""
        leader = await self._brokers.leader(*place, self._brokers.deadline())
        gate = self._gates.setdefault(leader, _Gate())
        waiter = _Waiter(place, offset, asyncio.get_running_loop().create_future())
        gate.waiting.append(waiter)
        if gate.idle:
            use = gate.idle.pop()
            self._brokers.start(self._serve(leader, gate, use), f"kafka {use.value} {leader}")
        elif not gate.is_bridged:
            gate.is_bridged = True
            self._brokers.start(self._bridge(leader, gate), f"kafka bridge {leader}")
        answer = await waiter.found
        self._brokers.check_open()
        return answer

    async def _serve(self, node: int, gate: _Gate, use: Use) -> None:
        """Ask for all waiters that no request carries, until there are none."""
        group: list[_Waiter] = []
        try:
            while True:
                group = [waiter for waiter in (*group, *gate.waiting) if not waiter.found.done()]
                gate.waiting.clear()  # also of waiters that the bridge has served
                if not group:
                    return
                await self._poll(node, use, group)
                # A follower that got messages may come back at once, and joins the next request.
                await asyncio.sleep(0)
        finally:
            gate.idle.append(use)
            # Closing cancels this task before it serves the waiters that came in the meantime. Those are
            # woken too, and find that the log is closed.
            left = (*group, *gate.waiting) if self._brokers.closed else group
            self._tell(left, None)

    async def _bridge(self, node: int, gate: _Gate) -> None:
        """Ask again and again, without waiting at the broker, for waiters that found no idle connection."""
        try:
            while gate.waiting:
                await asyncio.sleep(_BETWEEN_S)
                group = [waiter for waiter in gate.waiting if not waiter.found.done()]
                if group:
                    await self._poll(node, Use.READ, group, waits=False)
                gate.waiting[:] = [waiter for waiter in gate.waiting if not waiter.found.done()]
        finally:
            gate.is_bridged = False

    async def _poll(self, node: int, use: Use, group: list[_Waiter], *, waits: bool = True) -> None:
        """Ask once for a group of waiters, and tell those for whom there is an answer."""
        places: dict[Place, int] = {}
        for waiter in group:
            places[waiter.place] = min(waiter.offset, places.get(waiter.place, MAX_OFFSET))
        # A request for many partitions costs the broker more, so it is repeated less often.
        wait_ms = min(_SHORTEST_WAIT_MS + len(places), _LONGEST_WAIT_MS) if waits else 0
        try:
            answers = await self._brokers.call(
                node,
                use,
                lambda connection, left_s: connection.fetch(
                    [(*place, offset) for place, offset in places.items()],
                    max_wait_ms=wait_ms,
                    max_bytes=CHUNK_BYTES,
                    timeout_s=left_s,
                ),
                self._brokers.options.timeout_s / 3 + wait_ms / 1000,
            )
        except (NotSent, NoAnswer):
            self._tell(group, None)
            return
        for answer in answers:
            if answer.code or answer.data:
                place = (answer.topic, answer.number)
                self._tell([waiter for waiter in group if waiter.place == place], answer)

    def _tell(self, waiters: Iterable[_Waiter], answer: Fetched | None) -> None:
        """Give waiters their answer; None is for a broker that did not answer."""
        for waiter in waiters:
            if waiter.found.done():
                continue
            if answer is None:
                waiter.found.set_exception(Moved())
            else:
                waiter.found.set_result(answer)
