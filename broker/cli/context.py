"""What every command is given: the profile chosen, words or JSON, and a loop where something waits.

``--profile`` stands before or after the command's name; the one after it counts, then the one before
it, then FTF_PROFILE.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from broker.cli.output import note
from broker.errors import UsageError
from broker.session import Profile, Role

__all__ = [
    "EXIT_PIPE",
    "Settings",
    "as_role",
    "asynchronous",
    "chosen_profile",
    "json_option",
    "profile_option",
]

P = ParamSpec("P")
T = TypeVar("T")

EXIT_PIPE = 141
"""Nobody reads stdout any more: what a shell says of a program that SIGPIPE ended."""


@dataclass(slots=True)
class Settings:
    """What was said before the command's name."""

    profile: Path | None = None
    verbose: int = 0


def chosen_profile(file: Path | None) -> Profile:
    """The profile of this command; UsageError where none was chosen."""
    context = click.get_current_context(silent=True)
    settings = context.find_object(Settings) if context is not None else None
    if file is None and settings is not None:
        file = settings.profile
    if file is None and (name := os.environ.get("FTF_PROFILE")):
        file = Path(name)
    if file is None:
        raise UsageError(
            "no profile is chosen", hint="name one with --profile FILE, or in the environment as FTF_PROFILE"
        )
    return Profile.load(file)


_ROLE_WORDS = {
    Role.AUTHORITY: "authority",
    Role.AGENCY: "agency",
    Role.KAS: "key access service",
    Role.AUDITOR: "auditor",
}


def as_role(profile: Profile, role: Role) -> Profile:
    """The profile, if it is of somebody in this role; else UsageError."""
    if profile.role is not role:
        raise UsageError(
            f"'{profile.name}' is no {_ROLE_WORDS[role]} but has the role '{profile.role}'",
            hint=f"choose a profile of the role '{role}' with --profile",
        )
    return profile


def profile_option(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command ``--profile FILE``, and the loaded Profile as its argument ``profile``."""

    @click.option(
        "--profile",
        "profile_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Who you are: a profile file. Default: FTF_PROFILE.",
    )
    @functools.wraps(command)
    def with_profile(*args: Any, profile_file: Path | None, **kwargs: Any) -> T:
        return command(*args, profile=chosen_profile(profile_file), **kwargs)

    return with_profile


def json_option(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command ``--json``, as its argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, for a program.")(
        command
    )


def asynchronous(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run a command that waits; Ctrl-C cancels it, and what it was doing is put in order first."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return asyncio.run(command(*args, **kwargs))
        except KeyboardInterrupt:
            note("stopped")
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:  # click would call it exit 1, which says that the answer is no
            raise click.exceptions.Exit(EXIT_PIPE) from None

    return run
