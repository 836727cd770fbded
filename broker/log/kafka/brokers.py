"""The brokers of a cluster: which of them leads a partition, and how a question gets to them.

Rules
-----
* A caller that fails to reach a broker tries again after a pause with jitter, until its deadline.
* A question that any broker can answer goes to one of them, and a second later to the next as well. A broker
  that is frozen (SIGSTOP, a paused virtual machine) keeps its connections open and never answers.
* Callers that want to learn about the same topics at the same time share one question.

Where fields are
----------------
What was learned stands in ``_map`` and only an answer changes it (:meth:`Brokers.learn`); any caller that
meets a wrong leader may forget a topic. ``_connections`` owns the connections. ``_tasks`` holds every task
that was started here, until it ends; :meth:`Brokers.aclose` cancels those that are left.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Self, TypeVar

from broker.errors import LogUnavailable, LogUnreachable, UsageError
from broker.log.kafka.cluster_map import ClusterMap
from broker.log.kafka.connections import Connections, Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.wire import Address, Connection, NoAnswer, NotSent, PartitionAt, Security

__all__ = ["Brokers"]

_T = TypeVar("_T")

_Question = Callable[[Connection, float], Awaitable[_T]]
"""A request to one broker: it gets a connection, and the seconds that it may take."""

_STAGGER_S = 1.0
_CONFIRM_S = 0.15
_SHORTEST_S = 0.05


class Brokers:
    """The brokers of one cluster, made by :meth:`open`."""

    def __init__(self, options: KafkaOptions, security: Security) -> None:
        self.options = options
        self._map = ClusterMap()
        self._connections = Connections(security)
        # The question that is under way about these topics; a finished one stays until the next.
        self._learning: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, options: KafkaOptions) -> Self:
        """Reach the cluster, or raise LogUnavailable when the time is over."""
        security = Security(client_id=options.client_id, tls=options.load_tls(), sasl=options.load_sasl())
        self = cls(options, security)
        try:
            await self.learn([])
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Close all connections; callers that wait for an answer get a UsageError."""
        # Tasks end before the connections: a task that lost its connection would open another.
        self._connections.close_to_callers()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connections.aclose()

    @property
    def closed(self) -> bool:
        """Whether the log was closed."""
        return self._connections.closed

    def check_open(self) -> None:
        """Raise a UsageError when the log was closed."""
        self._connections.check_open()

    def deadline(self, *, longer_s: float = 0.0) -> Deadline:
        """Begin a call, which may take the time-out of the log's URL and ``longer_s`` more."""
        return Deadline(self.options.timeout_s + longer_s)

    def start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """Start a task that ends when the log is closed, at the latest."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What is known

    @property
    def count(self) -> int:
        """The number of brokers that were up when the cluster was asked last."""
        return len(self._map.addresses)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The ids of the brokers that were up when the cluster was asked last."""
        return tuple(self._map.addresses)

    def topic(self, topic: str) -> Mapping[int, PartitionAt] | None:
        """Return the partitions of a topic as they are known, or None if there is no such topic."""
        return self._map.topic(topic)

    def forget(self, topic: str) -> None:
        """Have the cluster asked about this topic again when it is needed next."""
        self._map.forget(topic)

    async def leader(self, topic: str, number: int, deadline: Deadline) -> int:
        """Return the id of the broker that leads a partition.

        Raises LogUnreachable when no broker leads it in time, and LogUnavailable when there is no such
        partition.
        """
        while True:
            self.check_open()
            known = self._map.partition(topic, number)
            if known is None:
                known = await self._confirmed(topic, number, deadline)
            if known.leader in self._map.addresses:
                return known.leader
            if not deadline.left_s:
                replicas = ", ".join(str(node) for node in known.replicas)
                raise LogUnreachable(
                    f"partition {number} of {topic} has no leader:"
                    f" its replicas are on the brokers {replicas}",
                    hint="start the brokers that are down; what they hold is needed",
                )
            await deadline.pause()
            await self.learn([topic], deadline)

    async def _confirmed(self, topic: str, number: int, deadline: Deadline) -> PartitionAt:
        """Ask where a partition is; raise LogUnavailable when two answers say that it does not exist.

        A broker hears of a new topic a little later than the controller that made it (KRaft, KIP-500), so the
        first answer may be old.
        """
        for pause_s in (0.0, _CONFIRM_S):
            await asyncio.sleep(pause_s)
            await self.learn([topic], deadline)
            known = self._map.partition(topic, number)
            if known is not None:
                return known
        raise self._map.missing(topic, number)

    async def learn(self, topics: Iterable[str], deadline: Deadline | None = None) -> None:
        """Ask which brokers are up, and where the partitions of these topics are."""
        self.check_open()
        deadline = deadline or self.deadline()
        key = tuple(topics)
        while True:
            running = self._learning.get(key)
            is_ours = running is None or running.done()
            if running is None or is_ours:
                running = self.start(self._learn(key, deadline), "kafka learn")
                running.add_done_callback(_retrieve)  # its first caller may be cancelled by then
                self._learning[key] = running
            try:
                # Shielded: a caller that is cancelled must not end the question of the others.
                await asyncio.shield(running)
                return
            except LogUnavailable:
                # Another caller's question ends with that caller's time. We may have some left.
                if is_ours or not deadline.left_s:
                    raise
            except asyncio.CancelledError:
                # Closing cancels the task; only a cancellation of the caller itself goes through as one.
                if running.cancelled() and self.closed:
                    raise UsageError("the log is closed") from None
                raise

    async def _learn(self, topics: tuple[str, ...], deadline: Deadline) -> None:
        cluster = await self.ask(lambda connection, left_s: connection.cluster(topics, left_s), deadline)
        self._map.take(cluster, topics)

    # Questions

    async def ask(self, question: _Question[_T], deadline: Deadline) -> _T:
        """Put a question that any broker can answer, and return the first answer."""
        while True:
            self.check_open()
            reasons: list[str] = []
            try:
                return await self._first(question, deadline, reasons)
            except (NotSent, NoAnswer) as error:
                if isinstance(error, NotSent) and error.refused:
                    raise self.refused(error) from error
                if not deadline.left_s:
                    raise self.unreachable(reasons, within_s=deadline.timeout_s) from error
            await deadline.pause()

    async def _first(self, question: _Question[_T], deadline: Deadline, reasons: list[str]) -> _T:
        """Ask one broker after another, a second apart, and return the first answer.

        Every failure adds its words to ``reasons``. When all brokers failed, the failure is raised that says
        most: a refusal, if there was any.
        """
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
                task.add_done_callback(_retrieve)
            if running:
                await asyncio.wait(running)

    def _targets(self) -> list[int | Address]:
        """List the brokers in the order to ask: connected ones first, then others, then the URL's hosts.

        The order within each is random, so that many clients do not all ask the same broker. Silent brokers
        come last. The hosts of the URL are asked too, since every broker that is known may have gone.
        """
        addresses = self._map.addresses
        nodes = list(addresses)
        random.shuffle(nodes)
        nodes.sort(
            key=lambda node: (
                self._connections.is_silent(addresses[node]),
                not self._connections.is_open(node, Use.ASK),
            )
        )
        hosts = [host for host in self.options.hosts if host not in addresses.values()]
        random.shuffle(hosts)
        return [*nodes, *sorted(hosts, key=self._connections.is_silent)]

    async def _ask_one(self, target: int | Address, question: _Question[_T], deadline: Deadline) -> _T:
        if isinstance(target, int):
            return await self.call(target, Use.ASK, question, deadline.attempt_s)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline.attempt_s
        # No asyncio.timeout around both steps: it would fire first, with an error that no caller expects.
        connection = await self._connections.open(target, deadline.attempt_s)
        try:
            return await question(connection, max(_SHORTEST_S, ends_at - loop.time()))
        finally:
            await connection.aclose()

    async def call(self, node: int, use: Use, question: _Question[_T], timeout_s: float) -> _T:
        """Put a question to one broker; raises NotSent or NoAnswer."""
        connection = await self._connections.to(node, self._map.addresses.get(node), use, timeout_s)
        try:
            answer = await question(connection, timeout_s)
        except (NotSent, NoAnswer):
            self.check_open()
            self._connections.note_silence(self._map.addresses.get(node))
            raise
        self._connections.note_answer(self._map.addresses.get(node))
        return answer

    # Errors

    def unreachable(self, reasons: Iterable[str], within_s: float | None = None) -> LogUnreachable:
        """Build the error for a cluster of which no broker answers; ``within_s`` is how long it was asked."""
        words = "; ".join(dict.fromkeys(reasons)) or "no broker answers"
        within = "" if within_s is None else f" in {within_s:g} s"
        hint = "check the addresses in the log's URL, the network, and that the brokers run"
        if "TLS" in words:
            hint = (
                "with ca in the log's URL the port must have TLS: name the brokers' TLS port, or leave ca out"
            )
        return LogUnreachable(
            f"the log kafka://{self.options.shown_hosts} cannot be reached{within}: {words}", hint=hint
        )

    def refused(self, error: NotSent) -> LogUnavailable:
        """Build the error for brokers that do not accept us, or whose certificate we do not accept."""
        return LogUnavailable(
            f"the log kafka://{self.options.shown_hosts} cannot be used: {error.reason}",
            hint="check ca, cert and key, or user and password_file, in the log's URL; "
            "certificates expire, and names must match",
        )


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's error, or asyncio would report that nobody did."""
    if not task.cancelled():
        task.exception()
