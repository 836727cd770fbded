"""``kas``: the key access service's keys, its announcements, and its run."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.enrolment import Where, check_kind, create, request, where_options
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.found.statement_file import Bundle
from broker.cli.opening import open_service, open_session
from broker.cli.output import note, print_json, print_table
from broker.errors import OutcomeUnknown
from broker.log.outage import Outage, outlasting
from broker.logger import get_logger
from broker.services.kas.local import announce_intake, confirm_epochs, missing_intake, open_journal
from broker.services.kas.service import KeyAccessService
from broker.session import Profile, Role, Session
from broker.show.channel_view import channel_named
from broker.show.text import day_text, time_text
from broker.wire import statements as s

__all__ = ["group"]

_KEYS_PAUSE_S = 2.0

_log = get_logger("broker.cli")


@click.group("kas")
def group() -> None:
    """Run the key access service.

    It logs each access before it releases what opens a record.
    """


@group.command("init")
@click.argument("name")
@where_options
@asynchronous
async def init(name: str, where: Where, as_json: bool) -> None:
    """Make the service's keys, profile and request in FOLDER.

    \b
    Example:
      ftf-broker kas init kas service --like authority/authority.toml
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
      ftf-broker kas announce --profile service/kas.toml
    """
    await request(create(name, Role.KAS, where), None, None, as_json)


@group.command("request")
@profile_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@json_option
@asynchronous
async def request_again(profile: Profile, out: Path | None, as_json: bool) -> None:
    """Write the request to be announced anew.

    Needed when the directory has moved on since the first.

    \b
    Example:
      ftf-broker kas request --profile service/kas.toml
    """
    await request(as_role(profile, Role.KAS), None, out, as_json)


@group.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@issuing
@asynchronous
async def add(file: Path, profile: Profile, how: How) -> None:
    """Announce the service whose request is in FILE.

    \b
    Example:
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
    """
    bundle = check_kind(Bundle.load(file), s.ServiceKeyAnnounced)
    async with open_session(profile) as session:
        await issue(session, bundle.statements, how)


@group.command("announce")
@profile_option
@json_option
@asynchronous
async def announce(profile: Profile, as_json: bool) -> None:
    """Announce intake keys and confirm channel keys.

    Intake keys are announced for the next 14 days.

    A publisher seals what opens a record to the intake key of its day: without one it cannot publish.

    \b
    Example:
      ftf-broker kas announce --profile service/kas.toml
    """
    async with open_session(as_role(profile, Role.KAS)) as session:
        days = await announce_intake(session)
        epochs = await confirm_epochs(session)
    if as_json:
        confirmed = [{"channel": channel, "epoch": epoch} for channel, epoch in epochs]
        print_json({"announced": [day_text(day) for day in days], "confirmed": confirmed})
        return
    span = f"{day_text(days[0])} to {day_text(days[-1])}" if days else "none was missing"
    note(f"intake keys announced: {span}")
    for channel, epoch in epochs:
        note(f"confirmed: epoch {epoch} of {channel}")


@group.command("run")
@click.option("--once", is_flag=True, help="Take over what is there, then end.")
@profile_option
@asynchronous
async def run(once: bool, profile: Profile) -> int:
    """Follow all channels until Ctrl-C.

    Takes over what is published, confirms new channel keys and announces intake keys. Say -v before
    the command to see each step. While the log is away it waits, and says so on stderr.

    \b
    Example:
      ftf-broker kas run --profile service/kas.toml
      ftf-broker -v kas run --once --profile service/kas.toml
    """
    async with open_service(as_role(profile, Role.KAS)) as (session, service):
        outage = None if once else Outage(service=profile.name)
        await outlasting(outage, service.collect)
        _tell_alarms(service)
        if once:
            return 1 if service.alarms else 0
        note(f"'{profile.name}' follows every channel; Ctrl-C ends it", style="dim")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(), name="kas follow")
            tasks.create_task(_keep_keys(session), name="kas keys")
    return 0


@group.command("alarms")
@click.option(
    "--acknowledge", metavar="CHANNEL", help="You have looked into it: releasing goes on in this channel."
)
@profile_option
@json_option
@asynchronous
async def alarms(acknowledge: str | None, profile: Profile, as_json: bool) -> int:
    """List the alarms.

    An alarm is raised when the log lacks what the service has written. What was lost is appended again,
    and releasing stays stopped in the channel until somebody has looked into it. Another is an intake key
    that is announced and not in the key store: what is sealed to it cannot be taken over until the key is
    back. Exit 1 while one is open.

    \b
    Example:
      ftf-broker kas alarms --profile service/kas.toml
      ftf-broker kas alarms --acknowledge repatriation --profile service/kas.toml
    """
    async with open_session(as_role(profile, Role.KAS)) as session:
        directory = session.directory
        missing = missing_intake(session)
    with open_journal(profile) as journal:
        if acknowledge is not None:
            journal.acknowledge(channel_named(directory, acknowledge).number)
        found = journal.alarms()
    names = {one.partition: directory.numbers.get(one.partition, "?") for one in found}
    if as_json:
        print_json(
            [
                {
                    "channel": names[one.partition],
                    "partition": one.partition,
                    "detail": one.detail,
                    "raised_at": time_text(one.raised_at),
                }
                for one in found
            ]
            + [
                {"channel": None, "partition": None, "detail": _intake_words(day), "raised_at": None}
                for day in missing
            ]
        )
    else:
        rows = [(names[one.partition], time_text(one.raised_at), one.detail) for one in found]
        rows += [("all", "", _intake_words(day)) for day in missing]
        print_table("alarms", ("channel", "raised", "why"), rows, empty="no alarm is open")
    return 1 if found or missing else 0


def _intake_words(day: int) -> str:
    return f"the intake key of {day_text(day)} is announced, and not in the key store"


def _tell_alarms(service: KeyAccessService) -> None:
    for alarm in service.alarms:
        note(f"alarm: {alarm}", style="bold red")


async def _keep_keys(session: Session) -> None:
    """Confirm new channel keys and announce intake keys, for as long as the service runs."""
    outage = Outage(service=session.profile.name)
    while True:
        await asyncio.sleep(_KEYS_PAUSE_S)
        try:
            await outage.outlast(partial(_say_keys, session))
        except OutcomeUnknown as error:
            # The next round reads whether the statement is in the directory, and says it again if it is not.
            _log.warning("keys not announced", error=error.message)


async def _say_keys(session: Session) -> None:
    await session.follower.refresh()
    await announce_intake(session)
    await confirm_epochs(session)
