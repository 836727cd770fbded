"""``subscribe``: read a channel's records, to the terminal or into a file; each reading is logged first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from broker.cli.context import asynchronous, profile_option
from broker.cli.interrupt import stoppable, until_stopped
from broker.cli.opening import open_session
from broker.cli.output import out, print_json
from broker.cli.read.feed import Feed
from broker.cli.read.ground import RECORD_READING, Why, why_options
from broker.cli.read.record_block import print_block
from broker.cli.read.subscription import state_path
from broker.directory import Channel
from broker.errors import Denied, UsageError
from broker.session import Profile, Session
from broker.show.meanings import reason_meaning
from broker.show.record_view import delivered_json, record_block
from broker.subscribe.subscriber import Delivered, Subscriber
from broker.wire.manifest import Reason

__all__ = ["command", "readable_channel"]


@click.command("subscribe")
@click.option("--channel", required=True, metavar="NAME", help="The channel to read.")
@click.option(
    "--type", "record_types", multiple=True, metavar="TYPE", help="Only this record type; may be repeated."
)
@why_options(RECORD_READING, mandate=True)
@click.option(
    "--follow", is_flag=True, help="Wait for more at the end, until Ctrl-C; also while the log is away."
)
@click.option(
    "--out",
    "out_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write JSON Lines to FILE: each record exactly once, however often it is stopped.",
)
@click.option("--again", is_flag=True, help="Read from the beginning; every reading is logged again.")
@profile_option
@click.option("--json", "as_json", is_flag=True, help="Each record as a line of JSON on stdout.")
@asynchronous
async def command(
    channel: str,
    record_types: tuple[str, ...],
    why: Why,
    follow: bool,
    out_path: Path | None,
    again: bool,
    profile: Profile,
    as_json: bool,
) -> int:
    """Read the records of a channel, from where the last run stopped.

    Each reading is logged with its reason before anything is released. A person consults (--person), and
    a system reads under a standing mandate of the channel (--mandate). The position is kept in the
    profile's state folder, one for each channel, purpose, set of types and output. Denials and
    violations in the log are reported on stderr, and reading goes on.

    \b
    Exit 0: every record there was is delivered or was denied.
    Exit 1: the log holds a violation.

    \b
    Example:
      ftf-broker subscribe --channel repatriation --purpose CHILD_PROTECTION --person officer-17 \\
        --role analyst --legal-basis "Treaty, article 7" --justification "Follow-up of a return"
      ftf-broker subscribe --channel repatriation --purpose INVESTIGATION --mandate XBB-7 \\
        --role system --legal-basis "Treaty, article 7" --justification "Case system" \\
        --out records.jsonl --follow
    """
    # The file already holds the records once, and every record would come into it a second time.
    if again and out_path is not None:
        raise UsageError("--again does not go with --out", hint="name a new file with --out")
    async with open_session(profile) as session:
        place = readable_channel(session, channel)
        allowed = [purpose for purpose in RECORD_READING if purpose in place.purposes]
        why = why.complete(allowed, channel=channel)
        if why.known_purpose not in allowed:
            raise UsageError(
                f"channel '{channel}' does not allow the purpose {why.known_purpose}",
                hint=f"it allows: {', '.join(allowed)}",
            )
        _check_mandate(place, profile.name, why)
        state = state_path(profile, channel, record_types, why, out_path)
        if again:
            # Only the position is forgotten. The receipts beside it stay, since they prove earlier readings.
            state.unlink(missing_ok=True)
        feed = Feed(channel, _shown_as(as_json, channel), follow=follow)
        async with session.key_access() as kas:
            subscriber = Subscriber(
                session.participant,
                kas,
                ground=why.ground(channel),
                record_types=record_types or None,
                state_path=state,
                # With an output file the feed commits: its length and our position are stored together.
                autocommit=out_path is None,
            )
            with stoppable("stopping") as stop:
                try:
                    await until_stopped(stop, feed.read(subscriber, out_path))
                finally:
                    # After an error, too, a person learns how much was delivered before it.
                    feed.say(out_path)
    # The feed has ended in order and its position is kept; the exit code still says that it was stopped.
    if stop.is_set():
        raise KeyboardInterrupt
    return 1 if feed.violations else 0


def _check_mandate(channel: Channel, reader: str, why: Why) -> None:
    """Refuse a mandate that does not exist, or every record would be denied one after the other."""
    if why.mandate is None:
        return
    mandate = channel.mandates.get(why.mandate)
    if mandate is not None and mandate.agency == reader and why.known_purpose in mandate.purposes:
        return
    ours = [
        f"{known.ref} for {', '.join(known.purposes)}"
        for known in channel.mandates.values()
        if known.agency == reader
    ]
    raise UsageError(
        f"'{reader}' has no mandate '{why.mandate}' for {why.known_purpose} in channel '{channel.name}'",
        hint=f"yours: {'; '.join(sorted(ours)) or 'none'}",
    )


def _shown_as(as_json: bool, channel: str) -> Callable[[Delivered], None]:
    if as_json:
        return lambda item: print_json(delivered_json(item, channel), lines=True)
    console = out()
    return lambda item: print_block(record_block(item), console)


def readable_channel(session: Session, name: str) -> Channel:
    """Return the channel if this participant may ask to read in it at all."""
    directory = session.directory
    reader = session.profile.name
    channel = directory.channel(name)
    if channel is None:
        ours = sorted(known for known, place in directory.channels.items() if reader in place.members)
        raise UsageError(f"there is no channel '{name}'", hint=f"yours: {', '.join(ours) or 'none'}")
    if reader not in channel.members:
        meaning = reason_meaning(Reason.NOT_MEMBER)
        raise Denied(f"'{reader}' is no member of channel '{name}'", hint=meaning.advice)
    return channel
