"""Statements that several keys sign, carried from holder to holder in a file.

    {"coalition": "<genesis>", "statements": [{"kind", "content", "signatures": [{"key_id", "signature"}]}]}

Bytes are base64, ids hexadecimal. Whoever signs is shown in words what the content says, never what
somebody wrote beside it. The file holds the statements in the order in which they are appended.
"""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.key_folder import KeyFolder
from broker.cli.output import note, print_json, print_table
from broker.cli.passphrase import passphrase_of
from broker.cli.profile import Profile, Role
from broker.cli.says import says
from broker.cli.session import Session, authority_key_ids, open_session
from broker.crypto.sign import SigningKey
from broker.directory import AUTHORITY, Directory, countersign, directory_message
from broker.errors import BrokerError, FormatError, NotEntitled, PeerError, SignatureInvalid, UsageError
from broker.exchange.follower import DIRECTORY
from broker.formats import statements as s
from broker.formats.manifest import KeySignature, Signed
from broker.formats.protocol import STATEMENT_KINDS, Statement, decode_content, encode, kind_of
from broker.log import Message

__all__ = [
    "Bundle",
    "How",
    "append",
    "group",
    "issue",
    "issuing",
    "judge",
    "now_us",
    "read_statement",
    "sign_as",
    "unsigned",
]

T = TypeVar("T")
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_STATEMENTS = 64


def now_us() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1000


def unsigned(statement: Statement) -> Signed:
    """A statement that nobody has signed yet."""
    return Signed(kind=kind_of(statement), content=encode(statement), signatures=())


def read_statement(signed: Signed) -> Statement:
    """What a signed statement of the directory says; FormatError if it is none."""
    if signed.kind not in STATEMENT_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is no kind of directory statement")
    statement: Statement = decode_content(signed)
    return statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Statements of one coalition, in the order in which they are appended."""

    genesis: bytes
    statements: tuple[Signed, ...]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read a statement file; UsageError says what is wrong with it."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"'{path}' is larger than a statement file can be")
        try:
            fields = json.loads(data)
            genesis = bytes.fromhex(fields["coalition"])
            statements = tuple(_from_json(one) for one in fields["statements"])
            for signed in statements:
                read_statement(signed)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BrokerError) as error:
            raise UsageError(f"'{path}' is no statement file: {error}") from None
        if len(genesis) != 32 or not 1 <= len(statements) <= MAX_STATEMENTS:
            raise UsageError(f"'{path}' is no statement file")
        return cls(genesis=genesis, statements=statements)

    def save(self, path: Path) -> None:
        """Write the file; it holds nothing secret."""
        fields = {
            "coalition": self.genesis.hex(),
            "says": [f"{_issuer(signed)} {says(read_statement(signed))}" for signed in self.statements],
            "statements": [_to_json(signed) for signed in self.statements],
        }
        try:
            path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write '{path}': {error.strerror}") from None


def _to_json(signed: Signed) -> dict[str, object]:
    return {
        "kind": signed.kind,
        "content": base64.b64encode(signed.content).decode(),
        "signatures": [
            {"key_id": one.key_id.hex(), "signature": base64.b64encode(one.signature).decode()}
            for one in signed.signatures
        ],
    }


def _from_json(fields: Mapping[str, object]) -> Signed:
    signatures = fields["signatures"]
    if not isinstance(signatures, list):
        raise ValueError("'signatures' is no list")
    return Signed(
        kind=str(fields["kind"]),
        content=base64.b64decode(str(fields["content"]), validate=True),
        signatures=tuple(
            KeySignature(
                key_id=bytes.fromhex(one["key_id"]),
                signature=base64.b64decode(one["signature"], validate=True),
            )
            for one in signatures
        ),
    )


def _issuer(signed: Signed) -> str:
    return read_statement(signed).header.issuer


# Judging, signing and appending.


def judge(directory: Directory, statements: Sequence[Signed]) -> PeerError | None:
    """Why these statements would not count now, one after another; None if they would."""
    try:
        for signed in statements:
            directory = directory.apply(signed, appended_at=max(now_us(), directory.clock))
    except PeerError as error:
        return error
    return None


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


async def append(session: Session, statements: Sequence[Signed]) -> list[int]:
    """Append statements that hold, one by one, and read that they count; returns their places.

    Raises what says why one would not count, before anything is appended; UsageError where somebody
    else's statement came in between.
    """
    await session.follower.refresh()
    error = judge(session.directory, statements)
    if error is not None:
        raise _with_hint(error)
    places = []
    for signed in statements:
        key, value = directory_message(signed)
        place = await session.log.append(DIRECTORY, [Message(key, value)])
        await session.follower.refresh()
        if sha256(signed.content).digest() not in session.directory.applied:
            why = next((v.detail for v in session.follower.violations if v.place.offset == place), "")
            raise UsageError(
                f"the statement at {place} does not count: {why}",
                hint="another statement came in between; make it anew",
            )
        places.append(place)
    return places


def _with_hint(error: PeerError) -> PeerError:
    if error.hint is None and isinstance(error, NotEntitled) and error.message.startswith("previous is"):
        error.hint = (
            "the authority has said something else since this was drafted: have it drafted anew "
            "(request again), then sign that"
        )
    return error


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
    signers: list[tuple[str, Sequence[SigningKey]]] = [(name, session.signing_keys())]
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
        places = await append(session, ready)
        _tell(ready, places, how.as_json)
        return places
    if error is not None and not isinstance(error, SignatureInvalid):
        raise _with_hint(error)
    path = how.out or Path(f"{ready[0].kind}-{directory.size}.statement")
    Bundle(genesis=directory.genesis, statements=tuple(ready)).save(path)
    _tell_file(path, error, how.as_json)
    return []


def _keys_of(profile: Profile, directory: Directory) -> tuple[str, Sequence[SigningKey]]:
    store = KeyFolder(profile.keys, passphrase_of(profile))
    if profile.role is Role.AUTHORITY:
        return profile.name, store.signing("authority")
    party = directory.parties.get(profile.name)
    active = {key.key_id for key in party.active(s.KeyUse.SIGNING)} if party else set()
    held = store.signing()
    return profile.name, tuple(key for key in held if key.key_id in active) or held


def _tell(ready: Sequence[Signed], places: Sequence[int], as_json: bool) -> None:
    if as_json:
        print_json({"appended": list(places)})
        return
    for signed, place in zip(ready, places, strict=True):
        note(f"directory {place}: {_issuer(signed)} {says(read_statement(signed))}")


def _tell_file(path: Path, error: PeerError | None, as_json: bool) -> None:
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


# Commands.


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
                        "issuer": _issuer(signed),
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
        (signed.kind, _issuer(signed), says(read_statement(signed)), str(len(signed.signatures)))
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
        directory, keys = session.directory, session.signing_keys()
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
        note(f"signed: {_issuer(signed)} {says(read_statement(signed))}")
    _tell_file(file, error, as_json=False)


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
        _tell(bundle.statements, await append(session, bundle.statements), as_json)


def _check_coalition(bundle: Bundle, session: Session) -> None:
    if bundle.genesis != session.profile.genesis:
        raise UsageError(
            f"the statements are of the coalition {bundle.genesis.hex()}",
            hint="the profile is of another coalition; choose the right one with --profile",
        )
