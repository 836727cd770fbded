"""The policy of a cluster: one that keeps it has no differences, and any other has a sentence for each."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from broker.errors import UsageError
from broker.log.kafka.acl import (
    EVERYONE,
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
from broker.log.kafka.cluster_policy import (
    BrokerSettings,
    ClusterView,
    TopicSettings,
    differences,
    topic_settings,
)
from broker.log.protocol import MAX_APPEND_BYTES

TOPICS = ("returns", "access", "directory", "keys")
XA, KAS = "User:CN=xa", "User:CN=kas"


def topic(*, compacted: bool = False, partitions: int = 1) -> TopicSettings:
    """A topic as the policy wants it."""
    settings = topic_settings(compacted=compacted, min_insync=2)
    return TopicSettings(partitions=partitions, replicas=3, in_sync=3, settings=settings)


def good() -> ClusterView:
    """A cluster that keeps the policy."""
    broker = BrokerSettings(
        settings={
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            "default.replication.factor": "3",
            "allow.everyone.if.no.acl.found": "false",
            "advertised.listeners": "SSL://b:9092",
        }
    )
    acls = [
        *denials(prefix="ftf"),
        *allowances(Role.AGENCY, XA, prefix="ftf", record_topics=["returns"]),
        *allowances(Role.KAS, KAS, prefix="ftf", record_topics=["returns"]),
        *allowances(Role.AUDITOR, "User:CN=auditor", prefix="ftf", record_topics=["returns"]),
    ]
    return ClusterView(
        brokers={1: broker, 2: broker, 3: broker},
        topics={
            "ftf.returns": topic(partitions=7),
            "ftf.access": topic(partitions=7),
            "ftf.directory": topic(),
            "ftf.keys": topic(compacted=True),
            "other.returns": replace(topic(), settings={}),
        },
        acls=tuple(acls),
        authorizer=True,
        quotas=(Quota(principal=XA, bytes_a_second=1e6), Quota(principal=KAS, bytes_a_second=1e6)),
    )


def said(view: ClusterView) -> list[str]:
    """Return the differences of a cluster from the policy."""
    return differences(view, prefix="ftf", topics=TOPICS)


def test_a_cluster_by_the_policy_has_no_differences() -> None:
    """A cluster that keeps the policy has no differences."""
    assert said(good()) == []


def test_a_whole_batch_fits_a_message() -> None:
    """The limit of a topic holds the largest batch."""
    assert int(topic_settings(compacted=False, min_insync=2)["max.message.bytes"]) >= MAX_APPEND_BYTES


@pytest.mark.parametrize(
    ("name", "setting", "value", "words"),
    [
        ("ftf.returns", "cleanup.policy", "compact", "deletes another's record"),
        ("ftf.access", "cleanup.policy", "compact,delete", "deletes another's record"),
        ("ftf.keys", "cleanup.policy", "delete", "expected compact"),
        ("ftf.returns", "retention.ms", "604800000", "deleted before they may be"),
        ("ftf.directory", "retention.bytes", "1000", "deleted before they may be"),
        ("ftf.returns", "unclean.leader.election.enable", "true", "missed acknowledged batches"),
        ("ftf.returns", "message.timestamp.type", "CreateTime", "producers tell the time"),
        ("ftf.returns", "max.message.bytes", "100000", "a whole batch must fit"),
        ("ftf.returns", "compression.type", "producer", "larger when it is read"),
        ("ftf.keys", "min.insync.replicas", "1", "survive the loss of a broker"),
        ("ftf.keys", "max.compaction.lag.ms", "9223372036854775807", "expected 86400000"),
    ],
)
def test_a_setting_that_differs_is_named(name: str, setting: str, value: str, words: str) -> None:
    """Each wrong setting of a topic is named with its value, the expected value, and the reason."""
    view = good()
    changed = replace(view.topics[name], settings={**view.topics[name].settings, setting: value})
    [only] = said(replace(view, topics={**view.topics, name: changed}))
    assert only.startswith(f"topic {name}: {setting} is {value}, expected ")
    assert words in only


def test_topics_that_lack_something_are_named() -> None:
    """Missing topics, unknown topics, too few replicas and unequal numbers of partitions are differences."""
    view = good()
    topics = dict(view.topics)
    del topics["ftf.access"]
    topics["ftf.retruns"] = topic()
    topics["ftf.directory"] = replace(topic(), replicas=1, in_sync=1)
    topics["ftf.keys"] = replace(topic(compacted=True), in_sync=1)
    assert said(replace(view, topics=topics)) == [
        "topic ftf.access does not exist",
        "topic ftf.retruns is not one of the coalition's: it was created by hand, or by accident",
        "topic ftf.directory: a partition has 1 replicas, expected 3",
        "topic ftf.keys: a partition has 1 replicas in sync: it takes no appends",
    ]
    [only] = said(replace(view, topics={**view.topics, "ftf.access": topic(partitions=5)}))
    assert only.startswith("the topics have different numbers of partitions (5, 7)")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("auto.create.topics.enable", "true", "a topic that is misspelt is created"),
        ("unclean.leader.election.enable", "true", "may lead"),
        ("default.replication.factor", "1", "too few brokers"),
        ("allow.everyone.if.no.acl.found", "true", "open to all"),
        ("advertised.listeners", "SSL://b:9092,PLAINTEXT://b:9093", "listens without TLS"),
    ],
)
def test_a_broker_that_differs_is_named(setting: str, value: str, words: str) -> None:
    """Each wrong setting of a broker is named, with the broker's number."""
    view = good()
    changed = BrokerSettings(settings={**view.brokers[2].settings, setting: value})
    [only] = said(replace(view, brokers={**view.brokers, 2: changed}))
    assert only.startswith("broker 2: ")
    assert words in only


def test_too_few_brokers() -> None:
    """Fewer brokers than replicas are a difference."""
    view = good()
    [only] = said(replace(view, brokers={1: view.brokers[1]}))
    assert only == "1 brokers are up, expected at least 3"


def allow(
    principal: str, resource: Resource, name: str, operation: Operation, pattern: Pattern = Pattern.LITERAL
) -> Acl:
    """An ACL that allows something."""
    return Acl(
        principal=principal, permission=Permission.ALLOW, resource=resource, pattern=pattern, name=name,
        operation=operation,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("acl", "words"),
    [
        (allow(XA, Resource.TOPIC, "ftf.returns", Operation.DELETE), "may delete topic ftf.returns"),
        (allow(XA, Resource.TOPIC, "ftf.returns", Operation.ALL), "may do everything to topic ftf.returns"),
        (allow(XA, Resource.TOPIC, "*", Operation.ALTER), "may alter topic *"),
        (
            allow(XA, Resource.TOPIC, "f", Operation.ALTER_CONFIGS, Pattern.PREFIXED),
            "may change the settings of",
        ),
        (allow(XA, Resource.TRANSACTIONAL_ID, "*", Operation.WRITE), "may use transactions (*)"),
        (allow(XA, Resource.CLUSTER, "kafka-cluster", Operation.CREATE), "may create topics on the cluster"),
        (allow(XA, Resource.CLUSTER, "kafka-cluster", Operation.ALTER), "may alter the cluster"),
        (allow(EVERYONE, Resource.TOPIC, "ftf.access", Operation.READ), "everyone may read topic ftf.access"),
        (allow(XA, Resource.TOPIC, "ftf.keys", Operation.READ), "may read topic ftf.keys, and is no KAS"),
    ],
)
def test_a_principal_that_may_too_much_is_named(acl: Acl, words: str) -> None:
    """Each principal that may delete, alter, use transactions or read the keys is named."""
    view = good()
    assert view.acls is not None
    [only] = said(replace(view, acls=(*view.acls, acl)))
    assert words in only
    denied = replace(acl, permission=Permission.DENY)
    assert said(replace(view, acls=(*view.acls, denied))) == []


def test_a_principal_without_a_quota_is_named() -> None:
    """A principal that may append without a produce quota is named, unless there is a default quota."""
    view = good()
    [only] = said(replace(view, quotas=(Quota(principal=KAS, bytes_a_second=1e6),)))
    assert only.startswith(f"{XA} has no produce quota")
    assert said(replace(view, quotas=(Quota(principal=EVERYONE, bytes_a_second=1e6),))) == []


def test_what_cannot_be_seen_is_said() -> None:
    """A missing authorizer, and ACLs or quotas that we may not read, are differences themselves."""
    assert said(replace(good(), authorizer=False, acls=None)) == [
        "the cluster has no authorizer: every client that reaches it may do everything"
    ]
    [only] = said(replace(good(), acls=None))
    assert only.startswith("the ACLs cannot be read")
    [only] = said(replace(good(), quotas=None))
    assert only.startswith("the quotas cannot be read")


def test_commands_are_few_and_can_be_run() -> None:
    """Principals of one role share their commands, and names with spaces are quoted for the shell."""
    agencies = ["User:CN=xa", "User:CN=x b,O=Ministry of $HOME", "User:CN=xc"]
    acls = denials(prefix="ftf")
    for agency in agencies:
        acls += allowances(Role.AGENCY, agency, prefix="ftf", record_topics=["returns"])
    lines = commands(acls, [Quota(principal=agencies[1], bytes_a_second=1e6)], connect=[])
    assert len(lines) == 6
    words = [shlex.split(line) for line in lines]
    assert [line.count("--allow-principal") for line in words] == [0, 0, 3, 3, 3, 0]
    assert agencies[1] in words[2]
    assert words[0][1:] == [
        "--add", "--deny-principal", "User:*", "--operation", "Delete", "--operation", "Alter",
        "--operation", "AlterConfigs", "--topic", "ftf.", "--resource-pattern-type", "prefixed",
    ]  # fmt: skip
    assert words[5][-4:] == ["--entity-name", agencies[1][5:], "--add-config", "producer_byte_rate=1000000"]


@pytest.mark.parametrize("principal", ["", "CN=xa", "User:", "User:*", "User:a\nb"])
def test_what_is_no_principal_is_refused(principal: str) -> None:
    """A principal begins with User: and is never everybody."""
    with pytest.raises(UsageError, match="invalid principal"):
        allowances(Role.AGENCY, principal, prefix="ftf", record_topics=["returns"])
