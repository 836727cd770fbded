"""Where the passphrase of the key files comes from.

In this order: the profile's own ``passphrase_file`` (a process may use more than one profile, each with
its passphrase), FTF_PASSPHRASE, FTF_PASSPHRASE_FILE, and else the person at the terminal, asked twice
where keys are made. A file must be readable by its owner only; one line break at its end does not
belong to the passphrase.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from broker.cli.profile import Profile
from broker.crypto.keyfile import read_private
from broker.errors import KeyFileError, UsageError

__all__ = ["new_passphrase", "passphrase_of"]

_HINT = "set FTF_PASSPHRASE_FILE to a file of mode 0600, or passphrase_file in the profile"


def passphrase_of(profile: Profile) -> bytes:
    """The passphrase that opens this profile's key files; not yet tried."""
    given = _given(profile.passphrase_file)
    return given if given is not None else _asked(profile.name, twice=False)


def new_passphrase(name: str, file: Path | None = None) -> bytes:
    """The passphrase for keys about to be made for ``name``."""
    given = _given(file)
    return given if given is not None else _asked(name, twice=True)


def _given(file: Path | None) -> bytes | None:
    text = os.environ.get("FTF_PASSPHRASE")
    if file is None and text is not None:
        return _checked(text.encode("utf-8", "surrogateescape"), "FTF_PASSPHRASE")
    if file is None and (name := os.environ.get("FTF_PASSPHRASE_FILE")):
        file = Path(name)
    if file is None:
        return None
    data = read_private(file)
    line = data[:-2] if data.endswith(b"\r\n") else data.removesuffix(b"\n")
    return _checked(line, f"'{file}'")


def _checked(passphrase: bytes, where: str) -> bytes:
    if not passphrase:
        raise KeyFileError(
            f"the passphrase in {where} is empty", hint="keys are stored under a passphrase only"
        )
    return passphrase


def _asked(name: str, *, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            f"the passphrase of '{name}' is not given, and there is no terminal to ask", hint=_HINT
        )
    prompt = f"New passphrase for '{name}'" if twice else f"Passphrase of '{name}'"
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    return text.encode("utf-8", "surrogateescape")
