"""``log inspect``: what the holder of a profile's keys can see of each message in the log."""

from __future__ import annotations

from collections.abc import Sequence

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.found.lookup import channel_named
from broker.cli.opening import open_session
from broker.cli.output import is_terminal, note, print_json, print_line, print_table
from broker.crypto.sign import SigningKey
from broker.directory import Channel
from broker.errors import UsageError
from broker.log import MAX_OFFSET, Partition
from broker.participant.follower import DIRECTORY
from broker.participant.keyring import Keyring
from broker.session import Profile, Role, Session
from broker.show.message_view import MessageView, PartitionView, directory_view
from broker.show.text import printable, size_text, time_text
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.limits import MAX_RECORDS

__all__ = ["group"]


@click.group("log")
def group() -> None:
    """Look into the log."""


@group.command("inspect")
@click.option(
    "--topic",
    metavar="NAME",
    help="One topic, such as returns or access. Default: all.",
)
@click.option("--channel", metavar="NAME", help="One channel. Default: every channel of the topic.")
@click.option(
    "--offset", type=click.IntRange(0, MAX_OFFSET), default=0, show_default=True, help="The first message."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="The most messages to show of each partition.",
)
@profile_option
@json_option
@asynchronous
async def inspect(
    topic: str | None, channel: str | None, offset: int, limit: int, profile: Profile, as_json: bool
) -> None:
    """Show what your keys can see of each message.

    Without --topic and --channel it shows how many messages each partition holds. Members and auditors
    see the terms of each record. Nobody sees a body here: a body needs a release share, and the key
    access service logs whoever asks for one. Nothing is verified; ftf-broker audit replay does that.

    \b
    Example:
      ftf-broker log inspect --channel repatriation --limit 10 --profile police/xaa-police.toml
      ftf-broker log inspect --topic directory --json --profile audit/auditor.toml
    """
    async with open_session(profile) as session:
        if topic == DIRECTORY.topic:
            _print(topic, None, await _directory(session, offset, limit), as_json)
            return
        partitions = _partitions(session, topic, channel)
        if topic is None and channel is None:
            await _summary(session, partitions, as_json)
            return
        keyring = _keyring(session)
        found = [
            (name, place, await _messages(session, keyring, name, place, offset, limit))
            for name, place in partitions
        ]
    if as_json:
        print_json([_json(name, place.name, view) for name, place, views in found for view in views])
        return
    # Empty partitions are left out. If all are empty, the first one still says so.
    shown = [entry for entry in found if entry[2]] or found[:1]
    for number, (name, place, views) in enumerate(shown):
        # A table on a terminal has a title. In a pipe the name of the partition needs a line of its own.
        if len(shown) > 1 and not is_terminal():
            gap = "\n" if number else ""
            print_line(gap + printable(f"{name}/{place.number}, channel {place.name}"))
        _print(name, place, views, as_json=False)


def _partitions(session: Session, topic: str | None, channel: str | None) -> list[tuple[str, Channel]]:
    topics: Sequence[str] = (*session.store.topics, ACCESS_TOPIC)
    if topic is not None and topic not in topics:
        raise UsageError(
            f"there is no topic '{topic}'", hint=f"there are: {', '.join((*topics, DIRECTORY.topic))}"
        )
    channels = sorted(session.directory.channels.values(), key=lambda known: known.number)
    if channel is not None:
        channels = [channel_named(session.directory, channel)]
    return [(name, place) for place in channels for name in ((topic,) if topic else topics)]


def _keyring(session: Session) -> Keyring:
    """Return the keys to look with."""
    # An authority has no receiving key, so it sees what a stranger sees. The signing key is never used here.
    if session.profile.role is Role.AUTHORITY:
        return Keyring.of(session.profile.name, SigningKey.generate(), ())
    return session.keyring


async def _messages(
    session: Session, keyring: Keyring, topic: str, channel: Channel, offset: int, limit: int
) -> list[MessageView]:
    view = PartitionView(topic, channel, session.directory, keyring)
    views: list[MessageView] = []
    # Reading begins before the first message that is shown. A body can only be explained by its manifest,
    # which stands at most MAX_RECORDS messages before it.
    first = max(0, offset - MAX_RECORDS)
    async for message in session.log.read(Partition(topic, channel.number), first):
        seen = view.see(message)
        if seen.offset >= offset:
            views.append(seen)
        if len(views) >= limit:
            break
    return views


async def _directory(session: Session, offset: int, limit: int) -> list[MessageView]:
    problems = {violation.place.offset: violation.detail for violation in session.follower.violations}
    views: list[MessageView] = []
    async for message in session.log.read(DIRECTORY, offset):
        views.append(directory_view(message, problems.get(message.offset)))
        if len(views) >= limit:
            break
    return views


async def _summary(session: Session, partitions: Sequence[tuple[str, Channel]], as_json: bool) -> None:
    places = [DIRECTORY, *(Partition(topic, channel.number) for topic, channel in partitions)]
    names = ["", *(channel.name for _, channel in partitions)]
    ends = await session.log.ends(places)
    if as_json:
        print_json(
            [
                {
                    "topic": place.topic,
                    "partition": place.number,
                    "channel": name or None,
                    "messages": ends[place],
                }
                for place, name in zip(places, names, strict=True)
            ]
        )
        return
    rows = [
        (place.topic, str(place.number), name, str(ends[place]))
        for place, name in zip(places, names, strict=True)
    ]
    title = f"{session.directory.coalition}: {session.profile.log}"
    print_table(title, ("topic", "partition", "channel", "messages"), rows, right=("partition", "messages"))
    note("look closer: ftf-broker log inspect --channel NAME, or --topic directory", style="dim")


def _print(topic: str, channel: Channel | None, views: Sequence[MessageView], as_json: bool) -> None:
    if as_json:
        print_json([_json(topic, channel.name if channel else None, view) for view in views])
        return
    rows = [
        (
            str(view.offset),
            time_text(view.appended_at),
            view.kind,
            "" if view.epoch is None else str(view.epoch),
            size_text(view.size),
            view.text,
        )
        for view in views
    ]
    where = f"{topic}/{channel.number}, channel {channel.name}" if channel else topic
    print_table(
        where,
        ("offset", "appended", "kind", "epoch", "size", "what can be seen"),
        rows,
        right=("offset", "epoch", "size"),
        empty=f"{where}: no messages there",
    )


def _json(topic: str, channel: str | None, view: MessageView) -> dict[str, object]:
    return {
        "topic": topic,
        "channel": channel,
        "offset": view.offset,
        "appended_at": time_text(view.appended_at),
        "kind": view.kind,
        "epoch": view.epoch,
        "size": view.size,
        "says": view.text,
        **view.facts,
    }
