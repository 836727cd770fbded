"""Reads of partitions: whole chunks of what is stored, the ends, and waiting for more.

Rules
-----
* A reader names the partition and the exact offset. There is no consumer group, and nothing is committed.
* A reader that has something to catch up on asks for itself, and its request never waits at the broker. A
  follower that has reached the end waits in the waiting room, together with the others (waiting_room.py).
* An end that came late is asked for again, at the leader of now. A broker that was frozen for longer than its
  session lasts answers, when it goes on, what it was asked before, with what it knew then: a successor may
  have taken appends since. The requests carry no leader epoch (KIP-320), which would tell.
* Behind each chunk, and when it has waited in vain, a follower compares the last message that it gave with
  what stands at that offset now. The log may have been restored or made anew while it waited, or while the
  brokers were away, and have grown beyond its position since.
* A follower (no end is given) outlasts LogUnreachable, whichever request raises it. A reader to an end gets
  this error when the time of a call is over.

:class:`Reads` keeps nothing of a reader: its position lives in the generator that :meth:`Reads.read` makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from broker.errors import LogUnreachable
from broker.log.cut import cut, replaced
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.connections import Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import Code, refusal
from broker.log.kafka.record_batch import Chunk, decode_chunk
from broker.log.kafka.waiting_room import CHUNK_BYTES, Moved, WaitingRoom
from broker.log.kafka.wire import Fetched, NoAnswer, NotSent, Place
from broker.log.outage import Outage, outlasting
from broker.log.protocol import StoredMessage

__all__ = ["Reads"]

_LATE_S = 1.0


class _OutOfRange(Exception):
    """The partition does not hold this offset: it begins behind it, or ends before it."""


class Reads:
    """The readers of one log."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._room = WaitingRoom(brokers)
        self._outage = Outage(log=f"kafka://{brokers.options.shown_hosts}")

    def close(self) -> None:
        """Wake the followers that wait for the brokers, so that they find that the log is closed."""
        self._outage.close()

    async def read(self, place: Place, start: int, end: int | None) -> AsyncIterator[StoredMessage]:
        """Yield the messages from ``start`` up to ``end``, or without an end when that is None."""
        position = start
        has_reached = False  # whether the partition was once known to reach the start
        is_at_end = False
        last: StoredMessage | None = None  # the last one that a follower was given
        outage = self._outage if end is None else None
        while end is None or position < end:
            waiting = partial(self._wait, place, position)
            reading = partial(self._chunk, place, position, end)
            try:
                chunk = await outlasting(outage, waiting if is_at_end else reading)
            except Moved:
                is_at_end = False
                continue
            except _OutOfRange:
                moved = await self._position_in_range(
                    place, position, outage, has_reached=has_reached, end=end
                )
                if moved is None:
                    return
                position = moved
                continue
            if last is not None and (chunk.messages or not is_at_end):
                await outlasting(outage, partial(self._check_last, place, last))
            # A follower that began beyond the end reads from the end on, and passes over what lies between.
            for message in chunk.messages:
                if message.offset >= start and (end is None or message.offset < end):
                    yield message
            if end is None and chunk.messages:
                last = chunk.messages[-1]
            self._brokers.check_open()
            has_reached = has_reached or chunk.next_offset >= start
            is_at_end = end is None and (is_at_end or chunk.next_offset == position)
            position = chunk.next_offset

    async def _position_in_range(
        self, place: Place, position: int, outage: Outage | None, *, has_reached: bool, end: int | None
    ) -> int | None:
        """Return where to read on when the partition does not hold this offset; None if nowhere.

        Raises LogForked when the partition reached this offset before and now ends earlier: it was cut,
        or deleted and made anew. The reader must not take that for an empty tail.
        """
        first = (await outlasting(outage, partial(self._bounds, [place], begins=True)))[place]
        if first > position:
            return first  # the operator deleted the beginning; the reader sees the gap in the offsets
        if has_reached:
            raise cut(*place, position) from None
        if end is not None:
            return None
        # A follower that began beyond the end reads from the end on.
        return min(position, (await outlasting(outage, partial(self.ends, [place])))[place])

    async def _check_last(self, place: Place, last: StoredMessage) -> None:
        """Raise LogForked unless this message still stands at its place."""
        # It is asked for behind the chunk: whoever replaced it before the chunk was read is noticed. A new
        # leader that does not give it yet is asked again.
        try:
            chunk = await self._chunk(place, last.offset, last.offset + 1, max_bytes=1)
        except _OutOfRange:
            if (await self._bounds([place], begins=True))[place] > last.offset:
                return  # the operator deleted the beginning; the reader sees the gap in the offsets
            raise cut(*place, last.offset + 1) from None
        if last not in chunk.messages[:1]:
            raise replaced(*place, last.offset)

    async def ends(self, places: list[Place]) -> dict[Place, int]:
        """Return the ends of partitions. Every leader gets one request, all of them at the same time."""
        return await self._bounds(places, begins=False)

    async def begins(self, places: list[Place]) -> dict[Place, int]:
        """Return the offsets of the first messages of partitions."""
        return await self._bounds(places, begins=True)

    async def until_ready(self, topic: str, partitions: int, deadline: Deadline) -> None:
        """Return when all partitions of a new topic can be used, which takes brokers a while for many."""
        await self._bounds([(topic, number) for number in range(partitions)], begins=True, deadline=deadline)

    async def _bounds(
        self, places: list[Place], *, begins: bool, deadline: Deadline | None = None
    ) -> dict[Place, int]:
        """Return where partitions begin, or where they end."""
        deadline = deadline or self._brokers.deadline()
        found: dict[Place, int] = {}
        late: set[int] = set()  # leaders that answered late once, and were asked again
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
        """Ask one leader; the result lacks partitions that it does not lead, or is not ready with."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answers = await self._brokers.call(
            node,
            Use.ASK,
            lambda connection, left_s: connection.bounds(places, begins=begins, timeout_s=left_s),
            deadline.attempt_s,
        )
        # The fault of a frozen leader: this may be an old end, and a reader would take messages for lost. It
        # is asked again only once, since a broker may simply be slow.
        if loop.time() - asked_at > _LATE_S and node not in late:
            late.add(node)
            raise NoAnswer("its leader answers late, and another may lead it by now")
        found = {}
        for place, (code, offset) in answers.items():
            if code == Code.NONE:
                found[place] = offset
            elif code == Code.TOPIC_AUTHORIZATION_FAILED:
                raise refusal(code, place[0])
        return found

    async def _chunk(
        self, place: Place, offset: int, end: int | None, *, max_bytes: int = CHUNK_BYTES
    ) -> Chunk:
        """Read what is stored, without waiting at the broker; for a follower it may be empty, at the end."""
        deadline = self._brokers.deadline()
        while True:
            leader = await self._brokers.leader(*place, deadline)
            try:
                [answer] = await self._brokers.call(
                    leader,
                    Use.READ,
                    lambda connection, left_s: connection.fetch(
                        [(*place, offset)], max_wait_ms=0, max_bytes=max_bytes, timeout_s=left_s
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
            except Moved:
                await self._again([place], "its leader has changed", deadline)
            else:
                if end is None or chunk.next_offset > offset:
                    return chunk
                # The partition ended further on when this reading began. A new leader gives messages only up
                # to the high watermark, and learns that a moment late (KIP-207).
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
                raise Moved

    async def _again(self, places: list[Place], reason: str, deadline: Deadline) -> None:
        """Pause, and ask where these partitions are now; raise LogUnreachable when the time is over."""
        topic, number = places[0]
        if not deadline.left_s:
            raise LogUnreachable(
                f"partition {number} of {topic} cannot be read: {reason}",
                hint="start the brokers that are down, and check the network",
            )
        await deadline.pause()
        await self._brokers.learn(sorted({topic for topic, _ in places}), deadline)

    async def _wait(self, place: Place, offset: int) -> Chunk:
        """Wait for messages from this offset on; raises Moved, _OutOfRange."""
        return self._chunk_of(await self._room.wait(place, offset), offset)
