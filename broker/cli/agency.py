"""``agency``: who takes part, and with which keys."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.output import note, print_json, print_pairs, print_table, time_text
from broker.cli.participant import Where, check_kind, create, request, where_options
from broker.cli.profile import Profile, Role
from broker.cli.session import Session, open_session
from broker.cli.statement import Bundle, How, issue, issuing, now_us
from broker.directory import AUTHORITY, Directory, Party, drafts
from broker.errors import NotEntitled, UsageError
from broker.formats import statements as s

__all__ = ["group", "key_from", "party_named", "party_state"]


@click.group("agency")
def group() -> None:
    """Admit, suspend and list agencies; manage keys."""


@group.command("init")
@click.argument("name")
@where_options
@click.option("--title", metavar="TEXT", help="The agency's name for people.")
@asynchronous
async def init(name: str, where: Where, title: str | None, as_json: bool) -> None:
    """Make an agency's keys and profile in FOLDER, and the request to be admitted.

    The keys never leave FOLDER. What the authority gets is the statement file: it holds the public
    keys, and is signed by the new one.

    \b
    Example:
      ftf-broker agency init XAA:police police --like authority/authority.toml --title "Police of Aldoria"
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
    """Write the request to be admitted anew, since the directory has moved on.

    \b
    Example:
      ftf-broker agency request --profile police/xaa-police.toml
    """
    if profile.role is not Role.AGENCY:
        raise UsageError(f"'{profile.name}' is no agency but a {profile.role}")
    await request(profile, title, out, as_json)


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
    """Suspend an agency: it signs nothing and reads nothing until it is reinstated.

    \b
    Example:
      ftf-broker agency suspend XBB:police --reason "keys lost" --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, name)
        draft = drafts.suspend_agency(session.directory, agency=name, reason=reason, issued_at=now_us())
        await issue(session, [draft], how)
        _tell_epochs(session, how)


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
        draft = drafts.reinstate_agency(session.directory, agency=name, issued_at=now_us())
        await issue(session, [draft], how)
        _tell_epochs(session, how)


def _tell_epochs(session: Session, how: How) -> None:
    """A suspension or a revoked key does not close a channel's epoch: a member must publish the next."""
    waiting = [one.name for one in session.directory.channels.values() if one.is_open and one.needs_new_epoch]
    if waiting and not how.as_json:
        note(f"these channels need new keys: {', '.join(sorted(waiting))}")
        note("next, by a member of each: ftf-broker channel rotate CHANNEL", style="dim")


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
        print_json([_party_json(directory, party) for party in parties])
        return
    rows = [
        (
            party.name,
            party.title,
            party.kind.lower(),
            party_state(party),
            ", ".join(_channels(directory, party.name)),
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
        print_json(_party_json(directory, party))
        return
    print_pairs(
        party.name,
        [
            ("name", party.name),
            ("title", party.title),
            ("kind", party.kind.lower()),
            ("state", party_state(party)),
            ("channels", ", ".join(_channels(directory, name)) or "none"),
        ],
    )
    keys = sorted(party.keys.values(), key=lambda one: (one.use, -one.added_size))
    rows = [(one.use.lower(), one.state.lower(), one.key_id.hex(), time_text(one.added_at)) for one in keys]
    print_table("keys", ("use", "state", "key", "added"), rows)


def party_named(directory: Directory, name: str) -> Party:
    """The party of this name; UsageError that lists whom there is."""
    party = directory.parties.get(name)
    if party is None:
        known = ", ".join(sorted(directory.parties)) or "nobody yet"
        raise UsageError(f"nobody in the directory is called '{name}'", hint=f"there are: {known}")
    return party


def party_state(party: Party) -> str:
    """A word for whether this party may act."""
    if party.suspended:
        return "dismissed" if party.kind == "AUDITOR" else "suspended"
    return "active"


def _channels(directory: Directory, name: str) -> list[str]:
    return sorted(
        channel.name
        for channel in directory.channels.values()
        if channel.is_open and (name in channel.members or name in channel.auditors)
    )


def _party_json(directory: Directory, party: Party) -> dict[str, object]:
    return {
        "name": party.name,
        "title": party.title,
        "kind": party.kind.lower(),
        "state": party_state(party),
        "channels": _channels(directory, party.name),
        "keys": [
            {
                "key_id": key.key_id.hex(),
                "use": key.use.lower(),
                "state": key.state.lower(),
                "added_at": time_text(key.added_at),
                "place": key.added_size,
            }
            for key in sorted(party.keys.values(), key=lambda one: (one.use, -one.added_size))
        ],
    }


# Keys.


@group.group("key")
def key_group() -> None:
    """Add, retire and revoke keys of an agency or auditor."""


_use = click.option(
    "--use", type=click.Choice(["signing", "receiving"]), required=True, help="What the key is for."
)


@key_group.command("add")
@_use
@profile_option
@issuing
@asynchronous
async def key_add(use: str, profile: Profile, how: How) -> None:
    """Make a new key in your key store, and add it to the directory.

    \b
    Example:
      ftf-broker agency key add --use signing --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        party_named(session.directory, profile.name)
        session.signing_keys()  # the passphrase is right before a key is stored under it
        kind = s.KeyUse(use.upper())
        signing = session.keys.new_signing() if kind is s.KeyUse.SIGNING else None
        public = signing.public if signing else session.keys.new_receiving().public
        draft = drafts.add_key(
            session.directory, party=profile.name, use=kind, public_key=public, issued_at=now_us()
        )
        await issue(session, [draft], how, extra_keys=[signing] if signing else [])


@key_group.command("retire")
@click.argument("key_id")
@click.option(
    "--successor", required=True, metavar="KEY", help="The key that takes its place, at least a day old."
)
@profile_option
@issuing
@asynchronous
async def key_retire(key_id: str, successor: str, profile: Profile, how: How) -> None:
    """Retire one of your keys: what it signed stands, and it signs nothing new.

    \b
    Example:
      ftf-broker agency key retire 3fa9… --successor 77c0… --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, profile.name)
        draft = drafts.retire_key(
            session.directory,
            party=profile.name,
            key_id=key_from(party, key_id),
            successor=key_from(party, successor),
            issued_at=now_us(),
        )
        await issue(session, [draft], how)


@key_group.command("revoke")
@click.argument("key_id")
@click.option("--of", "name", metavar="NAME", help="Whose key it is. Default: yours.")
@click.option(
    "--since",
    type=click.IntRange(0),
    metavar="PLACE",
    help="The place in the directory from which on nothing it vouched for is trusted. Default: now.",
)
@profile_option
@issuing
@asynchronous
async def key_revoke(key_id: str, name: str | None, since: int | None, profile: Profile, how: How) -> None:
    """Revoke a key that was lost or stolen, and all that it alone vouched for since.

    \b
    Example:
      ftf-broker agency key revoke 3fa9… --profile police/xaa-police.toml
      ftf-broker agency key revoke 3fa9… --of XAA:police --since 41 --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
        party = party_named(directory, name or profile.name)
        draft = drafts.revoke_key(
            directory,
            party=party.name,
            key_id=key_from(party, key_id),
            since=directory.size if since is None else since,
            issued_at=now_us(),
            by_authority=profile.name == AUTHORITY,
        )
        await issue(session, [draft], how)
        _tell_epochs(session, how)


def key_from(party: Party, text: str) -> bytes:
    """The id of the party's key that begins with these hex digits; at least 8 of them, and only one key."""
    text = text.lower().rstrip("…")
    found = [key_id for key_id in party.keys if key_id.hex().startswith(text)] if len(text) >= 8 else []
    if len(found) != 1:
        raise NotEntitled(
            f"'{text}' names no key of '{party.name}'" if not found else f"'{text}' names {len(found)} keys",
            hint=f"give at least 8 digits of its id; ftf-broker agency show {party.name} lists them",
        )
    return found[0]
