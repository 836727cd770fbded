"""``agency``: the agencies that take part, and their keys."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.agency_key import group as key_group
from broker.cli.found.enrolment import ProfileOptions, create, new_profile_options
from broker.cli.found.issue import IssueOptions, issue, issue_options, note_channels_without_keys
from broker.cli.found.lookup import party_named
from broker.cli.found.request import add_options, add_requested, request_options, title_option, write_request
from broker.cli.opening import open_session
from broker.cli.output import print_json, print_pairs, print_table
from broker.clock import system_clock
from broker.directory import drafts
from broker.session import Profile, Role
from broker.show.party_view import channels_of, keys_of, party_json, party_state
from broker.show.text import time_text

__all__ = ["group"]


@click.group("agency")
def group() -> None:
    """Admit, suspend and list agencies, and manage their keys."""


@group.command("init")
@click.argument("name")
@new_profile_options
@title_option
@asynchronous
async def init(name: str, place: ProfileOptions, title: str | None, as_json: bool) -> None:
    """Make the keys, the profile and the request of a new agency in FOLDER.

    NAME is the code of its state or organisation, a colon and an id, for example XAA:police. The keys
    never leave FOLDER. Send the request, a statement file, to the authority: it holds the public keys, and
    the new key has signed it.

    \b
    Example:
      ftf-broker agency init XAA:police police --title "Police of Aldoria" \\
        --like authority/authority.toml --kas local:kas/kas.toml
      ftf-broker agency add police/xaa-police.statement --profile authority/authority.toml
    """
    # Keys and profile are on the disk when create() returns. If the request cannot be written, ``agency
    # request`` writes it later.
    await write_request(create(name, Role.AGENCY, place), title, None, as_json)


@group.command("request")
@request_options
@title_option
@asynchronous
async def request_again(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the request to be admitted once more.

    You need this when the authority refuses the first request because the directory has moved on since.

    \b
    Example:
      ftf-broker agency request --profile police/xaa-police.toml
    """
    await write_request(as_role(profile, Role.AGENCY), title, out, as_json)


@group.command("add")
@add_options
@asynchronous
async def add(file: Path, profile: Profile, options: IssueOptions) -> None:
    """Admit the agency whose request is in FILE. The authority does this.

    \b
    Example:
      ftf-broker agency add police/xaa-police.statement --profile authority/authority.toml
    """
    await add_requested(file, "agency-admitted", profile, options)


@group.command("suspend")
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="The reason. Every participant can read it.")
@profile_option
@issue_options
@asynchronous
async def suspend(name: str, reason: str, profile: Profile, options: IssueOptions) -> None:
    """Suspend an agency. The authority does this.

    A suspended agency can sign nothing and read nothing until it is reinstated.

    \b
    Example:
      ftf-broker agency suspend XBB:police --reason "keys lost" --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        # Called for its error alone: for a misspelt name it lists the names there are. A draft checks
        # nothing.
        party_named(session.directory, name)
        draft = drafts.suspend_agency(session.directory, agency=name, reason=reason, issued_at=system_clock())
        if await issue(session, [draft], options):
            note_channels_without_keys(session, options)


@group.command("reinstate")
@click.argument("name")
@profile_option
@issue_options
@asynchronous
async def reinstate(name: str, profile: Profile, options: IssueOptions) -> None:
    """End the suspension of an agency. The authority does this.

    \b
    Example:
      ftf-broker agency reinstate XBB:police --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.reinstate_agency(session.directory, agency=name, issued_at=system_clock())
        if await issue(session, [draft], options):
            note_channels_without_keys(session, options)


@group.command("list")
@profile_option
@json_option
@asynchronous
async def list_agencies(profile: Profile, as_json: bool) -> None:
    """List the participants: agencies, auditors and services.

    \b
    Example:
      ftf-broker agency list --profile police/xaa-police.toml
    """
    # The directory is an immutable value, so it outlives the session that has read it.
    async with open_session(profile) as session:
        directory = session.directory
    parties = sorted(directory.parties.values(), key=lambda party: (party.kind, party.name))
    if as_json:
        print_json([party_json(directory, party) for party in parties])
        return
    rows = [
        (
            party.name,
            party.title,
            party.kind.lower(),
            party_state(party),
            ", ".join(channels_of(directory, party.name)),
        )
        for party in parties
    ]
    print_table(
        f"{directory.coalition}: who takes part",
        ("name", "title", "kind", "state", "channels"),
        rows,
        empty="nobody yet",
    )


@group.command("show")
@click.argument("name")
@profile_option
@json_option
@asynchronous
async def show(name: str, profile: Profile, as_json: bool) -> None:
    """Show one participant, its channels and its keys.

    \b
    Example:
      ftf-broker agency show XAA:police --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
    party = party_named(directory, name)
    if as_json:
        print_json(party_json(directory, party))
        return
    print_pairs(
        party.name,
        [
            ("name", party.name),
            ("title", party.title),
            ("kind", party.kind.lower()),
            ("state", party_state(party)),
            ("channels", ", ".join(channels_of(directory, name)) or "none"),
        ],
    )
    rows = [
        (key.use.lower(), key.state.lower(), key.key_id.hex(), time_text(key.added_at))
        for key in keys_of(party)
    ]
    print_table("keys", ("use", "state", "key", "added"), rows)


group.add_command(key_group)
