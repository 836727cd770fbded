"""A participant made: its keys, its profile, and the statement by which it asks to be taken in.

Whoever takes part makes its own keys on its own host; what leaves it is a statement file that the
new key has signed. The authority adds its signatures and appends it: ``agency add FILE``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.cli.context import json_option
from broker.cli.found.statement_file import Bundle, read_statement, unsigned
from broker.cli.opening import new_passphrase, open_session
from broker.cli.output import note, print_json
from broker.clock import system_clock
from broker.directory import drafts, sign_statement
from broker.errors import UsageError
from broker.session import Profile, Role, Session
from broker.session.key_folder import KeyFolder
from broker.session.profile import bytes_of, check_name, local_kas, slug, url_from
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed
from broker.wire.statements import KeyUse, ServiceRole

__all__ = [
    "Where",
    "absolute_url",
    "check_kind",
    "create",
    "passphrase_file_option",
    "request",
    "request_statements",
    "where_options",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a new participant's profile lies and what it points to."""

    folder: Path
    like: Path | None = None
    log: str | None = None
    kas: str | None = None
    genesis: str | None = None
    passphrase_file: Path | None = None


passphrase_file_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file of mode 0600 with the passphrase of the keys; else it is asked for.",
)


def where_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command that makes a profile its options, as its argument ``where``."""

    @click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
    @click.option(
        "--like",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Take log, KAS and genesis from this profile.",
    )
    @click.option("--log", metavar="URL", help="The coalition's log, for example sqlite:///srv/ftf/log.db.")
    @click.option("--kas", metavar="ADDRESS", help="The key access service: local:<path of its profile>.")
    @click.option(
        "--genesis",
        metavar="HEX",
        help="The genesis hash to pin: 64 hex digits, from the authority in person.",
    )
    @passphrase_file_option
    @json_option
    @functools.wraps(command)
    def with_where(*args: Any, **kwargs: Any) -> T:
        fields = {
            name: kwargs.pop(name) for name in ("folder", "like", "log", "kas", "genesis", "passphrase_file")
        }
        return command(*args, where=Where(**fields), **kwargs)

    return with_where


def create(name: str, role: Role, where: Where) -> Profile:
    """Make the folder, the profile and the keys of a new participant."""
    check_name(name, role)
    folder = Path(os.path.abspath(where.folder))
    profile = _planned(name, role, folder, where)
    if profile.path.exists():
        raise UsageError(f"'{profile.path}' exists already", hint="choose another folder")
    passphrase = new_passphrase(name, profile.passphrase_file)
    store = KeyFolder.create(profile.keys, passphrase)
    store.new_signing()
    store.new_receiving()
    profile.save()
    return profile


def _planned(name: str, role: Role, folder: Path, where: Where) -> Profile:
    like = Profile.load(where.like) if where.like else None
    url = absolute_url(where.log) if where.log else like.log if like else None
    genesis = bytes_of(where.genesis, 32, "--genesis") if where.genesis else like.genesis if like else None
    if url is None or genesis is None:
        missing = "--log" if url is None else "--genesis"
        raise UsageError(f"{missing} is missing", hint="or take both from a profile with --like FILE")
    kas = local_kas(where.kas, Path.cwd()) if where.kas else like.kas if like else None
    file = where.passphrase_file
    return Profile(
        path=folder / f"{slug(name)}.toml",
        name=name,
        role=role,
        log=url,
        keys=folder / "keys",
        state=folder / "state",
        genesis=genesis,
        kas=kas,
        passphrase_file=Path(os.path.abspath(file)) if file else None,
    )


def absolute_url(url: str) -> str:
    """A log's URL as given on the command line, relative to the working directory, made absolute."""
    return url_from(url, Path.cwd())


def request_statements(session: Session, title: str) -> tuple[Signed, ...]:
    """The statements by which this participant asks to be taken in, signed by its own key."""
    profile, directory, issued_at = session.profile, session.directory, system_clock()
    signing, receiving = session.keyring.signing, session.keys.receiving()[0]
    statements: list[Statement]
    match profile.role:
        case Role.AGENCY:
            statements = [
                drafts.admit_agency(
                    directory,
                    agency=profile.name,
                    title=title,
                    signing_key=signing.public,
                    receiving_key=receiving.public,
                    issued_at=issued_at,
                )
            ]
        case Role.AUDITOR:
            statements = [
                drafts.appoint_auditor(
                    directory,
                    auditor=profile.name,
                    title=title,
                    signing_key=signing.public,
                    receiving_key=receiving.public,
                    issued_at=issued_at,
                )
            ]
        case Role.KAS:
            first, second = (
                drafts.announce_service_key(
                    directory,
                    service=profile.name,
                    role=ServiceRole.KAS,
                    use=use,
                    public_key=key.public,
                    issued_at=issued_at,
                )
                for use, key in ((KeyUse.SIGNING, signing), (KeyUse.RECEIVING, receiving))
            )
            # Each statement of the authority follows the one before it, here the first of the two.
            previous = sha256(unsigned(first).content).digest()
            statements = [first, replace(second, header=replace(second.header, previous=previous))]
        case Role.AUTHORITY:
            raise UsageError("an authority asks nobody to be taken in")
    return tuple(sign_statement(one, [signing], directory.genesis) for one in statements)


async def request(profile: Profile, title: str | None, out: Path | None, as_json: bool) -> None:
    """Write the statement file by which the participant of this profile asks to be taken in."""
    async with open_session(profile) as session:
        if profile.name in session.directory.parties:
            raise UsageError(f"'{profile.name}' is in the directory already")
        bundle = Bundle(
            genesis=profile.genesis, statements=request_statements(session, title or profile.name)
        )
    path = out or profile.path.parent / f"{slug(profile.name)}.statement"
    bundle.save(path)
    group = {Role.AGENCY: "agency", Role.AUDITOR: "auditor"}.get(profile.role, "kas")
    if as_json:
        print_json({"profile": str(profile.path), "request": str(path)})
        return
    note(f"profile  {profile.path}")
    note(f"request  {path}")
    note(f"next, by the authority: ftf-broker {group} add {path}", style="dim")


def check_kind(bundle: Bundle, *kinds: type) -> Bundle:
    """Return the statements if each is of one of these kinds: no other thing is signed by mistake."""
    for signed in bundle.statements:
        if not isinstance(read_statement(signed), kinds):
            raise UsageError(
                f"the file holds '{signed.kind}', which is none of what is added here",
                hint="look at it with: ftf-broker statement show FILE",
            )
    return bundle
