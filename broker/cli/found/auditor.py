"""``auditor``: who replays the logs, and of which channels."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.enrolment import Where, check_kind, create, request, where_options
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.found.parties import party_named
from broker.cli.found.statement_file import Bundle
from broker.cli.opening import open_session
from broker.clock import system_clock
from broker.directory import drafts
from broker.errors import UsageError
from broker.session import Profile, Role
from broker.wire import statements as s

__all__ = ["group"]


@click.group("auditor")
def group() -> None:
    """Appoint and dismiss auditors.

    An auditor replays the logs and proves them, and reads no record.
    """


@group.command("init")
@click.argument("name")
@where_options
@click.option("--title", metavar="TEXT", help="The auditor's name for people.")
@asynchronous
async def init(name: str, where: Where, title: str | None, as_json: bool) -> None:
    """Make an auditor's keys, profile and request in FOLDER.

    \b
    Example:
      ftf-broker auditor init auditor audit --like authority/authority.toml
      ftf-broker auditor add audit/auditor.statement --profile authority/authority.toml
    """
    await request(create(name, Role.AUDITOR, where), title, None, as_json)


@group.command("request")
@profile_option
@click.option("--title", metavar="TEXT", help="The auditor's name for people.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@json_option
@asynchronous
async def request_again(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the request to be appointed anew.

    Needed when the directory has moved on since the first.

    \b
    Example:
      ftf-broker auditor request --profile audit/auditor.toml
    """
    await request(as_role(profile, Role.AUDITOR), title, out, as_json)


@group.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@issuing
@asynchronous
async def add(file: Path, profile: Profile, how: How) -> None:
    """Appoint the auditor whose request is in FILE.

    Channels name their auditors when they open.

    \b
    Example:
      ftf-broker auditor add audit/auditor.statement --profile authority/authority.toml
    """
    bundle = check_kind(Bundle.load(file), s.AuditorAppointed)
    async with open_session(profile) as session:
        await issue(session, bundle.statements, how)


_channels = click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="Which channel; may be repeated."
)


@group.command("assign")
@click.argument("name")
@_channels
@profile_option
@issuing
@asynchronous
async def assign(name: str, channels: tuple[str, ...], profile: Profile, how: How) -> None:
    """Let an auditor audit channels that are open already.

    \b
    Example:
      ftf-broker auditor assign auditor --channel repatriation --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, name)
        if session.directory.auditor(name) is None:
            raise UsageError(f"'{name}' is no auditor but a {party.kind.lower()}")
        signing, receiving = party.active(s.KeyUse.SIGNING), party.active(s.KeyUse.RECEIVING)
        if not signing or not receiving:
            raise UsageError(f"'{name}' has no active signing and receiving key")
        draft = drafts.appoint_auditor(
            session.directory,
            auditor=name,
            title=party.title,
            signing_key=signing[0].public,
            receiving_key=receiving[0].public,
            channels=channels,
            issued_at=system_clock(),
        )
        await issue(session, [draft], how)


@group.command("dismiss")
@click.argument("name")
@_channels
@profile_option
@issuing
@asynchronous
async def dismiss(name: str, channels: tuple[str, ...], profile: Profile, how: How) -> None:
    """Dismiss an auditor.

    From the channels named, or from all of them and for good.

    \b
    Example:
      ftf-broker auditor dismiss auditor --channel xaa-xbb --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.dismiss_auditor(
            session.directory, auditor=name, channels=channels, issued_at=system_clock()
        )
        await issue(session, [draft], how)
