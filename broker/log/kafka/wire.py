"""Requests to one broker and its answers, with types, which aiokafka does not have.

Of aiokafka this package takes the connection (TLS, SASL, versions of requests) and the encoding of requests
here and in admin.py, and the codec of record batches in record_batch.py. It takes neither its producer nor
its consumer: docs/adr/0002-kafka-client.md says why.

Every request ends in an answer or in one of two errors, and appends depend on the difference: after
:class:`NotSent` the broker has done nothing, after :class:`NoAnswer` it may have done everything.
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

__all__ = [
    "BROKER_WAIT_MS_PER_S",
    "Address",
    "Cluster",
    "Connection",
    "Fetched",
    "NoAnswer",
    "NotSent",
    "PartitionAt",
    "Place",
    "Produced",
    "Security",
]

Address = tuple[str, int]
"""The host and the port of a broker."""

Place = tuple[str, int]
"""A partition by the physical name of its topic (``ftf.returns``) and its number."""

# aiokafka's log lines repeat ours, and at debug level they hold whole requests. Bodies never go to a log.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

# Numbers of the protocol, sections ListOffsets, Fetch and Produce.
_LATEST = -1
_EARLIEST = -2
_FROM_CONSUMER = -1
_READ_UNCOMMITTED = 0
_ALL = -1

# A request carries a time-out for the broker of four fifths of ours. So the broker gives up first, and its
# answer says why; otherwise we would only know that no answer came.
BROKER_WAIT_MS_PER_S = 800


class NotSent(Exception):
    """A request did not reach the broker, so that the broker has done nothing.

    ``refused`` says that another attempt will fail too: a certificate or a password is not accepted.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


class NoAnswer(Exception):
    """A request was sent and no answer came. The broker may have done it, or may still do it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PartitionAt(NamedTuple):
    """The brokers that hold a partition; ``leader`` is -1 while no broker leads it."""

    number: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A broker's description of the cluster: the brokers that are up, and topics or their error codes."""

    brokers: Mapping[int, Address]
    topics: Mapping[str, tuple[PartitionAt, ...]]
    errors: Mapping[str, int]


class Produced(NamedTuple):
    """The answer to an append.

    ``offset`` is -1 unless ``code`` is 0. ``wait_ms`` is how long the broker will not read from us, because
    our quota is used up (KIP-219).
    """

    code: int
    offset: int
    wait_ms: int


class Fetched(NamedTuple):
    """The answer to a read of one partition; ``data`` holds whole batches, and perhaps a piece of another."""

    topic: str
    number: int
    code: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The security of connections: a TLS context, and a name and password, each where it is used."""

    client_id: str
    tls: ssl.SSLContext | None
    sasl: Sasl | None


class Connection:
    """A connection to one broker, made by :meth:`open`.

    The broker answers requests one at a time, in the order in which they were sent.
    """

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._connection: Any = connection
        # Private to aiokafka, whose version is bounded. Its close() waits for a peer that may be frozen, and
        # only the transport can be cut off.
        self._transport: asyncio.Transport = connection._writer.transport

    @classmethod
    async def open(cls, host: str, port: int, security: Security, timeout_s: float) -> Connection:
        """Open a connection; raises NotSent."""
        protocol = ("SASL_" if security.sasl else "") + ("SSL" if security.tls else "PLAINTEXT")
        sasl = security.sasl
        try:
            async with asyncio.timeout(timeout_s):
                return cls(
                    await create_conn(
                        host,
                        port,
                        client_id=security.client_id,
                        request_timeout_ms=600_000,  # never reached: each call brings its own
                        ssl_context=security.tls,
                        security_protocol=protocol,
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
            raise NotSent(f"{host}:{port}: {_system_words(error, security)}") from error
        except (KafkaError, ValueError, AssertionError) as error:
            # aiokafka turns a TLS error that comes after the handshake into a KafkaError of its own.
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
        """Close at once; a request that waits for its answer raises NoAnswer."""
        self._connection.close()

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Close in good order. A broker that does not take part (it may be frozen) is cut off."""
        closed = self._connection.close()
        if closed is not None and not closed.done():
            await asyncio.wait([closed], timeout=timeout_s)
            if not closed.done():
                self._transport.abort()

    async def call(self, request: Any, timeout_s: float) -> Any:
        """Send a request and return its answer. After NotSent or NoAnswer the connection is over."""
        try:
            answer = self._connection.send(request)
        except KafkaError as error:
            raise NotSent(str(error)) from error
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            # Closed, since a late answer would otherwise hold up the next request of this connection.
            self.abort()
            where = f"{self._connection.host}:{self._connection.port}"
            raise NoAnswer(f"{where} does not answer") from error
        except KafkaError as error:
            cause = error.__cause__
            words = _tls_words(cause) if isinstance(cause, ssl.SSLError) else str(error)
            raise NoAnswer(words) from error
        except (ValueError, TypeError, IndexError) as error:
            # A server that is not a broker, or a broker that lies: aiokafka could not decode the answer.
            self.abort()
            raise NoAnswer(f"an answer that cannot be read: {error}") from error

    # The requests of a log

    async def cluster(self, topics: Sequence[str] | None, timeout_s: float) -> Cluster:
        """Ask for the brokers and for these topics (None for all topics).

        The request forbids the broker to create a topic that it does not know (Metadata, version 4): by
        default a misspelt name would become a topic without our policy.
        """
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
        """Ask for the identity of a new idempotent producer (KIP-98): the error code, the id, the epoch."""
        answer = await self.call(InitProducerIdRequest(None, 0), timeout_s)
        return answer.error_code, answer.producer_id, answer.producer_epoch

    async def produce(self, topic: str, number: int, batch: bytes, timeout_s: float) -> Produced:
        """Append one record batch; all replicas that are in sync acknowledge it (``acks=all``)."""
        wait_ms = max(1, int(timeout_s * BROKER_WAIT_MS_PER_S))
        request = ProduceRequest(None, _ALL, wait_ms, [(topic, [(number, batch)])])
        answer = await self.call(request, timeout_s)
        for _, partitions in answer.topics:
            for _, code, offset, *_ in partitions:
                return Produced(code, offset, answer.throttle_time_ms)
        raise NoAnswer("an answer that is empty")

    async def fetch(
        self, places: Iterable[tuple[str, int, int]], *, max_wait_ms: int, max_bytes: int, timeout_s: float
    ) -> list[Fetched]:
        """Read each of these (topic, partition, offset).

        The broker answers as soon as it has something for one of them, or after ``max_wait_ms``. It gives
        whole batches, the first one also when it is larger than ``max_bytes`` (KIP-74).
        """
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for topic, number, offset in places:
            topics.setdefault(topic, []).append((number, offset, max_bytes))
        # Reading "committed" would leave out the messages of aborted transactions (KIP-98). They are in the
        # log, so the reader must account for them.
        min_bytes = 1
        request = FetchRequest(max_wait_ms, min_bytes, max_bytes * 4, _READ_UNCOMMITTED, list(topics.items()))
        answer = await self.call(request, timeout_s)
        if getattr(answer, "error_code", 0):
            raise NoAnswer(f"reading is refused with error {answer.error_code}")
        return [
            Fetched(topic, number, code, bytes(data or b""))
            for topic, partitions in answer.topics
            for number, code, *_, data in partitions
        ]

    async def bounds(
        self, places: Iterable[Place], *, begins: bool, timeout_s: float
    ) -> dict[Place, tuple[int, int]]:
        """Ask where partitions begin, or where they end; return the error code and the offset of each."""
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
    """Tell whether a certificate was refused, by us or by the broker (an alert, RFC 8446 section 6)."""
    return isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or "")


def _system_words(error: OSError, security: Security) -> str:
    """Return what the system says of a connection that could not be made; some errors carry no words."""
    words = error.strerror or str(error) or "the connection was closed"
    # A broker that takes the beginning of TLS for the length of a request closes the connection.
    if security.tls is not None and isinstance(error, ConnectionResetError):
        words += " while TLS was agreed: this port may not have TLS"
    return words


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"the broker refuses our certificate: {reason}"
    if "wrong version number" in reason:
        return "there is no TLS at this port"
    return f"TLS failed: {reason}"
