"""``channel rotate`` and ``channel grant``: the keys of a channel, which come from its members.

Each set of keys is an epoch. It is sealed to the members, auditors and the key access service of its time.
"""

from __future__ import annotations

import click

from broker.cli.context import asynchronous, profile_option
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.found.lookup import channel_named, party_named
from broker.cli.opening import open_session
from broker.cli.output import note
from broker.clock import system_clock
from broker.directory import Channel, Use, grant_epoch, make_channel_keys
from broker.errors import UsageError
from broker.services.kas.local import confirm_epochs
from broker.session import Profile, Session
from broker.show.channel_view import members_text
from broker.wire.statements import EpochGranted

__all__ = ["grant", "rotate"]


@click.command("rotate")
@click.argument("name")
@profile_option
@issue_options
@asynchronous
async def rotate(name: str, profile: Profile, options: IssueOptions) -> None:
    """Publish new keys for a channel. A member does this.

    The keys are sealed to the members and auditors that the channel has now, and to the key access service.
    The service must confirm them before they are used. It does so at once if it runs in this process, else
    at its next run.

    \b
    Example:
      ftf-broker channel rotate repatriation --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        channel = channel_named(session.directory, name)
        if profile.name not in channel.members:
            raise UsageError(
                f"'{profile.name}' is not a member of '{name}'", hint=f"members: {members_text(channel)}"
            )
        if session.directory.kas_name is None:
            raise UsageError(
                "there is no key access service, which must confirm the keys",
                hint="ftf-broker kas init makes one; the authority adds it with ftf-broker kas add",
            )
        draft = make_channel_keys(session.directory, name, profile.name, system_clock())
        if await issue(session, [draft], options):
            # If this fails, the keys are published all the same: the service confirms them at its next run.
            await _confirm_here(session, options)


async def _confirm_here(session: Session, options: IssueOptions) -> None:
    # This opens the service's own key files, so it works only where its profile is on this host.
    if session.profile.kas is None:
        return
    kas = Profile.load(session.profile.kas)
    async with open_session(kas) as service:
        confirmed = await confirm_epochs(service)
    if not options.as_json:
        for channel, epoch in confirmed:
            note(f"confirmed by {kas.name}: epoch {epoch} of {channel}")


@click.command("grant")
@click.argument("name")
@click.option(
    "--to", "recipient", required=True, metavar="NAME", help="The member or auditor that gets the keys."
)
@click.option(
    "--epoch", type=click.IntRange(0), metavar="N", help="The epoch. Default: each epoch whose keys it lacks."
)
@profile_option
@issue_options
@asynchronous
async def grant(
    name: str, recipient: str, epoch: int | None, profile: Profile, options: IssueOptions
) -> None:
    """Give earlier keys of a channel to a member or auditor that came later.

    A new member can read what is shared from the next epoch on. To read what was shared before, it needs the
    earlier keys from another member. A new auditor gets from a member the keys that show the terms of
    earlier records, but not the keys that open them; the keys of the earlier access log it gets from the
    key access service.

    \b
    Example:
      ftf-broker channel grant repatriation --to XCC:border --profile police/xaa-police.toml
      ftf-broker channel grant repatriation --to auditor --profile kas/kas.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
        channel = channel_named(directory, name)
        party_named(directory, recipient)
        # A member grants metadata and content seeds together, so the metadata seed tells what the recipient
        # lacks.
        use: Use = "access" if profile.name == directory.kas_name else "metadata"
        if epoch is not None:
            # Granted even if the recipient has keys of this epoch: another member may have sealed junk to it.
            numbers = [epoch]
        else:
            numbers = [
                number for number in sorted(channel.epochs) if not _has(channel, number, use, recipient)
            ]
        if not numbers:
            raise UsageError(f"'{recipient}' has these keys of '{name}' already")
        drafts = [_grant(session, channel, number, recipient) for number in numbers]
        await issue(session, drafts, options)


def _has(channel: Channel, number: int, use: Use, recipient: str) -> bool:
    epoch = channel.epochs[number]
    # Nothing was written under an epoch that was never confirmed, so there is nothing to grant.
    return bool(epoch.offers(use, recipient)) or epoch.confirmed_at is None


def _grant(session: Session, channel: Channel, number: int, recipient: str) -> EpochGranted:
    """Return the statement that seals what this participant may grant of an epoch to the recipient."""
    is_service = session.profile.name == session.directory.kas_name
    is_member = recipient in channel.members
    return grant_epoch(
        session.directory,
        channel.name,
        number,
        granter=session.profile.name,
        recipient=recipient,
        metadata=None if is_service else _halves(session, channel, number, "metadata"),
        # An auditor never gets what opens a record.
        content=_halves(session, channel, number, "content") if is_member and not is_service else None,
        access=_halves(session, channel, number, "access") if is_service else None,
        issued_at=system_clock(),
    )


def _halves(session: Session, channel: Channel, number: int, use: Use) -> bytes:
    # The keyring opens what was sealed to this participant: not even the maker of an epoch keeps its half.
    key = session.keyring.epoch_key(session.directory, channel.name, number, use)
    if key is None:
        raise UsageError(f"'{session.profile.name}' has no {use} key of epoch {number} to grant")
    return key.halves
