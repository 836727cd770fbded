"""Encoding and decoding bodies: our generated functions against fastavro, for each record type."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro

from bench.records import sample
from bench.timing import Comparison, Job, compare, plain
from broker.avro.schema import RecordSchema, default_store

__all__ = ["FastAvro", "measure_codec"]

_CALLS = 500


class FastAvro:
    """fastavro for one record type, used as its documentation shows."""

    def __init__(self, schema: RecordSchema) -> None:
        self._schema: Any = fastavro.parse_schema(schema.schema)

    def encode(self, value: dict[str, Any]) -> bytes:
        """One body."""
        out = BytesIO()
        fastavro.schemaless_writer(out, self._schema, value)
        return out.getvalue()

    def decode(self, data: bytes) -> Any:
        """One body back; dates and UUIDs become objects, as fastavro likes it."""
        return fastavro.schemaless_reader(BytesIO(data), self._schema, None)


def _repeated(call: Callable[[Any], object], given: object) -> Job:
    def run() -> None:
        for _ in range(_CALLS):
            call(given)

    return plain(_CALLS, run)


async def measure_codec(*, repeat: int) -> list[Comparison]:
    """Two comparisons for each record type."""
    store = default_store()
    found: list[Comparison] = []
    for record_type in store.record_types:
        schema = store.current(record_type)
        codec, theirs, body = schema.codec, FastAvro(schema), sample(record_type).body
        data = codec.encode(body)
        assert theirs.encode(body) == data
        jobs = {
            "encode": _repeated(codec.encode, body),
            "encode, fastavro": _repeated(theirs.encode, body),
            "decode": _repeated(codec.decode, data),
            "decode, fastavro": _repeated(theirs.decode, data),
        }
        timed = await compare(jobs, repeat)
        found += [
            Comparison(
                work=f"{name} {record_type}, {len(data)} bytes",
                against="fastavro",
                batch=None,
                ours=timed[name],
                baseline=timed[f"{name}, fastavro"],
                clock="cpu",
            )
            for name in ("encode", "decode")
        ]
    return found
