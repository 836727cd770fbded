"""``agency key``: keys added, retired and revoked."""

from __future__ import annotations

import click

from broker.cli.context import asynchronous, profile_option
from broker.cli.issuing import How, issue, issuing
from broker.cli.opening import open_session
from broker.cli.parties import party_named, tell_epochs
from broker.directory import AUTHORITY, Party, drafts
from broker.errors import NotEntitled
from broker.formats import statements as s
from broker.participant.clock import system_clock
from broker.session import Profile

__all__ = ["group"]


@click.group("key")
def group() -> None:
    """Add, retire and revoke keys of an agency or auditor."""


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
