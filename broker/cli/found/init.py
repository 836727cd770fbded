"""``init``: a coalition is founded, with its log, its authority's keys and profile, and its genesis.

The genesis is the first statement of the directory. Its SHA-256 hash names the coalition: every participant
pins it, so nobody can put another directory, with another authority, in its place.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import click

from broker.avro.schema import default_store
from broker.cli.context import asynchronous, json_option
from broker.cli.found.enrolment import absolute_url, passphrase_file_option
from broker.cli.opening import new_passphrase
from broker.cli.output import note, print_json, print_line
from broker.clock import system_clock
from broker.directory import AUTHORITY, Directory, apply, directory_message, drafts, sign_statement
from broker.errors import UsageError
from broker.log import Log, Message, open_log
from broker.participant.follower import DIRECTORY
from broker.session import Profile, Role
from broker.session.key_folder import KeyFolder

__all__ = ["check_majority", "command", "ensure_topics", "found"]


@click.command("init")
@click.argument("coalition")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--log", "url", metavar="URL", help="The log. Default: log.db in FOLDER.")
@click.option(
    "--keys",
    "count",
    type=click.IntRange(1, 32),
    default=3,
    show_default=True,
    help="How many keys the authority has.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, 32),
    default=2,
    show_default=True,
    help="How many of them must sign together: a majority.",
)
@passphrase_file_option
@json_option
@asynchronous
async def command(
    coalition: str,
    folder: Path,
    url: str | None,
    count: int,
    threshold: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Found a coalition: make its log, its authority's keys and its first statement.

    COALITION is its name for people, FOLDER is the folder of its authority. The command prints the genesis
    hash, which every participant must get from the authority in person. Then give each key file to
    another holder: from then on, --threshold holders must sign together.

    \b
    Example:
      ftf-broker init "Exercise Amber" authority --log sqlite:log.db --keys 3 --threshold 2
      ftf-broker kas init kas kas --like authority/authority.toml
    """
    check_majority(threshold, count, hint=f"for {count} keys say --threshold {count // 2 + 1} or more")
    folder = Path(os.path.abspath(folder))
    # Only the profile is looked for: the folder may well exist, and hold the log or the passphrase file.
    if (folder / "authority.toml").exists():
        raise UsageError(f"'{folder}' holds a coalition's authority already", hint="choose another folder")
    file = Path(os.path.abspath(passphrase_file)) if passphrase_file else None
    passphrase = new_passphrase(AUTHORITY, file)
    store = KeyFolder.create(folder / "keys", passphrase)
    profile = await found(
        coalition,
        store,
        folder=folder,
        url=absolute_url(url) if url else absolute_url(f"sqlite:{quote(str(folder / 'log.db'))}"),
        count=count,
        threshold=threshold,
        passphrase_file=file,
    )
    if as_json:
        print_json({"genesis": profile.genesis.hex(), "profile": str(profile.path), "log": profile.log})
        return
    note(f"founded '{coalition}': {threshold} of {count} authority keys in {store.folder}")
    note(f"profile  {profile.path}")
    note("genesis hash, to be pinned by everybody who takes part:")
    print_line(profile.genesis.hex())
    note(f"next: ftf-broker kas init kas FOLDER --like {profile.path}", style="dim")


def check_majority(threshold: int, count: int, *, hint: str) -> None:
    """Raise UsageError unless ``threshold`` is a majority of ``count`` keys.

    With less than a majority, two groups of holders without a common member could both speak for the
    authority, and the directory would have two truths.
    """
    if not count < 2 * threshold <= 2 * count:
        raise UsageError(f"--threshold {threshold} of {count} keys, expected a majority of them", hint=hint)


async def found(
    coalition: str,
    store: KeyFolder,
    *,
    folder: Path,
    url: str,
    count: int,
    threshold: int,
    passphrase_file: Path | None,
) -> Profile:
    """Make the authority's keys, append the genesis to a log without a directory, and write the profile.

    Raises UsageError when the log holds a coalition already.
    """
    async with open_log(url) as log:
        await log.ensure(DIRECTORY.topic, 1)
        # Two processes that found on one log at the same moment both pass here. Only the first genesis in the
        # log counts; the profile of the other process is then refused whenever it is used.
        if (await log.ends([DIRECTORY]))[DIRECTORY]:
            raise UsageError(
                f"the log '{url}' holds a coalition already",
                hint="choose another file, or another prefix: sqlite:log.db?prefix=exercise",
            )
        # Made only when the log is known to be free, so that a wrong --log leaves no keys behind.
        keys = [store.new_signing("authority") for _ in range(count)]
        statement = drafts.found_coalition(
            coalition=coalition,
            authority_keys=[key.public for key in keys],
            threshold=threshold,
            issued_at=system_clock(),
        )
        # All of the keys sign, not the threshold alone: each proves that somebody holds it.
        signed = sign_statement(statement, keys, bytes(32))
        # A genesis that does not count would stay in the log for ever, so it is tried out first.
        apply(Directory.empty(), signed, appended_at=system_clock())
        profile = Profile(
            path=folder / "authority.toml",
            name=AUTHORITY,
            role=Role.AUTHORITY,
            log=url,
            keys=store.folder,
            state=folder / "state",
            genesis=sha256(signed.content).digest(),
            passphrase_file=passphrase_file,
        )
        # The profile is saved first: without a genesis it can be thrown away, but a genesis without its
        # profile would occupy the log.
        profile.save()
        key, value = directory_message(signed)
        # Commit point: from here on the coalition exists.
        await log.append(DIRECTORY, [Message(key, value)])
        # ``channel open`` creates missing topics as well, so a crash before this line does no harm.
        await ensure_topics(log, 1)
    return profile


async def ensure_topics(log: Log, channels: int) -> None:
    """Create every topic that is missing, with a partition for each of this many channels."""
    for topic in (*default_store().topics, "access"):
        await log.ensure(topic, channels)
    await log.ensure("checkpoints", 1)
    # Only this topic is compacted: a release secret that was replaced must be gone from the log.
    await log.ensure("keys", 1, compacted=True)
