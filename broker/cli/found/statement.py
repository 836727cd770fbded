"""``statement``: sign and submit statement files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.issuing import append_new, own_keys, sign_as, tell, tell_file
from broker.cli.found.statement_file import Bundle, issuer_of, read_statement
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_table
from broker.errors import UsageError
from broker.session import Profile, Session
from broker.session.submission import judge
from broker.show.statement_text import says

__all__ = ["group"]


@click.group("statement")
def group() -> None:
    """Sign what several keys must sign, and append it.

    Where the keys of an authority or the members of a channel are on several hosts, a command writes
    a statement file instead of appending. Each holder signs it in turn; the last one submits it.
    """


@group.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@json_option
@asynchronous
async def show(file: Path, profile: Profile, as_json: bool) -> None:
    """Show what a statement file says, and what it still lacks.

    \b
    Example:
      ftf-broker statement show agency-suspended-12.statement --profile authority.toml
    """
    bundle = Bundle.load(file)
    async with open_session(profile) as session:
        _check_coalition(bundle, session)
        error = judge(session.directory, bundle.statements)
    if as_json:
        print_json(
            {
                "statements": [
                    {
                        "kind": signed.kind,
                        "issuer": issuer_of(signed),
                        "says": says(read_statement(signed)),
                        "signatures": [one.key_id.hex() for one in signed.signatures],
                    }
                    for signed in bundle.statements
                ],
                "complete": error is None,
                "missing": error.message if error else None,
            }
        )
        return
    rows = [
        (signed.kind, issuer_of(signed), says(read_statement(signed)), str(len(signed.signatures)))
        for signed in bundle.statements
    ]
    print_table(str(file), ("kind", "issuer", "says", "signatures"), rows, right=("signatures",))
    note("complete: it can be submitted" if error is None else f"not complete: {error.message}")


@group.command("sign")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@json_option
@asynchronous
async def sign(file: Path, profile: Profile, as_json: bool) -> None:
    """Add your signatures to a statement file, in place.

    \b
    Example:
      ftf-broker statement sign agency-suspended-12.statement --profile authority.toml
    """
    bundle = Bundle.load(file)
    async with open_session(profile) as session:
        _check_coalition(bundle, session)
        directory, keys = session.directory, own_keys(session)
        ready = tuple(sign_as(directory, signed, profile.name, keys) for signed in bundle.statements)
        added = sum(len(one.signatures) for one in ready) - sum(
            len(one.signatures) for one in bundle.statements
        )
        error = judge(directory, ready)
    if not added:
        raise UsageError(
            f"'{profile.name}' has nothing to sign in '{file}'",
            hint="your keys have signed it already, or have no part in what it says",
        )
    replace(bundle, statements=ready).save(file)
    if as_json:
        print_json({"added": added, "complete": error is None, "missing": error.message if error else None})
        return
    for signed in ready:
        note(f"signed: {issuer_of(signed)} {says(read_statement(signed))}")
    tell_file(file, error, as_json=False)


@group.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@json_option
@asynchronous
async def submit(file: Path, profile: Profile, as_json: bool) -> None:
    """Append a complete statement file to the directory.

    \b
    Example:
      ftf-broker statement submit agency-suspended-12.statement --profile authority.toml
    """
    bundle = Bundle.load(file)
    async with open_session(profile) as session:
        _check_coalition(bundle, session)
        tell(bundle.statements, await append_new(session, bundle.statements), as_json)


def _check_coalition(bundle: Bundle, session: Session) -> None:
    if bundle.genesis != session.profile.genesis:
        raise UsageError(
            f"the statements are of the coalition {bundle.genesis.hex()}",
            hint="the profile is of another coalition; choose the right one with --profile",
        )
