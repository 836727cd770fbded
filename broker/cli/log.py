"""``log check``, ``log topics`` and ``log acl``: a log looked over, and what a Kafka cluster is set to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, chosen_profile, json_option
from broker.cli.found.init import ensure_topics
from broker.cli.log_copy import SYSTEM_TOPICS
from broker.cli.log_inspect import group
from broker.cli.output import note, print_json, print_line
from broker.cli.progress_bar import progress
from broker.clock import system_clock
from broker.log import CopyableLog, SqliteLog, open_copyable, open_log
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
from broker.log.protocol import physical
from broker.show.text import counted, printable, time_text
from broker.upkeep.log_check import Finding, What, look_over

__all__ = ["group"]


@group.command("check")
@click.option("--log", "url", metavar="URL", help="The log to look at. Default: the profile's.")
@click.option(
    "--profile", "profile_file", type=click.Path(path_type=Path), metavar="FILE",
    help="A profile of the coalition, which pins its directory. None is needed with --log.",
)  # fmt: skip
@click.option("--settings-only", is_flag=True, help="Do not read the messages, which takes a while.")
@json_option
@asynchronous
async def check(url: str | None, profile_file: Path | None, settings_only: bool, as_json: bool) -> None:
    """Look a log over without any key: its messages and, on Kafka, how the cluster is set.

    It names messages that are dated more than five minutes ahead of this machine's clock or have no date,
    messages in partitions of no channel, partitions whose beginning was deleted, and a copy that is not
    finished. On Kafka it also compares settings of topics and brokers, ACLs and quotas with the policy: run
    it as a principal that may describe the cluster, with that principal's certificate in --log.

    Prints each finding on a line, and exits 1 when there is one.

    \b
    Example:
      ftf-broker log check --profile auditor/auditor.toml
      ftf-broker log check --log 'kafka://broker1:9093?ca=ca.pem&cert=operator.pem&key=operator.key'
    """
    profile = chosen_profile(profile_file) if url is None or profile_file is not None else None
    url = url or (profile.log if profile else "")
    record_topics = sorted(default_store().topics)
    async with open_copyable(url, must_exist=True) as log:
        differences = await _policy(log, (*record_topics, *SYSTEM_TOPICS))
        found: list[Finding] = []
        if not settings_only:
            with progress("reading messages") as moved:
                found = await look_over(
                    log,
                    record_topics,
                    genesis=profile.genesis if profile else None,
                    now=system_clock(),
                    moved=moved,
                )
        lines = [*differences, *(_sentence(log, finding) for finding in found)]
    if as_json:
        # Output comes before the exit code, so that a script that stops at exit 1 has the list.
        print_json({"differences": lines, "findings": [_finding_json(finding) for finding in found]})
    else:
        for line in lines:
            print_line(printable(line))
        note(f"found {counted(len(lines), 'difference')} from what a log must be")
    if lines:
        raise click.exceptions.Exit(1)


async def _policy(log: CopyableLog, topics: Sequence[str]) -> list[str]:
    # A log on Kafka has a cluster to look at; of the embedded one nothing can be set. aiokafka is loaded
    # only by the command that uses it.
    if isinstance(log, SqliteLog):
        return []
    from broker.log.kafka.kafka_log import KafkaLog

    return await log.check_policy(topics) if isinstance(log, KafkaLog) else []


def _sentence(log: CopyableLog, finding: Finding) -> str:
    place = finding.partition
    where = "" if place is None else f"{physical(log, place.topic)}/{place.number}"
    messages = counted(finding.count, "message")
    begin = f"{where}@{finding.offset}"
    match finding.what:
        case What.UNFINISHED_COPY:
            return (
                "this log is a copy that is not finished; make the same copy again, which goes on where it"
                " stopped: ftf-broker log copy FROM TO"
            )
        case What.NO_DIRECTORY:
            return "it holds no directory, or another coalition's: what belongs to no channel cannot be told"
        case What.BEGINNING_DELETED:
            return f"{where} begins at offset {finding.count}: the messages before were deleted"
        case What.NO_CHANNEL:
            return f"{begin}: {messages} in a partition of no channel"
        case What.DATED_AHEAD if finding.appended_at is not None:
            signer = f", signed by {printable(finding.signer)}" if finding.signer else ""
            return f"{begin} is dated {time_text(finding.appended_at)}, ahead of this clock{signer}"
        case What.DATED_AHEAD:
            return f"{begin}: from here on {messages} more dated ahead of this clock"
        case What.NO_DATE if finding.count == 1:
            return f"{begin} has a date that no clock gives, which counts as 0"
        case What.NO_DATE:
            return f"{begin}: from here on {messages} more without a date"


def _finding_json(finding: Finding) -> dict[str, object]:
    place = finding.partition
    return {
        "what": finding.what,
        "topic": place and place.topic,
        "partition": place and place.number,
        "offset": finding.offset if place else None,
        "count": finding.count,
        "appended_at": None if finding.appended_at is None else time_text(finding.appended_at),
        "signer": finding.signer,
    }


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
