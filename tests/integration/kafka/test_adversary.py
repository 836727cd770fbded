"""A member of one channel that reads the partition of another, as Kafka allows: it learns sizes and times.

The coalition's topics, certificates and ACLs are those of a deployment, as ``log acl`` gives them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from broker.avro.schema import default_store
from broker.crypto.seal import ReceivingKey
from broker.directory import EpochKey
from broker.errors import LogUnavailable
from broker.log import Message, Partition, StoredMessage, open_log, physical
from broker.log.kafka.acl import Acl, Role, allowances, denials
from broker.log.kafka.admin import Outcome, create_acl
from broker.log.kafka.kafka_log import KafkaLog
from broker.log.kafka.options import KafkaOptions
from broker.log.kafka.wire import Connection
from broker.session.profile import Profile
from broker.session.session import open_session
from support.adversary import Loot
from support.cli_coalition import BORDER, CARE, OUTSIDER, PAIR, POLICE, READING, CliCoalition, row
from support.kafka import Secured, blocking, new_prefix
from support.log_file import Row

pytestmark = pytest.mark.kafka

NAMES = {
    "authority": Role.AUTHORITY, POLICE: Role.AGENCY, BORDER: Role.AGENCY, CARE: Role.AGENCY,
    OUTSIDER: Role.AGENCY, "auditor": Role.AUDITOR, "kas": Role.KAS,
}  # fmt: skip
SECRET = "UNSC:1373(2001)"
PARTITION = Partition("justice", 1)


@dataclass(frozen=True)
class Deployment:
    """A coalition on a broker with certificates and ACLs; each profile has a certificate of its own."""

    secured: Secured
    place: CliCoalition
    prefix: str

    def url(self, name: str) -> str:
        """The log's URL with a participant's certificate."""
        return self.secured.url(name.replace(":", "-"), prefix=self.prefix, timeout_ms=6000)

    def profile(self, name: str) -> Profile:
        """A participant's profile."""
        return Profile.load(self.place.profile(name))


@pytest.fixture(scope="module")
def deployment(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Create the topics and roles of a deployment, and write and read a channel of two agencies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTF_PASSPHRASE", "an exercise")
        prefix = new_prefix()
        place = CliCoalition.found(
            tmp_path_factory.mktemp("deployment") / "coalition", secured.url("operator", prefix=prefix)
        )
        made = Deployment(secured, place, prefix)
        blocking(give_roles(made))
        for name in NAMES:
            profile = replace(made.profile(name), log=made.url(name))
            profile.path.unlink()
            profile.save()
        told = {"purpose": "INVESTIGATION", "body__legal_basis__citation": SECRET}
        rows = [row(i, "JusticeMeasure", **told) for i in range(3)]
        place.publish(rows, channel=PAIR)
        why = ("--channel", PAIR, "--purpose", "INVESTIGATION", *READING)
        read = place.run(BORDER, "subscribe", *why, "--json")
        assert read.code == 0, read.err
        assert read.out.count(SECRET) == 3
        assert place.run("kas", "kas", "run", "--once").code == 0
        return made


async def give_roles(made: Deployment) -> None:
    """Set the ACLs of ``log acl`` by requests; test_access_control.py runs the commands themselves."""
    acls = denials(prefix=made.prefix)
    for name, role in NAMES.items():
        principal = f"User:CN={name.replace(':', '-')}"
        acls += allowances(role, principal, prefix=made.prefix, record_topics=default_store().topics)
    async with open_log(made.secured.url("operator", prefix=made.prefix)) as log:
        brokers = cast(KafkaLog, log)._brokers
        for acl in acls:
            done = await brokers.ask(partial(set_acl, acl), brokers.deadline())
            assert done.code == 0, done.words


async def set_acl(acl: Acl, connection: Connection, left_s: float) -> Outcome:
    """Set an ACL."""
    return await create_acl(connection, acl, left_s)


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")


async def everything_readable(
    deployment: Deployment, name: str
) -> tuple[list[Row], list[ReceivingKey], list[EpochKey]]:
    """Return all messages that a participant may read on the brokers, and every key that it holds."""
    async with open_session(deployment.profile(name)) as session:
        rows: list[Row] = []
        for topic in (*default_store().topics, "directory", "access", "keys", "checkpoints"):
            for number in (0, 1) if topic in default_store().topics else (0,):
                try:
                    reading = session.log.read(Partition(topic, number), 0)
                    stored = [message async for message in reading]
                except LogUnavailable:
                    continue
                rows += [Row(topic, number, *message) for message in stored]
        keys = list(session.keyring.receiving.values())
        seeds: list[EpochKey] = []
        for channel in session.directory.channels.values():
            for epoch in channel.epochs:
                for use in ("metadata", "content", "access"):
                    key = session.keyring.epoch_key(session.directory, channel.name, epoch, use)
                    seeds += [key] if key is not None else []
        return rows, keys, seeds


async def test_a_partition_of_another_channel_tells_sizes_and_times(deployment: Deployment) -> None:
    """A member can read the partition of another channel, and opens nothing in it with any key it holds."""
    genesis = deployment.profile(CARE).genesis
    rows, keys, seeds = await everything_readable(deployment, CARE)
    theirs = [row for row in rows if (row.topic, row.partition) == PARTITION]
    assert len(theirs) == 4
    assert {row.topic for row in rows} == {"justice", "directory"}
    assert SECRET.encode() not in b"".join(row.value or b"" for row in rows)
    loot = Loot.of(theirs, genesis, keys, seeds)
    assert [loot.manifests, loot.member_shares, loot.release_secrets, loot.bodies] == [{}, {}, {}, {}]
    # With the keys of the channel's member the same attempt succeeds, so the test can fail.
    assert Loot.of(theirs, genesis, *(await everything_readable(deployment, BORDER))[1:]).member_shares
    # Bodies are padded to the size of a class, so that their sizes do not tell texts apart.
    assert len({len(row.value or b"") for row in theirs[1:]}) == 1


def test_inspecting_another_channel_shows_it_sealed(deployment: Deployment) -> None:
    """``log inspect`` shows a member of another channel sealed messages, with their sizes and times."""
    told = deployment.place.run(CARE, "log", "inspect", "--topic", "justice", "--channel", PAIR, "--json")
    assert told.code == 0, told.err
    assert SECRET not in told.out
    shown = json.dumps(told.json)
    assert "sealed" in shown
    assert POLICE not in shown
    own = deployment.place.run(BORDER, "log", "inspect", "--topic", "justice", "--channel", PAIR, "--json")
    assert POLICE in own.out


def test_asking_for_another_channels_records_is_denied(deployment: Deployment) -> None:
    """The command line does not send a request, and names the agency that is not a member."""
    told = deployment.place.run(
        CARE, "subscribe", "--channel", PAIR, "--purpose", "INVESTIGATION", *READING, "--json"
    )
    assert told.code == 1
    assert "no member" in told.err
    assert told.out == ""


@pytest.mark.parametrize("topic", ["access", "keys", "checkpoints"])
async def test_a_member_reads_and_writes_nothing_of_the_service(deployment: Deployment, topic: str) -> None:
    """An agency cannot append to the access log, the release secrets or the checkpoints, nor read them."""
    async with open_log(deployment.url(CARE)) as log:
        with pytest.raises(LogUnavailable, match="let us") as refused:
            await log.append(Partition(topic, 0), [Message(b"key", b"value")])
        assert physical(log, topic) in refused.value.message
        assert "log acl" in (refused.value.hint or "")
        if topic != "checkpoints":
            with pytest.raises(LogUnavailable, match="let us"):
                await read_all(deployment, topic)


async def read_all(deployment: Deployment, topic: str) -> list[StoredMessage]:
    """Read a topic as the adversary."""
    async with open_log(deployment.url(CARE)) as log:
        return [message async for message in log.read(Partition(topic, 0), 0)]


def client(deployment: Deployment) -> dict[str, Any]:
    """Return the arguments with which aiokafka's own clients connect as the adversary."""
    options = {key: Path(value) for key, value in deployment.secured.options("XCC-care").items()}
    tls = KafkaOptions(hosts=(("h", 1),), **options).load_tls()  # type: ignore[arg-type]
    address = deployment.secured.cluster.address
    return {"bootstrap_servers": address, "security_protocol": "SSL", "ssl_context": tls}


Attempt = Callable[[AIOKafkaAdminClient, str], Awaitable[int]]


async def delete_topic(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Delete a topic."""
    return int((await admin.delete_topics([topic])).topic_error_codes[0][1])


async def delete_records(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Delete the first record."""
    try:
        await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(1)})
    except (TopicAuthorizationFailedError, NotLeaderForPartitionError):
        return 29
    return 0


async def alter_topic(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Have records deleted after a millisecond."""
    change = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "1"})
    return int((await admin.alter_configs([change]))[0].resources[0][0])


@pytest.mark.parametrize("attempt", [delete_topic, delete_records, alter_topic])
async def test_a_member_destroys_nothing(deployment: Deployment, attempt: Attempt) -> None:
    """With any other client a member deletes and alters nothing either."""
    admin = AIOKafkaAdminClient(**client(deployment))
    await admin.start()
    try:
        assert await attempt(admin, f"{deployment.prefix}.justice") in (29, 31)
    finally:
        await admin.close()


async def test_a_member_has_no_transactions(deployment: Deployment) -> None:
    """A transactional id is refused, so that logs have no holes."""
    producer = AIOKafkaProducer(transactional_id="care", **client(deployment))
    try:
        with pytest.raises(TransactionalIdAuthorizationFailed):
            await producer.start()
    finally:
        await producer.stop()


async def test_after_all_of_it_the_replay_verifies(deployment: Deployment) -> None:
    """The attempts of the other tests left no trace in the logs."""
    told = await asyncio.to_thread(deployment.place.run, "auditor", "audit", "replay", "--json")
    assert told.code == 0, told.err
    assert told.json["verified"] is True
    assert told.json["records"] == 3
