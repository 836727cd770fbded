"""What goes over the wire to one broker, with types: aiokafka has none, and is imported here alone.

Of aiokafka this takes the connection (TLS, SASL, versions of requests), the encoding of requests and
the codec of record batches; not its producer and not its consumer: docs/adr/0002-kafka-client.md.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.conn import AIOKafkaConnection, create_conn  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]
from aiokafka.protocol.offset import OffsetRequest  # type: ignore[import-untyped]
from aiokafka.protocol.produce import ProduceRequest  # type: ignore[import-untyped]
from aiokafka.protocol.transaction import InitProducerIdRequest  # type: ignore[import-untyped]

from broker.log.kafka.options import Sasl

__all__ = ["Cluster", "Connection", "Fetched", "NoAnswer", "NotSent", "PartitionAt", "Produced", "Security"]

# Its lines repeat ours, and at the level of debugging it writes whole requests: bodies never go to a log.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

_LATEST = -1
_EARLIEST = -2
_FROM_CONSUMER = -1
_READ_UNCOMMITTED = 0
_ALL = -1


class NotSent(Exception):
    """A request did not reach the broker: it has done nothing. ``refused``: nor will it next time."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


class NoAnswer(Exception):
    """A request was sent and no answer came: the broker may have done what it asks, or may yet."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PartitionAt(NamedTuple):
    """Where a partition is: ``leader`` is -1 while it has none."""

    number: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a broker knows of the cluster: brokers that are up, and topics (or the code of an error)."""

    brokers: Mapping[int, tuple[str, int]]
    topics: Mapping[str, tuple[PartitionAt, ...]]
    errors: Mapping[str, int]


class Produced(NamedTuple):
    """The answer to an append; ``offset`` is -1 unless ``code`` is 0, ``wait_ms`` is what a quota demands."""

    code: int
    offset: int
    wait_ms: int


class Fetched(NamedTuple):
    """The answer to a read of one partition; ``data`` holds whole batches and a piece of the next."""

    topic: str
    number: int
    code: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How connections are secured."""

    client_id: str
    tls: ssl.SSLContext | None
    sasl: Sasl | None


class Connection:
    """A connection to one broker, made by :meth:`open`; requests are answered in the order they are sent."""

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._connection: Any = connection
        self._transport: asyncio.Transport = connection._writer.transport

    @classmethod
    async def open(cls, host: str, port: int, security: Security, timeout_s: float) -> Connection:
        """Connect; raises NotSent."""
        protocol = ("SASL_" if security.sasl else "") + ("SSL" if security.tls else "PLAINTEXT")
        sasl = security.sasl
        try:
            async with asyncio.timeout(timeout_s):
                return cls(
                    await create_conn(
                        host,
                        port,
                        client_id=security.client_id,
                        request_timeout_ms=600_000,  # each call brings its own
                        ssl_context=security.tls,
                        security_protocol=protocol if not sasl or security.tls else "SASL_PLAINTEXT",
                        max_idle_ms=None,
                        sasl_mechanism=sasl.mechanism if sasl else None,
                        sasl_plain_username=sasl.user if sasl else None,
                        sasl_plain_password=sasl.password if sasl else None,
                    )
                )
        except TimeoutError as error:
            raise NotSent(f"{host}:{port} does not answer") from error
        except ssl.SSLError as error:
            raise NotSent(f"{host}:{port}: {_tls_words(error)}", refused=_is_refusal(error)) from error
        except OSError as error:
            raise NotSent(f"{host}:{port}: {error.strerror or error}") from error
        except (KafkaError, ValueError, AssertionError) as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLError):
                raise NotSent(f"{host}:{port}: {_tls_words(cause)}", refused=_is_refusal(cause)) from error
            name = type(error).__name__
            refused = "Sasl" in name or "Authentication" in name or isinstance(error, ValueError)
            words = "the user or the password is refused" if refused else f"{error or name}"
            raise NotSent(f"{host}:{port}: {words}", refused=refused) from error

    @property
    def usable(self) -> bool:
        """Tell whether a request may be sent."""
        return bool(self._connection.connected())

    def abort(self) -> None:
        """Close at once; what waits for an answer gets NoAnswer."""
        self._connection.close()

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Close, in good order if the broker takes part."""
        closed = self._connection.close()
        if closed is not None and not closed.done():
            await asyncio.wait([closed], timeout=timeout_s)
            if not closed.done():
                self._transport.abort()

    async def call(self, request: Any, timeout_s: float) -> Any:
        """Send a request and give its answer; raises NotSent or NoAnswer, and then the connection is over."""
        try:
            answer = self._connection.send(request)
        except KafkaError as error:
            raise NotSent(str(error)) from error
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            self.abort()
            where = f"{self._connection.host}:{self._connection.port}"
            raise NoAnswer(f"{where} does not answer") from error
        except KafkaError as error:
            cause = error.__cause__
            words = _tls_words(cause) if isinstance(cause, ssl.SSLError) else str(error)
            raise NoAnswer(words) from error
        except (ValueError, TypeError, IndexError) as error:  # an answer that is none
            self.abort()
            raise NoAnswer(f"an answer that cannot be read: {error}") from error

    # The requests of a log

    async def cluster(self, topics: Sequence[str] | None, timeout_s: float) -> Cluster:
        """Ask for the brokers and these topics (None for all); never creates any."""
        names = None if topics is None else list(topics)
        answer = await self.call(MetadataRequest(names, allow_auto_topic_creation=False), timeout_s)
        found: dict[str, tuple[PartitionAt, ...]] = {}
        errors: dict[str, int] = {}
        for code, topic, _, partitions in answer.topics:
            if code:
                errors[topic] = code
            else:
                found[topic] = tuple(
                    sorted(
                        PartitionAt(number, leader, tuple(replicas), tuple(in_sync))
                        for _, number, leader, replicas, in_sync, *_ in partitions
                    )
                )
        brokers = {broker[0]: (broker[1], broker[2]) for broker in answer.brokers}
        return Cluster(brokers=brokers, topics=found, errors=errors)

    async def producer_id(self, timeout_s: float) -> tuple[int, int, int]:
        """Ask for the identity of a new idempotent producer: error code, id, epoch."""
        answer = await self.call(InitProducerIdRequest(None, 0), timeout_s)
        return answer.error_code, answer.producer_id, answer.producer_epoch

    async def produce(self, topic: str, number: int, batch: bytes, timeout_s: float) -> Produced:
        """Append one record batch; acknowledged by all replicas that are in sync."""
        # The broker gives up first, so that it can say why.
        wait_ms = max(1, int(timeout_s * 800))
        request = ProduceRequest(None, _ALL, wait_ms, [(topic, [(number, batch)])])
        answer = await self.call(request, timeout_s)
        for _, partitions in answer.topics:
            for _, code, offset, *_ in partitions:
                return Produced(code, offset, answer.throttle_time_ms)
        raise NoAnswer("an answer that is empty")

    async def fetch(
        self, places: Iterable[tuple[str, int, int]], *, max_wait_ms: int, max_bytes: int, timeout_s: float
    ) -> list[Fetched]:
        """Read from (topic, partition, offset), waiting for so long until there is something."""
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for topic, number, offset in places:
            topics.setdefault(topic, []).append((number, offset, max_bytes))
        # min_bytes=1: answer as soon as there is anything. Never compacted away, never uncommitted alone:
        # what an aborted transaction wrote is in the log, and is given as it is.
        request = FetchRequest(max_wait_ms, 1, max_bytes * 4, _READ_UNCOMMITTED, list(topics.items()))
        answer = await self.call(request, timeout_s)
        if getattr(answer, "error_code", 0):
            raise NoAnswer(f"reading is refused with error {answer.error_code}")
        return [
            Fetched(topic, number, code, bytes(data or b""))
            for topic, partitions in answer.topics
            for number, code, *_, data in partitions
        ]

    async def bounds(
        self, places: Iterable[tuple[str, int]], *, begins: bool, timeout_s: float
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Ask where partitions begin, or end: error code and offset of each."""
        topics: dict[str, list[tuple[int, int]]] = {}
        for topic, number in places:
            topics.setdefault(topic, []).append((number, _EARLIEST if begins else _LATEST))
        request = OffsetRequest(_FROM_CONSUMER, _READ_UNCOMMITTED, list(topics.items()))
        answer = await self.call(request, timeout_s)
        return {
            (topic, number): (code, offset)
            for topic, partitions in answer.topics
            for number, code, _, offset in partitions
        }


def _is_refusal(error: ssl.SSLError) -> bool:
    """Tell a certificate that is refused from a connection that broke."""
    return isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or "")


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"the broker refuses our certificate: {reason}"
    return f"TLS failed: {reason}"
