"""The founding of the demo's coalition: a folder, a log, everybody's keys, the directory and the channels.

Everything is done by the functions behind ``init``, ``agency add`` and the like, so that the demo shows
nothing that users could not do themselves.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import broker
from broker.cli.demo.world import (
    AUDITOR,
    CHANNELS,
    COALITION,
    FILES,
    KAS,
    KEYS,
    PARTICIPANTS,
    THRESHOLD,
    ChannelPlan,
    World,
)
from broker.cli.found.enrolment import ProfileOptions, create
from broker.cli.found.init import ensure_topics, found
from broker.cli.found.issue import sign_as
from broker.cli.found.request import request_statements
from broker.cli.found.statement_file import unsigned
from broker.cli.opening import open_session
from broker.clock import system_clock
from broker.crypto.keyfile import write_private
from broker.directory import AUTHORITY, drafts, make_channel_keys, sign_statement
from broker.errors import UsageError
from broker.services.kas.local import announce_intake, confirm_epochs
from broker.session import Session
from broker.session.key_folder import KeyFolder
from broker.session.profile import slug
from broker.session.submission import append
from broker.wire.manifest import Signed

__all__ = ["examples_folder", "found_world", "make_folder", "with_own_prefix"]

_CEILING_DAYS = 1825
"""Days for which records may be kept at most: five years."""


def examples_folder() -> Path:
    """Return the folder of example files: beside the package in a wheel, at the root in a source tree."""
    package = Path(broker.__file__).parent
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / FILES[0].file).is_file():
            return folder
    raise UsageError("the example files are missing from this installation", hint="install it anew")


def make_folder(folder: Path) -> None:
    """Make the demo's folder. Raises UsageError unless the folder is new or empty."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(
                f"'{folder}' is not empty", hint="choose a new folder with --dir, or remove this one first"
            )
    except OSError as error:
        raise UsageError(f"cannot use '{folder}': {error.strerror}") from None


def with_own_prefix(url: str) -> str:
    """Return the URL of a log, with a prefix of this demo's own if it is a Kafka and the URL names none.

    Without a prefix, a second demo on the same brokers would find a coalition there already.
    """
    parts = urlsplit(url)
    if parts.scheme != "kafka" or "prefix" in dict(parse_qsl(parts.query)):
        return url
    prefix = f"prefix=demo-{secrets.token_hex(4)}"
    return f"{url.partition('?')[0]}?{parts.query}{'&' if parts.query else ''}{prefix}"


async def found_world(folder: Path, url: str) -> World:
    """Found the coalition of the demo, with all its participants and channels.

    The folder must be one that ``make_folder`` made.
    """
    # Copied, so that rejects are written beside the copies and a user may change them. The scripts that made
    # the files are of no use there.
    shutil.copytree(
        examples_folder(), folder / "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__", ".*")
    )
    # This makes the folder of the authority as well.
    passphrase_file = _passphrase_file(folder / AUTHORITY)
    authority = await found(
        COALITION,
        KeyFolder.create(folder / AUTHORITY / "keys", passphrase_file.read_bytes()),
        folder=folder / AUTHORITY,
        url=url,
        count=KEYS,
        threshold=THRESHOLD,
        passphrase_file=passphrase_file,
    )
    profiles = {AUTHORITY: authority}
    for name, (role, _) in PARTICIPANTS.items():
        home = folder / slug(name)
        place = ProfileOptions(
            folder=home,
            like=authority.path,
            kas=None if name == KAS else f"local:{folder / KAS / KAS}.toml",
            passphrase_file=_passphrase_file(home),
        )
        profiles[name] = create(name, role, place)
    world = World(folder=folder, log=url, profiles=profiles)
    async with _everybody(world) as sessions:
        await _admit_all(sessions)
        # Before the channels: without an intake key of the service nobody can publish.
        await announce_intake(sessions[KAS])
        for plan in CHANNELS:
            await _open_channel(sessions, plan)
        # So far each topic has one partition; from here on each channel has its own.
        await ensure_topics(sessions[AUTHORITY].log, len(CHANNELS))
    return world


def _passphrase_file(home: Path) -> Path:
    """Make a participant's folder with a file that holds a passphrase of its own.

    This is for an exercise: the commands that the demo suggests must run without a question.
    """
    home.mkdir(mode=0o700)
    path = home / "passphrase"
    write_private(path, secrets.token_urlsafe(18).encode())
    return path


@asynccontextmanager
async def _everybody(world: World) -> AsyncIterator[dict[str, Session]]:
    """Open a session for each participant, all on one log and one reading of the directory."""
    async with open_session(world.profiles[AUTHORITY]) as first:
        yield {
            # One follower for all: what one participant appends, every other knows without reading again.
            # Only a demo can do that, since real participants trust no reading but their own.
            name: Session(profile, first.log, first.follower, first.store)
            for name, profile in world.profiles.items()
        }


async def _admit_all(sessions: dict[str, Session]) -> None:
    authority = sessions[AUTHORITY]
    for name, (_, title) in PARTICIPANTS.items():
        # One after the other: each request names the authority's statement before it.
        requested = request_statements(sessions[name], title)
        await append(authority, _countersigned(authority, requested))


def _countersigned(authority: Session, statements: Sequence[Signed]) -> list[Signed]:
    signing = authority.signing_keys()
    return [sign_as(authority.directory, signed, AUTHORITY, signing) for signed in statements]


async def _open_channel(sessions: dict[str, Session], plan: ChannelPlan) -> None:
    """Open a channel: the authority states it, a member publishes its keys, the service confirms them."""
    authority = sessions[AUTHORITY]
    member = sessions[plan.members[0]]
    opened = drafts.open_channel(
        authority.directory,
        channel=plan.name,
        number=plan.number,
        members=plan.members,
        auditors=[AUDITOR],
        record_types=plan.record_types,
        purposes=plan.purposes,
        legal_basis=plan.legal_basis,
        ceiling_days=_CEILING_DAYS,
        mandates=plan.mandates,
        issued_at=system_clock(),
    )
    await append(authority, _countersigned(authority, [unsigned(opened)]))
    # Drafted now: the directory must hold the channel that the lines above have opened.
    published = make_channel_keys(member.directory, plan.name, member.profile.name, system_clock())
    signed = sign_statement(published, [member.keyring.signing], member.directory.genesis)
    await append(member, [signed])
    # From here on members can publish in the channel.
    await confirm_epochs(sessions[KAS])
