"""The benchmark of Kafka works: a tiny run on a real broker gives numbers. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.kafka import Kafka

_ROOT = Path(__file__).parents[2]
_TINY = (
    "--repeat", "1", "--scale", "0.02", "--batch", "4",
    "--records", "8", "--records", "12", "--channels", "1", "--channels", "3",
)  # fmt: skip


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "kafka", *arguments],
        cwd=_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


async def _topics(kafka: Kafka) -> set[str]:
    from broker.log.kafka.wire import Connection, Security

    host, _, port = kafka.address.partition(",")[0].rpartition(":")
    connection = await Connection.open(host, int(port), Security(client_id="tests", tls=None, sasl=None), 10)
    try:
        return set((await connection.cluster(None, 10)).topics)
    finally:
        await connection.aclose()


@pytest.mark.kafka
async def test_kafka_is_measured_and_left_as_it_was(kafka: Kafka, tmp_path: Path) -> None:
    """A run on a given broker has every kind of row, and deletes the topics that it made."""
    numbers = tmp_path / "numbers.json"
    done = _run(*_TINY, "--json", str(numbers), FTF_KAFKA=kafka.address)
    assert done.returncode == 0, done.stderr
    found = json.loads(numbers.read_text())
    assert [one["work"].split(",")[0] for one in found["comparisons"]] == ["publish"] * 5 + ["read"] * 2 + [
        "replay"
    ]
    assert all(one["ratio"] > 0 for one in found["comparisons"])
    assert [one["records"] for one in found["latencies"]] == [6, 6, 6, 200, 200]
    assert all(0 < one["p50_ms"] <= one["p99_ms"] <= one["most_ms"] for one in found["latencies"])
    grown = {(one["what"], one["count"]) for one in found["kafka_growth"]}
    assert grown == {("records", 8), ("records", 12), ("channels", 1), ("channels", 3)}
    shown = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(shown) == len(found["comparisons"]) + len(found["latencies"]) + len(found["kafka_growth"]) + 4
    assert not [name for name in await _topics(kafka) if name.startswith("bench-")]


def test_a_kafka_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Without Java and without FTF_KAFKA the benchmark of Kafka says what to do, and fails."""
    refused = _run(*_TINY, FTF_KAFKA="", JAVA_HOME="", PATH=str(tmp_path))
    assert refused.returncode == 3
    assert refused.stderr.startswith("no Kafka: no Java 17 or later")
    assert "FTF_KAFKA=host:port" in refused.stderr
