"""``channel rotate`` and ``channel grant``: the keys of a channel, which come from its members."""

from __future__ import annotations

import click

from broker.cli.context import asynchronous, profile_option
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.found.parties import party_named
from broker.cli.opening import open_session
from broker.cli.output import note
from broker.clock import system_clock
from broker.directory import Channel, Use, grant_epoch, make_channel_keys
from broker.errors import UsageError
from broker.services.kas.local import confirm_epochs
from broker.session import Profile, Session
from broker.show.channel_view import channel_named, members_text
from broker.wire.statements import EpochGranted

__all__ = ["grant", "rotate"]


@click.command("rotate")
@click.argument("name")
@profile_option
@issuing
@asynchronous
async def rotate(name: str, profile: Profile, how: How) -> None:
    """Publish new keys for a channel.

    They are sealed to exactly those who have a part in it now.

    The key access service confirms them before they are used: at once where it runs in this process,
    else at its next run.

    \b
    Example:
      ftf-broker channel rotate repatriation --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        channel = channel_named(session.directory, name)
        if profile.name not in channel.members:
            raise UsageError(
                f"'{profile.name}' is no member of '{name}'", hint=f"members: {members_text(channel)}"
            )
        if session.directory.kas_name is None:
            raise UsageError(
                "there is no key access service, which must confirm the keys",
                hint="ftf-broker kas init makes one; the authority adds it with ftf-broker kas add",
            )
        draft = make_channel_keys(session.directory, name, profile.name, system_clock())
        if await issue(session, [draft], how):
            await _confirm_here(session, name, how)


async def _confirm_here(session: Session, name: str, how: How) -> None:
    if session.profile.kas is None:
        return
    kas = Profile.load(session.profile.kas)
    async with open_session(kas) as service:
        confirmed = await confirm_epochs(service)
    if not how.as_json:
        for channel, epoch in confirmed:
            note(f"confirmed by {kas.name}: epoch {epoch} of {channel}")


@click.command("grant")
@click.argument("name")
@click.option("--to", "recipient", required=True, metavar="NAME", help="The member or auditor who gets them.")
@click.option(
    "--epoch", type=click.IntRange(0), metavar="N", help="Which epoch. Default: each that it lacks."
)
@profile_option
@issuing
@asynchronous
async def grant(name: str, recipient: str, epoch: int | None, profile: Profile, how: How) -> None:
    """Grant earlier keys to who came later.

    Who joins a channel can read from its next epoch on, and what was shared before only where a member
    grants it. An auditor gets what shows the terms of records, never what opens them; what opens the
    access log of that time it gets from the key access service.

    \b
    Examples:
      ftf-broker channel grant repatriation --to XCC:border --profile police/xaa-police.toml
      ftf-broker channel grant repatriation --to auditor --profile kas/kas.toml
    """
    async with open_session(profile) as session:
        channel, directory = channel_named(session.directory, name), session.directory
        party_named(directory, recipient)
        use: Use = "access" if profile.name == directory.kas_name else "metadata"
        if epoch is not None:
            lacking = [epoch]  # even where it has them: what others gave it may be junk
        else:
            lacking = [
                number for number in sorted(channel.epochs) if not _has(channel, number, use, recipient)
            ]
        if not lacking:
            raise UsageError(f"'{recipient}' has these keys of '{name}' already")
        await issue(session, [_grant(session, channel, number, recipient) for number in lacking], how)


def _has(channel: Channel, number: int, use: Use, recipient: str) -> bool:
    epoch = channel.epochs[number]
    return recipient in epoch.seeds(use) or (use == "access" and epoch.access_key is None)


def _grant(session: Session, channel: Channel, number: int, recipient: str) -> EpochGranted:
    directory, keyring = session.directory, session.keyring
    if session.profile.name == directory.kas_name:
        access = keyring.epoch_key(directory, channel.name, number, "access")
        if access is None:
            raise UsageError(f"'{session.profile.name}' has no key of epoch {number} to grant")
        return grant_epoch(
            directory,
            channel.name,
            number,
            granter=session.profile.name,
            recipient=recipient,
            metadata_seed=None,
            content_seed=None,
            access_seed=access.seed,
            issued_at=system_clock(),
        )
    metadata = keyring.epoch_key(directory, channel.name, number, "metadata")
    content = keyring.epoch_key(directory, channel.name, number, "content")
    if metadata is None or content is None:
        raise UsageError(f"'{session.profile.name}' has no keys of epoch {number} to grant")
    return grant_epoch(
        directory,
        channel.name,
        number,
        granter=session.profile.name,
        recipient=recipient,
        metadata_seed=metadata.seed,
        content_seed=content.seed if recipient in channel.members else None,
        issued_at=system_clock(),
    )
