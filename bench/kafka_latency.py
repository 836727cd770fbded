"""From ``publish`` to the record in the hand of a following subscriber, each access logged, on Kafka.

Publisher, subscriber, key access service and broker are processes of their own on one machine; times
are of its monotonic clock. At saturation so many records are under way as a window of the subscriber
holds, and each that arrives lets the next one go. Baseline: aiokafka's ``send()`` and a consumer of
plain Avro, with nothing logged.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from bench.coalition import CHANNELS, PLAIN, READER, WRITER, Coalition
from bench.kafka_broker import Broker
from bench.kafka_plain import PlainConsumer, producer
from bench.kas_process import key_access_client, key_access_process
from bench.quiet import quiet
from bench.read import ground
from bench.records import MEASURED, body_of, records
from broker.avro.schema import default_store
from broker.publish.publisher import Publisher
from broker.records.record import Record
from broker.subscribe.subscriber import Delivered, Subscriber

__all__ = ["Latency", "measure_kafka_latency"]

_UNDER_WAY = 4096
_TOLD_AT_ONCE = 64

_numbers = count()

Publish = Callable[[Record], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long records were on their way, and how many arrived in a second."""

    work: str
    records: int
    per_second: float
    p50_ms: float
    p99_ms: float
    most_ms: float


@dataclass(slots=True)
class _Arrivals:
    """When records arrived, as the other process tells: nanoseconds, in the order they were sent."""

    pipe: Connection
    at: array[int] = field(default_factory=lambda: array("q"))

    async def until(self, count: int) -> None:
        """Return when so many have arrived."""
        while len(self.at) < count:
            self.at.frombytes(await asyncio.to_thread(self.pipe.recv_bytes))


@dataclass(frozen=True, slots=True)
class _Run:
    count: int
    per_second: float | None


# the other process


class _Teller:
    def __init__(self, pipe: Connection, at_once: int, total: int) -> None:
        self._pipe, self._at_once, self._left, self._at = pipe, at_once, total, array("q")
        self._is_first = True

    def arrived(self) -> bool:
        """Note it; tells whether that was the last."""
        self._at.append(time.monotonic_ns())
        self._left -= 1
        if len(self._at) >= self._at_once or not self._left or self._is_first:
            self._pipe.send_bytes(self._at.tobytes())
            self._at, self._is_first = array("q"), False
        return not self._left


async def _deliver(coalition: Coalition, teller: _Teller) -> None:
    async with coalition.participant(READER) as participant, key_access_client(coalition) as kas:
        subscriber = Subscriber(
            participant,
            kas,
            ground=ground(),
            state_path=coalition.folder / f"state-{time.monotonic_ns()}",
        )
        async with subscriber, aclosing(subscriber.deliveries(follow=True)) as items:
            async for item in items:
                assert isinstance(item, Delivered), item
                if teller.arrived():
                    return


async def _consume(address: str, topic: str, teller: _Teller) -> None:
    decode = default_store().current(MEASURED).codec.decode
    consumer = PlainConsumer(address, topic)
    await consumer.open()
    try:
        async with aclosing(consumer.values()) as values:
            async for value in values:
                decode(value)
                if teller.arrived():
                    return
    finally:
        await consumer.close()


def _run_ours(coalition: Coalition, pipe: Connection, at_once: int, total: int) -> None:
    quiet()
    asyncio.run(_deliver(coalition, _Teller(pipe, at_once, total)))


def _run_plain(address: str, topic: str, pipe: Connection, at_once: int, total: int) -> None:
    quiet()
    asyncio.run(_consume(address, topic, _Teller(pipe, at_once, total)))


@asynccontextmanager
async def _receiving(
    target: Callable[..., None], given: tuple[object, ...], at_once: int, total: int
) -> AsyncIterator[_Arrivals]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=target, args=(*given, theirs, at_once, total), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Arrivals(ours)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


# this process


async def _paced(publish: Publish, count: int, per_second: float) -> list[int]:
    sent = list[int]()
    begin = time.monotonic()
    for number, one in enumerate(records(count)):
        await asyncio.sleep(max(0.0, begin + number / per_second - time.monotonic()))
        sent.append(time.monotonic_ns())
        await publish(one)
    return sent


async def _saturated(publish: Publish, count: int, arrivals: _Arrivals) -> list[int]:
    sent, before = list[int](), len(arrivals.at)
    for number, one in enumerate(records(count)):
        await arrivals.until(before + number - _UNDER_WAY)
        sent.append(time.monotonic_ns())
        await publish(one)
    return sent


async def _measure(
    work: str, publish: Publish, receiving: Callable[..., None], given: tuple[object, ...], run: _Run
) -> Latency:
    is_paced = run.per_second is not None
    async with _receiving(receiving, given, 1 if is_paced else _TOLD_AT_ONCE, 1 + run.count) as arrivals:
        await publish(records(1)[0])  # when this has arrived everything is connected and compiled
        await arrivals.until(1)
        if run.per_second is not None:
            sent = await _paced(publish, run.count, run.per_second)
        else:
            sent = await _saturated(publish, run.count, arrivals)
        await arrivals.until(1 + run.count)
        took = sorted((at - since) / 1e6 for since, at in zip(sent, arrivals.at[1:], strict=True))
        pace = f"{run.per_second:g} a second" if run.per_second is not None else "at saturation"
        return Latency(
            work=f"{work}, {pace}",
            records=run.count,
            per_second=run.count * 1e9 / (arrivals.at[-1] - sent[0]),
            p50_ms=took[len(took) // 2],
            p99_ms=took[len(took) * 99 // 100],
            most_ms=took[-1],
        )


async def _ours(folder: Path, broker: Broker, run: _Run, linger_s: float) -> Latency:
    name = f"latency{next(_numbers)}"
    coalition = await Coalition.found(folder / name, broker.url(name))
    work = f"publisher that waits {linger_s * 1000:g} ms for more, KAS, subscriber"
    async with (
        coalition.participant(WRITER) as participant,
        key_access_process(coalition),
        Publisher(participant, linger_s=linger_s) as publisher,
    ):
        return await _measure(
            work, lambda one: publisher.publish(CHANNELS[0], one), _run_ours, (coalition,), run
        )


async def _plain(folder: Path, broker: Broker, run: _Run) -> Latency:
    name = f"latency{next(_numbers)}"
    await Coalition.found(folder / name, broker.url(name))
    topic = broker.topic(name, PLAIN)
    async with producer(broker.address) as plain:
        return await _measure(
            "aiokafka alone, plain Avro by our codec",
            lambda one: plain.send(topic, body_of(one), partition=0),
            _run_plain,
            (broker.address, topic),
            run,
        )


async def measure_kafka_latency(
    folder: Path, broker: Broker, *, seconds: float, saturating: int, per_second: float = 50.0
) -> list[Latency]:
    """For so many seconds at a pace that a person could follow, and so many records at saturation."""
    paced, saturated = _Run(max(2, round(seconds * per_second)), per_second), _Run(saturating, None)
    return [
        await _ours(folder, broker, paced, 0.05),
        await _ours(folder, broker, paced, 0.0),
        await _plain(folder, broker, paced),
        await _ours(folder, broker, saturated, 0.05),
        await _plain(folder, broker, saturated),
    ]
