"""``channel open``: a channel, its members, what they may share, why, and for how long."""

from __future__ import annotations

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, profile_option
from broker.cli.found.init import ensure_topics
from broker.cli.found.issue import IssueOptions, issue, issue_options
from broker.cli.opening import open_session
from broker.cli.output import note
from broker.clock import system_clock
from broker.directory import Directory, drafts
from broker.errors import UsageError
from broker.session import Profile
from broker.wire.statements import JoiningRule, Mandate
from broker.wire.terms import LOG_PURPOSES, Purpose

__all__ = ["command"]

# The purposes of reading the access log (LED art. 25(2)) are no purposes for which records are shared.
_PURPOSES = [purpose.value for purpose in Purpose if purpose not in LOG_PURPOSES]


@click.command("open")
@click.argument("name")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="AGENCY",
    help="A member. Repeat it: two members make a bilateral channel, three or more a multilateral one.",
)
@click.option(
    "--type",
    "record_types",
    multiple=True,
    required=True,
    metavar="TYPE",
    help="A record type that members may share, or 'all'; may be repeated.",
)
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    required=True,
    type=click.Choice(_PURPOSES),
    help="A purpose for which records may be shared and read; may be repeated.",
)
@click.option(
    "--legal-basis", required=True, metavar="TEXT", help="The treaty or law that allows the channel."
)
@click.option(
    "--ceiling-days",
    type=click.IntRange(1, 36_500),
    default=1825,
    show_default=True,
    help="For how many days a record may be kept at most.",
)
@click.option(
    "--auditor",
    "auditors",
    multiple=True,
    metavar="NAME",
    help="An auditor of the channel; may be repeated. Default: every auditor.",
)
@click.option(
    "--number",
    type=click.IntRange(0, 99_999),
    help="The channel's partition in every topic. Default: the first free one.",
)
@click.option(
    "--joining",
    type=click.Choice([rule.value for rule in JoiningRule]),
    default="ALL",
    show_default=True,
    help="How many members must sign when another agency joins.",
)
@click.option(
    "--mandate",
    "mandates",
    nargs=3,
    multiple=True,
    metavar="REF AGENCY PURPOSE[,PURPOSE…]",
    help="A standing mandate, under which an agency's system may read without a person; may be repeated.",
)
@profile_option
@issue_options
@asynchronous
async def command(
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
    options: IssueOptions,
) -> None:
    """Open a channel. The authority does this.

    The keys of the channel come from a member afterwards, never from the authority: see ftf-broker channel
    rotate.

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
            auditors=auditors or _all_auditors(directory),
            record_types=_record_types(record_types),
            purposes=[Purpose(purpose) for purpose in purposes],
            legal_basis=legal_basis,
            ceiling_days=ceiling_days,
            joining=JoiningRule(joining),
            mandates=[_mandate(*mandate) for mandate in mandates],
            issued_at=system_clock(),
        )
        # The partitions come before the statement: a channel without them would be in the directory for ever,
        # and nobody could publish in it.
        await ensure_topics(session.log, number + 1)
        if not draft.auditors:
            note(
                "this channel has no auditor, so nobody can prove who read what in it; "
                "name one with: ftf-broker auditor assign",
                style="yellow",
            )
        places = await issue(session, [draft], options)
    if places and not options.as_json:
        note(f"next, by a member: ftf-broker channel rotate {name}", style="dim")


def _record_types(given: tuple[str, ...]) -> tuple[str, ...]:
    store = default_store()
    if given == ("all",):
        return store.record_types
    # current() refuses a type that this version does not know. The directory itself checks only the form.
    return tuple(store.current(name).record_type for name in given)


def _free_number(directory: Directory) -> int:
    # Closed channels keep their numbers, since their messages stay in their partitions.
    return next(number for number in range(100_000) if number not in directory.numbers)


def _all_auditors(directory: Directory) -> tuple[str, ...]:
    auditors = (party for party in directory.parties.values() if party.kind == "AUDITOR")
    # A dismissed auditor is marked as suspended, and the directory refuses it in a new channel.
    return tuple(sorted(auditor.name for auditor in auditors if not auditor.suspended))


def _mandate(ref: str, agency: str, purposes: str) -> Mandate:
    names = purposes.split(",")
    wrong = [name for name in names if name not in _PURPOSES]
    if wrong:
        raise UsageError(f"'{wrong[0]}' is not a purpose", hint=f"one of: {', '.join(_PURPOSES)}")
    return Mandate(ref=ref, agency=agency, purposes=tuple(Purpose(name) for name in names))
