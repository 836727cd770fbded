"""``kas``: the keys, the announcements, the run and the alarms of the key access service."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.enrolment import ProfileOptions, create, new_profile_options
from broker.cli.found.issue import IssueOptions
from broker.cli.found.lookup import channel_named
from broker.cli.found.request import add_options, add_requested, request_options, write_request
from broker.cli.opening import open_service, open_session
from broker.cli.output import note, print_json, print_table
from broker.errors import OutcomeUnknown
from broker.log.outage import Outage, outlasting
from broker.logger import get_logger
from broker.services.kas.local import (
    announce_intake,
    confirm_epochs,
    keep_clock,
    missing_intake,
    open_journal,
    unannounced_intake,
)
from broker.services.kas.service import KeyAccessService
from broker.session import Profile, Role, Session
from broker.show.text import day_text, time_text

__all__ = ["group"]

# A member that has published new keys waits for this: it cannot use them before the service confirms them.
_KEYS_PAUSE_S = 2.0
"""Seconds between two looks at the directory while the service runs."""

_log = get_logger("broker.cli")


@click.group("kas")
def group() -> None:
    """Run the key access service.

    The service logs each access before it releases its share of the key that opens the record.
    """


@group.command("init")
@click.argument("name")
@new_profile_options
@asynchronous
async def init(name: str, place: ProfileOptions, as_json: bool) -> None:
    """Make the keys, the profile and the request of a new key access service in FOLDER.

    NAME is small letters, digits and hyphens. Send the request, a statement file, to the authority. When
    it has added the service, announce the first intake keys.

    \b
    Example:
      ftf-broker kas init kas service --like authority/authority.toml
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
      ftf-broker kas announce --profile service/kas.toml
    """
    await write_request(create(name, Role.KAS, place), None, None, as_json)


@group.command("request")
@request_options
@asynchronous
async def request_again(profile: Profile, out: Path | None, as_json: bool) -> None:
    """Write the request to be announced once more.

    You need this when the authority refuses the first request because the directory has moved on since.

    \b
    Example:
      ftf-broker kas request --profile service/kas.toml
    """
    await write_request(as_role(profile, Role.KAS), None, out, as_json)


@group.command("add")
@add_options
@asynchronous
async def add(file: Path, profile: Profile, options: IssueOptions) -> None:
    """Announce the service whose request is in FILE. The authority does this.

    \b
    Example:
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
    """
    await add_requested(file, "service-key-announced", profile, options)


@group.command("announce")
@profile_option
@json_option
@asynchronous
async def announce(profile: Profile, as_json: bool) -> int:
    """Announce intake keys for the next 14 days, and confirm new channel keys.

    A publisher seals the service's share of a record's key to the intake key of the day. Without such a
    key it cannot publish. If anything waits for time to pass, such as a new key that is pending for 72
    hours, the service tells the directory the time as well. ftf-broker kas run does all of this by itself.
    The exit code is 1 where a day has no intake key yet.

    \b
    Example:
      ftf-broker kas announce --profile service/kas.toml
    """
    async with open_session(as_role(profile, Role.KAS)) as session:
        # Intake keys come first: without one nobody can publish, with or without new channel keys.
        days = await announce_intake(session)
        epochs = await confirm_epochs(session)
        await keep_clock(session)
        missing = unannounced_intake(session)
    if as_json:
        confirmed = [{"channel": channel, "epoch": epoch} for channel, epoch in epochs]
        announced = [day_text(day) for day in days]
        still = [day_text(day) for day in missing]
        print_json({"announced": announced, "missing": still, "confirmed": confirmed})
        return 1 if missing else 0
    span = f"{day_text(days[0])} to {day_text(days[-1])}" if days else "none"
    note(f"intake keys announced: {span}" if days or missing else "intake keys announced: none was missing")
    for day in missing:
        note(f"the intake key of {day_text(day)} is not announced", style="yellow")
    for channel, epoch in epochs:
        note(f"confirmed: epoch {epoch} of {channel}")
    return 1 if missing else 0


@group.command("run")
@click.option("--once", is_flag=True, help="Take over everything that is there now, and end.")
@profile_option
@asynchronous
async def run(once: bool, profile: Profile) -> int:
    """Follow all channels until Ctrl-C.

    The service takes over every batch that is published, confirms new channel keys, announces intake keys,
    and tells the directory the time at most hourly while anything waits for it. Write -v before the command
    to see each step. While the log cannot be reached, the service waits and says so on stderr. With --once
    it does not wait, and the exit code is 1 while an alarm is open.

    \b
    Example:
      ftf-broker kas run --profile service/kas.toml
      ftf-broker -v kas run --once --profile service/kas.toml
    """
    async with open_service(as_role(profile, Role.KAS)) as (session, service):
        outage = None if once else Outage(service=profile.name)
        # Everything that waits is taken over before the service says that it follows: a script that waits for
        # that line finds every earlier batch taken over.
        await outlasting(outage, service.collect)
        _note_alarms(service)
        if once:
            return 1 if service.alarms else 0
        note(f"'{profile.name}' follows every channel; Ctrl-C ends it", style="dim")
        # If one task fails, the other is cancelled: a service must not look alive and do half of its work.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(), name="kas follow")
            tasks.create_task(_keep_keys(session), name="kas keys")
    return 0


@group.command("alarms")
@click.option(
    "--acknowledge",
    metavar="CHANNEL",
    help="Say that you have looked into the alarm: the service then releases again in this channel.",
)
@profile_option
@json_option
@asynchronous
async def alarms(acknowledge: str | None, profile: Profile, as_json: bool) -> int:
    """List the alarms that are open.

    The service raises an alarm when the log lacks messages that the service has written. It appends them
    again, and it releases nothing more in the channel until somebody has looked into the alarm and
    acknowledged it.

    An intake key that is announced but missing from the key store is an alarm too: the service cannot take
    over what is sealed to that key. This alarm ends when the key is back. The exit code is 1 while an alarm
    is open.

    \b
    Example:
      ftf-broker kas alarms --profile service/kas.toml
      ftf-broker kas alarms --acknowledge repatriation --profile service/kas.toml
    """
    async with open_session(as_role(profile, Role.KAS)) as session:
        directory = session.directory
        missing_days = missing_intake(session)
    with open_journal(profile) as journal:
        # First acknowledge, then list: the exit code tells what is open afterwards.
        if acknowledge is not None:
            journal.acknowledge(channel_named(directory, acknowledge).number)
        raised = journal.alarms()
    names = {alarm.partition: directory.numbers.get(alarm.partition, "?") for alarm in raised}
    if as_json:
        print_json(
            [
                {
                    "channel": names[alarm.partition],
                    "partition": alarm.partition,
                    "detail": alarm.detail,
                    "raised_at": time_text(alarm.raised_at),
                }
                for alarm in raised
            ]
            + [
                {"channel": None, "partition": None, "detail": _missing_text(day), "raised_at": None}
                for day in missing_days
            ]
        )
    else:
        rows = [(names[alarm.partition], time_text(alarm.raised_at), alarm.detail) for alarm in raised]
        rows += [("all", "", _missing_text(day)) for day in missing_days]
        print_table("alarms", ("channel", "raised", "why"), rows, empty="no alarm is open")
    return 1 if raised or missing_days else 0


def _missing_text(day: int) -> str:
    return f"the intake key of {day_text(day)} is announced, and not in the key store"


def _note_alarms(service: KeyAccessService) -> None:
    for alarm in service.alarms:
        note(f"alarm: {alarm}", style="bold red")


async def _keep_keys(session: Session) -> None:
    """Confirm new channel keys, announce intake keys and tell the time, for as long as the service runs."""
    outage = Outage(service=session.profile.name)
    while True:
        # The pause comes first: open_service() has just announced and confirmed everything.
        await asyncio.sleep(_KEYS_PAUSE_S)
        try:
            await outage.outlast(partial(_announce_and_confirm, session))
        except OutcomeUnknown as error:
            # The next round sees whether the statement is in the directory, and makes it again if it is not.
            _log.warning("keys not announced", error=error.message)


async def _announce_and_confirm(session: Session) -> None:
    # The calls below act by the directory that is read here, and must see the newest keys of each channel.
    await session.follower.refresh()
    await announce_intake(session)
    await confirm_epochs(session)
    await keep_clock(session)
