"""The brokers of a cluster: connections that come back by themselves, and who leads which partition.

Rules
-----
* A connection serves one kind of work, since a broker answers one request of a connection at a time:
  an append that waits for replicas must not hold up a read, nor a reader that waits hold up `ends`.
* Whoever fails to reach a broker tries again after a pause with jitter, until its deadline; who found
  out first writes the log line, and the next success writes another.
* A question that any broker can answer goes to one, and a second later to the next as well: a broker
  that is stopped keeps its connections open and says nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from enum import Enum
from typing import Any, Self, TypeVar

from broker.errors import LogUnavailable, LogUnreachable, UsageError
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.wire import Cluster, Connection, NoAnswer, NotSent, PartitionAt, Security
from broker.logger import get_logger

__all__ = ["Brokers", "Use"]

_T = TypeVar("_T")

_STAGGER_S = 1.0
_CONFIRM_S = 0.15

_log = get_logger("broker.log")


class Use(Enum):
    """What a connection is for."""

    ASK = "ask"
    APPEND = "append"
    READ = "read"
    FOLLOW_0 = "follow 0"
    FOLLOW_1 = "follow 1"
    FOLLOW_2 = "follow 2"
    FOLLOW_3 = "follow 3"


class Brokers:
    """The brokers of one cluster, made by :meth:`open`."""

    def __init__(self, options: KafkaOptions, security: Security) -> None:
        self.options = options
        self._security = security
        self._addresses: dict[int, tuple[str, int]] = {}
        self._topics: dict[str, dict[int, PartitionAt]] = {}
        self._connections: dict[tuple[int, Use], Connection] = {}
        self._connecting: dict[tuple[int, Use], asyncio.Lock] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}
        self._silent: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False

    @classmethod
    async def open(cls, options: KafkaOptions) -> Self:
        """Reach the cluster, or raise LogUnavailable when the time is over."""
        tls, sasl = options.load_tls(), options.load_sasl()
        self = cls(options, Security(client_id=options.client_id, tls=tls, sasl=sasl))
        try:
            await self.learn([])
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Close all connections; whoever waits for an answer gets a UsageError."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.aclose() for connection in connections))

    def check_open(self) -> None:
        """Raise a UsageError when closed."""
        if self.closed:
            raise UsageError("the log is closed")

    def deadline(self, *, longer_s: float = 0.0) -> Deadline:
        """Begin a call; it may take the configured time, and ``longer_s``."""
        return Deadline(self.options.timeout_s + longer_s)

    def start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """Start a task that ends with these connections at the latest."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Who is there

    @property
    def count(self) -> int:
        """How many brokers are up, as far as was learned."""
        return len(self._addresses)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The ids of the brokers that are up, as far as was learned."""
        return tuple(self._addresses)

    def topic(self, topic: str) -> Mapping[int, PartitionAt] | None:
        """Give what was learned of a topic; None where it does not exist."""
        return self._topics.get(topic)

    def forget(self, topic: str) -> None:
        """Learn about this topic again when it is needed."""
        self._topics.pop(topic, None)

    async def leader(self, topic: str, number: int, deadline: Deadline) -> int:
        """Say which broker leads a partition; LogUnreachable when none does in time, LogUnavailable when
        there is no such partition."""
        reason = ""
        while True:
            self.check_open()
            known = self._topics.get(topic, {}).get(number)
            if known is None:
                known = await self._confirmed(topic, number, deadline)
            if known.leader in self._addresses:
                return known.leader
            reason = f"partition {number} of {topic} has no leader"
            if not deadline.left_s:
                raise LogUnreachable(
                    f"{reason}: its replicas are on the brokers {_listed(known.replicas)}",
                    hint="start the brokers that are down; what they hold is needed",
                )
            await deadline.pause()
            await self.learn([topic], deadline)

    async def _confirmed(self, topic: str, number: int, deadline: Deadline) -> PartitionAt:
        """Learn where a partition is; believe that it is missing when asked twice: brokers learn late."""
        for pause_s in (0.0, _CONFIRM_S):
            await asyncio.sleep(pause_s)
            await self.learn([topic], deadline)
            known = self._topics.get(topic, {}).get(number)
            if known is not None:
                return known
        raise self.missing(topic, number)

    def missing(self, topic: str, number: int) -> LogUnavailable:
        """Say that a topic or a partition does not exist."""
        known = self._topics.get(topic)
        if known is None:
            return LogUnavailable(
                f"the cluster has no topic {topic}",
                hint="check the prefix in the log's URL, or have the topic created",
            )
        return LogUnavailable(
            f"topic {topic} has {len(known)} partitions, and no partition {number}",
            hint="have the topic grown: the partition is the channel's number",
        )

    async def learn(self, topics: Iterable[str], deadline: Deadline | None = None) -> None:
        """Ask who is there, and where the partitions of these topics are; once for all who ask at once."""
        self.check_open()
        deadline = deadline or self.deadline()
        name = "\n".join(topics)
        while True:
            running = self._learning.get(name)
            ours = running is None or running.done()
            if running is None or ours:
                running = self.start(self._learn(name, deadline), "kafka learn")
                running.add_done_callback(_looked_at)  # whoever asked may have been cancelled
                self._learning[name] = running
            try:
                await asyncio.shield(running)
                return
            except LogUnavailable:
                if ours or not deadline.left_s:
                    raise  # otherwise the time of whoever asked first is over, and ours is not
            except asyncio.CancelledError:
                if running.cancelled() and self.closed:
                    raise UsageError("the log is closed") from None
                raise

    async def _learn(self, name: str, deadline: Deadline) -> None:
        topics = name.split("\n") if name else []
        cluster = await self.ask(lambda connection, left_s: connection.cluster(topics, left_s), deadline)
        self._take(cluster, topics)

    def _take(self, cluster: Cluster, topics: Iterable[str]) -> None:
        self._addresses = dict(cluster.brokers)
        for topic in topics:
            code = cluster.errors.get(topic)
            if code == 29:
                raise LogUnavailable(
                    f"the cluster does not let us use topic {topic}",
                    hint="whoever operates the brokers must give this principal its role: see log acl",
                )
            if topic in cluster.topics:
                self._topics[topic] = {place.number: place for place in cluster.topics[topic]}
            elif code in (None, 3):
                self._topics.pop(topic, None)
            # Otherwise (5, no leader yet): what was known stays.

    # Asking

    async def ask(self, question: Callable[[Connection, float], Awaitable[_T]], deadline: Deadline) -> _T:
        """Get an answer that any broker can give, from the first that gives one."""
        while True:
            self.check_open()
            reasons: list[str] = []
            try:
                return await self._first(question, deadline, reasons)
            except (NotSent, NoAnswer) as error:
                if isinstance(error, NotSent) and error.refused:
                    raise self.refused(error) from error
                if not deadline.left_s:
                    raise self.unreachable(reasons) from error
            await deadline.pause()

    async def _first(
        self, question: Callable[[Connection, float], Awaitable[_T]], deadline: Deadline, reasons: list[str]
    ) -> _T:
        """Ask one broker after another, without waiting long for any; the first answer counts."""
        targets = self._targets()
        running: set[asyncio.Task[_T]] = set()
        failed: NotSent | NoAnswer = NotSent("no broker is known")
        try:
            while targets or running:
                if targets:
                    target = targets.pop(0)
                    running.add(self.start(self._ask_one(target, question, deadline), f"kafka ask {target}"))
                done, running = await asyncio.wait(
                    running,
                    timeout=_STAGGER_S if targets else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    try:
                        return task.result()
                    except (NotSent, NoAnswer) as error:
                        reasons.append(error.reason)
                        if not (isinstance(failed, NotSent) and failed.refused):
                            failed = error
                    except asyncio.CancelledError:
                        self.check_open()
                        raise
            raise failed
        finally:
            for task in running:
                task.cancel()
                task.add_done_callback(_looked_at)
            if running:
                await asyncio.wait(running)

    def _targets(self) -> list[int | tuple[str, int]]:
        """List brokers in the order to ask: connected ones, others, then the addresses of the URL."""
        nodes = list(self._addresses)
        random.shuffle(nodes)
        nodes.sort(
            key=lambda node: (self._addresses[node] in self._silent, not self._is_connected(node, Use.ASK))
        )
        hosts = [host for host in self.options.hosts if host not in self._addresses.values()]
        random.shuffle(hosts)
        return [*nodes, *sorted(hosts, key=lambda host: host in self._silent)]

    async def _ask_one(
        self,
        target: int | tuple[str, int],
        question: Callable[[Connection, float], Awaitable[_T]],
        deadline: Deadline,
    ) -> _T:
        if isinstance(target, int):
            return await self.call(target, Use.ASK, question, deadline.attempt_s)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline.attempt_s
        # No time-out of ours around it: it would end first, with an error that nobody here expects.
        connection = await self._connect(target, deadline.attempt_s)
        try:
            return await question(connection, max(0.05, ends_at - loop.time()))
        finally:
            await connection.aclose()

    async def call(
        self, node: int, use: Use, question: Callable[[Connection, float], Awaitable[_T]], timeout_s: float
    ) -> _T:
        """Ask one broker; raises NotSent or NoAnswer."""
        connection = await self._connection(node, use, timeout_s)
        try:
            answer = await question(connection, timeout_s)
        except (NotSent, NoAnswer):
            self.check_open()
            self._fell_silent(self._addresses.get(node))
            raise
        self._spoke(self._addresses.get(node))
        return answer

    def _is_connected(self, node: int, use: Use) -> bool:
        connection = self._connections.get((node, use))
        return connection is not None and connection.usable

    async def _connection(self, node: int, use: Use, timeout_s: float) -> Connection:
        key = (node, use)
        async with self._connecting.setdefault(key, asyncio.Lock()):
            self.check_open()
            connection = self._connections.get(key)
            if connection is not None and connection.usable:
                return connection
            if connection is not None:
                del self._connections[key]
                connection.abort()
            address = self._addresses.get(node)
            if address is None:
                raise NotSent(f"broker {node} is not up")
            connection = await self._connect(address, timeout_s)
            if self.closed:
                connection.abort()
                self.check_open()
            self._connections[key] = connection
            return connection

    async def _connect(self, address: tuple[str, int], timeout_s: float) -> Connection:
        try:
            return await Connection.open(*address, self._security, timeout_s)
        except NotSent as error:
            self._fell_silent(address, error.reason)
            raise

    def _fell_silent(self, address: tuple[str, int] | None, reason: str = "no answer") -> None:
        if address is not None and address not in self._silent:
            self._silent.add(address)
            _log.warning("broker does not answer", broker=f"{address[0]}:{address[1]}", error=reason)

    def _spoke(self, address: tuple[str, int] | None) -> None:
        if address in self._silent and address is not None:
            self._silent.discard(address)
            _log.info("broker answers again", broker=f"{address[0]}:{address[1]}")

    # What to say

    def unreachable(self, reasons: Iterable[str]) -> LogUnreachable:
        """Say that no broker answers."""
        words = "; ".join(dict.fromkeys(reasons)) or "no broker answers"
        return LogUnreachable(
            f"the log kafka://{self.options.shown_hosts} cannot be reached: {words}",
            hint="check the addresses in the log's URL, the network, and that the brokers run",
        )

    def refused(self, error: NotSent) -> LogUnavailable:
        """Say that the brokers do not accept us, or we not them."""
        return LogUnavailable(
            f"the log kafka://{self.options.shown_hosts} cannot be used: {error.reason}",
            hint="check ca, cert and key, or user and password_file, in the log's URL; "
            "certificates expire, and names must match",
        )


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Look at how a task ended, or asyncio would report an error as never retrieved."""
    if not task.cancelled():
        task.exception()


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
