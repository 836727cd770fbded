"""``agency``: who takes part, and with which keys."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.agency_key import group as key_group
from broker.cli.found.enrolment import Where, check_kind, create, request, where_options
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.found.parties import channels_of, party_json, party_named, party_state, tell_epochs
from broker.cli.found.statement_file import Bundle
from broker.cli.opening import open_session
from broker.cli.output import print_json, print_pairs, print_table
from broker.clock import system_clock
from broker.directory import drafts
from broker.session import Profile, Role
from broker.show.text import time_text
from broker.wire import statements as s

__all__ = ["group"]


@click.group("agency")
def group() -> None:
    """Admit, suspend and list agencies; manage keys."""


@group.command("init")
@click.argument("name")
@where_options
@click.option("--title", metavar="TEXT", help="The agency's name for people.")
@asynchronous
async def init(name: str, where: Where, title: str | None, as_json: bool) -> None:
    """Make an agency's keys, profile and request.

    The keys never leave FOLDER. What the authority gets is the statement file: it holds the public
    keys, and is signed by the new one.

    \b
    Example:
      ftf-broker agency init XAA:police police --title "Police of Aldoria" \\
        --like authority/authority.toml --kas local:kas/kas.toml
      ftf-broker agency add police/xaa-police.statement --profile authority/authority.toml
    """
    await request(create(name, Role.AGENCY, where), title, None, as_json)


@group.command("request")
@profile_option
@click.option("--title", metavar="TEXT", help="The agency's name for people.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@json_option
@asynchronous
async def request_again(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the request to be admitted anew.

    Needed when the directory has moved on since the first.

    \b
    Example:
      ftf-broker agency request --profile police/xaa-police.toml
    """
    await request(as_role(profile, Role.AGENCY), title, out, as_json)


@group.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@issuing
@asynchronous
async def add(file: Path, profile: Profile, how: How) -> None:
    """Admit the agency whose request is in FILE.

    \b
    Example:
      ftf-broker agency add police/xaa-police.statement --profile authority/authority.toml
    """
    bundle = check_kind(Bundle.load(file), s.AgencyAdmitted)
    async with open_session(profile) as session:
        await issue(session, bundle.statements, how)


@group.command("suspend")
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for all to see.")
@profile_option
@issuing
@asynchronous
async def suspend(name: str, reason: str, profile: Profile, how: How) -> None:
    """Suspend an agency.

    It signs nothing and reads nothing until it is reinstated.

    \b
    Example:
      ftf-broker agency suspend XBB:police --reason "keys lost" --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.suspend_agency(session.directory, agency=name, reason=reason, issued_at=system_clock())
        if await issue(session, [draft], how):
            tell_epochs(session, how)


@group.command("reinstate")
@click.argument("name")
@profile_option
@issuing
@asynchronous
async def reinstate(name: str, profile: Profile, how: How) -> None:
    """End the suspension of an agency.

    \b
    Example:
      ftf-broker agency reinstate XBB:police --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.reinstate_agency(session.directory, agency=name, issued_at=system_clock())
        if await issue(session, [draft], how):
            tell_epochs(session, how)


@group.command("list")
@profile_option
@json_option
@asynchronous
async def list_agencies(profile: Profile, as_json: bool) -> None:
    """List everybody in the directory.

    \b
    Example:
      ftf-broker agency list --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
    parties = sorted(directory.parties.values(), key=lambda one: (one.kind, one.name))
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
    """Show one participant and its keys.

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
    keys = sorted(party.keys.values(), key=lambda one: (one.use, -one.added_size))
    rows = [(one.use.lower(), one.state.lower(), one.key_id.hex(), time_text(one.added_at)) for one in keys]
    print_table("keys", ("use", "state", "key", "added"), rows)


group.add_command(key_group)
