"""``agency key``: keys added, retired, revoked, and replaced where they are lost."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.found.parties import party_named, tell_epochs
from broker.cli.found.statement_file import Bundle
from broker.cli.opening import open_session
from broker.cli.output import note, print_json
from broker.clock import system_clock
from broker.crypto.seal import receiving_key_id
from broker.crypto.sign import signing_key_id
from broker.directory import AUTHORITY, Party, drafts, sign_statement
from broker.errors import NotEntitled
from broker.session import Profile
from broker.session.profile import slug
from broker.wire import statements as s

__all__ = ["group"]


@click.group("key")
def group() -> None:
    """Add, retire, revoke and recover keys of an agency or auditor."""


_use = click.option(
    "--use", type=click.Choice(["signing", "receiving"]), required=True, help="What the key is for."
)


@group.command("add")
@_use
@profile_option
@issuing
@asynchronous
async def key_add(use: str, profile: Profile, how: How) -> None:
    """Make a new key and add it to the directory.

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
            session.directory, party=profile.name, use=kind, public_key=public, issued_at=system_clock()
        )
        await issue(session, [draft], how, extra_keys=[signing] if signing else [])


@group.command("retire")
@click.argument("key_id")
@click.option(
    "--successor", required=True, metavar="KEY", help="The key that takes its place, at least a day old."
)
@profile_option
@issuing
@asynchronous
async def key_retire(key_id: str, successor: str, profile: Profile, how: How) -> None:
    """Retire one of your keys.

    What it signed stands, and it signs nothing new.

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
            issued_at=system_clock(),
        )
        await issue(session, [draft], how)


@group.command("revoke")
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
    """Revoke a key that was lost or stolen.

    With it falls all that it alone vouched for since.

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
            issued_at=system_clock(),
            by_authority=profile.name == AUTHORITY,
        )
        if await issue(session, [draft], how):
            tell_epochs(session, how)


@group.command("recover")
@_use
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@profile_option
@json_option
@asynchronous
async def key_recover(use: str, out: Path | None, profile: Profile, as_json: bool) -> None:
    """Make a new key where the old one is lost, and the request to put it in force.

    Without an old key the agency cannot vouch for a new one: the authority does, and the key is in force
    72 hours after that stands in the directory, so that everybody has time to object. Key files that do
    not open any more must be moved out of the key store before.

    
    Example:
      ftf-broker agency key recover --use signing --profile police/xaa-police.toml
      ftf-broker statement sign police/xaa-police-recovery.statement --profile authority/authority.toml
      ftf-broker statement submit police/xaa-police-recovery.statement --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, profile.name)
        kind, keys = s.KeyUse(use.upper()), session.keys
        if not (keys.signing() or keys.receiving()):  # which open, so that the passphrase is right
            note(f"'{profile.keys}' holds no other key that opens", style="yellow")
        signing = keys.new_signing() if kind is s.KeyUse.SIGNING else None
        public = signing.public if signing else keys.new_receiving().public
        draft = drafts.recover_key(
            session.directory, party=party.name, use=kind, public_key=public, issued_at=system_clock()
        )
        signed = sign_statement(draft, [signing] if signing else [], session.directory.genesis)
    path = out or profile.path.parent / f"{slug(profile.name)}-recovery.statement"
    Bundle(genesis=profile.genesis, statements=(signed,)).save(path)
    if as_json:
        key_id = signing_key_id(public) if signing else receiving_key_id(public)
        print_json({"request": str(path), "key_id": key_id.hex()})
        return
    note(f"request  {path}")
    note(f"next, by the authority: ftf-broker statement sign {path}", style="dim")
    note("in force 72 hours after it is submitted; look with: ftf-broker agency show", style="dim")


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
