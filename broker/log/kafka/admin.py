"""Questions about a cluster's settings, and the few changes that are made to it, as typed requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    CreateAclsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeConfigsRequest,
)

from broker.log.kafka.acl import EVERYONE, Acl, Quota
from broker.log.kafka.wire import Connection

__all__ = [
    "Outcome", "Settings", "acls", "broker_settings", "create_acl", "create_topic", "grow_topic", "quotas",
    "topic_settings_of",
]  # fmt: skip

_TOPIC, _BROKER = 2, 4
_ANY = 1
_MATCH_ANY = 2


class Outcome(NamedTuple):
    """How a change went: the code is 0 when it was made."""

    code: int
    words: str


class Settings(NamedTuple):
    """The settings of a topic or a broker, or the code that says why they are not told."""

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
    """Create a topic."""
    wanted: list[tuple[object, ...]] = [(topic, partitions, replication, [], list(settings.items()))]
    request = CreateTopicsRequest(wanted, int(timeout_s * 800), False)
    answer = await connection.call(request, timeout_s)
    [(_, code, words)] = answer.topic_errors
    return Outcome(code, words or "")


async def grow_topic(connection: Connection, topic: str, partitions: int, timeout_s: float) -> Outcome:
    """Give a topic more partitions: so many in all."""
    request = CreatePartitionsRequest([(topic, (partitions, None))], int(timeout_s * 800), False)
    answer = await connection.call(request, timeout_s)
    [(_, code, words)] = answer.topic_errors
    return Outcome(code, words or "")


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
    """Ask for all ACLs."""
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
    """Set an ACL; setting it again changes nothing."""
    request = CreateAclsRequest(
        acl.resource, acl.name, acl.pattern, acl.principal, acl.host, acl.operation, acl.permission
    )
    answer = await connection.call(request, timeout_s)
    [(code, words)] = answer.creation_responses
    return Outcome(code, words or "")


async def quotas(connection: Connection, timeout_s: float) -> tuple[int, tuple[Quota, ...]]:
    """Ask for the produce quotas of users; the one that holds for all others is :data:`EVERYONE`'s."""
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
