"""Whether a record costs as much on Kafka in a log of 10^6 as in one of 10^4, on 3,000 channels as on one.

By records, one log grows: records are published in batches of 256, and at each size the cost is that of
the last ones; the key access service takes them over, the first are read, and everything is replayed.
By channels, the same number of batches of four records each is spread over so many channels of a
directory of its own, by one publisher, and replayed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from bench.coalition import AUDITOR, CHANNELS, READER, WRITER, Coalition, channel_of, key_access
from bench.kafka_broker import Broker
from bench.kas_process import key_access_process
from bench.read import ground
from bench.records import MEASURED, records
from bench.replay import replayed
from broker.audit.replay import ReplayReport, replay
from broker.avro.schema import SchemaStore, default_store
from broker.directory import Directory
from broker.publish.publisher import Publisher
from broker.records.record import Record
from broker.services.kas.service import KeyAccessService
from broker.subscribe.subscriber import Delivered, Subscriber

__all__ = ["KafkaGrowth", "measure_kafka_channels", "measure_kafka_growth"]

_CHUNK = 1024
_LAST_CHUNKS = 8
_READ = 8192
_OF_A_CHANNEL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaGrowth:
    """What a record cost in some work, at so many of what grows; ``cpu_us`` is of this process."""

    what: str
    count: int
    work: str
    cpu_us: float
    wall_us: float


async def _timed(run: Callable[[], Awaitable[object]], count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    await run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu * 1e6 / count, wall * 1e6 / count


def _least(what: str, count: int, work: str, runs: Sequence[tuple[float, float]]) -> KafkaGrowth:
    cpu_us, wall_us = (min(run[clock] for run in runs) for clock in (0, 1))
    return KafkaGrowth(what=what, count=count, work=work, cpu_us=cpu_us, wall_us=wall_us)


# by records


async def measure_kafka_growth(
    folder: Path, broker: Broker, *, counts: Sequence[int], repeat: int
) -> list[KafkaGrowth]:
    """Publishing, taking over, reading and replaying at each number of records."""
    coalition = await Coalition.found(folder, broker.url("growth"))
    reading, done = min(*counts, _READ), 0
    found: list[KafkaGrowth] = []
    for count in sorted(counts):
        async with key_access(coalition) as kas, coalition.log() as (_, follower):
            take_over = partial(_take_over, kas, follower.history.latest)
            await take_over()
            published = await _publish(coalition, count - done)
            taken_over = await _timed(take_over, count - done)
        cpu_us, wall_us = (median(run[clock] for run in published[-_LAST_CHUNKS:]) for clock in (0, 1))
        found.append(KafkaGrowth(what="records", count=count, work="publish", cpu_us=cpu_us, wall_us=wall_us))
        found.append(_least("records", count, "take over", [taken_over]))
        done = count

        async def whole(count: int = count) -> None:
            assert (await replayed(coalition)).counts.records == count

        found.append(
            _least("records", count, "replay", [await _timed(whole, count) for _ in range(min(repeat, 2))])
        )
        async with key_access_process(coalition) as kas_client, coalition.participant(READER) as participant:

            async def first() -> None:
                subscriber = Subscriber(
                    participant,
                    kas_client,
                    ground=ground(),
                )
                left = reading
                async with subscriber, aclosing(subscriber.deliveries()) as items:
                    async for item in items:
                        assert isinstance(item, Delivered), item
                        left -= 1
                        if not left:
                            return

            runs = [await _timed(first, reading) for _ in range(repeat)]
        found.append(_least("records", count, f"read the first {reading:,}", runs))
    return found


async def _publish(coalition: Coalition, count: int) -> list[tuple[float, float]]:
    """In chunks; what each record cost in each."""
    made = records(_CHUNK)
    runs: list[tuple[float, float]] = []
    async with (
        coalition.participant(WRITER) as participant,
        Publisher(participant, linger_s=60.0) as publisher,
    ):

        async def publish(some: Sequence[Record]) -> None:
            for one in some:
                await publisher.publish(CHANNELS[0], one)
            await publisher.flush()

        for start in range(0, count, _CHUNK):
            some = made[: count - start]
            runs.append(await _timed(partial(publish, some), len(some)))
    return runs


async def _take_over(kas: KeyAccessService, directory: Directory) -> None:
    channel = kas.channel_service(channel_of(directory))
    async with channel.turn:
        state = await channel.apply()
        await channel.collect(state, list(state.pending))


# by channels


async def measure_kafka_channels(folder: Path, broker: Broker, *, counts: Sequence[int]) -> list[KafkaGrowth]:
    """Publishing to so many channels, and replaying them: as many batches each time as the most channels."""
    schema = default_store().current(MEASURED)
    store = SchemaStore({MEASURED: schema}, ())  # so that a channel is two partitions, not six
    batches = max(counts)
    made = records(_OF_A_CHANNEL)
    found: list[KafkaGrowth] = []
    for count in counts:
        name = f"channels{count}"
        channels = [f"c{number:05}" for number in range(count)]
        coalition = await Coalition.found(
            folder / name, broker.url(name), channels=channels, topics=(schema.topic, "access")
        )
        async with coalition.participant(WRITER) as writer:
            participant = replace(writer, store=store)
            auditor = replace(participant, keyring=coalition.keyring(AUDITOR))
            publisher = Publisher(
                participant,
                max_records=_OF_A_CHANNEL,
                linger_s=60.0,
            )

            async def publish(publisher: Publisher = publisher, channels: Sequence[str] = channels) -> None:
                async with publisher:
                    for batch in range(batches):
                        for one in made:
                            await publisher.publish(channels[batch % len(channels)], one)

            total = batches * _OF_A_CHANNEL

            async def replay_all(run: Callable[[], Awaitable[ReplayReport]], total: int = total) -> None:
                report = await run()
                assert report.counts.records == total, report

            published = await _timed(publish, total)
            replays = partial(replay_all, partial(replay, auditor))
            found += [
                _least("channels", count, f"publish, batches of {_OF_A_CHANNEL}", [published]),
                _least(
                    "channels", count, f"replay, batches of {_OF_A_CHANNEL}", [await _timed(replays, total)]
                ),
            ]
    return found
