"""Statements signed with the keys at hand and appended, or written to a file for the other holders.

draft ──sign──▶ enough signatures? ──yes──▶ appended, and read back that it counts
                      └──no──▶ FILE.statement: each holder signs it in turn, the last one submits it
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.cli.context import json_option
from broker.cli.found.statement_file import Bundle, issuer_of, read_statement, unsigned
from broker.cli.opening import passphrase_of
from broker.cli.output import note, print_json
from broker.crypto.sign import SigningKey, signing_key_id
from broker.directory import AUTHORITY, Directory, countersign
from broker.errors import PeerError, SignatureInvalid, UsageError
from broker.session import Profile, Role, Session
from broker.session.key_folder import KeyFolder
from broker.session.session import authority_key_ids
from broker.session.submission import append, judge, with_hint
from broker.show.statement_text import says
from broker.wire import statements as s
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed

__all__ = ["How", "append_new", "issue", "issuing", "own_keys", "sign_as", "tell", "tell_file"]

T = TypeVar("T")


def sign_as(directory: Directory, signed: Signed, name: str, keys: Sequence[SigningKey]) -> Signed:
    """The statement with the signatures that ``name`` can add; as it was, where it has no part in it.

    Of the authority's keys only as many sign as are needed: one foreign signature would void it all.
    """
    statement = read_statement(signed)
    if not _has_part(directory, statement, name):
        return signed
    have = {one.key_id for one in signed.signatures}
    if name == AUTHORITY and not isinstance(statement, s.Genesis):
        listed = authority_key_ids(directory)
        wanted = directory.authority.threshold - len(have & listed)
        fresh = [key for key in keys if key.key_id in listed - have][: max(wanted, 0)]
        if isinstance(statement, s.AuthorityRotated):  # every key of the new set signs too
            new = {signing_key_id(public) for public in statement.authority_keys}
            fresh += [key for key in keys if key.key_id in new - have and key not in fresh]
    elif name == AUTHORITY:
        fresh = [key for key in keys if key.key_id not in have]
    else:
        fresh = [] if any(key.key_id in have for key in keys) else list(keys[:1])
    return countersign(signed, fresh, bytes(32) if isinstance(statement, s.Genesis) else directory.genesis)


def _has_part(directory: Directory, statement: Statement, name: str) -> bool:
    if name == statement.header.issuer:
        return True
    match statement:
        case s.MemberJoined():
            channel = directory.channel(statement.channel)
            return channel is not None and name in channel.members
        case s.AgencyAdmitted():
            return name == statement.agency
        case s.AuditorAppointed():
            return name == statement.auditor
        case s.ServiceKeyAnnounced():
            return name == statement.service
        case _:
            return False


async def append_new(session: Session, statements: Sequence[Signed]) -> list[int]:
    """Append statements, none of which stands in the directory yet; see ``append``."""
    await session.follower.refresh()
    for signed in statements:
        place = session.directory.applied.get(sha256(signed.content).digest())
        if place is not None:
            raise UsageError(f"it is in the directory already, at {place}: {says(read_statement(signed))}")
    return await append(session, statements)


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a statement is issued: who else signs here, to which file if any, and how it is told."""

    sign_with: tuple[Path, ...] = ()
    out: Path | None = None
    as_json: bool = False


async def issue(
    session: Session,
    statements: Sequence[Statement | Signed],
    how: How,
    *,
    extra_keys: Sequence[SigningKey] = (),
) -> list[int]:
    """Sign with the keys at hand, and append; or, where signatures are missing, write the file to pass on.

    ``extra_keys`` sign each statement besides the profile's own, as a key does that is being added.
    """
    directory, name = session.directory, session.profile.name
    signers: list[tuple[str, Sequence[SigningKey]]] = [(name, own_keys(session))]
    signers += [_keys_of(Profile.load(path), directory) for path in how.sign_with]
    ready = []
    for one in statements:
        signed = one if isinstance(one, Signed) else unsigned(one)
        signed = countersign(signed, extra_keys, directory.genesis)
        for signer, keys in signers:
            signed = sign_as(directory, signed, signer, keys)
        ready.append(signed)
    error = judge(directory, ready)
    if how.out is None and not isinstance(error, SignatureInvalid):
        places = await append_new(session, ready)
        tell(ready, places, how.as_json)
        return places
    if error is not None and not isinstance(error, SignatureInvalid):
        raise with_hint(error)
    path = how.out or Path(f"{ready[0].kind}-{directory.size}.statement")
    Bundle(genesis=directory.genesis, statements=tuple(ready)).save(path)
    tell_file(path, error, how.as_json)
    return []


def own_keys(session: Session) -> Sequence[SigningKey]:
    """The keys to sign with; of an authority all that are held: those of a new set are not listed yet."""
    signing = session.signing_keys()
    return session.keys.signing("authority") if session.profile.role is Role.AUTHORITY else signing


def _keys_of(profile: Profile, directory: Directory) -> tuple[str, Sequence[SigningKey]]:
    store = KeyFolder(profile.keys, passphrase_of(profile))
    if profile.role is Role.AUTHORITY:
        return profile.name, store.signing("authority")
    party = directory.parties.get(profile.name)
    active = {key.key_id for key in party.active(s.KeyUse.SIGNING)} if party else set()
    held = store.signing()
    return profile.name, tuple(key for key in held if key.key_id in active) or held


def tell(ready: Sequence[Signed], places: Sequence[int], as_json: bool) -> None:
    if as_json:
        print_json({"appended": list(places)})
        return
    for signed, place in zip(ready, places, strict=True):
        note(f"directory {place}: {issuer_of(signed)} {says(read_statement(signed))}")


def tell_file(path: Path, error: PeerError | None, as_json: bool) -> None:
    if as_json:
        print_json({"appended": [], "file": str(path), "missing": error.message if error else None})
        return
    note(f"written to {path}, nothing appended" + (f": {error.message}" if error else ""))
    step = "sign" if error else "submit"
    note(f"next: ftf-broker statement {step} {path}", style="dim")


def issuing(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command what all that issue a statement have, as its argument ``how``."""

    @click.option(
        "--sign-with",
        type=click.Path(path_type=Path),
        metavar="FILE",
        multiple=True,
        help="Another profile on this host whose keys sign as well; may be repeated.",
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a statement file instead of appending.",
    )
    @json_option
    @functools.wraps(command)
    def with_how(
        *args: Any, sign_with: tuple[Path, ...], out: Path | None, as_json: bool, **kwargs: Any
    ) -> T:
        return command(*args, how=How(sign_with=sign_with, out=out, as_json=as_json), **kwargs)

    return with_how
