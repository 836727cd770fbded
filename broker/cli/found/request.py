"""Requests to take part: a new participant writes one, and the authority adds its signatures.

A request is a statement file. The new participant's key has signed it, so nobody can ask in another's name,
and the authority sees which keys it admits. ``agency add FILE``, ``auditor add FILE`` and ``kas add FILE``
sign it for the authority and append it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import click

from broker.cli.context import json_option, profile_option
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.found.statement_file import StatementFile, unsigned
from broker.cli.opening import open_session
from broker.cli.output import note, print_json
from broker.clock import system_clock
from broker.directory import drafts, sign_statement
from broker.errors import UsageError
from broker.session import Profile, Role, Session
from broker.session.profile import slug
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed
from broker.wire.statements import KeyUse, ServiceRole

__all__ = [
    "add_options",
    "add_requested",
    "request_options",
    "request_statements",
    "title_option",
    "write_request",
]

T = TypeVar("T")

title_option = click.option(
    "--title", metavar="TEXT", help="The name that is shown to people. Default: the short name."
)


def request_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a ``request`` command ``--profile``, ``--out`` and ``--json``."""
    out_option = click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to write the request. Default: beside the profile.",
    )
    return profile_option(out_option(json_option(command)))


def add_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give an ``add`` command FILE, ``--profile``, and the options of a command that issues a statement."""
    file_argument = click.argument("file", type=click.Path(path_type=Path))
    return file_argument(profile_option(issue_options(command)))


async def write_request(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the request of this profile's participant, and say what the authority does with it.

    Raises UsageError when the directory holds the participant already.
    """
    async with open_session(profile) as session:
        # A participant that is there changes its keys with `agency key`, which its old keys vouch for.
        if profile.name in session.directory.parties:
            raise UsageError(f"'{profile.name}' is in the directory already")
        statements = request_statements(session, title or profile.name)
    path = out or profile.path.parent / f"{slug(profile.name)}.statement"
    StatementFile(genesis=profile.genesis, statements=statements).save(path)
    if as_json:
        print_json({"profile": str(profile.path), "request": str(path)})
        return
    note(f"profile  {profile.path}")
    note(f"request  {path}")
    note(f"next, by the authority: ftf-broker {profile.role} add {path}", style="dim")


async def add_requested(file: Path, kind: str, profile: Profile, options: IssueOptions) -> None:
    """Sign and append the request in a file, if it holds statements of this kind only."""
    request = StatementFile.load(file)
    for signed in request.statements:
        # The file comes from somebody else. The authority must not sign another thing than it meant to.
        if signed.kind != kind:
            raise UsageError(
                f"'{file}' holds '{signed.kind}', expected '{kind}'",
                hint=f"look at it with: ftf-broker statement show {file}",
            )
    async with open_session(profile) as session:
        await issue(session, request.statements, options)


def request_statements(session: Session, title: str) -> tuple[Signed, ...]:
    """Return the statements by which this participant asks to take part, signed by its own key."""
    profile = session.profile
    directory = session.directory
    signing = session.keyring.signing
    receiving = session.keys.receiving()[0]
    statements: tuple[Statement, ...]
    # These statements have the authority as their issuer, because admission is its act. The participant's
    # signature proves only that it holds the key.
    match profile.role:
        case Role.AGENCY:
            statements = (
                drafts.admit_agency(
                    directory,
                    agency=profile.name,
                    title=title,
                    signing_key=signing.public,
                    receiving_key=receiving.public,
                    issued_at=system_clock(),
                ),
            )
        case Role.AUDITOR:
            statements = (
                drafts.appoint_auditor(
                    directory,
                    auditor=profile.name,
                    title=title,
                    signing_key=signing.public,
                    receiving_key=receiving.public,
                    issued_at=system_clock(),
                ),
            )
        case Role.KAS:
            statements = _service_statements(session, signing.public, receiving.public)
        case Role.AUTHORITY:
            raise UsageError("an authority makes no request: ftf-broker init founds it with its coalition")
    return tuple(sign_statement(statement, [signing], directory.genesis) for statement in statements)


def _service_statements(session: Session, signing: bytes, receiving: bytes) -> tuple[Statement, Statement]:
    issued_at = system_clock()
    first, second = (
        drafts.announce_service_key(
            session.directory,
            service=session.profile.name,
            role=ServiceRole.KAS,
            use=use,
            public_key=public,
            issued_at=issued_at,
        )
        for use, public in ((KeyUse.SIGNING, signing), (KeyUse.RECEIVING, receiving))
    )
    # Each statement of the authority names the one before it. For the second that is the first of the two,
    # which the directory does not hold yet.
    previous = sha256(unsigned(first).content).digest()
    return first, replace(second, header=replace(second.header, previous=previous))
