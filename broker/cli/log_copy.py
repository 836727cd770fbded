"""``log copy``: a log copied to another, with its offsets and times."""

from __future__ import annotations

import asyncio

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, json_option
from broker.cli.log_inspect import group
from broker.cli.output import note, print_json, print_pairs
from broker.cli.progress_bar import progress
from broker.errors import UsageError
from broker.log import open_copyable
from broker.log.protocol import physical
from broker.show.text import counted
from broker.upkeep.copying import copy_log

__all__ = ["SYSTEM_TOPICS", "group"]

SYSTEM_TOPICS = ("access", "directory", "checkpoints", "keys")
"""The topics that every coalition has, beside the topics of its record types."""


@group.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
@asynchronous
async def copy(source: str, target: str, as_json: bool) -> int:
    """Copy a whole log to another file or cluster.

    FROM and TO are URLs of logs, of either kind. Every message keeps its offset and its time, so that all
    signatures, positions and receipts fit the copy. TO must be new: a copy creates its topics itself. In the
    end both logs are compared by the roots of all partitions.

    Stop every service, publisher and subscriber first, and let nobody write to FROM until everybody uses the
    copy: what is written to it meanwhile is not copied. Until it is finished, the copy opens for nothing but
    this command. If it is stopped, run the same command again: it compares what is there, and goes on.

    \b
    Exit 0: the copy is finished, and its roots are equal.
    Exit 1: the roots differ, and the copy stays unfinished.

    \b
    Example:
      ftf-broker log copy sqlite:log.db 'kafka://broker1:9093?ca=ca.pem&cert=operator.pem&key=operator.key'
      ftf-broker log copy sqlite:log.db sqlite:/backup/log-2026-11-29.db
    """
    if source == target:
        raise UsageError("FROM and TO are the same log")
    # Said before anything is opened, since the copying may take hours.
    note("what is written to FROM meanwhile is not copied: its services must be stopped", style="yellow")
    try:
        # The source may be an unfinished copy only to be refused in words of its own.
        async with open_copyable(source, must_exist=True) as original:
            if await original.is_unfinished():
                raise UsageError("FROM is itself a copy that is not finished", hint="copy the original")
            async with open_copyable(target) as copied:
                with progress("copying") as moved:
                    done = await copy_log(
                        original, copied, (*sorted(default_store().topics), *SYSTEM_TOPICS), moved
                    )
                names = {place: f"{physical(copied, place.topic)}/{place.number}" for place in done.messages}
    except asyncio.CancelledError:
        note("the copy is not finished; the same command goes on where it stopped")
        raise
    if as_json:
        messages = {f"{topic}/{number}": count for (topic, number), count in sorted(done.messages.items())}
        print_json({"copied": messages, "roots_equal": done.roots_equal})
    else:
        print_pairs(
            "copied", [(names[place], f"{count:,}") for place, count in sorted(done.messages.items())]
        )
    for topic in done.left_out:
        note(f"not copied: topic {topic}, which is not one of a coalition's", style="yellow")
    for place in done.differing:
        note(f"the roots of {names[place]} differ", style="bold red")
    if done.roots_equal:
        note(f"the copy is whole: {counted(sum(done.messages.values()), 'message')}, all roots equal")
    return 0 if done.roots_equal else 1
