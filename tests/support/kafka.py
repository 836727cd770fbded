"""A real Kafka for tests: at the address in FTF_KAFKA, or else in a container, or else on a plain JVM.

A test that needs one broker takes the fixture ``kafka``. Tests that kill brokers take ``three_brokers``,
tests of certificates and ACLs take ``secured``; both are clusters of their own on the JVM. Where no Kafka can
run, these tests are skipped, and the reason says how to get one. With ``FTF_REQUIRE_KAFKA=1`` they fail
instead.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

import pytest

import kafka_jvm
from broker.log.kafka.wire import Connection, NoAnswer, NotSent, Security
from support.certificates import Authority

__all__ = ["Cluster", "Kafka", "free_ports", "kafka", "new_prefix", "none_there", "secured", "three_brokers"]

_T = TypeVar("_T")

IMAGE = "apache/kafka:4.3.1"
# Read when the module is imported: tests of the command line take these out of the environment.
GIVEN = os.environ.get("FTF_KAFKA")
REQUIRED = os.environ.get("FTF_REQUIRE_KAFKA") == "1"
FASTER = {  # the controller misses a broker within seconds, not tens of them
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "3000",
    "replica.fetch.wait.max.ms": "200",
    "replica.socket.timeout.ms": "3000",
    "controller.socket.timeout.ms": "3000",
    "request.timeout.ms": "3000",
    "initial.broker.registration.timeout.ms": "20000",
    "controlled.shutdown.enable": "false",
    "log.index.size.max.bytes": "65536",  # thousands of partitions take no room
}
PLAIN = Security(client_id="tests", tls=None, sasl=None)

_ran: list[str] = []
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Kafka:
    """A Kafka that answers; ``what`` says where it runs."""

    address: str
    what: str

    def url(self, **options: object) -> str:
        """Give the URL of a log on it, with a prefix of its own unless one is given."""
        return f"kafka://{self.address}?{urlencode({'prefix': new_prefix(), **options})}"


def new_prefix() -> str:
    """Make a prefix that no other test uses, and no other run on a broker that stays."""
    return f"t{os.getpid()}-{next(_numbers)}-{secrets.token_hex(3)}"


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    with _sockets(count) as sockets:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


@contextmanager
def _sockets(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        yield sockets
    finally:
        for listener in sockets:
            listener.close()


# Clusters on the JVM


class Cluster:
    """Brokers on this machine, ``nodes[i]``, and a controller beside them that no test kills."""

    def __init__(
        self,
        folder: Path,
        brokers: int,
        *,
        more: Mapping[str, str] | None = None,
        security: Security = PLAIN,
        arguments: Sequence[str] = (),
    ) -> None:
        controller, *self.ports = free_ports(1 + brokers)
        self._security = security
        self._arguments = arguments
        voters = f"1000@127.0.0.1:{controller}"
        copies = {"replication": min(3, brokers), "min_insync": min(2, brokers)}
        settings = {**FASTER, **(more or {})}
        self._controller = kafka_jvm.Node(
            folder / "controller",
            kafka_jvm.Settings(node_id=1000, roles="controller", controller=voters, more=settings, **copies),
        )
        self.nodes = {
            number: kafka_jvm.Node(
                folder / f"broker-{number}",
                kafka_jvm.Settings(
                    node_id=number, roles="broker", port=port, controller=voters,
                    more={
                        name: value.replace("{port}", str(port)) for name, value in settings.items()
                    },
                    **copies,
                ),
            )
            for number, port in enumerate(self.ports)
        }  # fmt: skip
        self._controller_port = controller

    @property
    def address(self) -> str:
        """The addresses of all brokers, as in a URL."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def url(self, **options: object) -> str:
        """Give the URL of a log on it, with a prefix of its own unless one is given."""
        return f"kafka://{self.address}?{urlencode({'prefix': new_prefix(), **options})}"

    def start(self) -> None:
        """Start the controller and the brokers, and return when all brokers have joined."""
        everything = [self._controller, *self.nodes.values()]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda node: node.format(*self._arguments), everything))
        for node in everything:
            node.start()
        self._controller.wait(lambda: _is_open(self._controller_port))
        for node, port in zip(self.nodes.values(), self.ports, strict=True):
            node.wait(partial(_is_open, port))
        self.wait_joined()

    def close(self) -> None:
        """Kill all brokers and the controller."""
        for node in (*self.nodes.values(), self._controller):
            node.signal(signal.SIGKILL)

    def kill(self, number: int) -> None:
        """End a broker as a power cut does."""
        self.nodes[number].signal(signal.SIGKILL)

    def freeze(self, number: int) -> None:
        """Freeze a broker (SIGSTOP): its connections stay open, and it does not answer."""
        self.nodes[number].signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let a frozen broker go on."""
        self.nodes[number].signal(signal.SIGCONT)

    def restart(self, number: int) -> None:
        """Start a broker that was killed; return when it answers."""
        self.nodes[number].start()
        self.nodes[number].wait()

    def heal(self) -> None:
        """Bring every broker back, and return when all have joined."""
        for number, node in self.nodes.items():
            self.thaw(number)
            if not node.running:
                node.start()
        for node in self.nodes.values():
            node.wait()
        self.wait_joined()

    def wait_joined(self) -> None:
        """Return when every broker says that all brokers are up."""
        blocking(self.until(lambda brokers, _: len(brokers) == len(self.nodes), everywhere=True))

    async def leader(self, topic: str, number: int) -> int:
        """Return the broker that leads a partition; ``topic`` has its prefix."""
        found = await self.until(lambda _, leaders: leaders.get((topic, number), -1) >= 0)
        return found[topic, number]

    async def until(
        self, check: Callable[[set[int], dict[tuple[str, int], int]], bool], *, everywhere: bool = False
    ) -> dict[tuple[str, int], int]:
        """Ask brokers which are up and which leads each partition, until the check accepts an answer.

        With ``everywhere`` the answers of all brokers must be accepted. Returns the leaders.
        """
        deadline = time.monotonic() + 60
        while True:
            answers = [await self._ask(port) for port in self.ports]
            good = [answer for answer in answers if answer is not None and check(*answer)]
            if good and (len(good) == len(self.ports) or not everywhere):
                return good[0][1]
            if time.monotonic() > deadline:
                raise AssertionError(f"the cluster does not become as wished: {answers}")
            await asyncio.sleep(0.1)

    async def _ask(self, port: int) -> tuple[set[int], dict[tuple[str, int], int]] | None:
        try:
            connection = await Connection.open("127.0.0.1", port, self._security, 1)
        except NotSent:
            return None
        try:
            told = await connection.cluster(None, 1)
        except (NotSent, NoAnswer):
            return None
        finally:
            await connection.aclose()
        leaders = {
            (topic, place.number): place.leader for topic, places in told.topics.items() for place in places
        }
        return set(told.brokers), leaders


def blocking(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on an event loop of its own, for a fixture that is not async."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _is_open(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


# The Kafka that there is


def none_there(reason: str) -> NoReturn:
    """Skip the test, or fail it where a Kafka is required; ``reason`` says how to get one."""
    if REQUIRED:
        pytest.fail(f"FTF_REQUIRE_KAFKA=1, and there is no Kafka: {reason}", pytrace=False)
    pytest.skip(f"no Kafka: {reason}")


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        command = [docker, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _container() -> Iterator[Kafka]:
    from testcontainers.core.container import DockerContainer

    [port] = free_ports(1)
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(IMAGE).with_bind_ports(9092, port)
    for name, value in settings.items():
        container = container.with_env(f"KAFKA_{name}", value)
    with container:
        deadline = time.monotonic() + 60
        while not kafka_jvm.answering("127.0.0.1", port):
            if time.monotonic() > deadline:
                raise AssertionError(f"{IMAGE} does not answer")
            time.sleep(0.1)
        yield Kafka(f"127.0.0.1:{port}", f"the container {IMAGE}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker, which tests share; each test takes a prefix of its own."""
    if GIVEN:
        address = GIVEN.removeprefix("kafka://").partition("?")[0].rstrip("/")
        _ran.append(f"the one at {address} (FTF_KAFKA)")
        yield Kafka(address, "FTF_KAFKA")
    elif _docker_answers():
        with _container() as found:
            _ran.append(found.what)
            yield found
    else:
        if (obstacle := kafka_jvm.missing()) is not None:
            none_there(f"{obstacle}; or start Docker; or set FTF_KAFKA=host:port")
        with _cluster(tmp_path_factory.mktemp("kafka"), 1) as cluster:
            yield Kafka(cluster.address, "a JVM")


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers that may be killed; a test that kills one calls ``heal`` afterwards."""
    if (obstacle := kafka_jvm.missing()) is not None:
        none_there(f"this test kills brokers of its own; {obstacle}")
    with _cluster(tmp_path_factory.mktemp("kafka-three"), 3) as cluster:
        yield cluster


@contextmanager
def _cluster(folder: Path, brokers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder, brokers)
    try:
        cluster.start()
        _ran.append(f"a JVM, {brokers} broker{'s' if brokers > 1 else ''}")
        yield cluster
    finally:
        cluster.close()


# With certificates and ACLs


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker that knows its clients by their certificates; at ``scram_port`` it asks for a password."""

    cluster: Cluster
    authority: Authority
    folder: Path
    scram_port: int

    def options(self, name: str) -> dict[str, str]:
        """Return the URL's options for the client with this common name, whose certificate is made now."""
        cert, key = self.authority.issue(name, self.folder)
        return {"ca": str(self.folder / "ca.pem"), "cert": str(cert), "key": str(key)}

    def url(self, name: str, *, prefix: str, **options: object) -> str:
        """Return the URL of a log for a client."""
        return self.cluster.url(prefix=prefix, replication=1, min_insync=1, **self.options(name), **options)


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker with TLS, client certificates, SCRAM and ACLs; ``CN=operator`` may do everything."""
    if (obstacle := kafka_jvm.missing()) is not None:
        none_there(f"this test makes certificates and ACLs of its own; {obstacle}")
    folder = tmp_path_factory.mktemp("kafka-secured")
    authority = Authority.make(folder / "ca.pem")
    cert, key = authority.issue("broker", folder, hosts=["127.0.0.1"])
    store = folder / "broker-store.pem"
    store.write_bytes(key.read_bytes() + cert.read_bytes())
    [scram_port] = free_ports(1)
    more = {
        "listener.security.protocol.map": "CONTROLLER:SSL,SSL:SSL,SASL_SSL:SASL_SSL",
        "inter.broker.listener.name": "SSL",
        "ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:CN=broker;User:CN=operator",
    }
    cluster = Cluster(
        folder, 1, more=more, arguments=["--add-scram", "SCRAM-SHA-512=[name=alice,password=wonderland]"]
    )
    [broker] = cluster.nodes.values()
    broker.settings = _with_listeners(broker.settings, scram_port)
    cluster._security = _security(authority, folder)
    try:
        cluster.start()
        _ran.append("a JVM, 1 broker with TLS and ACLs")
        yield Secured(cluster, authority, folder, scram_port)
    finally:
        cluster.close()


def _with_listeners(settings: kafka_jvm.Settings, scram_port: int) -> kafka_jvm.Settings:
    listeners = f"SSL://127.0.0.1:{settings.port},SASL_SSL://127.0.0.1:{scram_port}"
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    more = {
        **settings.more,
        "listeners": listeners,
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
        "listener.name.sasl_ssl.ssl.client.auth": "none",
    }
    return kafka_jvm.Settings(
        node_id=settings.node_id, roles=settings.roles, port=settings.port, controller=settings.controller,
        replication=settings.replication, min_insync=settings.min_insync, more=more,
    )  # fmt: skip


def _security(authority: Authority, folder: Path) -> Security:
    from broker.log.kafka.options import KafkaOptions

    cert, key = authority.issue("operator", folder)
    options = KafkaOptions(hosts=(("127.0.0.1", 1),), ca=folder / "ca.pem", cert=cert, key=key)
    return Security(client_id="tests", tls=options.load_tls(), sasl=None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which Kafka ran."""
    if _ran:
        terminalreporter.write_line(f"kafka: {'; '.join(_ran)}")
