"""``authority``: the keys that k of n holders sign with together, shown and replaced."""

from __future__ import annotations

from collections.abc import Sequence

import click

from broker.cli.context import as_role, asynchronous, json_option, profile_option
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_line, print_table
from broker.clock import system_clock
from broker.crypto.sign import signing_key_id
from broker.directory import drafts
from broker.errors import UsageError
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
    """Show the authority's keys, and how many sign together.

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
    """Make a new authority key in this key store, and print its public half.

    It counts once a rotation names it: see authority rotate.

    \b
    Example:
      ftf-broker authority key --profile authority.toml
    """
    async with open_session(as_role(profile, Role.AUTHORITY)) as session:
        session.signing_keys()  # the passphrase is right before a key is stored under it
        print_line(session.keys.new_signing("authority").public.hex())


@group.command("rotate")
@click.option(
    "--new",
    "new",
    type=click.IntRange(0, 32),
    default=0,
    show_default=True,
    help="How many keys to make in this key store.",
)
@click.option(
    "--key",
    "publics",
    multiple=True,
    metavar="HEX",
    help="The public half of a key that another holder made, or of one that stays; may be repeated.",
)
@click.option(
    "--threshold", type=click.IntRange(1, 32), required=True, help="How many sign together: a majority."
)
@profile_option
@issuing
@asynchronous
async def rotate(new: int, publics: tuple[str, ...], threshold: int, profile: Profile, how: How) -> None:
    """Replace the authority's keys.

    The old keys sign, as many as were needed so far, and every key of the new set. Where the holders sit
    on several hosts, each makes its key there (authority key), one drafts the rotation, and the statement
    file goes round: each signs it (statement sign), the last one submits it.

    \b
    Example:
      ftf-broker authority rotate --new 3 --threshold 2 --profile authority/authority.toml
      ftf-broker authority rotate --key 8f… --key 02… --key c1… --threshold 2 --out r.statement
    """
    count = new + len(publics)
    if not count < 2 * threshold <= 2 * count:
        raise UsageError(
            f"--threshold {threshold} of {count} keys, expected a majority of them",
            hint=f"name every key of the new set; for {count} say --threshold {count // 2 + 1} or more",
        )
    named = [_public(text) for text in publics]
    async with open_session(as_role(profile, Role.AUTHORITY)) as session:
        session.signing_keys()  # the passphrase is right before a key is stored under it
        made = [session.keys.new_signing("authority") for _ in range(new)]
        draft = drafts.rotate_authority(
            session.directory,
            authority_keys=[*named, *(one.public for one in made)],
            threshold=threshold,
            issued_at=system_clock(),
        )
        places = await issue(session, [draft], how)
        if places and not how.as_json:
            _say_old(session, [*named, *(one.public for one in made)])


def _say_old(session: Session, publics: Sequence[bytes]) -> None:
    held = {one.public for one in session.keys.signing("authority")}
    note(f"of the new keys {len(held & set(publics))} of {len(publics)} are in {session.profile.keys}")
    note("old key files sign nothing any more and may be removed", style="dim")


def _public(text: str) -> bytes:
    hint = "ftf-broker authority key prints a new one, authority show those in force"
    return bytes_of(text, 32, "--key", hint=hint)
