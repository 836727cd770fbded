"""``kas``: the key access service's keys, its announcements, and its run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from broker.access.keystore import KeyStore
from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.output import day_text, note, print_json
from broker.cli.participant import Where, check_kind, create, request, where_options
from broker.cli.passphrase import passphrase_of
from broker.cli.profile import Profile, Role
from broker.cli.session import Session, open_session
from broker.cli.statement import Bundle, How, append, issue, issuing, now_us
from broker.directory import complaint, confirm_channel_keys, sign_statement
from broker.errors import UsageError
from broker.formats import statements as s
from broker.formats.manifest import Signed
from broker.formats.protocol import Statement

__all__ = ["announce_intake", "confirm_epochs", "group", "service_keys"]


@click.group("kas")
def group() -> None:
    """Run the key access service.

    It logs each access before it releases what opens a record.
    """


@group.command("init")
@click.argument("name", default="kas")
@where_options
@asynchronous
async def init(name: str, where: Where, as_json: bool) -> None:
    """Make the service's keys and profile in FOLDER, and the request to be announced.

    \b
    Example:
      ftf-broker kas init kas service --like authority/authority.toml
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
      ftf-broker kas announce --profile service/kas.toml
    """
    await request(create(name, Role.KAS, where), None, None, as_json)


@group.command("request")
@profile_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@json_option
@asynchronous
async def request_again(profile: Profile, out: Path | None, as_json: bool) -> None:
    """Write the request to be announced anew, since the directory has moved on.

    \b
    Example:
      ftf-broker kas request --profile service/kas.toml
    """
    await request(_kas(profile), None, out, as_json)


@group.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@profile_option
@issuing
@asynchronous
async def add(file: Path, profile: Profile, how: How) -> None:
    """Announce the key access service whose request is in FILE.

    \b
    Example:
      ftf-broker kas add service/kas.statement --profile authority/authority.toml
    """
    bundle = check_kind(Bundle.load(file), s.ServiceKeyAnnounced)
    async with open_session(profile) as session:
        await issue(session, bundle.statements, how)


@group.command("announce")
@profile_option
@json_option
@asynchronous
async def announce(profile: Profile, as_json: bool) -> None:
    """Announce intake keys for the next 14 days, and confirm the channels' new keys.

    A publisher seals what opens a record to the intake key of its day: without one it cannot publish.

    \b
    Example:
      ftf-broker kas announce --profile service/kas.toml
    """
    async with open_session(_kas(profile)) as session:
        days = await announce_intake(session)
        epochs = await confirm_epochs(session)
    if as_json:
        confirmed = [{"channel": channel, "epoch": epoch} for channel, epoch in epochs]
        print_json({"announced": [day_text(day) for day in days], "confirmed": confirmed})
        return
    note(
        f"intake keys announced: {f'{day_text(days[0])} to {day_text(days[-1])}' if days else 'none was missing'}"
    )
    for channel, epoch in epochs:
        note(f"confirmed: epoch {epoch} of {channel}")


def _kas(profile: Profile) -> Profile:
    if profile.role is not Role.KAS:
        raise UsageError(
            f"'{profile.name}' is no key access service but has the role '{profile.role}'",
            hint="choose the service's profile with --profile",
        )
    return profile


def service_keys(session: Session) -> KeyStore:
    """The keys that the service keeps for itself, in its key store's folder ``service``."""
    profile = session.profile
    return KeyStore(
        profile.keys / "service", profile.genesis, session.keyring.receiving, passphrase_of(profile)
    )


async def announce_intake(session: Session) -> list[int]:
    """Announce the intake keys that are missing for the next days; returns the days."""
    statements = service_keys(session).announce(session.directory, session.profile.name, now_us())
    await append(session, _signed(session, statements))
    return [one.day for one in statements if one.day is not None]


async def confirm_epochs(session: Session) -> list[tuple[str, int]]:
    """Confirm each channel's newest keys, or complain where ours do not open; returns what was confirmed."""
    confirmed = []
    for channel in sorted(session.directory.channels.values(), key=lambda one: one.number):
        epoch = channel.epochs.get(channel.newest_published)
        if not channel.is_open or epoch is None or epoch.complained or epoch.confirmed_at is not None:
            continue
        directory, name = session.directory, session.profile.name
        if session.keyring.epoch_key(directory, channel.name, epoch.number, "metadata") is None:
            detail = "the metadata seed does not give the public key"
            complains = complaint(
                directory, channel.name, epoch.number, name, detail=detail, issued_at=now_us()
            )
            await append(session, _signed(session, [complains]))
            continue
        confirms = confirm_channel_keys(directory, channel.name, name, now_us())
        await append(session, _signed(session, [confirms]))
        confirmed.append((channel.name, epoch.number))
    return confirmed


def _signed(session: Session, statements: Iterable[Statement]) -> list[Signed]:
    signing, genesis = session.keyring.signing, session.directory.genesis
    return [sign_statement(one, [signing], genesis) for one in statements]
