"""Publishing end to end on the embedded log: encode, lock, sign, seal, append, wait until it is durable.

The baselines append the same records as plain Avro, as many at once, to the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.coalition import CHANNELS, PLAIN, WRITER, Coalition
from bench.codec import FastAvro
from bench.records import MEASURED, records
from bench.timing import Comparison, Job, compare
from broker.avro.schema import default_store
from broker.log.protocol import Log, Message, Partition
from broker.publish.publisher import Publisher
from broker.records.record import Record

__all__ = ["append_plain", "measure_publish"]

_RECORDS = {256: 2048, 16: 512, 1: 64}


async def append_plain(
    log: Log, made: Sequence[Record], encode: Callable[[dict[str, Any]], bytes], size: int
) -> None:
    """Append records as plain Avro, ``size`` at once."""
    for start in range(0, len(made), size):
        some = made[start : start + size]
        messages = [Message(one.record_id, encode(one.body)) for one in some]
        await log.append(Partition(PLAIN, 0), messages)


async def measure_publish(folder: Path, *, sizes: Sequence[int], repeat: int) -> list[Comparison]:
    """Two comparisons for each size of batches."""
    coalition = await Coalition.found(folder)
    schema = default_store().current(MEASURED)
    fast = FastAvro(schema)
    found: list[Comparison] = []
    async with coalition.participant(WRITER) as participant:
        log = participant.log
        for size in sizes:
            made = records(_RECORDS.get(size, 4 * size))
            publisher = Publisher(
                participant,
                max_records=size,
                linger_s=60.0,
            )
            async with publisher:

                async def publish(made: Sequence[Record] = made, publisher: Publisher = publisher) -> None:
                    for one in made:
                        await publisher.publish(CHANNELS[0], one)
                    await publisher.flush()

                async def with_fastavro(made: Sequence[Record] = made, size: int = size) -> None:
                    await append_plain(log, made, fast.encode, size)

                async def with_ours(made: Sequence[Record] = made, size: int = size) -> None:
                    await append_plain(log, made, schema.codec.encode, size)

                jobs = {
                    "publish": Job(records=len(made), run=publish),
                    "plain Avro by fastavro": Job(records=len(made), run=with_fastavro),
                    "plain Avro by our codec": Job(records=len(made), run=with_ours),
                }
                timed = await compare(jobs, repeat)
            found += [
                Comparison(
                    work="publish, embedded log",
                    against=f"append of {name}",
                    batch=size,
                    ours=timed["publish"],
                    baseline=timed[name],
                    clock="wall",
                )
                for name in list(jobs)[1:]
            ]
    return found
