"""``channel``: the channels in which agencies share records, their members, and their keys."""

from __future__ import annotations

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.channel_epochs import grant, rotate
from broker.cli.found.channel_opening import command as open_channel
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.found.lookup import channel_named
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_pairs, print_table
from broker.clock import system_clock
from broker.directory import drafts
from broker.errors import UsageError
from broker.session import Profile, Role
from broker.show.channel_view import (
    channel_json,
    channel_state,
    epoch_state,
    epoch_text,
    epochs_of,
    mandates_of,
    members_text,
)

__all__ = ["group"]


@click.group("channel")
def group() -> None:
    """Open, close, join and leave channels, and renew their keys."""


@group.command("close")
@click.argument("name")
@profile_option
@issue_options
@asynchronous
async def close(name: str, profile: Profile, options: IssueOptions) -> None:
    """Close a channel for good. The authority does this.

    Nothing can be published or read in it any more.

    \b
    Example:
      ftf-broker channel close xaa-xbb --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        # Called for its error alone: for a misspelt name it lists the channels there are. A draft checks
        # nothing.
        channel_named(session.directory, name)
        draft = drafts.close_channel(session.directory, channel=name, issued_at=system_clock())
        await issue(session, [draft], options)


@group.command("join")
@click.argument("name")
@profile_option
@issue_options
@asynchronous
async def join(name: str, profile: Profile, options: IssueOptions) -> None:
    """Join a multilateral channel.

    Its members must sign too: all of them or a majority, as the channel's opening says. Their signatures
    count for thirty days, and not again after you have left the channel.

    \b
    Example:
      ftf-broker channel join repatriation --profile border/xcc-border.toml --out join.statement
      ftf-broker statement sign join.statement --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        channel_named(session.directory, name)
        draft = drafts.join_channel(
            session.directory, channel=name, agency=profile.name, issued_at=system_clock()
        )
        if await issue(session, [draft], options) and not options.as_json:
            note(f"next, by a member: ftf-broker channel rotate {name}", style="dim")


@group.command("leave")
@click.argument("name")
@click.option("--agency", metavar="NAME", help="The member that the authority removes. Default: you leave.")
@profile_option
@issue_options
@asynchronous
async def leave(name: str, agency: str | None, profile: Profile, options: IssueOptions) -> None:
    """Leave a channel. With --agency the authority removes a member.

    \b
    Example:
      ftf-broker channel leave repatriation --profile border/xcc-border.toml
    """
    async with open_session(profile) as session:
        channel_named(session.directory, name)
        # Removing a member and leaving are two kinds of statement, with different issuers.
        if profile.role is Role.AUTHORITY:
            if agency is None:
                raise UsageError(
                    "the authority is not a member of any channel",
                    hint="name the member that it removes: --agency NAME",
                )
            draft = drafts.expel_member(
                session.directory, channel=name, agency=agency, issued_at=system_clock()
            )
        # A member may name itself, which means the same as naming nobody.
        elif agency not in (None, profile.name):
            raise UsageError(
                f"'{profile.name}' cannot remove '{agency}'", hint="only the authority removes members"
            )
        else:
            draft = drafts.leave_channel(
                session.directory, channel=name, agency=profile.name, issued_at=system_clock()
            )
        if await issue(session, [draft], options) and not options.as_json:
            note(f"next, by a member that stays: ftf-broker channel rotate {name}", style="dim")


@group.command("list")
@profile_option
@json_option
@asynchronous
async def list_channels(profile: Profile, as_json: bool) -> None:
    """List the channels.

    \b
    Example:
      ftf-broker channel list --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        # The directory is an immutable value, so it outlives the session that has read it.
        directory = session.directory
    channels = sorted(directory.channels.values(), key=lambda channel: channel.number)
    if as_json:
        print_json([channel_json(channel) for channel in channels])
        return
    rows = [
        (
            str(channel.number),
            channel.name,
            channel.kind.lower(),
            members_text(channel),
            epoch_text(channel),
            channel_state(channel),
        )
        for channel in channels
    ]
    print_table(
        f"{directory.coalition}: channels",
        ("nr", "name", "kind", "members", "epoch", "state"),
        rows,
        right=("nr", "epoch"),
        empty="no channels yet",
    )


@group.command("show")
@click.argument("name")
@profile_option
@json_option
@asynchronous
async def show(name: str, profile: Profile, as_json: bool) -> None:
    """Show a channel: its members, what they share, why and for how long, and its keys.

    \b
    Example:
      ftf-broker channel show repatriation --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        channel = channel_named(session.directory, name)
    if as_json:
        print_json(channel_json(channel))
        return
    pairs = [
        ("number", str(channel.number)),
        ("kind", channel.kind.lower()),
        ("state", channel_state(channel)),
        ("members", members_text(channel)),
        ("auditors", ", ".join(sorted(channel.auditors)) or "none"),
        ("record types", ", ".join(sorted(channel.record_types))),
        ("purposes", ", ".join(sorted(channel.purposes))),
        ("legal basis", channel.legal_basis),
        ("kept at most", f"{channel.ceiling_days} days"),
        ("joining", f"{channel.joining.lower()} members sign"),
    ]
    pairs += [
        (f"mandate {mandate.ref}", f"{mandate.agency} for {', '.join(mandate.purposes)}")
        for mandate in mandates_of(channel)
    ]
    print_pairs(f"channel {name}", pairs)
    rows = [
        (str(epoch.number), epoch.publisher, epoch_state(epoch), ", ".join(sorted(epoch.content.offers)))
        for epoch in epochs_of(channel)
    ]
    print_table(
        "epochs", ("epoch", "published by", "state", "readers"), rows, right=("epoch",), empty="no keys yet"
    )


group.add_command(open_channel)
group.add_command(rotate)
group.add_command(grant)
