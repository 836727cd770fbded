"""What commands have in common: the chosen profile, ``--json``, and an event loop.

``--profile`` may stand before or after the command's name. The one behind the name counts first, then the
one before it, then FTF_PROFILE.
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
"""The exit code when our reader has gone: the one that a shell gives for a program that SIGPIPE ended."""


@dataclass(slots=True)
class Settings:
    """The options that stood before the command's name."""

    profile: Path | None = None
    verbose: int = 0


def chosen_profile(file: Path | None) -> Profile:
    """Load the profile that was chosen for this command. Raises UsageError where none was chosen."""
    context = click.get_current_context(silent=True)
    settings = context.find_object(Settings) if context is not None else None
    if file is None and settings is not None:
        file = settings.profile
    # The variable is read here and is not click's ``envvar`` of --profile. An option before the command's
    # name must count more than the environment.
    name = os.environ.get("FTF_PROFILE")
    if file is None and name:
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
    """Return the profile if it has this role. Raises UsageError where it has another one."""
    if profile.role is not role:
        raise UsageError(
            f"'{profile.name}' is no {_ROLE_WORDS[role]} but has the role '{profile.role}'",
            hint=f"choose a profile of the role '{role}' with --profile",
        )
    return profile


def profile_option(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the option ``--profile FILE``; it receives the loaded Profile as ``profile``."""

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
    """Give a command the option ``--json``; it receives it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, for a program.")(
        command
    )


def asynchronous(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async command in an event loop. Ctrl-C cancels it, and it cleans up before it ends."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return asyncio.run(command(*args, **kwargs))
        except KeyboardInterrupt:
            note("stopped")
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            # click would exit with 1, which means here that the answer is no.
            raise click.exceptions.Exit(EXIT_PIPE) from None

    return run
