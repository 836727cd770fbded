"""Where the passphrase of the key files comes from.

In this order: the profile's own ``passphrase_file`` (a process may use more than one profile, each with
its passphrase), FTF_PASSPHRASE, FTF_PASSPHRASE_FILE, and else whoever is asked, if there is somebody. A
file must be readable by its owner only; one line break at its end does not belong to the passphrase.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from broker.crypto.keyfile import read_private
from broker.errors import KeyFileError, UsageError
from broker.session.profile import Profile

__all__ = ["Ask", "passphrase_for", "passphrase_of"]

Ask = Callable[[str], bytes]
"""Asks somebody for the passphrase of the participant with this name; UsageError where nobody is there."""


def passphrase_of(profile: Profile, ask: Ask | None = None) -> bytes:
    """The passphrase that opens this profile's key files; not yet tried."""
    return passphrase_for(profile.name, profile.passphrase_file, ask)


def passphrase_for(name: str, file: Path | None = None, ask: Ask | None = None) -> bytes:
    """The passphrase of ``name``, from this file where it has one; UsageError if none is given."""
    given = _given(file)
    if given is not None:
        return given
    if ask is None:
        raise UsageError(
            f"the passphrase of '{name}' is not given",
            hint="set FTF_PASSPHRASE_FILE to a file of mode 0600, or passphrase_file in the profile",
        )
    return ask(name)


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
