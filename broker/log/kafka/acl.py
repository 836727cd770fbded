"""Roles on the brokers, as Kafka's ACLs and quotas, and the commands that set them.

==========  ==================================  ==============================================
role        writes                              reads
==========  ==================================  ==============================================
authority   directory                           directory, checkpoints
agency      record topics, directory            record topics, directory, checkpoints
auditor                                         record topics, directory, checkpoints, access
kas         access, keys, directory             record topics, directory, checkpoints, access, keys
notary      checkpoints                         record topics, directory, checkpoints, access
==========  ==================================  ==============================================

The authority also sees how many partitions the other topics have, before it opens a channel.

No principal may delete or alter a topic, or use a transactional id. These are denied to everyone, because in
Kafka a denial outweighs every permission, also one that is given later by mistake. Only the operator of the
brokers (``super.users``, to whom no ACL applies) creates and grows topics. A role that reads a topic reads
all of its channels: ACLs know no partitions, and cryptography keeps the channels apart.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from broker.errors import UsageError
from broker.log.protocol import check_prefix, check_topic

__all__ = [
    "COPY_TOPIC", "EVERYONE", "Acl", "Operation", "Pattern", "Permission", "Quota", "Resource", "Role",
    "allowances", "check_principal", "commands", "denials",
]  # fmt: skip

EVERYONE = "User:*"
_PRINCIPAL = re.compile(r"User:[^\x00-\x1f\x7f]{1,400}")


class Role(Enum):
    """The part that a principal plays in the coalition."""

    AUTHORITY = "authority"
    AGENCY = "agency"
    AUDITOR = "auditor"
    KAS = "kas"
    NOTARY = "notary"


class Resource(IntEnum):
    """Kafka's kinds of resources, by their numbers in the protocol."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """Kafka's operations, by their numbers in the protocol."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class Permission(IntEnum):
    """Whether an ACL allows or forbids."""

    DENY = 2
    ALLOW = 3


class Pattern(IntEnum):
    """Whether an ACL names a resource or the beginning of names."""

    LITERAL = 3
    PREFIXED = 4


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Acl:
    """An ACL of Kafka.

    ``operation`` and ``resource`` are plain numbers, since a cluster may hold kinds that are not listed here.
    """

    principal: str
    permission: int
    resource: int
    pattern: int
    name: str
    operation: int
    host: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Quota:
    """The bytes that a principal may append to each broker in a second."""

    principal: str
    bytes_a_second: float


_DIRECTORY = "directory"
_CHECKPOINTS = "checkpoints"
_ACCESS = "access"
_KEYS = "keys"
COPY_TOPIC = "copy"
"""The topic, without the prefix, that marks a log as a copy that is not finished."""


def check_principal(principal: str) -> None:
    """Raise a UsageError unless this can be a principal: ``User:`` and the name in a client certificate.

    ``User:*`` is refused: it would give a role to everyone.
    """
    if _PRINCIPAL.fullmatch(principal) is None or principal == EVERYONE:
        raise UsageError(
            f"invalid principal {principal!r}",
            hint="write User: and the name in the client's certificate, for example 'User:CN=agency-xa,O=XA'",
        )


def allowances(role: Role, principal: str, *, prefix: str, record_topics: Sequence[str]) -> list[Acl]:
    """Return the ACLs that let a principal play a role."""
    check_principal(principal)
    check_prefix(prefix)
    for topic in record_topics:
        check_topic(topic)
    public = [_DIRECTORY, _CHECKPOINTS]
    reads, writes = {
        Role.AUTHORITY: (public, [_DIRECTORY]),
        Role.AGENCY: ([*record_topics, *public], [*record_topics, _DIRECTORY]),
        Role.AUDITOR: ([*record_topics, *public, _ACCESS], []),
        Role.KAS: ([*record_topics, *public, _ACCESS, _KEYS], [_ACCESS, _KEYS, _DIRECTORY]),
        Role.NOTARY: ([*record_topics, *public, _ACCESS], [_CHECKPOINTS]),
    }[role]
    # Before the authority opens a channel it sees that the channel has its partitions. It does not read them.
    sees = [*record_topics, _ACCESS, _KEYS] if role is Role.AUTHORITY else []
    # With DESCRIBE_CONFIGS a member sees whether a topic is compacted. If the operator set a record topic to
    # be compacted, any member that repeats a key would delete another's record.
    allowed = [
        *((topic, Operation.READ) for topic in reads),
        *((topic, Operation.DESCRIBE) for topic in sees),
        *((topic, Operation.DESCRIBE_CONFIGS) for topic in dict.fromkeys([*reads, *writes, *sees])),
        *((topic, Operation.WRITE) for topic in writes),
        # Whoever opens a log sees whether it is a copy that is not finished.
        (COPY_TOPIC, Operation.DESCRIBE),
    ]
    return [
        Acl(
            principal=principal,
            permission=Permission.ALLOW,
            resource=Resource.TOPIC,
            pattern=Pattern.LITERAL,
            name=f"{prefix}.{topic}",
            operation=operation,
        )
        for topic, operation in allowed
    ]


def denials(*, prefix: str) -> list[Acl]:
    """Return the ACLs that forbid everyone to delete or alter topics, and to use transactions."""
    check_prefix(prefix)
    never = [
        (Resource.TOPIC, Pattern.PREFIXED, f"{prefix}.", Operation.DELETE),
        (Resource.TOPIC, Pattern.PREFIXED, f"{prefix}.", Operation.ALTER),
        (Resource.TOPIC, Pattern.PREFIXED, f"{prefix}.", Operation.ALTER_CONFIGS),
        (Resource.TRANSACTIONAL_ID, Pattern.LITERAL, "*", Operation.ALL),
    ]
    return [
        Acl(
            principal=EVERYONE,
            permission=Permission.DENY,
            resource=resource,
            pattern=pattern,
            name=name,
            operation=operation,
        )
        for resource, pattern, name, operation in never
    ]


def commands(acls: Iterable[Acl], quotas: Iterable[Quota], *, connect: Sequence[str]) -> list[str]:
    """Return the ``kafka-acls`` and ``kafka-configs`` commands that set these, as lines for a shell.

    ``connect`` holds the options by which they reach the cluster:
    ``--bootstrap-server host:port --command-config admin.properties``.
    """
    lines = []
    for (permission, resource, pattern, operations), names_of in _grouped(acls).items():
        principal_option = "--allow-principal" if permission == Permission.ALLOW else "--deny-principal"
        resource_option = "--topic" if resource == Resource.TOPIC else "--transactional-id"
        for names, principals in _turned(names_of).items():
            words = ["kafka-acls", *connect, "--add"]
            words += [word for principal in principals for word in (principal_option, principal)]
            for operation in operations:
                words += ["--operation", Operation(operation).name.title().replace("_", "")]
            words += [word for name in names for word in (resource_option, name)]
            words += ["--resource-pattern-type", Pattern(pattern).name.lower()]
            lines.append(shlex.join(words))
    for quota in quotas:
        words = ["kafka-configs", *connect, "--alter", "--entity-type", "users"]
        words += ["--entity-name", quota.principal.removeprefix("User:")]
        words += ["--add-config", f"producer_byte_rate={quota.bytes_a_second:.0f}"]
        lines.append(shlex.join(words))
    return lines


_Kind = tuple[int, int, int, tuple[int, ...]]


def _grouped(acls: Iterable[Acl]) -> dict[_Kind, dict[str, list[str]]]:
    """Group the ACLs that a single command can set, by permission, resource, pattern and operations."""
    operations: dict[tuple[str, int, int, int, str], set[int]] = {}
    for acl in acls:
        place = (acl.principal, acl.permission, acl.resource, acl.pattern, acl.name)
        operations.setdefault(place, set()).add(acl.operation)
    grouped: dict[_Kind, dict[str, list[str]]] = {}
    for (principal, permission, resource, pattern, name), together in operations.items():
        kind = (permission, resource, pattern, tuple(sorted(together)))
        grouped.setdefault(kind, {}).setdefault(principal, []).append(name)
    return grouped


def _turned(names_of: dict[str, list[str]]) -> dict[tuple[str, ...], list[str]]:
    """Turn a map of principals to names around, so that principals with the same names share a command."""
    turned: dict[tuple[str, ...], list[str]] = {}
    for principal, names in names_of.items():
        turned.setdefault(tuple(names), []).append(principal)
    return turned
