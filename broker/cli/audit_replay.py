"""``audit replay``: verify both logs of every channel, without reading a single record."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import click

from broker.audit.causes import Known, Reported
from broker.audit.receipt_check import KeptReceipts, read_kept
from broker.audit.replay import Progress, ReplayReport, replay
from broker.audit.report import known_from_json, to_json
from broker.avro.schema import default_store
from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.output import note, out, print_json, print_pairs, print_table
from broker.cli.progress_bar import progress
from broker.clock import MINUTE_US
from broker.errors import UsageError
from broker.log import Log, open_log
from broker.log.protocol import physical
from broker.participant.follower import DirectoryFollower
from broker.session import Profile, Session
from broker.session.directory_state import load_high_water, save_seen
from broker.show.meanings import KINDS
from broker.show.text import counted, printable
from broker.verify.violations import Kind, Place

__all__ = ["command"]

Row: TypeAlias = tuple[str, str, str, str]

_SHOWN_OF_A_KIND = 3
"""The number of consequences of one root and kind that people are shown; programs get all."""
_MAX_KNOWN_BYTES = 64_000_000
_DIRECTORY_KINDS = frozenset({Kind.DIRECTORY_STATEMENT, Kind.DIRECTORY_ROLLBACK, Kind.LOG_FORKED})


@click.command("replay")
@click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="Only this channel; may be repeated."
)
@click.option(
    "--known",
    "known_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Violations that you have dealt with, as replay --json prints them; they do not count.",
)
@click.option(
    "--receipts",
    "receipt_paths",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Receipts that an agency kept: each must have its entry in the access log. May be repeated.",
)
@profile_option
@json_option
@asynchronous
async def command(
    channels: tuple[str, ...],
    known_path: Path | None,
    receipt_paths: tuple[Path, ...],
    profile: Profile,
    as_json: bool,
) -> int:
    """Prove that the logs are whole.

    It verifies that nothing was altered, dropped, inserted or reordered in the directory, in the record
    partitions and in the access log of each channel whose keys the profile holds. Use an auditor's
    profile. No record is read. Each violation is named by its kind and place, and the violations that
    follow from it are listed below it. With --receipts it also finds an access that was answered and is
    no longer in the log; agencies keep their receipts beside the state of a subscription, as *.receipts.

    \b
    Exit 0: verified; violations named in --known do not count.
    Exit 1: there is a violation that counts.

    \b
    Example:
      ftf-broker audit replay --profile audit/auditor.toml
      ftf-broker audit replay --json > report.json; ftf-broker audit replay --known report.json
      ftf-broker audit replay --receipts xbb-border.receipts --receipts xcc-care.receipts
    """
    async with _open_logs(profile) as session:
        known = () if known_path is None else _known(known_path, session.log)
        report = await _replay(session, channels, known, receipt_paths)
        # A damaged directory is not remembered: a mark taken from it would make the true one look rolled
        # back.
        if not _DIRECTORY_KINDS & report.by_kind.keys():
            save_seen(profile, session.follower)
        if as_json:
            print_json(to_json(report, session.log))
        else:
            _print(report, session.log)
        _warn_of_unbound(report, session)
    return 0 if report.verified else 1


async def _replay(
    session: Session, channels: Sequence[str], known: Iterable[Known], receipt_paths: Sequence[Path]
) -> ReplayReport:
    # Receipts are read before the replay begins: a damaged file should not cost a replay of hours.
    with KeptReceipts(session.follower.history) as receipts, progress("replaying") as moved:
        for path in receipt_paths:
            for where, request, receipt in read_kept(path):
                receipts.take(where, request, receipt)

        def show(now: Progress) -> None:
            moved(now.done, now.total)

        return await replay(
            session.participant,
            channels=channels or None,
            progress=show,
            known=known,
            high_water=load_high_water(session.profile),
            receipts=receipts if receipt_paths else None,
        )


@asynccontextmanager
async def _open_logs(profile: Profile) -> AsyncIterator[Session]:
    """Open the log and its directory as they are: a replay reports what is wrong, and does not refuse it."""
    parts = urlsplit(profile.log)
    # Opening a SQLite log creates its file. A wrong path would then leave an empty log behind, which holds no
    # directory.
    if parts.scheme == "sqlite" and not os.path.exists(unquote(parts.path, errors="surrogateescape")):
        raise UsageError(
            f"there is no log at '{profile.log}'", hint=f"check the field 'log' of '{profile.path}'"
        )
    async with open_log(profile.log) as log:
        # There is no high-water mark and no clock here: a directory that was rolled back is a finding of the
        # replay, and an old log's append times are believed. Nor is there a snapshot: an auditor reads all.
        follower = await DirectoryFollower.start(log, profile.genesis)
        yield Session(profile, log, follower, default_store())


def _known(path: Path, log: Log) -> tuple[Known, ...]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KNOWN_BYTES + 1)
        if len(data) > _MAX_KNOWN_BYTES:
            raise UsageError(f"'{path}' is larger than {_MAX_KNOWN_BYTES} bytes")
        # A UsageError of this call names the violation that is malformed, and passes the handlers below.
        return known_from_json(json.loads(data), log)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"'{path}' is no JSON: {error}", hint="give the output of: ftf-broker audit replay --json"
        ) from None


# in words


def _print(report: ReplayReport, log: Log) -> None:
    found = report.counts
    accesses = f"{found.access_entries:,} logged, {counted(found.denials, 'counted denial')}"
    counts = [
        ("channels", ", ".join(report.channels) or "none"),
        ("directory", counted(report.directory_size, "statement")),
        ("records", f"{found.records:,}"),
        ("manifests", f"{found.manifests:,}"),
        ("accesses", accesses),
        ("erasures", f"{found.erasures:,}"),
    ]
    if report.access_unread:
        # The last two pairs come from the access log. Without it both counts are 0, which would read as if
        # nobody had read a record.
        what = f"who read, and what was taken over, in {', '.join(report.access_unread)}"
        counts[-2:] = [("not checked", f"{what}: the access log is sealed to auditors")]
    counts.append(("messages", f"{report.messages:,}"))
    if report.unbound or report.position_age_us is not None:
        counts.append(("unbound", _unbound_words(report)))
    if report.receipts or report.receipts_not_compared:
        more = f", {report.receipts_not_compared:,} not: no key of yours opens their entries"
        compared = f"{report.receipts:,} compared with the access log"
        counts.append(("receipts", compared + (more if report.receipts_not_compared else "")))
    if found.uncollected:
        counts.append(("not yet taken over", counted(found.uncollected, "batch", "batches")))
    if found.repeats or found.repeated_requests:
        requests = counted(found.repeated_requests, "access entry", "access entries")
        counts.append(
            ("repeated", f"{counted(found.repeats, 'batch', 'batches')}, {requests}; each counts once")
        )
    if found.unreplaced:
        counts.append(
            ("came too late", f"{counted(found.unreplaced, 'batch', 'batches')} not published anew")
        )
    if found.opaque:
        counts.append(("not verified", f"{counted(found.opaque, 'message')} under keys that you do not hold"))
    if found.not_judged:
        counts.append(("not judged", f"{counted(found.not_judged, 'finding')} about such messages"))
    print_pairs("replay", counts)
    if report.violations:
        print_table(
            "violations",
            ("violation", "place", "count", "detail"),
            _rows(report.violations, log),
            right=("count",),
            console=out(),
        )
        _explain(report)
    _conclude(report)


def _unbound_words(report: ReplayReport) -> str:
    above = f"{counted(report.unbound, 'message')} above the newest positions of the key access service"
    age = report.position_age_us
    return above if age is None else f"{above}, which are up to {_age_words(age)} old"


def _age_words(age_us: int) -> str:
    minutes, seconds = divmod(age_us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    for count, unit in ((days, "day"), (hours, "hour"), (minutes, "minute")):
        if count:
            return counted(count, unit)
    return counted(seconds, "second")


def _warn_of_unbound(report: ReplayReport, session: Session) -> None:
    """Warn of channels in which something is bound by no position for longer than the profile allows."""
    minutes = session.profile.max_unbound_minutes
    for number in report.unbound_channels(minutes * MINUTE_US):
        name = session.directory.numbers.get(number, str(number))
        note(
            f"warning: in channel '{name}' no position of the key access service binds the newest messages, "
            f"for more than {counted(minutes, 'minute')}: nobody would notice if they were cut off",
            style="yellow",
        )
        note("hint: the service binds them when it runs next: ftf-broker kas run", style="dim")


def _rows(violations: Sequence[Reported], log: Log) -> list[Row]:
    """The rows of the table: each root, followed by its consequences, of each kind the first three."""
    below: dict[Place, list[Reported]] = {}
    for reported in violations:
        if reported.violation.caused_by is not None:
            below.setdefault(reported.violation.caused_by, []).append(reported)
    rows: list[Row] = []
    for reported in violations:
        if reported.violation.caused_by is None:
            rows += [_row(reported, log), *_consequences(below.pop(reported.violation.place, ()), log)]
    # The roots of these are beyond the violations that a report lists.
    for rest in below.values():
        rows += _consequences(rest, log)
    return rows


def _consequences(reported: Iterable[Reported], log: Log) -> list[Row]:
    by_kind: dict[Kind, list[Reported]] = {}
    for entry in reported:
        by_kind.setdefault(entry.violation.kind, []).append(entry)
    rows: list[Row] = []
    for kind, of_kind in by_kind.items():
        rows += [_row(entry, log) for entry in of_kind[:_SHOWN_OF_A_KIND]]
        more = len(of_kind) - _SHOWN_OF_A_KIND
        if more > 0:
            rows.append((f"└ {kind}", "…", f"{more:,}", "more of this kind, listed with --json"))
    return rows


def _row(reported: Reported, log: Log) -> Row:
    violation = reported.violation
    mark = "└ " if violation.caused_by is not None else ""
    known = " (known)" if reported.known else ""
    cause = "" if violation.caused_by is None else f"; caused by {_place(violation.caused_by, log)}"
    return (
        f"{mark}{violation.kind}{known}",
        _place(violation.place, log),
        str(violation.count),
        f"{printable(violation.detail)}{cause}",
    )


def _place(place: Place, log: Log) -> str:
    return f"{physical(log, place.topic)}/{place.partition}@{place.offset}"


def _explain(report: ReplayReport) -> None:
    """Print the meaning of each kind once, and the counts of those that are not listed one by one."""
    for kind in sorted({reported.violation.kind for reported in report.violations}):
        note(f"{kind}: {KINDS[kind]}", style="dim")
    if report.violation_count > len(report.violations):
        listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(report.by_kind.items()))
        note(f"listed the first {len(report.violations):,} of {report.violation_count:,}: {listed}")


def _conclude(report: ReplayReport) -> None:
    if not report.verified:
        # Only listed violations can be counted as roots, because the others are counted by kind alone.
        roots = sum(entry.violation.caused_by is None and not entry.known for entry in report.violations)
        note(
            f"NOT VERIFIED: {counted(report.violation_count, 'violation')}, "
            f"{counted(roots, 'root')}; begin with the first",
            style="bold red",
        )
    elif report.violation_count:
        note(f"verified, but for {counted(report.violation_count, 'known violation')}", style="bold green")
    elif report.counts.opaque:
        note(f"verified, but for {counted(report.counts.opaque, 'message')} under keys that you do not hold")
    else:
        note("verified: nothing was altered, dropped, inserted or reordered", style="bold green")
