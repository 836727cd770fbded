"""Followers on Kafka whose partition becomes another one, with a broker that is played."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.errors import LogForked
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.connections import Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import Code
from broker.log.kafka.reads import Reads
from broker.log.kafka.record_batch import Identity, encode_batch
from broker.log.kafka.wire import Fetched, NoAnswer
from broker.log.protocol import Message

PLACE = ("ftf.returns", 0)


@dataclass
class Played:
    """A cluster of one broker with one partition, of one record batch for each value."""

    values: list[bytes]
    begin: int = 0
    shown: int | None = None
    """The end that a new leader gives as yet, where it lags behind."""
    down: bool = False
    """Whether requests stay without an answer."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    """The offset and the largest size of each read."""
    options: Any = field(default_factory=lambda: SimpleNamespace(shown_hosts="played", timeout_s=1.0))
    closed: bool = False

    def check_open(self) -> None:
        """It is."""

    def deadline(self) -> Deadline:
        """A second."""
        return Deadline(1.0)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task."""
        return asyncio.create_task(work, name=name)

    async def leader(self, topic: str, number: int, deadline: Deadline) -> int:
        """The one broker."""
        return 1

    async def learn(self, topics: Iterable[str], deadline: Deadline | None = None) -> None:
        """There is nothing to learn."""

    async def call(
        self, node: int, use: Use, question: Callable[[Any, float], Awaitable[Any]], timeout_s: float
    ) -> Any:
        """Ask the broker."""
        if self.down:
            raise NoAnswer("it is down")
        return await question(self, 1.0)

    async def bounds(
        self, places: list[tuple[str, int]], *, begins: bool, timeout_s: float
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Where the partition begins and ends."""
        return dict.fromkeys(places, (0, self.begin if begins else self.begin + len(self.values)))

    async def fetch(
        self, places: Iterable[tuple[str, int, int]], *, max_wait_ms: int, max_bytes: int, timeout_s: float
    ) -> list[Fetched]:
        """Whole batches from an offset on, or nothing at the end."""
        ((topic, number, offset),) = places
        self.asked.append((offset, max_bytes))
        end = self.begin + len(self.values)
        if max_wait_ms and offset == end:
            await asyncio.sleep(0.01)
            if self.down:
                raise NoAnswer("it went down")
            end = self.begin + len(self.values)
        if not self.begin <= offset <= end:
            return [Fetched(topic, number, Code.OFFSET_OUT_OF_RANGE, b"")]
        end = end if self.shown is None else self.shown
        data = b""
        for at in range(offset, end):
            data += _stored(at, self.values[at - self.begin])
            if len(data) >= max_bytes:
                break
        return [Fetched(topic, number, Code.NONE, data)]


@cache
def _stored(offset: int, value: bytes) -> bytes:
    """The record batch of this value at this offset, which is made once: its time is that of its making."""
    return struct.pack(">q", offset) + encode_batch([Message(None, value)], Identity(1, 0, 0))[8:]


class Following:
    """A follower that has read three messages, and waits for more."""

    def __init__(self) -> None:
        self.broker = Played([b"0", b"1", b"2"])
        self.given: list[bytes | None] = []
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for message in Reads(cast(Brokers, self.broker)).read(PLACE, 0, None):
            self.given.append(message.value)

    async def has(self, *values: bytes) -> None:
        """Wait until it was given these."""
        for _ in range(500):
            await asyncio.sleep(0.01)
            if self.given == list(values):
                return
        assert self.given == list(values)

    async def ends(self, match: str) -> None:
        """It ends with this error, and was given nothing more."""
        with pytest.raises(LogForked, match=match) as caught:
            await asyncio.wait_for(self.task, 5)
        assert caught.value.hint
        assert self.given == [b"0", b"1", b"2"]

    async def stop(self) -> None:
        """Stop it."""
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def following() -> Following:
    """A follower at the end."""
    found = Following()
    await found.has(b"0", b"1", b"2")
    return found


async def test_cut_and_written_on(following: Following) -> None:
    """Whoever took the place of what was read is not passed over: the last message is another one."""
    following.broker.values[1:] = [b"new"] * 5
    await following.ends("holds another message 2 than the one that was read")


@pytest.mark.parametrize("values", [3, 4, 40])
async def test_made_anew_while_the_brokers_were_away(following: Following, values: int) -> None:
    """As long as before, or longer: behind an outage the follower looks at once."""
    following.broker.down = True
    await asyncio.sleep(0.1)
    following.broker.values = [b"new"] * values
    following.broker.down = False
    await following.ends("holds another message 2 than the one that was read")


async def test_cut(following: Following) -> None:
    """A partition that ends earlier is told as before."""
    del following.broker.values[1:]
    await following.ends("ends before offset 3, up to where it was read")


async def test_an_outage_that_changes_nothing(following: Following) -> None:
    """The follower goes on, and is given each message once."""
    following.broker.down = True
    await asyncio.sleep(0.1)
    following.broker.down = False
    following.broker.values.append(b"3")
    await following.has(b"0", b"1", b"2", b"3")
    following.broker.values.append(b"4")
    await following.has(b"0", b"1", b"2", b"3", b"4")
    assert (3, 1) in following.broker.asked, "what is compared is asked for alone"
    await following.stop()


async def test_a_new_leader_that_does_not_give_the_last_message_yet(following: Following) -> None:
    """Its high watermark comes late (KIP-207): nobody takes that for a loss."""
    broker = following.broker
    broker.down = True
    await asyncio.sleep(0.1)
    broker.shown = 2
    broker.down = False
    await asyncio.sleep(0.3)
    assert not following.task.done()
    broker.shown = None
    broker.values.append(b"3")
    await following.has(b"0", b"1", b"2", b"3")
    await following.stop()


async def test_a_beginning_that_was_deleted_behind_it(following: Following) -> None:
    """What was read is gone by order of the operator: the gap shows elsewhere."""
    broker = following.broker
    broker.down = True
    await asyncio.sleep(0.1)
    broker.begin, broker.values = 3, [b"3"]
    broker.down = False
    await following.has(b"0", b"1", b"2", b"3")
    await following.stop()
