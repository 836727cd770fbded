"""Statements signed with the keys at hand, and appended or written to a file for the other holders.

draft ──sign──▶ enough signatures? ──yes──▶ appended, and read back to see that it counts
                      └──no──▶ FILE.statement: each holder signs it in turn, the last one submits it

Nothing is appended before the whole directory has been applied once with the new statements on top
(``judge``): a statement that does not count would stay in the log for ever.
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
from broker.cli.found.statement_file import StatementFile, described, read_statement, unsigned
from broker.cli.opening import passphrase_of
from broker.cli.output import note, print_json
from broker.crypto.sign import SigningKey, signing_key_id
from broker.directory import AUTHORITY, Directory, countersign
from broker.errors import PeerError, SignatureInvalid, UsageError
from broker.session import Profile, Role, Session
from broker.session.key_folder import KeyFolder
from broker.session.session import authority_key_ids
from broker.session.submission import append, judge, with_hint
from broker.show.statement_text import statement_text
from broker.wire import statements as s
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed

__all__ = [
    "IssueOptions",
    "append_new",
    "issue",
    "issue_options",
    "note_channels_without_keys",
    "own_keys",
    "print_appended",
    "print_file_written",
    "sign_as",
]

T = TypeVar("T")


def sign_as(directory: Directory, signed: Signed, name: str, keys: Sequence[SigningKey]) -> Signed:
    """Return the statement with the signatures that the participant ``name`` can add with these keys.

    The statement comes back unchanged when the participant has no part in it or has signed it already.
    """
    statement = read_statement(signed)
    if not _has_part(directory, statement, name):
        return signed
    present = {signature.key_id for signature in signed.signatures}
    if name != AUTHORITY:
        # One signature speaks for a party. A second one would add nothing. The keys stand from the newest to
        # the oldest, and only an older key may end another one.
        speaking = keys[-1:] if isinstance(statement, s.KeyRetired | s.KeyRevoked) else keys[:1]
        fresh = [] if any(key.key_id in present for key in keys) else list(speaking)
    elif isinstance(statement, s.Genesis):
        # All authority keys sign a genesis.
        fresh = [key for key in keys if key.key_id not in present]
    else:
        fresh = _authority_signers(directory, statement, present, keys)
    # A genesis signs over no coalition: its own hash is what names the coalition.
    genesis = bytes(32) if isinstance(statement, s.Genesis) else directory.genesis
    return countersign(signed, fresh, genesis)


def _authority_signers(
    directory: Directory, statement: Statement, present: set[bytes], keys: Sequence[SigningKey]
) -> list[SigningKey]:
    """Return the authority's keys that still have to sign, of those at hand."""
    listed = authority_key_ids(directory)
    # No more keys sign than are needed, and only listed ones: a foreign signature would void the statement.
    lacking = max(directory.authority.threshold - len(present & listed), 0)
    signers = [key for key in keys if key.key_id in listed - present][:lacking]
    if isinstance(statement, s.AuthorityRotated):
        # Every key of the new set proves that somebody holds it.
        new = {signing_key_id(public) for public in statement.authority_keys}
        signers += [key for key in keys if key.key_id in new - present and key not in signers]
    return signers


def _has_part(directory: Directory, statement: Statement, name: str) -> bool:
    """Tell whether a participant's signature belongs on a statement, beside the issuer's."""
    if name == statement.header.issuer:
        return True
    match statement:
        case s.MemberJoined():
            channel = directory.channel(statement.channel)
            return channel is not None and name in channel.members
        case s.AgencyAdmitted():
            return name == statement.agency
        case s.KeyAdded():
            return name == AUTHORITY
        case s.AuditorAppointed():
            return name == statement.auditor
        case s.ServiceKeyAnnounced():
            return name == statement.service
        case _:
            return False


async def append_new(session: Session, statements: Sequence[Signed]) -> list[int]:
    """Append statements, and return their places in the directory.

    Raises UsageError when the directory holds one of them already, and every error that ``append`` raises.
    """
    # Submitting a file twice is a common mistake. Without this check its second statement would be refused
    # for a stale `previous`, which tells the user nothing.
    await session.follower.refresh()
    for signed in statements:
        place = session.directory.applied.get(sha256(signed.content).digest())
        if place is not None:
            text = statement_text(read_statement(signed))
            raise UsageError(f"the statement is in the directory already, at {place}: {text}")
    return await append(session, statements)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueOptions:
    """The options that every command has that issues a statement."""

    sign_with: tuple[Path, ...] = ()
    """Profiles of other participants whose keys are on this host."""
    out: Path | None = None
    """The statement file to write instead of appending."""
    as_json: bool = False


def issue_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command ``--sign-with``, ``--out`` and ``--json``, as its argument ``options``."""

    @click.option(
        "--sign-with",
        type=click.Path(path_type=Path),
        metavar="FILE",
        multiple=True,
        help="Sign with the keys of this profile too. Its keys must be on this host; may be repeated.",
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a statement file for other holders to sign, and append nothing.",
    )
    @json_option
    @functools.wraps(command)
    def with_options(
        *args: Any, sign_with: tuple[Path, ...], out: Path | None, as_json: bool, **kwargs: Any
    ) -> T:
        options = IssueOptions(sign_with=sign_with, out=out, as_json=as_json)
        return command(*args, options=options, **kwargs)

    return with_options


async def issue(
    session: Session,
    statements: Sequence[Statement | Signed],
    options: IssueOptions,
    *,
    extra_keys: Sequence[SigningKey] = (),
) -> list[int]:
    """Sign statements with the keys at hand and append them; return their places in the directory.

    When signatures of other holders are missing, or with ``--out``, the statements are written to a file
    instead, and the list is empty. ``extra_keys`` sign each statement besides the profile's own keys: a key
    that is being added proves by its signature that somebody holds it.
    """
    # (1) Sign with the keys of this profile, and of those that --sign-with names.
    directory = session.directory
    signers: list[tuple[str, Sequence[SigningKey]]] = [(session.profile.name, own_keys(session))]
    signers += [_keys_of(Profile.load(path), directory) for path in options.sign_with]
    ready = []
    for statement in statements:
        signed = statement if isinstance(statement, Signed) else unsigned(statement)
        signed = countersign(signed, extra_keys, directory.genesis)
        for name, keys in signers:
            signed = sign_as(directory, signed, name, keys)
        ready.append(signed)

    # (2) Append what would count.
    error = judge(directory, ready)
    # Any other error also goes this way. append_new reads the directory again, and raises the error that
    # holds then: perhaps that the statement is there already.
    if options.out is None and not isinstance(error, SignatureInvalid):
        places = await append_new(session, ready)
        print_appended(ready, places, options.as_json)
        return places

    # (3) Write a file where only signatures are missing. Other faults would not go away with more of them.
    if error is not None and not isinstance(error, SignatureInvalid):
        raise with_hint(error)
    path = options.out or Path(f"{ready[0].kind}-{directory.size}.statement")
    StatementFile(genesis=directory.genesis, statements=tuple(ready)).save(path)
    print_file_written(path, error, options.as_json)
    return []


def own_keys(session: Session) -> Sequence[SigningKey]:
    """Return the keys that this session's participant signs with.

    For the authority these are all keys that it holds: keys of a new set sign too, before the directory
    lists them.
    """
    # Called for the authority too: it raises when no key is held, or when the passphrase is wrong.
    signing = session.signing_keys()
    return session.keys.signing("authority") if session.profile.role is Role.AUTHORITY else signing


def _keys_of(profile: Profile, directory: Directory) -> tuple[str, Sequence[SigningKey]]:
    store = KeyFolder(profile.keys, passphrase_of(profile))
    if profile.role is Role.AUTHORITY:
        return profile.name, store.signing("authority")
    party = directory.parties.get(profile.name)
    active = {key.key_id for key in party.active(s.KeyUse.SIGNING)} if party else set()
    held = store.signing()
    # Without an active key all keys are tried: the participant may be asking to be admitted with one of them.
    return profile.name, tuple(key for key in held if key.key_id in active) or held


def print_appended(statements: Sequence[Signed], places: Sequence[int], as_json: bool) -> None:
    """Say which statements were appended, and at which places of the directory."""
    if as_json:
        print_json({"appended": list(places)})
        return
    for signed, place in zip(statements, places, strict=True):
        note(f"directory {place}: {described(signed)}")


def print_file_written(path: Path, error: PeerError | None, as_json: bool) -> None:
    """Say that a statement file was written, what it still lacks, and what its next holder does."""
    if as_json:
        print_json({"appended": [], "file": str(path), "missing": error.message if error else None})
        return
    note(f"written to {path}, nothing appended" + (f": {error.message}" if error else ""))
    step = "sign" if error else "submit"
    note(f"next: ftf-broker statement {step} {path}", style="dim")


def note_channels_without_keys(session: Session, options: IssueOptions) -> None:
    """Say which channels need new keys now, after a suspension, a reinstatement or a revoked key.

    The directory does not end a channel's epoch by itself: a member must publish the next one.
    """
    waiting = sorted(
        channel.name
        for channel in session.directory.channels.values()
        if channel.is_open and channel.needs_new_epoch
    )
    if waiting and not options.as_json:
        note(f"these channels need new keys: {', '.join(waiting)}")
        note("next, by a member of each: ftf-broker channel rotate CHANNEL", style="dim")
