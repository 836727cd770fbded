"""Publishing, cryptography alone: lock, sign and seal a batch as the publisher does, without a log.

The baseline is what protects each record by itself: one Ed25519 signature, one HPKE seal of the same suite.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.coalition import READER, WRITER, Coalition, channel_of
from bench.filling import items_of
from bench.records import MEASURED, body_of, records
from bench.timing import Comparison, compare, plain
from broker.avro.schema import default_store
from broker.clock import system_clock
from broker.crypto.seal import seal
from broker.publish.assembly import StreamPlace, build_record_batch
from broker.records.record import Record
from broker.wire.batch import Item

__all__ = ["measure_crypto"]

_AGAINST = "one Ed25519 signature and one HPKE seal per record"
_BATCHES = {256: 8, 16: 32, 1: 64}
_BASELINE_RECORDS = 192


async def measure_crypto(folder: Path, *, sizes: Sequence[int], repeat: int) -> list[Comparison]:
    """A comparison for each size of batches, without encoding and with it."""
    coalition = await Coalition.found(folder)
    async with coalition.log() as (_, follower):
        directory = follower.history.latest
    keyring, channel = coalition.keyring(WRITER), channel_of(directory)
    schema = default_store().current(MEASURED)
    _, receiving_key = directory.receiving_key(READER)
    found: list[Comparison] = []
    for size in sizes:
        batches = _BATCHES.get(size, 8)
        items, made = items_of(size), records(size)

        def build(items: Sequence[Item]) -> None:
            build_record_batch(
                directory,
                keyring,
                channel,
                schema=schema,
                items=items,
                place=StreamPlace(stream=secrets.token_bytes(16)),
                issued_at=system_clock(),
            )

        def locked(items: Sequence[Item] = items, batches: int = batches) -> None:
            for _ in range(batches):
                build(items)

        def encoded(
            items: Sequence[Item] = items, made: Sequence[Record] = made, batches: int = batches
        ) -> None:
            for _ in range(batches):
                pairs = zip(items, made, strict=True)
                build([replace(item, body=body_of(record)) for item, record in pairs])

        bodies = [body_of(one) for one in records(_BASELINE_RECORDS)]

        def each(bodies: Sequence[bytes] = bodies) -> None:
            for body in bodies:
                keyring.signing.sign("manifest", directory.genesis, body)
                seal(receiving_key, body, b"ftf-broker/v1/bench\n")

        def each_encoded() -> None:
            each([body_of(one) for one in records(_BASELINE_RECORDS)])

        jobs = {
            "locked": plain(batches * size, locked),
            "each": plain(len(bodies), each),
            "encoded": plain(batches * size, encoded),
            "each encoded": plain(len(bodies), each_encoded),
        }
        timed = await compare(jobs, repeat)
        found.append(
            Comparison(
                work="publish, cryptography alone",
                against=_AGAINST,
                batch=size,
                ours=timed["locked"],
                baseline=timed["each"],
                clock="cpu",
                reach=12.0 if size == 256 else None,
                then=19.0 if size == 256 else 1.0,
            )
        )
        found.append(
            Comparison(
                work="the same with encoding",
                against=f"{_AGAINST}, encoded too",
                batch=size,
                ours=timed["encoded"],
                baseline=timed["each encoded"],
                clock="cpu",
            )
        )
    return found
