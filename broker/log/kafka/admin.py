"""Requests about a cluster's settings, topics, ACLs and quotas, with types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    AlterConfigsRequest,
    CreateAclsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeConfigsRequest,
)

from broker.log.kafka.acl import EVERYONE, Acl, Quota
from broker.log.kafka.wire import BROKER_WAIT_MS_PER_S, Connection

__all__ = [
    "Outcome", "Settings", "acls", "broker_settings", "create_acl", "create_topic", "delete_topic",
    "grow_topic", "quotas", "set_topic", "topic_settings_of",
]  # fmt: skip

# Numbers of the protocol: kinds of resources (DescribeConfigs), "any" in a filter (DescribeAcls), and "any
# name" in a filter of quotas (DescribeClientQuotas, KIP-546).
_TOPIC = 2
_BROKER = 4
_ANY = 1
_MATCH_ANY = 2


class Outcome(NamedTuple):
    """The outcome of a change: an error code, which is 0 when it was made, and the broker's words."""

    code: int
    words: str


class Settings(NamedTuple):
    """The settings of a topic or a broker, or the error code that says why the broker gives none."""

    code: int
    values: Mapping[str, str]


async def create_topic(
    connection: Connection,
    topic: str,
    partitions: int,
    replication: int,
    settings: Mapping[str, str],
    timeout_s: float,
) -> Outcome:
    """Create a topic; the broker answers before its partitions can be used."""
    wanted: list[tuple[object, ...]] = [(topic, partitions, replication, [], list(settings.items()))]
    request = CreateTopicsRequest(wanted, int(timeout_s * BROKER_WAIT_MS_PER_S), False)
    answer = await connection.call(request, timeout_s)
    [(_, code, words)] = answer.topic_errors
    return Outcome(code, words or "")


async def grow_topic(connection: Connection, topic: str, partitions: int, timeout_s: float) -> Outcome:
    """Grow a topic to this number of partitions in all."""
    wait_ms = int(timeout_s * BROKER_WAIT_MS_PER_S)
    request = CreatePartitionsRequest([(topic, (partitions, None))], wait_ms, False)
    answer = await connection.call(request, timeout_s)
    [(_, code, words)] = answer.topic_errors
    return Outcome(code, words or "")


async def set_topic(
    connection: Connection, topic: str, settings: Mapping[str, str], timeout_s: float
) -> Outcome:
    """Give a topic these settings, and the brokers' own for all others."""
    request = AlterConfigsRequest([(_TOPIC, topic, list(settings.items()))])
    answer = await connection.call(request, timeout_s)
    [(code, words, *_)] = answer.resources
    return Outcome(code, words or "")


async def delete_topic(connection: Connection, topic: str, timeout_s: float) -> Outcome:
    """Delete a topic."""
    answer = await connection.call(
        DeleteTopicsRequest([topic], int(timeout_s * BROKER_WAIT_MS_PER_S)), timeout_s
    )
    [(_, code)] = answer.topic_error_codes
    return Outcome(code, "")


async def topic_settings_of(
    connection: Connection, topics: Iterable[str], timeout_s: float
) -> dict[str, Settings]:
    """Ask for the settings of topics."""
    return await _settings(connection, [(_TOPIC, topic, None) for topic in topics], timeout_s)


async def broker_settings(connection: Connection, node: int, timeout_s: float) -> Settings:
    """Ask a broker for its own settings."""
    return (await _settings(connection, [(_BROKER, str(node), None)], timeout_s))[str(node)]


async def _settings(
    connection: Connection, resources: list[tuple[int, str, None]], timeout_s: float
) -> dict[str, Settings]:
    if not resources:
        return {}
    answer = await connection.call(DescribeConfigsRequest(resources), timeout_s)
    return {
        name: Settings(code, {entry[0]: entry[1] for entry in entries if entry[1] is not None})
        for code, _, _, name, entries in answer.resources
    }


async def acls(connection: Connection, timeout_s: float) -> tuple[int, tuple[Acl, ...]]:
    """Ask for all ACLs; return the error code and the ACLs."""
    answer = await connection.call(DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY), timeout_s)
    found = [
        Acl(
            principal=principal,
            permission=permission,
            resource=resource,
            pattern=pattern,
            name=name,
            operation=operation,
            host=host,
        )
        for resource, name, pattern, entries in answer.resources
        for principal, host, operation, permission in entries
    ]
    return answer.error_code, tuple(sorted(found))


async def create_acl(connection: Connection, acl: Acl, timeout_s: float) -> Outcome:
    """Set an ACL. Setting one that exists changes nothing."""
    request = CreateAclsRequest(
        acl.resource, acl.name, acl.pattern, acl.principal, acl.host, acl.operation, acl.permission
    )
    answer = await connection.call(request, timeout_s)
    [(code, words)] = answer.creation_responses
    return Outcome(code, words or "")


async def quotas(connection: Connection, timeout_s: float) -> tuple[int, tuple[Quota, ...]]:
    """Ask for the produce quotas of users; return the error code and the quotas.

    The default, for every user without a quota of its own, comes as the quota of :data:`EVERYONE`.
    """
    answer = await connection.call(DescribeClientQuotasRequest([("user", _MATCH_ANY, None)], True), timeout_s)
    found = [
        Quota(
            principal=f"User:{names['user']}" if names["user"] is not None else EVERYONE,
            bytes_a_second=values["producer_byte_rate"],
        )
        for entity, pairs in answer.entries or []
        if "producer_byte_rate" in (values := dict(pairs)) and "user" in (names := dict(entity))
    ]
    return answer.error_code, tuple(sorted(found))
