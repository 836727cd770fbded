"""``channel``: who shares what with whom, and under which keys."""

from __future__ import annotations

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.channel_epochs import grant, rotate
from broker.cli.found.init import ensure_topics
from broker.cli.found.issuing import How, issue, issuing
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_pairs, print_table
from broker.clock import system_clock
from broker.directory import Directory, drafts
from broker.errors import UsageError
from broker.session import Profile, Role
from broker.show.channel_view import (
    channel_json,
    channel_named,
    channel_state,
    epoch_state,
    epoch_text,
    members_text,
)
from broker.wire.statements import JoiningRule, Mandate
from broker.wire.terms import LOG_PURPOSES, Purpose

__all__ = ["group"]

_PURPOSES = [purpose.value for purpose in Purpose if purpose not in LOG_PURPOSES]


@click.group("channel")
def group() -> None:
    """Open, close, join and leave channels; renew keys."""


@group.command("open")
@click.argument("name")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="AGENCY",
    help="Two make a bilateral channel, three or more a multilateral one; repeat it.",
)
@click.option(
    "--type",
    "record_types",
    multiple=True,
    required=True,
    metavar="TYPE",
    help="A record type that may be shared, or 'all'; may be repeated.",
)
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    required=True,
    type=click.Choice(_PURPOSES),
    help="A purpose that it is for; may be repeated.",
)
@click.option("--legal-basis", required=True, metavar="TEXT", help="The treaty or law that it stands on.")
@click.option(
    "--ceiling-days",
    type=click.IntRange(1, 36_500),
    default=1825,
    show_default=True,
    help="The longest that a record may be kept.",
)
@click.option(
    "--auditor", "auditors", multiple=True, metavar="NAME", help="Who audits it. Default: every auditor."
)
@click.option(
    "--number",
    type=click.IntRange(0, 99_999),
    help="Its partition in every topic. Default: the next free one.",
)
@click.option(
    "--joining",
    type=click.Choice([rule.value for rule in JoiningRule]),
    default="ALL",
    show_default=True,
    help="How many members must sign when somebody joins.",
)
@click.option(
    "--mandate",
    "mandates",
    nargs=3,
    multiple=True,
    metavar="REF AGENCY PURPOSE[,PURPOSE…]",
    help="A standing mandate for disclosure to an agency's system; may be repeated.",
)
@profile_option
@issuing
@asynchronous
async def open_channel(
    name: str,
    members: tuple[str, ...],
    record_types: tuple[str, ...],
    purposes: tuple[str, ...],
    legal_basis: str,
    ceiling_days: int,
    auditors: tuple[str, ...],
    number: int | None,
    joining: str,
    mandates: tuple[tuple[str, str, str], ...],
    profile: Profile,
    how: How,
) -> None:
    """Open a channel. Its keys come from a member afterwards, never from the authority.

    \b
    Example:
      ftf-broker channel open xaa-xbb --member XAA:police --member XBB:police \\
        --type JusticeMeasure --purpose INVESTIGATION --legal-basis "Treaty of Aldoria, article 7" \\
        --profile authority/authority.toml
      ftf-broker channel rotate xaa-xbb --profile police/xaa-police.toml
    """
    async with open_session(profile) as session:
        directory = session.directory
        number = _free_number(directory) if number is None else number
        draft = drafts.open_channel(
            directory,
            channel=name,
            number=number,
            members=members,
            auditors=auditors or _auditors(directory),
            record_types=_record_types(record_types),
            purposes=[Purpose(purpose) for purpose in purposes],
            legal_basis=legal_basis,
            ceiling_days=ceiling_days,
            joining=JoiningRule(joining),
            mandates=[_mandate(*mandate) for mandate in mandates],
            issued_at=system_clock(),
        )
        # First: a channel without partitions would stand in the directory, and nobody could publish in it.
        await ensure_topics(session.log, number + 1)
        if not draft.auditors:
            note(
                "nobody audits this channel: nobody will be able to prove who read what in it; "
                "ftf-broker auditor assign names somebody",
                style="yellow",
            )
        places = await issue(session, [draft], how)
    if places and not how.as_json:
        note(f"next, by a member: ftf-broker channel rotate {name}", style="dim")


def _record_types(given: tuple[str, ...]) -> tuple[str, ...]:
    store = default_store()
    if given == ("all",):
        return store.record_types
    return tuple(store.current(name).record_type for name in given)


def _free_number(directory: Directory) -> int:
    return next(number for number in range(100_000) if number not in directory.numbers)


def _auditors(directory: Directory) -> tuple[str, ...]:
    return tuple(
        sorted(one.name for one in directory.parties.values() if one.kind == "AUDITOR" and not one.suspended)
    )


def _mandate(ref: str, agency: str, purposes: str) -> Mandate:
    names = purposes.split(",")
    wrong = [name for name in names if name not in _PURPOSES]
    if wrong:
        raise UsageError(f"'{wrong[0]}' is no purpose", hint=f"one of: {', '.join(_PURPOSES)}")
    return Mandate(ref=ref, agency=agency, purposes=tuple(Purpose(name) for name in names))


@group.command("close")
@click.argument("name")
@profile_option
@issuing
@asynchronous
async def close(name: str, profile: Profile, how: How) -> None:
    """Close a channel for good.

    Nothing is published or read there any more.

    \b
    Example:
      ftf-broker channel close xaa-xbb --profile authority/authority.toml
    """
    async with open_session(profile) as session:
        channel_named(session.directory, name)
        await issue(
            session, [drafts.close_channel(session.directory, channel=name, issued_at=system_clock())], how
        )


@group.command("join")
@click.argument("name")
@profile_option
@issuing
@asynchronous
async def join(name: str, profile: Profile, how: How) -> None:
    """Join a multilateral channel.

    Its members sign too, by the rule that it opened with.

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
        if await issue(session, [draft], how) and not how.as_json:
            note(f"next, by a member: ftf-broker channel rotate {name}", style="dim")


@group.command("leave")
@click.argument("name")
@click.option("--agency", metavar="NAME", help="Whom the authority removes. Default: you leave.")
@profile_option
@issuing
@asynchronous
async def leave(name: str, agency: str | None, profile: Profile, how: How) -> None:
    """Leave a channel, or as the authority remove a member.

    \b
    Example:
      ftf-broker channel leave repatriation --profile border/xcc-border.toml
    """
    async with open_session(profile) as session:
        channel_named(session.directory, name)
        if profile.role is Role.AUTHORITY:
            if agency is None:
                raise UsageError("the authority is no member", hint="say whom it removes: --agency NAME")
            draft = drafts.expel_member(
                session.directory, channel=name, agency=agency, issued_at=system_clock()
            )
        elif agency not in (None, profile.name):
            raise UsageError(f"'{profile.name}' cannot remove '{agency}'", hint="the authority can")
        else:
            draft = drafts.leave_channel(
                session.directory, channel=name, agency=profile.name, issued_at=system_clock()
            )
        if await issue(session, [draft], how) and not how.as_json:
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
        directory = session.directory
    channels = sorted(directory.channels.values(), key=lambda one: one.number)
    if as_json:
        print_json([channel_json(channel) for channel in channels])
        return
    rows = [
        (str(one.number), one.name, one.kind.lower(), members_text(one), epoch_text(one), channel_state(one))
        for one in channels
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
    """Show a channel: who, what, why, until when, and its keys.

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
        (f"mandate {one.ref}", f"{one.agency} for {', '.join(one.purposes)}")
        for one in sorted(channel.mandates.values(), key=lambda mandate: mandate.ref)
    ]
    print_pairs(f"channel {name}", pairs)
    rows = [
        (
            str(one.number),
            one.publisher,
            epoch_state(one.confirmed_at, one.complained),
            ", ".join(sorted(one.content_seeds)),
        )
        for one in sorted(channel.epochs.values(), key=lambda epoch: epoch.number)
    ]
    print_table(
        "epochs", ("epoch", "published by", "state", "readers"), rows, right=("epoch",), empty="no keys yet"
    )


group.add_command(rotate)
group.add_command(grant)
