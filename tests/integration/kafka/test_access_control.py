"""Certificates, ACLs and quotas on a real broker: each role may do what it needs, and nothing else."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import (  # type: ignore[import-untyped]
    AIOKafkaAdminClient,
    NewTopic,
    RecordsToDelete,
)
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

import kafka_jvm
from broker.avro.schema import default_store
from broker.errors import LogUnavailable, UsageError
from broker.log import Log, Message, Partition, open_log
from broker.log.kafka import admin as requests
from broker.log.kafka.acl import (
    Acl,
    Operation,
    Pattern,
    Permission,
    Quota,
    Resource,
    Role,
    allowances,
    commands,
    denials,
)
from broker.log.kafka.kafka_log import KafkaLog
from broker.log.kafka.options import KafkaOptions
from support.certificates import Authority
from support.kafka import Secured, blocking, new_prefix

pytestmark = pytest.mark.kafka

RECORDS = default_store().topics
TOPICS = (*RECORDS, "access", "directory", "checkpoints", "keys")
QUOTA = 5_000_000
# Brokers count over ten or eleven seconds, so that one batch of 900,000 bytes exceeds it.
SMALL_QUOTA = 70_000
TOOLS = {"kafka-acls": "org.apache.kafka.tools.AclCommand", "kafka-configs": "kafka.admin.ConfigCommand"}


@dataclass(frozen=True)
class Coalition:
    """A coalition whose ACLs and quotas were set by the commands of ``log acl``."""

    secured: Secured
    prefix: str
    acls: frozenset[Acl]

    def url(self, name: str, **options: object) -> str:
        """Return the URL of the log for a client."""
        return self.secured.url(name, prefix=self.prefix, **options)

    def topic(self, name: str) -> str:
        """Return the topic's name on the broker."""
        return f"{self.prefix}.{name}"


def quota_of(role: Role) -> int:
    """Return the bytes that a role may append in a second."""
    return SMALL_QUOTA if role is Role.AUTHORITY else QUOTA


@pytest.fixture(scope="module")
def coalition(secured: Secured) -> Coalition:
    """Create the topics as the operator, then run our commands with Kafka's own tools."""
    prefix = new_prefix()
    acls, quotas = denials(prefix=prefix), []
    for role in Role:
        principal = f"User:CN={role.value}"
        acls += allowances(role, principal, prefix=prefix, record_topics=RECORDS)
        quotas.append(Quota(principal=principal, bytes_a_second=quota_of(role)))
    blocking(create_topics(secured.url("operator", prefix=prefix)))
    config = secured.folder / "operator.properties"
    store = secured.folder / "operator-store.pem"
    store.write_bytes(b"".join((secured.folder / f"operator.{part}").read_bytes() for part in ("key", "pem")))
    config.write_text(
        f"security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={store}\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={secured.folder / 'ca.pem'}\n"
    )
    connect = ["--bootstrap-server", secured.cluster.address, "--command-config", str(config)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_tool, commands(acls, quotas, connect=connect)))
    return Coalition(secured, prefix, frozenset(acls))


async def create_topics(url: str) -> None:
    """Create the topics of a coalition with two channels."""
    async with open_log(url) as log:
        for topic in TOPICS:
            await log.ensure(topic, 2 if topic in (*RECORDS, "access") else 1, compacted=topic == "keys")
            await log.append(Partition(topic, 0), [Message(b"key", b"there is something to read")])


def run_tool(line: str) -> None:
    """Run a line for the shell as the tools of a Kafka distribution do."""
    tool, *arguments = shlex.split(line)
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka_jvm.jars()}/*", TOOLS[tool], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def opened(coalition: Coalition, name: str) -> AsyncIterator[KafkaLog]:
    """Open the log as a client."""
    async with open_log(coalition.url(name, timeout_ms=4000)) as log:
        yield cast(KafkaLog, log)


def security(coalition: Coalition, name: str) -> dict[str, object]:
    """Return the arguments with which aiokafka's own clients connect as a client."""
    options = {key: Path(value) for key, value in coalition.secured.options(name).items()}
    context = KafkaOptions(hosts=(("h", 1),), **options).load_tls()  # type: ignore[arg-type]
    address = coalition.secured.cluster.address
    return {"bootstrap_servers": address, "security_protocol": "SSL", "ssl_context": context}


async def test_the_broker_has_the_acls_and_quotas_that_we_wrote(coalition: Coalition) -> None:
    """Kafka's own tools take every command, and the broker has the ACLs and quotas that we wrote."""
    async with opened(coalition, "operator") as log:
        deadline = log._brokers.deadline()
        code, acls = await log._brokers.ask(requests.acls, deadline)
        assert code == 0
        assert {acl for acl in acls if acl.name.startswith(coalition.prefix)} <= coalition.acls <= set(acls)
        code, quotas = await log._brokers.ask(requests.quotas, deadline)
        assert code == 0
        wanted = {Quota(principal=f"User:CN={role.value}", bytes_a_second=quota_of(role)) for role in Role}
        assert set(quotas) >= wanted


WRITES = {
    Role.AUTHORITY: {"directory"},
    Role.AGENCY: {*RECORDS, "directory"},
    Role.AUDITOR: set(),
    Role.KAS: {"access", "keys", "directory"},
    Role.NOTARY: {"checkpoints"},
}
READS = {
    Role.AUTHORITY: {"directory", "checkpoints"},
    Role.AGENCY: {*RECORDS, "directory", "checkpoints"},
    Role.AUDITOR: {*RECORDS, "directory", "checkpoints", "access"},
    Role.KAS: {*RECORDS, "directory", "checkpoints", "access", "keys"},
    Role.NOTARY: {*RECORDS, "directory", "checkpoints", "access"},
}


@pytest.mark.parametrize("role", Role)
async def test_each_role_appends_and_reads_what_it_needs_and_nothing_else(
    coalition: Coalition, role: Role
) -> None:
    """Each role may append and read exactly its row of the table; every other topic is refused by name."""
    wrote, read = set[str](), set[str]()
    refusals: list[tuple[str, LogUnavailable]] = []
    async with opened(coalition, role.value) as log:
        for topic in TOPICS:
            partition = Partition(topic, 0)
            try:
                await log.append(partition, [Message(b"key", role.value.encode())])
                wrote.add(topic)
            except LogUnavailable as error:
                refusals.append((topic, error))
            try:
                [message async for message in log.read(partition, 0)]
                read.add(topic)
            except LogUnavailable as error:
                refusals.append((topic, error))
    assert wrote == WRITES[role]
    assert read == READS[role]
    for topic, refusal in refusals:
        assert coalition.topic(topic) in refusal.message
        assert "let us" in refusal.message
        assert "log acl" in (refusal.hint or "")


async def test_whoever_may_not_create_topics_can_still_ensure_them(coalition: Coalition) -> None:
    """``ensure`` needs no permission for a topic that is large enough, but does for one to create or grow."""
    async with opened(coalition, "agency") as log:
        await log.ensure("returns", 2)
        with pytest.raises(UsageError, match="compacted"):
            await log.ensure("returns", 2, compacted=True)
        with pytest.raises(LogUnavailable, match="does not let us"):
            await log.ensure("returns", 3)
        with pytest.raises(LogUnavailable, match="does not let us"):
            await log.ensure("invented", 1)


async def delete_topic(coalition: Coalition, admin: AIOKafkaAdminClient) -> int:
    answer = await admin.delete_topics([coalition.topic("returns")])
    return int(answer.topic_error_codes[0][1])


async def delete_records(coalition: Coalition, admin: AIOKafkaAdminClient) -> int:
    try:
        await admin.delete_records({TopicPartition(coalition.topic("returns"), 0): RecordsToDelete(1)})
    except TopicAuthorizationFailedError:
        return 29
    except NotLeaderForPartitionError:
        return 29  # aiokafka's error for a topic that this role does not even see
    return 0


async def alter_settings(coalition: Coalition, admin: AIOKafkaAdminClient) -> int:
    change = ConfigResource(
        ConfigResourceType.TOPIC, coalition.topic("returns"), configs={"retention.ms": "1"}
    )
    [answer] = await admin.alter_configs([change])
    return int(answer.resources[0][0])


async def create_topic(coalition: Coalition, admin: AIOKafkaAdminClient) -> int:
    answer = await admin.create_topics([NewTopic(coalition.topic("more"), 1, 1)])
    return int(answer.topic_errors[0][1])


FORBIDDEN: list[Callable[[Coalition, AIOKafkaAdminClient], Awaitable[int]]] = [
    delete_topic, delete_records, alter_settings, create_topic,
]  # fmt: skip


@pytest.mark.parametrize("role", Role)
async def test_nobody_deletes_alters_or_creates(coalition: Coalition, role: Role) -> None:
    """Deleting topics or records, changing settings and creating topics are refused to every role."""
    admin = AIOKafkaAdminClient(**security(coalition, role.value))
    await admin.start()
    try:
        for attempt in FORBIDDEN:
            assert await attempt(coalition, admin) in (29, 31), attempt.__name__
    finally:
        await admin.close()


async def test_a_permission_given_by_mistake_deletes_nothing(coalition: Coalition) -> None:
    """A principal that was allowed everything by mistake deletes nothing: a denial outweighs a permission."""
    mistake = Acl(
        principal="User:CN=favourite", permission=Permission.ALLOW, resource=Resource.TOPIC,
        pattern=Pattern.LITERAL, name="*", operation=Operation.ALL,
    )  # fmt: skip
    async with opened(coalition, "operator") as log:
        deadline = log._brokers.deadline()
        done = await log._brokers.ask(
            lambda connection, left_s: requests.create_acl(connection, mistake, left_s), deadline
        )
        assert done.code == 0
        assert "User:CN=favourite may do everything to topic *" in await log.check_policy(TOPICS)
    admin = AIOKafkaAdminClient(**security(coalition, "favourite"))
    await admin.start()
    try:
        for attempt in (delete_topic, delete_records, alter_settings):
            assert await attempt(coalition, admin) == 29
    finally:
        await admin.close()


async def test_nobody_uses_transactions(coalition: Coalition) -> None:
    """A producer with a transactional id is refused, so that logs have no holes."""
    producer = AIOKafkaProducer(transactional_id="agency-1", **security(coalition, "agency"))
    try:
        with pytest.raises(TransactionalIdAuthorizationFailed):
            await producer.start()
    finally:
        await producer.stop()


async def test_a_cluster_set_by_our_commands_keeps_the_policy(coalition: Coalition) -> None:
    """``log check`` finds nothing on this cluster but the mistakes that other tests made on purpose."""
    async with opened(coalition, "operator") as log:
        found = await log.check_policy(TOPICS)
        assert [difference for difference in found if "favourite" not in difference] == []
        await log.ensure("invented", 1)
        assert f"topic {coalition.topic('invented')} is not one of the coalition's" in " ".join(
            await log.check_policy(TOPICS)
        )
    async with opened(coalition, "auditor") as log:
        found = await log.check_policy(TOPICS)
        assert any("the ACLs cannot be read" in difference for difference in found)


async def test_a_quota_slows_down_and_is_named(coalition: Coalition) -> None:
    """Beyond its quota a client waits as long as the broker says, or gets an error within its time-out."""
    directory = Partition("directory", 0)
    async with opened(coalition, "authority") as log:
        start = (await log.ends([directory]))[directory]
        await log.append(directory, [Message(b"large", bytes(900_000))])
        [(node, until)] = log._appends._leave_alone.items()
        assert until > asyncio.get_running_loop().time()
        log._appends._leave_alone[node] += 60
        with pytest.raises(LogUnavailable, match="our produce quota is used up") as caught:
            await log.append(directory, [Message(b"early", b"x")])
        assert "larger quota" in (caught.value.hint or "")
        log._appends._leave_alone[node] -= 60
        await log.append(directory, [Message(b"late", b"x")])
        assert [m.key async for m in log.read(directory, start)] == [b"large", b"late"]


# Certificates and passwords


async def refused(url: str) -> str:
    """Open a log that cannot be opened, and return the error."""
    with pytest.raises(LogUnavailable) as caught:
        async with asyncio.timeout(10):
            await open_log(url)
    assert caught.value.hint
    return caught.value.message


async def test_a_broker_with_another_authority_is_not_trusted(coalition: Coalition, tmp_path: Path) -> None:
    """A broker whose certificate another authority signed is refused at once, with the reason."""
    Authority.make(tmp_path / "other.pem", name="somebody")
    url = coalition.url("agency").replace("ca=", f"ca={tmp_path}/other.pem&x=")
    options = url.partition("?")[2].split("&")
    url = url.partition("?")[0] + "?" + "&".join(option for option in options if not option.startswith("x="))
    assert "the broker's certificate is refused" in await refused(url)


async def test_a_broker_under_another_name_is_not_trusted(coalition: Coalition) -> None:
    """A certificate for another name than the URL's is refused."""
    url = coalition.url("agency").replace("127.0.0.1", "localhost")
    assert "the broker's certificate is refused" in await refused(url)


async def test_a_client_of_another_authority_is_refused(coalition: Coalition, tmp_path: Path) -> None:
    """A client certificate that another authority signed is refused, and the error says so."""
    other = Authority.make(tmp_path / "other.pem", name="somebody")
    cert, key = other.issue("agency", tmp_path)
    address = coalition.secured.cluster.address
    ca = coalition.secured.folder / "ca.pem"
    url = f"kafka://{address}?ca={ca}&cert={cert}&key={key}&timeout_ms=2000"
    said = await refused(url)
    assert "our certificate" in said or "closed" in said
    said = await refused(f"kafka://{address}?ca={ca}&timeout_ms=2000")
    assert "our certificate" in said or "closed" in said


async def test_an_expired_certificate_is_named(coalition: Coalition, tmp_path: Path) -> None:
    """Our own certificate that has expired is named with its dates, and nothing is sent."""
    issued = datetime.now(UTC) - timedelta(days=30)
    cert, key = coalition.secured.authority.issue("agency", tmp_path, issued=issued)
    address = coalition.secured.cluster.address
    ca = coalition.secured.folder / "ca.pem"
    with pytest.raises(UsageError, match="is valid from"):
        await open_log(f"kafka://{address}?ca={ca}&cert={cert}&key={key}")


async def test_a_client_without_tls_gets_no_answer(coalition: Coalition) -> None:
    """Without TLS a broker that demands it cannot be used, and the time-out holds."""
    assert "cannot be reached" in await refused(
        f"kafka://{coalition.secured.cluster.address}?timeout_ms=1500"
    )


@pytest.mark.parametrize(("password", "works"), [("wonderland", True), ("wunderland", False)])
async def test_a_password_by_scram(coalition: Coalition, tmp_path: Path, password: str, works: bool) -> None:
    """SCRAM over TLS lets in a client with the password, and refuses one without it at once."""
    (tmp_path / "password").write_text(password)
    url = (
        f"kafka://127.0.0.1:{coalition.secured.scram_port}?ca={coalition.secured.folder}/ca.pem"
        f"&sasl=scram-sha-512&user=alice&password_file={tmp_path}/password&timeout_ms=4000"
    )
    if works:
        log: Log
        async with open_log(url) as log:
            with pytest.raises(LogUnavailable):  # the broker lets the client in, which has no role
                await log.ends([Partition("returns", 0)])
    else:
        assert "the user or the password is refused" in await refused(url)
