"""``log topics``, ``log check`` and ``log acl``: the topics, settings and permissions of a Kafka cluster."""

from __future__ import annotations

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, chosen_profile, json_option
from broker.cli.found.init import ensure_topics
from broker.cli.log_copy import SYSTEM_TOPICS
from broker.cli.log_inspect import group
from broker.cli.output import note, print_json, print_line
from broker.errors import UsageError
from broker.log import open_log
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

__all__ = ["group"]


@group.command("check")
@click.option("--log", "url", metavar="URL", help="The log to look at. Default: the profile's.")
@json_option
@asynchronous
async def check(url: str | None, as_json: bool) -> None:
    """Compare a Kafka cluster with the policy: settings of topics and brokers, ACLs, quotas.

    Prints each difference on a line, and exits 1 when there is one. Run it as a principal that may
    describe the cluster, with that principal's certificate in --log.

    \b
    Example:
      ftf-broker log check --log 'kafka://broker1:9093?ca=ca.pem&cert=operator.pem&key=operator.key'
    """
    # aiokafka is loaded only by the command that uses it.
    from broker.log.kafka.kafka_log import KafkaLog

    url = url or chosen_profile(None).log
    async with open_log(url) as log:
        if not isinstance(log, KafkaLog):
            raise UsageError(
                f"the log {url} is the embedded one: nothing about it can be set", hint="name a kafka: URL"
            )
        found = await log.check_policy((*sorted(default_store().topics), *SYSTEM_TOPICS))
    if as_json:
        # Output comes before the exit code, so that a script that stops at exit 1 has the list.
        print_json({"differences": found})
    else:
        for difference in found:
            print_line(difference)
        note(f"{len(found)} difference{'' if len(found) == 1 else 's'} from the policy")
    if found:
        raise click.exceptions.Exit(1)


@group.command("topics")
@click.option("--log", "url", metavar="URL", help="The log to prepare. Default: the profile's.")
@click.option(
    "--channels", type=click.IntRange(1, 100_000), default=1, show_default=True, metavar="N",
    help="Make room for so many channels; partitions are added and never removed.",
)  # fmt: skip
@asynchronous
async def topics(url: str | None, channels: int) -> None:
    """Create the topics of a coalition, or add the partitions of further channels.

    Where ACLs are set, the operator of the brokers runs it with a certificate that may create topics:
    before a coalition is founded, and before the authority opens a channel that has no partition yet.

    \b
    Example:
      ftf-broker log topics --channels 16 \\
        --log 'kafka://broker1:9093?ca=ca.pem&cert=operator.pem&key=operator.key'
    """
    url = url or chosen_profile(None).log
    async with open_log(url) as log:
        # The directory has one partition, however many channels there are: its statements need one order.
        await log.ensure("directory", 1)
        await ensure_topics(log, channels)
    note(f"topics for {channels} channel{'' if channels == 1 else 's'}: all there")


@group.command("acl")
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    metavar="PRINCIPAL",
    help="The authority. May be repeated, as all of these.",
)
@click.option(
    "--agency", "agencies", multiple=True, metavar="PRINCIPAL", help="An agency: it publishes and subscribes."
)
@click.option("--auditor", "auditors", multiple=True, metavar="PRINCIPAL", help="An auditor: it replays.")
@click.option("--kas", "services", multiple=True, metavar="PRINCIPAL", help="A key access service.")
@click.option(
    "--notary", "notaries", multiple=True, metavar="PRINCIPAL", help="A notary: it writes checkpoints."
)
@click.option("--prefix", default="ftf", show_default=True, help="The beginning of all topic names.")
@click.option(
    "--quota", type=click.IntRange(10_000), default=2_000_000, show_default=True, metavar="BYTES",
    help="The bytes that each principal may append to one broker in a second.",
)  # fmt: skip
@click.option("--bootstrap-server", default="localhost:9092", show_default=True, metavar="HOST:PORT")
@click.option("--command-config", metavar="FILE", help="The administrator's file for Kafka's tools.")
@json_option
def acl(
    authorities: tuple[str, ...],
    agencies: tuple[str, ...],
    auditors: tuple[str, ...],
    services: tuple[str, ...],
    notaries: tuple[str, ...],
    prefix: str,
    quota: int,
    bootstrap_server: str,
    command_config: str | None,
    as_json: bool,
) -> None:
    """Print the commands that give each principal the permissions of its role, and no others.

    This changes nothing. Read the commands, then run them with Kafka's own tools. A principal is 'User:'
    followed by the name in the client's certificate.

    \b
    Example:
      ftf-broker log acl --agency 'User:CN=xa' --agency 'User:CN=xb' --kas 'User:CN=kas' \\
        --bootstrap-server broker1:9093 --command-config operator.properties
    """
    roles = {
        Role.AUTHORITY: authorities,
        Role.AGENCY: agencies,
        Role.AUDITOR: auditors,
        Role.KAS: services,
        Role.NOTARY: notaries,
    }
    topics = sorted(default_store().topics)
    acls = denials(prefix=prefix)
    quotas = []
    # An auditor appends nothing, so it needs no quota.
    for role, principals in roles.items():
        for principal in principals:
            acls += allowances(role, principal, prefix=prefix, record_topics=topics)
            if role is not Role.AUDITOR:
                quotas.append(Quota(principal=principal, bytes_a_second=quota))
    if as_json:
        print_json(
            {"acls": [_json(entry) for entry in acls], "quotas": [_quota_json(entry) for entry in quotas]}
        )
        return
    connect = ["--bootstrap-server", bootstrap_server]
    connect += ["--command-config", command_config] if command_config else []
    # ``commands`` quotes each word for a shell: the operator pastes these lines, and a principal's name must
    # not become a command.
    for line in commands(acls, quotas, connect=connect):
        print_line(line)


def _json(acl: Acl) -> dict[str, str]:
    return {
        "principal": acl.principal,
        "permission": Permission(acl.permission).name,
        "operation": Operation(acl.operation).name,
        "resource": Resource(acl.resource).name,
        "pattern": Pattern(acl.pattern).name,
        "name": acl.name,
        "host": acl.host,
    }


def _quota_json(quota: Quota) -> dict[str, object]:
    return {"principal": quota.principal, "producer_byte_rate": quota.bytes_a_second}
