"""Reading: chunks of a partition at once, and waiting at its end together with all who wait there.

Rules
-----
* Assignment is by hand and from exact offsets; there is no group, and nothing is committed.
* A reader that has something to catch up on asks for itself and never waits at the broker.
* Readers at the end of partitions that one broker leads wait together, in one request that the broker
  answers as soon as there is anything for one of them. Who comes while it is under way gets a request
  of its own on another connection; when a request ends, its waiters join the next. When all of these
  connections wait, those who come are asked for every few milliseconds until one is back.
* An end that came late is asked for again where the partition is led now: a broker that stood still for
  longer than its session lasts answers what it was asked before, with what it knew then.
* Whoever follows (no end is given) outlasts LogUnreachable, whichever request raises it; whoever reads to
  an end is told of it when the time of a call is over.
* Readers are told what happened to the partition that they wait for: messages, or ``Moved``, upon
  which they ask for themselves again and find out what is the matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from broker.errors import LogUnavailable, LogUnreachable
from broker.log.kafka.brokers import Brokers, Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import Code, refusal
from broker.log.kafka.record_batch import Chunk, decode_chunk
from broker.log.kafka.wire import Fetched, NoAnswer, NotSent
from broker.log.outage import Outage, outlasting
from broker.log.protocol import MAX_OFFSET, StoredMessage

__all__ = ["Reads"]

CHUNK_BYTES = 1_048_576
"""Asked for at once; a larger batch comes whole all the same."""

_SHORTEST_WAIT_MS = 500
_LONGEST_WAIT_MS = 5_000
_BETWEEN_S = 0.02
_LATE_S = 1.0
_FOLLOWING = (Use.FOLLOW_0, Use.FOLLOW_1, Use.FOLLOW_2, Use.FOLLOW_3)

Place = tuple[str, int]


class _Moved(Exception):
    """Waiting here is over: the broker does not answer, or no longer leads the partition."""


class _OutOfRange(Exception):
    """The partition does not have this offset: it begins behind it, or ends before it."""


@dataclass(slots=True, eq=False)
class _Waiter:
    place: Place
    offset: int
    found: asyncio.Future[Fetched]


@dataclass(slots=True)
class _Gate:
    """Who waits at one broker: ``waiting`` are in no request yet, ``idle`` connections carry none."""

    waiting: list[_Waiter] = field(default_factory=list)
    idle: list[Use] = field(default_factory=lambda: list(_FOLLOWING))
    bridged: bool = False


class Reads:
    """The readers of one connection to the log."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._gates: dict[int, _Gate] = {}
        self._outage = Outage(log=f"kafka://{brokers.options.shown_hosts}")

    def close(self) -> None:
        """Let followers that wait for the brokers find that the log is closed."""
        self._outage.close()

    async def read(self, place: Place, start: int, end: int | None) -> AsyncIterator[StoredMessage]:
        """Give messages from ``start`` up to ``end``, or for ever; what lies before ``start`` is left out."""
        position, seen, at_end = start, False, False
        outage = self._outage if end is None else None
        while end is None or position < end:
            call = (
                partial(self._wait, place, position) if at_end else partial(self._chunk, place, position, end)
            )
            try:
                chunk = await outlasting(outage, call)
            except _Moved:
                at_end = False
                continue
            except _OutOfRange:
                first = (await outlasting(outage, partial(self._bounds, [place], begins=True)))[place]
                if first > position:
                    position = first  # the gap of what was deleted: the reader sees it
                    continue
                if seen:
                    raise self._cut(place, position) from None
                if end is not None:
                    return
                # Begun beyond the end: from the end on, and nothing from before the start.
                position = min(position, (await outlasting(outage, partial(self.ends, [place])))[place])
                continue
            for message in chunk.messages:
                if message.offset >= start and (end is None or message.offset < end):
                    yield message
            self._brokers.check_open()
            seen = seen or chunk.next_offset > start
            at_end = end is None and (at_end or chunk.next_offset == position)
            position = chunk.next_offset

    async def ends(self, places: list[Place]) -> dict[Place, int]:
        """Ask for the ends of partitions: every leader once, all at the same time."""
        return await self._bounds(places, begins=False)

    async def until_ready(self, topic: str, partitions: int, deadline: Deadline) -> None:
        """Return when all partitions of a new topic can be used: brokers take their time to make many."""
        await self._bounds([(topic, number) for number in range(partitions)], begins=True, deadline=deadline)

    async def _bounds(
        self, places: list[Place], *, begins: bool, deadline: Deadline | None = None
    ) -> dict[Place, int]:
        deadline, found = deadline or self._brokers.deadline(), dict[Place, int]()
        late = set[int]()
        while True:
            by_leader: dict[int, list[Place]] = {}
            for place in places:
                if place not in found:
                    by_leader.setdefault(await self._brokers.leader(*place, deadline), []).append(place)
            if not by_leader:
                return found
            answers = await asyncio.gather(
                *(self._bounds_at(node, asked, begins, deadline, late) for node, asked in by_leader.items()),
                return_exceptions=True,
            )
            reason = "its leader is not ready"
            for answer in answers:
                if isinstance(answer, NotSent) and answer.refused:
                    raise self._brokers.refused(answer)
                if isinstance(answer, NotSent | NoAnswer):
                    reason = answer.reason
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    found |= answer
            behind = [place for place in places if place not in found]
            if behind:
                await self._again(behind, reason, deadline)

    async def _bounds_at(
        self, node: int, places: list[Place], begins: bool, deadline: Deadline, late: set[int]
    ) -> dict[Place, int]:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answers = await self._brokers.call(
            node,
            Use.ASK,
            lambda connection, left_s: connection.bounds(places, begins=begins, timeout_s=left_s),
            deadline.attempt_s,
        )
        if loop.time() - asked_at > _LATE_S and node not in late:  # once: a broker may just be slow
            late.add(node)
            raise NoAnswer("its leader answers late, and another may lead it by now")
        found = {}
        for place, (code, offset) in answers.items():
            if code == Code.NONE:
                found[place] = offset
            elif code == Code.TOPIC_AUTHORIZATION_FAILED:
                raise refusal(code, place[0])
        return found

    async def _chunk(self, place: Place, offset: int, end: int | None) -> Chunk:
        """Read what is there, without waiting; empty only at the end."""
        deadline = self._brokers.deadline()
        while True:
            leader = await self._brokers.leader(*place, deadline)
            try:
                [answer] = await self._brokers.call(
                    leader,
                    Use.READ,
                    lambda connection, left_s: connection.fetch(
                        [(*place, offset)], max_wait_ms=0, max_bytes=CHUNK_BYTES, timeout_s=left_s
                    ),
                    deadline.attempt_s,
                )
                chunk = self._chunk_of(answer, offset)
            except NotSent as error:
                if error.refused:
                    raise self._brokers.refused(error) from error
                await self._again([place], error.reason, deadline)
            except NoAnswer as error:
                await self._again([place], error.reason, deadline)
            except _Moved:
                await self._again([place], "its leader has changed", deadline)
            else:
                if end is None or chunk.next_offset > offset:
                    return chunk
                # A new leader learns late up to where everybody has the partition.
                await self._again([place], f"it ends before offset {end}, where it ended before", deadline)

    def _chunk_of(self, answer: Fetched, offset: int) -> Chunk:
        match answer.code:
            case Code.NONE:
                return decode_chunk(answer.data, offset, f"partition {answer.number} of {answer.topic}")
            case Code.OFFSET_OUT_OF_RANGE:
                raise _OutOfRange
            case Code.TOPIC_AUTHORIZATION_FAILED:
                raise refusal(answer.code, answer.topic)
            case _:
                raise _Moved

    async def _again(self, places: list[Place], reason: str, deadline: Deadline) -> None:
        """Learn anew where partitions are, after a pause; LogUnreachable when the time is over."""
        topic, number = places[0]
        if not deadline.left_s:
            raise LogUnreachable(
                f"partition {number} of {topic} cannot be read: {reason}",
                hint="start the brokers that are down, and check the network",
            )
        await deadline.pause()
        await self._brokers.learn(sorted({topic for topic, _ in places}), deadline)

    def _cut(self, place: Place, position: int) -> LogUnavailable:
        return LogUnavailable(
            f"partition {place[1]} of {place[0]} ends before offset {position}, up to where it was read:"
            " messages are lost, or it was tampered with",
            hint="do not go on before whoever operates the brokers has explained it; keep your state file",
        )

    # Waiting together

    async def _wait(self, place: Place, offset: int) -> Chunk:
        """Wait for messages from this offset on; raises _Moved, _OutOfRange."""
        leader = await self._brokers.leader(*place, self._brokers.deadline())
        gate = self._gates.setdefault(leader, _Gate())
        waiter = _Waiter(place, offset, asyncio.get_running_loop().create_future())
        gate.waiting.append(waiter)
        if gate.idle:
            use = gate.idle.pop()
            self._brokers.start(self._serve(leader, gate, use), f"kafka {use.value} {leader}")
        elif not gate.bridged:
            gate.bridged = True
            self._brokers.start(self._bridge(leader, gate), f"kafka bridge {leader}")
        answer = await waiter.found
        self._brokers.check_open()
        return self._chunk_of(answer, offset)

    async def _serve(self, node: int, gate: _Gate, use: Use) -> None:
        """Ask for everybody who waits and is in no request, until nobody does."""
        group: list[_Waiter] = []
        try:
            while True:
                group = [waiter for waiter in (*group, *gate.waiting) if not waiter.found.done()]
                gate.waiting.clear()  # also of those whom the bridge has served
                if not group:
                    return
                await self._poll(node, use, group)
                await asyncio.sleep(0)  # who got something may come back at once
        finally:
            gate.idle.append(use)
            # Cancelled by closing, for one: they look, and find that it is closed.
            for waiter in (*group, *gate.waiting) if self._brokers.closed else group:
                if not waiter.found.done():
                    waiter.found.set_exception(_Moved())

    async def _bridge(self, node: int, gate: _Gate) -> None:
        """Ask again and again, without waiting at the broker, for those who found no connection."""
        try:
            while gate.waiting:
                await asyncio.sleep(_BETWEEN_S)
                group = [waiter for waiter in gate.waiting if not waiter.found.done()]
                if group:
                    await self._poll(node, Use.READ, group, waits=False)
                gate.waiting[:] = [waiter for waiter in gate.waiting if not waiter.found.done()]
        finally:
            gate.bridged = False

    async def _poll(self, node: int, use: Use, group: list[_Waiter], *, waits: bool = True) -> None:
        places: dict[Place, int] = {}
        for waiter in group:
            places[waiter.place] = min(waiter.offset, places.get(waiter.place, MAX_OFFSET))
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
                self._tell(
                    [waiter for waiter in group if waiter.place == (answer.topic, answer.number)], answer
                )

    def _tell(self, waiters: list[_Waiter], answer: Fetched | None) -> None:
        for waiter in waiters:
            if waiter.found.done():
                continue
            if answer is None:
                waiter.found.set_exception(_Moved())
            else:
                waiter.found.set_result(answer)
