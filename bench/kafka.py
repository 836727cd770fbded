"""Publishing, reading and replaying on a real Kafka, against aiokafka alone, side by side in one run.

Baselines send and consume the same records as plain Avro, encoded by fastavro and by our codec, on
the same broker: ``send()``, ``send_batch()``, a consumer; and ``send()`` of each record sealed and signed
by itself. The key access service runs in a process of its own, on the same Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.coalition import CHANNELS, PLAIN, READER, WRITER, Coalition
from bench.codec import FastAvro
from bench.filling import fill
from bench.kafka_broker import Broker
from bench.kafka_plain import Encode, PlainConsumer, producer, send, send_batch
from bench.kas_process import key_access_process
from bench.read import read_all
from bench.records import MEASURED, body_of, records
from bench.replay import against_verifying
from bench.timing import Comparison, Job, compare
from broker.avro.schema import default_store
from broker.crypto.seal import seal
from broker.publish.publisher import Publisher
from broker.records.record import Record

__all__ = ["measure_kafka_publish", "measure_kafka_read", "measure_kafka_replay"]

_PUBLISHED = {256: 4096, 16: 1024, 1: 128}
_READ = {256: 8192, 16: 1024, 1: 128}
_REPLAYED = {256: 25_600, 16: 4096, 1: 512}


def _scaled(counts: dict[int, int], size: int, scale: float) -> int:
    return max(size, round(counts.get(size, 4 * size) * scale))


async def measure_kafka_publish(
    folder: Path, broker: Broker, *, sizes: Sequence[int], repeat: int, scale: float = 1.0
) -> list[Comparison]:
    """Encode, lock, sign, seal, append: five comparisons for each size of batches."""
    coalition = await Coalition.found(folder, broker.url("publish"))
    topic = broker.topic("publish", PLAIN)
    fast = FastAvro(default_store().current(MEASURED))
    found: list[Comparison] = []
    async with coalition.participant(WRITER) as participant, producer(broker.address) as plain:
        directory, keyring = participant.directory, participant.keyring
        _, receiving_key = directory.receiving_key(READER)

        def with_fastavro(one: Record) -> bytes:
            return fast.encode(one.body)

        def sealed(one: Record) -> bytes:
            body = body_of(one)
            signature: bytes = keyring.signing.sign("manifest", directory.genesis, body)
            return signature + seal(receiving_key, body, b"ftf-broker/v1/bench\n")

        for size in sizes:
            made = records(_scaled(_PUBLISHED, size, scale))
            publisher = Publisher(participant, max_records=size, linger_s=60.0)

            async def publish(made: Sequence[Record] = made, publisher: Publisher = publisher) -> None:
                for one in made:
                    await publisher.publish(CHANNELS[0], one)
                await publisher.flush()

            baselines: dict[str, tuple[Any, Encode, float | None, float | None]] = {
                "send() of plain Avro by fastavro": (send, with_fastavro, 1.0, 3.0),
                "send() of plain Avro by our codec": (send, body_of, 0.8, 0.95),
                "send_batch() of plain Avro by fastavro": (send_batch, with_fastavro, None, None),
                "send_batch() of plain Avro by our codec": (send_batch, body_of, None, None),
                "send() of records signed and sealed each": (send, sealed, None, None),
            }
            jobs = {"publish": Job(records=len(made), run=publish)}
            for name, (sends, encode, _, _) in baselines.items():
                some = made[: max(size, 512)] if encode is sealed else made
                jobs[name] = Job(records=len(some), run=partial(sends, plain, topic, some, encode, size))
            async with publisher:
                timed = await compare(jobs, repeat)
            found += [
                Comparison(
                    work="publish, Kafka",
                    against=name,
                    batch=size,
                    ours=timed["publish"],
                    baseline=timed[name],
                    clock="wall",
                    reach=reach if size == max(_PUBLISHED) else None,
                    then=then if size == max(_PUBLISHED) else None,
                )
                for name, (_, _, reach, then) in baselines.items()
            ]
    return found


async def measure_kafka_read(
    folder: Path, broker: Broker, *, sizes: Sequence[int], repeat: int, scale: float = 1.0
) -> list[Comparison]:
    """Open, verify, have the access logged, unlock, decode: two comparisons for each size of batches."""
    schema = default_store().current(MEASURED)
    fast = FastAvro(schema)
    found: list[Comparison] = []
    for size in sizes:
        name = f"read{size}"
        coalition = await Coalition.found(folder / name, broker.url(name))
        total = _scaled(_READ, size, scale)
        await fill(coalition, total, size)
        async with producer(broker.address) as plain:
            await send_batch(plain, broker.topic(name, PLAIN), records(total), body_of, size)
        async with coalition.participant(READER) as participant, key_access_process(coalition) as kas:

            async def subscribe(coalition: Coalition = coalition, total: int = total) -> None:
                await read_all(coalition, participant, kas, total)

            consumer = PlainConsumer(broker.address, broker.topic(name, PLAIN))
            jobs = {"read": Job(records=total, run=subscribe)}
            targets = {"fastavro": (fast.decode, 0.6, 1.25), "our codec": (schema.codec.decode, 0.4, 0.55)}
            for codec, (decode, _, _) in targets.items():
                jobs[codec] = Job(
                    records=total,
                    run=partial(consumer.read, decode, total),
                    prepare=consumer.open,
                    clean=consumer.close,
                )
            timed = await compare(jobs, repeat)
        found += [
            Comparison(
                work="read, Kafka, KAS in its own process",
                against=f"consumer of plain Avro by {codec}",
                batch=size,
                ours=timed["read"],
                baseline=timed[codec],
                clock="wall",
                reach=reach if size == max(_READ) else None,
                then=then if size == max(_READ) else None,
            )
            for codec, (_, reach, then) in targets.items()
        ]
    return found


async def measure_kafka_replay(
    folder: Path, broker: Broker, *, sizes: Sequence[int], repeat: int, scale: float = 1.0
) -> list[Comparison]:
    """Everything verified and nothing read, for information: a comparison for each size of batches."""
    found: list[Comparison] = []
    for size in sizes:
        name = f"replay{size}"
        coalition = await Coalition.found(folder / name, broker.url(name))
        total = _scaled(_REPLAYED, size, scale)
        await fill(coalition, total, size)
        ours, theirs = await against_verifying(coalition, total, repeat)
        found.append(
            Comparison(
                work="replay, Kafka",
                against="one Ed25519 verification per record",
                batch=size,
                ours=ours,
                baseline=theirs,
                clock="cpu",
            )
        )
    return found
