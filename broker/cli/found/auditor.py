"""``auditor``: the auditors, who replay the logs, and the channels that each of them audits."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, profile_option
from broker.cli.found.enrolment import ProfileOptions, create, new_profile_options
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.found.lookup import party_named
from broker.cli.found.request import add_options, add_requested, request_options, title_option, write_request
from broker.cli.opening import open_session
from broker.clock import system_clock
from broker.directory import drafts
from broker.errors import UsageError
from broker.session import Profile, Role
from broker.wire.statements import KeyUse

__all__ = ["group"]


@click.group("auditor")
def group() -> None:
    """Appoint and dismiss auditors.

    An auditor replays the logs and proves that they are whole. It can read no record.
    """


@group.command("init")
@click.argument("name")
@new_profile_options
@title_option
@asynchronous
async def init(name: str, place: ProfileOptions, title: str | None, as_json: bool) -> None:
    """Make the keys, the profile and the request of a new auditor in FOLDER.

    NAME is small letters, digits and hyphens. Send the request, a statement file, to the authority.

    \b
    Example:
      ftf-broker auditor init auditor audit --like authority/authority.toml
      ftf-broker auditor add audit/auditor.statement --profile authority/authority.toml
    """
    await write_request(create(name, Role.AUDITOR, place), title, None, as_json)


@group.command("request")
@request_options
@title_option
@asynchronous
async def request_again(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the request to be appointed once more.

    You need this when the authority refuses the first request because the directory has moved on since.

    \b
    Example:
      ftf-broker auditor request --profile audit/auditor.toml
    """
    await write_request(as_role(profile, Role.AUDITOR), title, out, as_json)


@group.command("add")
@add_options
@asynchronous
async def add(file: Path, profile: Profile, options: IssueOptions) -> None:
    """Appoint the auditor whose request is in FILE. The authority does this.

    Channels that open later name the auditor by themselves. For channels that are open already, use
    ftf-broker auditor assign.

    \b
    Example:
      ftf-broker auditor add audit/auditor.statement --profile authority/authority.toml
    """
    await add_requested(file, "auditor-appointed", profile, options)


_channel_option = click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="The channel; may be repeated."
)


@group.command("assign")
@click.argument("name")
@_channel_option
@profile_option
@issue_options
@asynchronous
async def assign(name: str, channels: tuple[str, ...], profile: Profile, options: IssueOptions) -> None:
    """Let an auditor audit channels that are open already. The authority does this.

    \b
    Example:
      ftf-broker auditor assign auditor --channel repatriation --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, name)
        if session.directory.auditor(name) is None:
            raise UsageError(f"'{name}' has the role '{party.kind.lower()}', expected an auditor")
        signing = party.active(KeyUse.SIGNING)
        receiving = party.active(KeyUse.RECEIVING)
        if not signing or not receiving:
            raise UsageError(f"'{name}' has no active signing and receiving key")
        # The statement must name keys that the auditor has already; the directory refuses new ones here.
        # Without --channel it names no channel, and only ends a dismissal.
        draft = drafts.appoint_auditor(
            session.directory,
            auditor=name,
            title=party.title,
            signing_key=signing[0].public,
            receiving_key=receiving[0].public,
            channels=channels,
            issued_at=system_clock(),
        )
        await issue(session, [draft], options)


@group.command("dismiss")
@click.argument("name")
@_channel_option
@profile_option
@issue_options
@asynchronous
async def dismiss(name: str, channels: tuple[str, ...], profile: Profile, options: IssueOptions) -> None:
    """Dismiss an auditor. The authority does this.

    With --channel the auditor no longer audits these channels. Without it the auditor is dismissed from all
    channels and for good.

    \b
    Example:
      ftf-broker auditor dismiss auditor --channel xaa-xbb --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.dismiss_auditor(
            session.directory, auditor=name, channels=channels, issued_at=system_clock()
        )
        await issue(session, [draft], options)
