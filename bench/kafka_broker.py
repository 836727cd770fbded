"""A Kafka to measure on: the one that FTF_KAFKA names, else a broker of our own on the JVM, gone afterwards.

Each log gets a prefix of its own; on a broker that stays, its topics are deleted at the end.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

# Where it lies in the source tree: bench/ is run from there and is in no wheel.
sys.path.append(str(Path(__file__).parents[1] / "deploy" / "kafka"))

import kafka_jvm

__all__ = ["Broker", "missing", "running"]

_MORE = {"log.index.size.max.bytes": "65536"}  # thousands of partitions take no room


@dataclass(frozen=True, slots=True)
class Broker:
    """A Kafka that answers at ``address``; ``prefix`` begins the prefix of every log on it."""

    address: str
    what: str
    prefix: str = field(default_factory=lambda: f"bench-{secrets.token_hex(4)}")

    def url(self, name: str) -> str:
        """The URL of a new log, of one copy."""
        options = {"prefix": f"{self.prefix}.{name}", "replication": 1, "min_insync": 1}
        return f"kafka://{self.address}?{urlencode(options)}"

    def topic(self, name: str, topic: str) -> str:
        """What Kafka calls a topic of that log."""
        return f"{self.prefix}.{name}.{topic}"


def missing() -> str | None:
    """Say why there is no Kafka to measure on; None when there is."""
    return None if os.environ.get("FTF_KAFKA") else kafka_jvm.missing()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Broker]:
    """A Kafka while the block lasts; a broker of our own keeps its data in the folder."""
    given = os.environ.get("FTF_KAFKA")
    if given:
        address, _, options = given.removeprefix("kafka://").partition("?")
        if parse_qsl(options):
            raise SystemExit("error: the benchmark knows no options of FTF_KAFKA; hint: set it to host:port")
        broker = Broker(address.rstrip("/"), f"the one at {address} (FTF_KAFKA)")
        try:
            yield broker
        finally:
            await _delete_topics(broker)
        return
    port, controller = _free_ports()
    settings = kafka_jvm.Settings(
        node_id=1, port=port, controller=f"1@{kafka_jvm.HOST}:{controller}", more=_MORE
    )
    node = kafka_jvm.Node(folder / "broker", settings)
    node.format()
    node.start()
    try:
        node.wait()
        yield Broker(f"{kafka_jvm.HOST}:{port}", "one broker of our own, on the same machine's JVM")
    finally:
        node.signal(signal.SIGKILL)


async def _delete_topics(broker: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        ours = [name for name in await admin.list_topics() if name.startswith(f"{broker.prefix}.")]
        for start in range(0, len(ours), 20):
            await admin.delete_topics(ours[start : start + 20])
    finally:
        await admin.close()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind((kafka_jvm.HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]
