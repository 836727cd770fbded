"""Reading on the embedded log: open, verify, have the access logged, unlock, decode, keep one's place.

The key access service runs in a process of its own. The subscriber keeps a state file, as everybody
does who wants each record once. The baselines read the same records as plain Avro from the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bench.coalition import CHANNELS, PLAIN, READER, Coalition
from bench.codec import FastAvro
from bench.filling import fill
from bench.kas_process import key_access_process
from bench.publish import append_plain
from bench.records import MEASURED, records
from bench.timing import Comparison, Job, compare
from broker.access.client import KeyAccess
from broker.access.requests import new_details
from broker.avro.schema import default_store
from broker.log.protocol import Log, Partition
from broker.participant.participant import Participant
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivered, Subscriber
from broker.wire.access import AccessDetails
from broker.wire.manifest import Operation
from broker.wire.terms import Purpose

__all__ = ["ground", "measure_read", "read_all"]

_RECORDS = {256: 4096, 16: 1024, 1: 128}


_states = count()


def _details() -> AccessDetails:
    return new_details(
        person="officer-17",
        role="analyst",
        legal_basis="Exercise treaty, article 7",
        justification="Follow-up of a return",
    )


def ground() -> Ground:
    """On what ground the benchmark reads."""
    return Ground(
        channel=CHANNELS[0],
        purpose=Purpose.PUBLIC_SECURITY,
        operation=Operation.CONSULTATION,
        details=_details,
    )


async def _read_plain(log: Log, decode: Callable[[bytes], Any], expected: int) -> None:
    found = 0
    async for message in log.read(Partition(PLAIN, 0), 0):
        decode(message.value or b"")
        found += 1
    assert found == expected


async def read_all(coalition: Coalition, participant: Participant, kas: KeyAccess, expected: int) -> None:
    """Read a channel whole, as a subscriber with a state file of its own; every record must be delivered."""
    subscriber = Subscriber(
        participant,
        kas,
        ground=ground(),
        state_path=coalition.folder / f"state-{next(_states)}",
    )
    delivered = 0
    async with subscriber:
        async for item in subscriber.deliveries():
            assert isinstance(item, Delivered), item
            delivered += 1
    assert delivered == expected


async def measure_read(folder: Path, *, sizes: Sequence[int], repeat: int) -> list[Comparison]:
    """Two comparisons for each size of batches."""
    schema = default_store().current(MEASURED)
    fast = FastAvro(schema)
    found: list[Comparison] = []
    for size in sizes:
        coalition = await Coalition.found(folder / str(size))
        total = _RECORDS.get(size, 4 * size)
        await fill(coalition, total, size)
        async with coalition.participant(READER) as participant, key_access_process(coalition) as kas:
            log = participant.log
            await append_plain(log, records(total), schema.codec.encode, 256)

            async def subscribe(
                coalition: Coalition = coalition,
                participant: Participant = participant,
                kas: KeyAccess = kas,
                total: int = total,
            ) -> None:
                await read_all(coalition, participant, kas, total)

            async def with_fastavro(log: Log = log, total: int = total) -> None:
                await _read_plain(log, fast.decode, total)

            async def with_ours(log: Log = log, total: int = total) -> None:
                await _read_plain(log, schema.codec.decode, total)

            jobs = {
                "read": Job(records=total, run=subscribe),
                "plain Avro by fastavro": Job(records=total, run=with_fastavro),
                "plain Avro by our codec": Job(records=total, run=with_ours),
            }
            timed = await compare(jobs, repeat)
        found += [
            Comparison(
                work="read, embedded log, KAS in its own process",
                against=f"reader of {name}",
                batch=size,
                ours=timed["read"],
                baseline=timed[name],
                clock="wall",
            )
            for name in list(jobs)[1:]
        ]
    return found
