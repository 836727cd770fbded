"""``demo``: a coalition of fictional states, played end to end, and left behind to be played with."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import click

from broker.cli.context import asynchronous, json_option
from broker.cli.demo.founding import make_folder, with_own_prefix
from broker.cli.demo.leavings import next_commands, write_readme
from broker.cli.demo.story import Story
from broker.cli.demo.teller import Teller
from broker.cli.demo.world import KAS
from broker.cli.found.enrolment import absolute_url
from broker.cli.opening import open_service
from broker.cli.output import print_json

__all__ = ["command"]


@click.command("demo")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where to play; it must be new or empty, and stays.",
)
@click.option(
    "--log",
    "url",
    metavar="URL",
    help="Play on this log, on a Kafka under a prefix of its own. Default: log.db in the folder.",
)
@json_option
@asynchronous
async def command(folder: Path, url: str | None, as_json: bool) -> int:
    """See it work.

    Four states that do not exist share records about the return of their citizens: signed, locked and
    access-logged. An auditor proves it, and finds out a forger.

    \b
    Example:
      ftf-broker demo --dir demo
      ftf-broker demo --dir demo --json
    """
    shown, folder = folder, Path(os.path.abspath(folder))
    log = with_own_prefix(absolute_url(url or f"sqlite:{quote(str(folder / 'log.db'))}"))
    make_folder(folder)
    story = Story(Teller(is_silent=as_json))
    world = await story.found(folder, log)
    async with open_service(world.profiles[KAS]) as (_, service):
        await story.publish(world, service)
        await story.justice_feed(world, service)
        await story.protection_feed(world, service)
        await story.consult(world, service)
        await story.denials(world, service)
    audit = await story.audit(world)
    forgery, found_out = await story.forgery(world)
    write_readme(folder, shown, log)
    story.teller.commands("Try next:", next_commands(shown, story.consulted))
    if as_json:
        print_json(story.summary(world, audit, forgery, found_out))
    return 0 if audit.verified and found_out.roots == (forgery.place,) else 1
