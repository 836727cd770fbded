"""``authority``: the authority's keys, of which several must sign together, shown and replaced."""

from __future__ import annotations

from collections.abc import Sequence

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.init import check_majority
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_line, print_table
from broker.clock import system_clock
from broker.crypto.sign import signing_key_id
from broker.directory import drafts
from broker.session import Profile, Role, Session
from broker.session.profile import bytes_of

__all__ = ["group"]


@click.group("authority")
def group() -> None:
    """Show and replace the authority's keys."""


@group.command("show")
@profile_option
@json_option
@asynchronous
async def show(profile: Profile, as_json: bool) -> None:
    """Show the authority's keys, and how many of them must sign together.

    \b
    Example:
      ftf-broker authority show --profile audit/auditor.toml
    """
    async with open_session(profile) as session:
        authority = session.directory.authority
    keys = [(signing_key_id(public).hex(), public.hex()) for public in authority.keys]
    if as_json:
        listed = [{"key_id": key_id, "public": public} for key_id, public in keys]
        print_json({"threshold": authority.threshold, "keys": listed})
        return
    print_table("authority", ("key", "public"), keys)
    note(f"{authority.threshold} of {len(keys)} sign together")


@group.command("key")
@profile_option
@asynchronous
async def key(profile: Profile) -> None:
    """Make a new authority key in your key store, and print its public half.

    The key counts as soon as a rotation names it: see ftf-broker authority rotate.

    \b
    Example:
      ftf-broker authority key --profile authority.toml
    """
    async with open_session(as_role(profile, Role.AUTHORITY)) as session:
        session.signing_keys()  # fails now if the passphrase is wrong: a key must not be stored under it
        print_line(session.keys.new_signing("authority").public.hex())


@group.command("rotate")
@click.option(
    "--new",
    "new",
    type=click.IntRange(0, 32),
    default=0,
    show_default=True,
    help="How many keys to make in your key store.",
)
@click.option(
    "--key",
    "publics",
    multiple=True,
    metavar="HEX",
    help="The public half of a key that another holder made, or of an old key that stays; may be repeated.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, 32),
    required=True,
    help="How many keys must sign together: a majority.",
)
@profile_option
@issue_options
@asynchronous
async def rotate(
    new: int, publics: tuple[str, ...], threshold: int, profile: Profile, options: IssueOptions
) -> None:
    """Replace the authority's keys by a new set.

    As many of the old keys must sign as were needed so far, and every key of the new set. When the holders
    are on several hosts, each makes its key there (ftf-broker authority key), one of them drafts the
    rotation with --out, each signs the statement file (ftf-broker statement sign), and the last one submits
    it (ftf-broker statement submit).

    \b
    Example:
      ftf-broker authority rotate --new 3 --threshold 2 --profile authority/authority.toml
      ftf-broker authority rotate --key 8f… --key 02… --key c1… --threshold 2 --out r.statement
    """
    # Checked before the log is opened and before a key is made: a mistake in the options leaves nothing
    # behind.
    check_majority(threshold, new + len(publics), hint="name every key of the new set with --new and --key")
    named = [_public(text) for text in publics]
    async with open_session(as_role(profile, Role.AUTHORITY)) as session:
        session.signing_keys()  # fails now if the passphrase is wrong: a key must not be stored under it
        # The new keys are stored before the rotation is signed, so that no rotation can name a lost key. If
        # it never comes to count, they stay in the key store unused.
        made = [session.keys.new_signing("authority").public for _ in range(new)]
        draft = drafts.rotate_authority(
            session.directory,
            authority_keys=[*named, *made],
            threshold=threshold,
            issued_at=system_clock(),
        )
        places = await issue(session, [draft], options)
        if places and not options.as_json:
            _note_held(session, [*named, *made])


def _note_held(session: Session, publics: Sequence[bytes]) -> None:
    # With several holders, most of the new keys lie in other key stores. The count tells each holder whether
    # its own are there.
    held = {key.public for key in session.keys.signing("authority")}
    note(f"of the new keys {len(held & set(publics))} of {len(publics)} are in {session.profile.keys}")
    note("the old keys sign nothing any more; you may remove their files", style="dim")


def _public(text: str) -> bytes:
    hint = "ftf-broker authority key prints that of a new key, ftf-broker authority show those in force"
    return bytes_of(text, 32, "--key", hint=hint)
