"""New participants: their folder, their keys and their profile.

A participant makes its keys on its own host, and they never leave it. What the authority gets is a request:
a statement file that the new key has signed (see ``request``).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.cli.context import json_option
from broker.cli.opening import new_passphrase
from broker.errors import UsageError
from broker.session import Profile, Role
from broker.session.key_folder import KeyFolder
from broker.session.profile import bytes_of, check_name, local_kas, slug, url_from

__all__ = ["ProfileOptions", "absolute_url", "create", "new_profile_options", "passphrase_file_option"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """The folder of a new participant, and what its profile points to."""

    folder: Path
    like: Path | None = None
    """A profile of the same coalition, which stands in for what is not given here."""
    log: str | None = None
    kas: str | None = None
    genesis: str | None = None
    passphrase_file: Path | None = None


passphrase_file_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file of mode 0600 that holds the passphrase of the keys. Default: you are asked for it.",
)


def new_profile_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command FOLDER and the options of a new profile, as its argument ``place``."""

    @click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
    @click.option(
        "--like",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Take log, key access service and genesis from this profile, for example the authority's.",
    )
    @click.option("--log", metavar="URL", help="The coalition's log, for example sqlite:///srv/ftf/log.db.")
    @click.option("--kas", metavar="ADDRESS", help="The key access service: local:<path of its profile>.")
    @click.option(
        "--genesis",
        metavar="HEX",
        help="The genesis hash, 64 hex digits. Get it from the authority in person.",
    )
    @passphrase_file_option
    @json_option
    @functools.wraps(command)
    def with_place(*args: Any, **kwargs: Any) -> T:
        # ProfileOptions names these fields. kwargs holds the other arguments of the command as well.
        fields = {
            name: kwargs.pop(name) for name in ("folder", "like", "log", "kas", "genesis", "passphrase_file")
        }
        return command(*args, place=ProfileOptions(**fields), **kwargs)

    return with_place


def create(name: str, role: Role, place: ProfileOptions) -> Profile:
    """Make the folder, the keys and the profile of a new participant, and return the profile."""
    check_name(name, role)
    folder = Path(os.path.abspath(place.folder))
    profile = _planned(name, role, folder, place)
    # Checked before a passphrase is asked for and before a key is made.
    if profile.path.exists():
        raise UsageError(f"'{profile.path}' exists already", hint="choose another folder")
    passphrase = new_passphrase(name, profile.passphrase_file)
    store = KeyFolder.create(profile.keys, passphrase)
    store.new_signing()
    store.new_receiving()
    # The profile comes last: as long as it is missing, the same command can simply be run again.
    profile.save()
    return profile


def _planned(name: str, role: Role, folder: Path, place: ProfileOptions) -> Profile:
    like = Profile.load(place.like) if place.like else None
    url = absolute_url(place.log) if place.log else like.log if like else None
    genesis = bytes_of(place.genesis, 32, "--genesis") if place.genesis else like.genesis if like else None
    if url is None or genesis is None:
        missing = "--log" if url is None else "--genesis"
        raise UsageError(f"{missing} is missing", hint="or take both from a profile with --like FILE")
    # Paths on the command line are relative to the working directory; those of --like are absolute already.
    kas = local_kas(place.kas, Path.cwd()) if place.kas else like.kas if like else None
    # Never taken from --like: a participant has a passphrase of its own.
    passphrase_file = place.passphrase_file
    return Profile(
        path=folder / f"{slug(name)}.toml",
        name=name,
        role=role,
        log=url,
        keys=folder / "keys",
        state=folder / "state",
        genesis=genesis,
        kas=kas,
        passphrase_file=Path(os.path.abspath(passphrase_file)) if passphrase_file else None,
    )


def absolute_url(url: str) -> str:
    """Return a log's URL with its paths made absolute, which are relative to the working directory."""
    return url_from(url, Path.cwd())
