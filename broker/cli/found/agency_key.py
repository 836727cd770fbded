"""``agency key``: keys of an agency or auditor, added, retired, revoked, and replaced when they are lost."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.issue import IssueOptions, issue, issue_options, note_channels_without_keys
from broker.cli.found.lookup import party_named
from broker.cli.found.statement_file import StatementFile
from broker.cli.opening import note_pending_keys, open_session
from broker.cli.output import note, print_json, print_table
from broker.clock import system_clock
from broker.crypto.seal import receiving_key_id
from broker.crypto.sign import SigningKey, signing_key_id
from broker.directory import AUTHORITY, Party, drafts, sign_statement
from broker.errors import NotEntitled
from broker.session import Profile
from broker.session.key_folder import KeyFolder
from broker.session.profile import slug
from broker.show.party_view import keys_json, keys_of, pending_texts
from broker.show.text import time_text
from broker.wire.statements import KeyUse

__all__ = ["group"]

# Eight digits are 32 bits: few enough to type, and too many for a fitting key to turn up by chance.
_MIN_DIGITS = 8
"""Hex digits of a key's id that a command line must give at least."""


@click.group("key")
def group() -> None:
    """List, add, retire, revoke and recover keys of an agency or auditor."""


@group.command("list")
@click.argument("name", required=False)
@profile_option
@json_option
@asynchronous
async def key_list(name: str | None, profile: Profile, as_json: bool) -> None:
    """List the keys of a participant, and say which are pending. Without NAME these are your own.

    A pending key stands in the open for 72 hours before it takes effect. Until then its owner can revoke it.

    \b
    Example:
      ftf-broker agency key list --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
    party = party_named(directory, name or profile.name)
    if as_json:
        print_json(keys_json(party))
        return
    rows = [
        (key.use.lower(), key.state.lower(), key.key_id.hex(), time_text(key.added_at))
        for key in keys_of(party)
    ]
    print_table(f"keys of {party.name}", ("use", "state", "key", "added"), rows, empty="no keys yet")
    if party.name != profile.name:
        for line in pending_texts(party):
            note(line)


_use_option = click.option(
    "--use", type=click.Choice(["signing", "receiving"]), required=True, help="What the key is for."
)


@group.command("add")
@_use_option
@profile_option
@issue_options
@asynchronous
async def key_add(use: str, profile: Profile, options: IssueOptions) -> None:
    """Make a new key in your key store, and add its public half to the directory.

    The key takes effect 72 hours later, so that nobody who has stolen one of your keys can add another
    unseen. If the authority signs as well, it takes effect at once: give --sign-with, or write a file with
    --out.

    \b
    Example:
      ftf-broker agency key add --use signing --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        # A participant that is not admitted yet gets its error here, and not a stored key that nobody asked
        # for.
        party_named(session.directory, profile.name)
        session.signing_keys()  # fails now if the passphrase is wrong: a key must not be stored under it
        kind = KeyUse(use.upper())
        public, proof = _new_key(session.keys, kind)
        draft = drafts.add_key(
            session.directory, party=profile.name, use=kind, public_key=public, issued_at=system_clock()
        )
        if await issue(session, [draft], options, extra_keys=proof) and not options.as_json:
            note_pending_keys(session)


def _new_key(keys: KeyFolder, use: KeyUse) -> tuple[bytes, list[SigningKey]]:
    """Make and store a key; return its public half, and what signs to prove that we hold it.

    A receiving key cannot sign, so nothing proves it.
    """
    if use is KeyUse.SIGNING:
        # The key is stored before anybody hears of it. A key in the directory whose private half was lost
        # could never be used, and would stay there for ever.
        signing = keys.new_signing()
        return signing.public, [signing]
    return keys.new_receiving().public, []


@group.command("retire")
@click.argument("key_id")
@click.option(
    "--successor",
    required=True,
    metavar="KEY",
    help="The key that takes its place. It must have been in force for a day.",
)
@profile_option
@issue_options
@asynchronous
async def key_retire(key_id: str, successor: str, profile: Profile, options: IssueOptions) -> None:
    """Retire one of your keys.

    What it has signed stays valid, and it can sign nothing new. A signing key is retired by itself or by an
    older one that you hold. KEY_ID is the id of the key, or its first 8
    digits or more; ftf-broker agency show lists them.

    \b
    Example:
      ftf-broker agency key retire 3fa9c41b --successor 77c0d2e8 --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, profile.name)
        draft = drafts.retire_key(
            session.directory,
            party=profile.name,
            key_id=_key_named(party, key_id),
            successor=_key_named(party, successor),
            issued_at=system_clock(),
        )
        await issue(session, [draft], options)


@group.command("revoke")
@click.argument("key_id")
@click.option("--of", "name", metavar="NAME", help="The participant whose key it is. Default: you.")
@click.option(
    "--since",
    type=click.IntRange(0),
    metavar="PLACE",
    help="Trust nothing that the key vouched for from this place in the directory on. Default: now.",
)
@profile_option
@issue_options
@asynchronous
async def key_revoke(
    key_id: str, name: str | None, since: int | None, profile: Profile, options: IssueOptions
) -> None:
    """Revoke a key that was lost or stolen.

    Everything falls with it that the key alone has vouched for since PLACE, for example a key that a thief
    added. A key revokes itself and newer keys. An older one falls by the authority, and so does a receiving
    key that is older than all of your signing keys. KEY_ID is the id of the key, or its first 8 digits or
    more; ftf-broker agency key list shows them.

    \b
    Example:
      ftf-broker agency key revoke 3fa9c41b --profile police/xaa-police.toml
      ftf-broker agency key revoke 3fa9c41b --of XAA:police --since 41 --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
        party = party_named(directory, name or profile.name)
        draft = drafts.revoke_key(
            directory,
            party=party.name,
            key_id=_key_named(party, key_id),
            # The present size means from now on: everything that the key vouched for until now stays.
            since=directory.size if since is None else since,
            issued_at=system_clock(),
            by_authority=profile.name == AUTHORITY,
        )
        if await issue(session, [draft], options):
            note_channels_without_keys(session, options)


@group.command("recover")
@_use_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the request. Default: beside the profile.",
)
@profile_option
@json_option
@asynchronous
async def key_recover(use: str, out: Path | None, profile: Profile, as_json: bool) -> None:
    """Make a new key in place of one that is lost, and the request to put it in force.

    Without an old key the agency cannot vouch for the new one, so the authority does. The new key is in force
    72 hours after the directory holds it, so that everybody has time to object. Before you run this, move key
    files that do not open any more out of the key store.

    \b
    Example:
      ftf-broker agency key recover --use signing --profile police/xaa-police.toml
      ftf-broker statement sign police/xaa-police-recovery.statement --profile authority/authority.toml
      ftf-broker statement submit police/xaa-police-recovery.statement --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        party = party_named(session.directory, profile.name)
        keys = session.keys
        # Opening what is left shows a wrong passphrase now, before a key is stored under it.
        if not (keys.signing() or keys.receiving()):
            note(f"'{profile.keys}' holds no other key that opens", style="yellow")
        kind = KeyUse(use.upper())
        public, proof = _new_key(keys, kind)
        draft = drafts.recover_key(
            session.directory, party=party.name, use=kind, public_key=public, issued_at=system_clock()
        )
        # Not through issue(): the statement is the authority's, and of this participant only the new key
        # signs it.
        signed = sign_statement(draft, proof, session.directory.genesis)
    path = out or profile.path.parent / f"{slug(profile.name)}-recovery.statement"
    StatementFile(genesis=profile.genesis, statements=(signed,)).save(path)
    if as_json:
        key_id = signing_key_id(public) if kind is KeyUse.SIGNING else receiving_key_id(public)
        print_json({"request": str(path), "key_id": key_id.hex()})
        return
    note(f"request  {path}")
    note(f"next, by the authority: ftf-broker statement sign {path}", style="dim")
    note("the key is in force 72 hours after that is submitted; see: ftf-broker agency show", style="dim")


def _key_named(party: Party, text: str) -> bytes:
    """Return the id of the one key of this participant whose id begins with these hex digits."""
    # A key id that was copied from a narrow table may end in an ellipsis.
    text = text.lower().rstrip("…")
    # A short beginning could fit a key that somebody made for that purpose.
    found = [key_id for key_id in party.keys if key_id.hex().startswith(text) and len(text) >= _MIN_DIGITS]
    if len(found) != 1:
        raise NotEntitled(
            f"'{text}' names {len(found)} keys" if found else f"'{text}' names no key of '{party.name}'",
            hint=f"give at least {_MIN_DIGITS} digits of its id; see: ftf-broker agency show {party.name}",
        )
    return found[0]
