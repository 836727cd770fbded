"""The policy of a cluster: the settings that the log needs, and the differences from them. Pure.

Record topics, access, directory and checkpoints are append-only for ever. ``keys`` keeps the newest value of
each key. In all of them:

* the brokers' clock sets the time of a message (``LogAppendTime``, KIP-32), since a producer could claim any
  time, and deadlines are counted from it;
* brokers store batches uncompressed, so that no batch is larger when it is read than when it was stored;
* a replica that missed acknowledged batches never becomes leader (``unclean.leader.election.enable``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.log.kafka.acl import COPY_TOPIC, EVERYONE, Acl, Operation, Permission, Quota, Resource
from broker.log.protocol import MAX_COPIED_BYTES

__all__ = [
    "COMPACTED_TOPICS", "MAX_RECORD_BATCH_BYTES", "BrokerSettings", "ClusterView",
    "TopicSettings", "differences", "topic_settings",
]  # fmt: skip

COMPACTED_TOPICS = frozenset({"keys"})
"""The topics, without the prefix, that keep only the newest value of each key."""

MAX_RECORD_BATCH_BYTES = MAX_COPIED_BYTES
"""The largest record batch that a topic takes, which is Kafka's own default.

It holds the largest append of a log (``MAX_APPEND_BYTES``) with everything that Kafka adds to it.
"""

_EVERYWHERE: Final = {
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(MAX_RECORD_BATCH_BYTES),
    "compression.type": "uncompressed",
    "unclean.leader.election.enable": "false",
}
# A broker refuses times that lie more than an hour ahead, unless it is told not to (KIP-937).
_GIVEN_TIMES: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
_APPEND_ONLY: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    # A value that was replaced or deleted is gone from the brokers' disks within about a day (KIP-354). Kafka
    # would otherwise wait until a segment is full, which for a small topic is never.
    "max.compaction.lag.ms": "86400000",
    "delete.retention.ms": "86400000",
}


def topic_settings(*, compacted: bool, min_insync: int, copying: bool = False) -> dict[str, str]:
    """Return the settings with which a topic is created; while it is ``copying``, it keeps given times."""
    own = _COMPACTED if compacted else _APPEND_ONLY
    times = _GIVEN_TIMES if copying else {}
    return {**_EVERYWHERE, **own, **times, "min.insync.replicas": str(min_insync)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """A topic as it is; ``replicas`` and ``in_sync`` are those of the partition that has the fewest."""

    partitions: int
    replicas: int
    in_sync: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """The settings of a broker, which are empty when this principal may not read them."""

    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """A cluster's description of itself. ACLs and quotas are None when this principal may not see them."""

    brokers: Mapping[int, BrokerSettings]
    topics: Mapping[str, TopicSettings]
    acls: tuple[Acl, ...] | None
    authorizer: bool
    quotas: tuple[Quota, ...] | None


def differences(
    view: ClusterView, *, prefix: str, topics: Iterable[str], replication: int = 3, min_insync: int = 2
) -> list[str]:
    """Return each difference between a cluster and the policy, for the topics that a coalition needs."""
    found = [
        *_of_topics(view, prefix, topics, replication, min_insync),
        *_of_brokers(view, replication, min_insync),
    ]
    if not view.authorizer:
        found.append("the cluster has no authorizer: every client that reaches it may do everything")
    elif view.acls is None:
        found.append("the ACLs cannot be read: run this as a principal that may describe the cluster")
    else:
        found += _of_acls(view.acls, prefix)
        found += _of_quotas(view.acls, view.quotas, prefix)
    return found


def _of_topics(
    view: ClusterView, prefix: str, topics: Iterable[str], replication: int, min_insync: int
) -> Iterable[str]:
    wanted = {f"{prefix}.{topic}": topic in COMPACTED_TOPICS for topic in topics}
    for name in sorted(wanted.keys() - view.topics.keys()):
        yield f"topic {name} does not exist"
    mark = f"{prefix}.{COPY_TOPIC}"  # an unfinished copy is not a difference of the cluster
    for name in sorted(view.topics.keys() - wanted.keys() - {mark}):
        if name.startswith(f"{prefix}."):
            yield f"topic {name} is not one of the coalition's: it was created by hand, or by accident"
    for name, compacted in sorted(wanted.items()):
        topic = view.topics.get(name)
        if topic is None:
            continue
        expected = topic_settings(compacted=compacted, min_insync=min_insync)
        for setting, value in sorted(expected.items()):
            found = topic.settings.get(setting)
            if found != value:
                why = _why(setting, found, compacted)
                yield f"topic {name}: {setting} is {found}, expected {value}{why}"
        if topic.replicas < replication:
            yield f"topic {name}: a partition has {topic.replicas} replicas, expected {replication}"
        elif topic.in_sync < min_insync:
            yield f"topic {name}: a partition has {topic.in_sync} replicas in sync: it takes no appends"
    # Topics with one partition, such as the directory, belong to no channel.
    record = {view.topics[name].partitions for name, compacted in wanted.items() if name in view.topics}
    per_channel = record - {1}
    if len(per_channel) > 1:
        yield (
            f"the topics have different numbers of partitions ({', '.join(map(str, sorted(per_channel)))}):"
            " some channels lack a partition in some of them"
        )


def _why(setting: str, value: str | None, compacted: bool) -> str:
    match setting:
        case "cleanup.policy" if value and "compact" in value and not compacted:
            return " (a member that repeats a key deletes another's record)"
        case "retention.ms" | "retention.bytes":
            return " (records are deleted before they may be)"
        case "unclean.leader.election.enable":
            return " (a replica that missed acknowledged batches may lead)"
        case "message.timestamp.type":
            return " (producers tell the time, not the brokers)"
        case "max.message.bytes":
            return " (a whole batch must fit, and readers must hold what is larger)"
        case "compression.type":
            return " (a batch could be larger when it is read than when it was stored)"
        case "min.insync.replicas":
            return " (acknowledged messages must survive the loss of a broker)"
        case _:
            return ""


def _of_brokers(view: ClusterView, replication: int, min_insync: int) -> Iterable[str]:
    if len(view.brokers) < replication:
        yield f"{len(view.brokers)} brokers are up, expected at least {replication}"
    expected = {
        "auto.create.topics.enable": ("false", "a topic that is misspelt is created, without this policy"),
        "unclean.leader.election.enable": ("false", "a replica that missed acknowledged batches may lead"),
        "default.replication.factor": (
            str(replication),
            "a topic that is created by hand is kept on too few brokers",
        ),
        "allow.everyone.if.no.acl.found": ("false", "a topic that no ACL names is open to all"),
    }
    for node, broker in sorted(view.brokers.items()):
        for setting, (value, why) in expected.items():
            found = broker.settings.get(setting)
            if found is not None and found != value:
                yield f"broker {node}: {setting} is {found}, expected {value} ({why})"
        if _is_plain(broker):
            yield f"broker {node}: it listens without TLS"


def _is_plain(broker: BrokerSettings) -> bool:
    """Tell whether a listener for clients has no TLS.

    The name of the listener decides. One that was given another name is believed to have TLS.
    """
    used = broker.settings.get("advertised.listeners") or broker.settings.get("listeners") or ""
    return "PLAINTEXT://" in used


_NEVER: Final = {
    Operation.ALL: "do everything to",
    Operation.DELETE: "delete",
    Operation.ALTER: "alter",
    Operation.ALTER_CONFIGS: "change the settings of",
}


def _of_acls(acls: Iterable[Acl], prefix: str) -> Iterable[str]:
    every = tuple(acls)
    for acl in sorted(every):
        if acl.permission != Permission.ALLOW:
            continue
        touches = acl.name == "*" or acl.name.startswith(f"{prefix}.") or f"{prefix}.".startswith(acl.name)
        if acl.resource == Resource.TRANSACTIONAL_ID:
            yield f"{acl.principal} may use transactions ({acl.name}): their marks are holes in the logs"
        elif acl.resource == Resource.TOPIC and touches and acl.operation in _NEVER:
            yield f"{acl.principal} may {_NEVER[Operation(acl.operation)]} topic {acl.name}"
        elif acl.resource == Resource.CLUSTER and acl.operation in (*_NEVER, Operation.CREATE):
            words = (
                "create topics on" if acl.operation == Operation.CREATE else _NEVER[Operation(acl.operation)]
            )
            yield f"{acl.principal} may {words} the cluster"
        elif acl.resource == Resource.TOPIC and touches and acl.principal == EVERYONE:
            yield f"everyone may {_name(acl.operation)} topic {acl.name}"
        elif acl.resource == Resource.TOPIC and touches and acl.name == f"{prefix}.keys":
            # The writers of the access log are the key access services. Every other principal that reads or
            # writes the release secrets is a mistake.
            services = {other.principal for other in every if _writes(other, f"{prefix}.access")}
            if acl.principal not in services and acl.operation in (Operation.READ, Operation.WRITE):
                yield f"{acl.principal} may {_name(acl.operation)} topic {acl.name}, and is no KAS"


def _of_quotas(acls: Iterable[Acl], quotas: tuple[Quota, ...] | None, prefix: str) -> Iterable[str]:
    if quotas is None:
        yield "the quotas cannot be read: run this as a principal that may describe the cluster"
        return
    limited = {quota.principal for quota in quotas}
    if EVERYONE in limited:
        return  # the default for every principal
    writers = {
        acl.principal
        for acl in acls
        if acl.permission == Permission.ALLOW
        and acl.resource == Resource.TOPIC
        and acl.operation in (Operation.WRITE, Operation.ALL)
        and (acl.name == "*" or acl.name.startswith(f"{prefix}."))
    }
    for principal in sorted(writers - limited):
        yield f"{principal} has no produce quota: it can fill the disks, and slow everybody down"


def _writes(acl: Acl, topic: str) -> bool:
    return acl.permission == Permission.ALLOW and acl.name == topic and acl.operation == Operation.WRITE


def _name(operation: int) -> str:
    try:
        return Operation(operation).name.replace("_", " ").lower()
    except ValueError:
        return f"operation {operation}"
