"""``publish``: publish the records of a file; rows that break a rule are written to a file of rejects."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.opening import open_session
from broker.cli.output import note, print_json
from broker.cli.publication import Publication
from broker.clock import day_of, system_clock
from broker.errors import KasUnavailable, UsageError
from broker.publish.permission import check_publisher, intake_of
from broker.services.kas.local import announce_here
from broker.session import Profile, Session
from broker.show.text import counted
from broker.wire.manifest import Collected, CollectionStatus
from connectors.input_file import InputFile
from connectors.rejects import Rejects

__all__ = ["command"]


@click.command("publish")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--channel", required=True, metavar="NAME", help="The channel to publish in.")
@click.option(
    "--type", "record_type", metavar="TYPE", help="The record type. A mapping file may name it instead."
)
@click.option(
    "--mapping",
    "mapping_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="For CSV: says which column goes into which field. A column that it does not name is never read.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv"]),
    help="The format of FILE. Default: by its name; standard input is JSON Lines.",
)
@click.option(
    "--from-line",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Begin at this line: resume a run that stopped.",
)
@click.option(
    "--rejects",
    "rejects_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where rejected rows are written. Default: beside FILE, as <name>.rejects.jsonl.",
)
@click.option("--dry-run", is_flag=True, help="Check every row, publish nothing, write nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until the key access service has taken the batches over; 0 does not ask.",
)
@profile_option
@json_option
@asynchronous
async def command(
    file: Path,
    channel: str,
    record_type: str | None,
    mapping_path: Path | None,
    file_format: str | None,
    from_line: int,
    rejects_path: Path | None,
    dry_run: bool,
    wait_s: float,
    profile: Profile,
    as_json: bool,
) -> int:
    """Publish the records in a file.

    FILE is JSON Lines, or CSV with a mapping file; - is standard input.

    A row that breaks a rule is written to <name>.rejects.jsonl beside FILE, with its line number and
    every reason; all other rows are published. Of a CSV row only the mapped fields are written there,
    never a column that the mapping does not name. Correct the rows in that file and publish it.

    \b
    Exit 0: every row was published.
    Exit 1: some rows were rejected, or the key access service refused a batch.

    \b
    Example:
      ftf-broker publish --channel repatriation --type JusticeMeasure measures.jsonl
      ftf-broker publish --channel repatriation --mapping returns-mapping.toml returns-batch.csv
      ftf-broker publish --channel repatriation --type JusticeMeasure measures.rejects.jsonl
    """
    async with open_session(profile) as session:
        source = InputFile.open(
            file,
            record_type=record_type,
            mapping_path=mapping_path,
            file_format=file_format,
            store=session.store,
        )
        # The permission is checked before any row is read: where the whole channel is closed to us, no row is
        # to blame and none is rejected.
        place, _ = check_publisher(
            session.directory, profile.name, session.keyring.signing.key_id, channel, source.record_type
        )
        if not dry_run:
            # Before the first row: without an intake key nothing can be sealed, and every row would fail.
            await _need_intake(session)
        with Rejects(rejects_path or source.rejects_path, from_line=from_line, is_dry=dry_run) as rejects:
            done = Publication(
                session=session,
                channel=place,
                source=source,
                rejects=rejects,
                from_line=from_line,
                is_dry=dry_run,
                listed=[] if as_json else None,
            )
            await done.run()
        if done.rows == 0 and done.failure is None and not done.is_stopped:
            raise UsageError(f"'{file}' holds no row from line {from_line} on", hint="nothing was published")
        asked = await done.ask_collected(wait_s) if wait_s and done.batches else None
    summary = _summary(done, asked)
    if as_json:
        print_json(summary)
    _say(done, asked)
    return _exit_code(done, refused=bool(summary["refused"]))


_UNREADABLE = {
    CollectionStatus.REFUSED: "refused by the key access service",
    CollectionStatus.VOID: "void for every reader",
    CollectionStatus.STALE: "came too late, and was not published anew",
}
"""The answers after which nobody can ever read a batch, in words."""


def _exit_code(done: Publication, *, refused: bool) -> int:
    """Return the exit code of the run; raises the error or the Ctrl-C that ended it early."""
    if done.failure is not None:
        # The summary was printed before, because it holds the line at which to go on.
        raise done.failure
    if done.is_stopped:
        # This gives exit code 130, and the summary has told what was done.
        raise KeyboardInterrupt
    return 1 if done.rejects.count or refused else 0


async def _need_intake(session: Session) -> None:
    """Let a key access service in this process announce its intake keys, if none is announced for today."""
    try:
        intake_of(session.directory, day_of(system_clock()))
    except KasUnavailable:
        await announce_here(session)


def _summary(done: Publication, asked: tuple[Collected, ...] | None) -> dict[str, object]:
    """The result for a program, as JSON."""
    by_status = {
        status: [batch for batch in asked or () if batch.status is status] for status in CollectionStatus
    }
    return {
        "channel": done.channel.name,
        "type": done.source.record_type,
        "published": 0 if done.is_dry else done.records,
        "valid": done.records,
        "batches": len(done.batches),
        "records": [
            {
                "line": line,
                "record_id": str(UUID(bytes=record.record_id)),
                "batch_id": record.batch_id.hex(),
                "index": record.index,
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
            }
            for line, record in done.listed or ()
        ],
        "rejected": done.rejects.count,
        "rejects": str(done.rejects.path) if done.rejects.count and not done.is_dry else None,
        "collected": None if asked is None else len(by_status[CollectionStatus.COLLECTED]),
        "refused": [
            {
                "topic": batch.topic,
                "partition": done.channel.number,
                "offset": batch.offset,
                "batch_id": batch.batch_id.hex(),
                "status": str(batch.status),
                "detail": batch.detail,
            }
            for status in _UNREADABLE
            for batch in by_status[status]
        ],
        "last_line": done.last_line,
        "resume_line": done.resume_line if done.failure or done.is_stopped else None,
        "dry_run": done.is_dry,
    }


def _say(done: Publication, asked: tuple[Collected, ...] | None) -> None:
    """Print the result in words to stderr."""
    if done.is_dry:
        note(f"{counted(done.records, 'row')} can be published in {done.channel.name}; nothing was")
    else:
        note(
            f"published in {done.channel.name}: {counted(done.records, 'record')} "
            f"in {counted(len(done.batches), 'batch', 'batches')}",
            style="green" if done.records else "",
        )
    if done.rejects.count:
        where = "" if done.is_dry else f": {done.rejects.path} says why"
        note(f"rejected {counted(done.rejects.count, 'row')}{where}", style="yellow")
    _say_collected(asked or ())
    if done.failure is not None or done.is_stopped:
        note(
            f"published up to line {done.resume_line - 1}; go on with: --from-line {done.resume_line}",
            style="bold",
        )


def _say_collected(asked: tuple[Collected, ...]) -> None:
    refused = [batch for batch in asked if batch.status in _UNREADABLE]
    for batch in refused:
        words = _UNREADABLE[batch.status]
        note(f"{words}: {batch.topic} at offset {batch.offset}: {batch.detail}", style="red")
    if refused:
        # This is final, so waiting does not help.
        note("nobody can read such a batch: correct what the message says, and publish its records again")
    pending = sum(batch.status is CollectionStatus.UNKNOWN for batch in asked)
    taken = sum(batch.status is CollectionStatus.COLLECTED for batch in asked)
    if taken:
        note(f"taken over by the key access service: {counted(taken, 'batch', 'batches')}")
    if pending:
        note(
            f"not yet taken over: {counted(pending, 'batch', 'batches')}; the log holds them, "
            "and they can be read as soon as the service has taken them over",
            style="yellow",
        )
