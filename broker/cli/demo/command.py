"""``demo``: a coalition of states that do not exist is founded, shares records and is audited."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import click

from broker.cli.context import asynchronous, json_option
from broker.cli.demo.forgery import Forgery
from broker.cli.demo.founding import make_folder, with_own_prefix
from broker.cli.demo.narrator import Narrator
from broker.cli.demo.proof import Audit
from broker.cli.demo.readme import next_commands, write_readme
from broker.cli.demo.story import Story
from broker.cli.demo.world import KAS, World
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
    help="The folder to play in. It must be new or empty, and it stays.",
)
@click.option(
    "--log",
    "url",
    metavar="URL",
    help="The log to play on. On Kafka the demo takes a prefix of its own. Default: log.db in the folder.",
)
@json_option
@asynchronous
async def command(folder: Path, url: str | None, as_json: bool) -> int:
    """See the broker work, from founding a coalition to its audit.

    Four states that do not exist share records about the return of their citizens. Every record is signed and
    locked, and every reading is logged. An auditor proves that both logs are whole, and finds a forgery.
    The exit code is 0 if everything went as it should.

    \b
    Example:
      ftf-broker demo --dir demo
      ftf-broker demo --dir demo --json
    """
    # The README and the commands to try show the folder as it was typed; profiles hold whole paths.
    shown = folder
    folder = Path(os.path.abspath(folder))
    log = with_own_prefix(absolute_url(url or f"sqlite:{quote(str(folder / 'log.db'))}"))
    # Made when the URL has been read: a mistake in --log leaves no folder behind.
    make_folder(folder)
    story = Story(Narrator(is_silent=as_json))
    world = await story.found(folder, log)
    # The service runs only while agencies publish and read. The audit comes afterwards: an auditor needs the
    # logs and its own keys, and need not trust the service.
    async with open_service(world.profiles[KAS]) as (_, service):
        await story.publish(world, service)
        await story.justice_feed(world, service)
        await story.protection_feed(world, service)
        await story.consult(world, service)
        await story.denials(world, service)
    audit = await story.audit(world)
    forgery, forged_audit = await story.forgery(world)
    write_readme(folder, shown, log)
    story.narrator.commands("Try next:", next_commands(shown, story.consulted))
    if as_json:
        print_json(_summary(story, world, audit, forgery, forged_audit))
    # Exactly one root, at the forged place. A forgery that was found together with false alarms is a bug too.
    return 0 if audit.verified and forged_audit.roots == (forgery.place,) else 1


def _summary(
    story: Story, world: World, audit: Audit, forgery: Forgery, forged_audit: Audit
) -> dict[str, object]:
    """Return the answer for a program."""
    return {
        "published": story.published,
        "rejected": story.rejected,
        "delivered": story.delivered,
        "denied": story.denied.total(),
        "denied_by_reason": dict(story.denied),
        "access_entries": audit.access_entries,
        "records": audit.records,
        "manifests": audit.manifests,
        "verified": audit.verified,
        "violations": audit.violations,
        "consulted": story.consulted,
        "log": world.log,
        "profiles": {name: str(profile.path) for name, profile in world.profiles.items()},
        "forged": {
            "found": forged_audit.roots == (forgery.place,),
            "profile": str(forgery.profile.path),
            "log": forgery.profile.log,
            "topic": forgery.place.topic,
            "partition": forgery.place.partition,
            "offset": forgery.place.offset,
            "violations": forged_audit.violations,
            "lines": list(forged_audit.lines),
        },
    }
