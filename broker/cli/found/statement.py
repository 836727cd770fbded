"""``statement``: statement files, which several holders of keys sign one after the other."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.issue import append_new, own_keys, print_appended, print_file_written, sign_as
from broker.cli.found.statement_file import StatementFile, described, issuer_of, read_statement
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_line, print_pairs, print_table
from broker.errors import UsageError
from broker.session import Profile, Session
from broker.session.submission import judge
from broker.show.statement_fields import statement_fields
from broker.show.statement_text import statement_text
from broker.show.text import counted

__all__ = ["group"]

T = TypeVar("T")


@click.group("statement")
def group() -> None:
    """Sign statements that need several keys, and append them.

    When the keys of the authority, or the members of a channel, are on several hosts, a command writes a
    statement file instead of appending. Each holder signs the file in turn, and the last one submits it.
    """


def _file_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command FILE, ``--profile`` and ``--json``."""
    return click.argument("file", type=click.Path(path_type=Path))(profile_option(json_option(command)))


@asynccontextmanager
async def _opened(file: Path, profile: Profile) -> AsyncIterator[tuple[StatementFile, Session]]:
    """Open a statement file and the profile's session, which must be of the same coalition."""
    statement_file = StatementFile.load(file)
    async with open_session(profile) as session:
        # A signature covers the genesis. Signed for another coalition, the statement would be worthless here.
        if statement_file.genesis != profile.genesis:
            raise UsageError(
                f"'{file}' is of the coalition {statement_file.genesis.hex()}, "
                f"expected {profile.genesis.hex()}",
                hint="the profile is of another coalition; choose the right one with --profile",
            )
        yield statement_file, session


@group.command("show")
@_file_options
@asynchronous
async def show(file: Path, profile: Profile, as_json: bool) -> None:
    """Show what a statement file says, and which signatures it still lacks.

    \b
    Example:
      ftf-broker statement show agency-suspended-12.statement --profile authority.toml
    """
    async with _opened(file, profile) as (statement_file, session):
        # "Complete" means that the statements would count now. Another statement of the authority may change
        # that.
        error = judge(session.directory, statement_file.statements)
    if as_json:
        print_json(
            {
                "statements": [
                    {
                        "kind": signed.kind,
                        "issuer": issuer_of(signed),
                        "says": statement_text(read_statement(signed)),
                        "fields": dict(statement_fields(read_statement(signed))),
                        "signatures": [signature.key_id.hex() for signature in signed.signatures],
                    }
                    for signed in statement_file.statements
                ],
                "complete": error is None,
                "missing": error.message if error else None,
            }
        )
        return
    rows = [
        (signed.kind, issuer_of(signed), statement_text(read_statement(signed)), str(len(signed.signatures)))
        for signed in statement_file.statements
    ]
    print_table(str(file), ("kind", "issuer", "says", "signatures"), rows, right=("signatures",))
    for number, signed in enumerate(statement_file.statements, start=1):
        print_line("")
        print_pairs(f"statement {number}", statement_fields(read_statement(signed)))
    note("complete: it can be submitted" if error is None else f"not complete: {error.message}")


@group.command("sign")
@click.option("--yes", is_flag=True, help="Sign without being asked: you have looked at what the file says.")
@_file_options
@asynchronous
async def sign(file: Path, profile: Profile, as_json: bool, yes: bool) -> None:
    """Add your signatures to a statement file, in place.

    Every field of each statement is shown first, and you are asked whether you sign it. Without a terminal
    nobody can be asked, and --yes is needed.

    \b
    Example:
      ftf-broker statement sign agency-suspended-12.statement --profile authority.toml
    """
    async with _opened(file, profile) as (statement_file, session):
        _ask_to_sign(statement_file, is_sure=yes)
        directory = session.directory
        keys = own_keys(session)
        ready = tuple(sign_as(directory, signed, profile.name, keys) for signed in statement_file.statements)
        error = judge(directory, ready)
    # A script that signs with the wrong profile must fail here: the next holder would wait for a signature
    # that nobody has added.
    before = sum(len(signed.signatures) for signed in statement_file.statements)
    added = sum(len(signed.signatures) for signed in ready) - before
    if not added:
        raise UsageError(
            f"'{profile.name}' has nothing to sign in '{file}'",
            hint="your keys have signed it already, or have no part in what it says",
        )
    replace(statement_file, statements=ready).save(file)
    if as_json:
        print_json({"added": added, "complete": error is None, "missing": error.message if error else None})
        return
    for signed in ready:
        note(f"signed: {described(signed)}")
    print_file_written(file, error, as_json=False)


def _ask_to_sign(statement_file: StatementFile, *, is_sure: bool) -> None:
    """Show every field of each statement, and ask. Raises UsageError unless the answer is yes."""
    for signed in statement_file.statements:
        note(described(signed))
        for name, value in statement_fields(read_statement(signed)):
            note(f"  {name}: {value}", style="dim")
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask whether you sign this",
            hint="look at it with ftf-broker statement show, and then sign it with --yes",
        )
    # The question goes to stderr, because stdout may be a pipe that carries data.
    if not click.confirm(f"Sign {counted(len(statement_file.statements), 'statement')}?", err=True):
        raise UsageError("nothing was signed", hint="you did not agree to it")


@group.command("submit")
@_file_options
@asynchronous
async def submit(file: Path, profile: Profile, as_json: bool) -> None:
    """Append the statements of a complete statement file to the directory.

    \b
    Example:
      ftf-broker statement submit agency-suspended-12.statement --profile authority.toml
    """
    async with _opened(file, profile) as (statement_file, session):
        # Any participant may submit a file: the signatures in it count, not who appends it.
        places = await append_new(session, statement_file.statements)
        print_appended(statement_file.statements, places, as_json)
