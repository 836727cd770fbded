"""The passphrase of a participant's key files, and the places where it is looked for.

    (1) ``passphrase_file`` in the profile; it comes first, since one process may use several profiles, each
        with a passphrase of its own
    (2) the environment variable FTF_PASSPHRASE
    (3) the file that the environment variable FTF_PASSPHRASE_FILE names
    (4) a person, by the function that the caller passes in

A file must be readable by its owner only. One line break at its end does not belong to the passphrase.
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
"""Asks a person for the passphrase of the participant of this name; raises UsageError if nobody is there."""


def passphrase_of(profile: Profile, ask: Ask | None = None) -> bytes:
    """Find the passphrase of this profile's key files; it has not been tried on them."""
    return passphrase_for(profile.name, profile.passphrase_file, ask)


def passphrase_for(name: str, file: Path | None = None, ask: Ask | None = None) -> bytes:
    """Find the passphrase of ``name``, first of all in ``file``; raises UsageError if no place has it."""
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
    if file is None and text is not None:  # (2)
        # Bytes that are not UTF-8 come back as they were set, so that any passphrase can be given here.
        return _checked(text.encode("utf-8", "surrogateescape"), "FTF_PASSPHRASE")
    if file is None and (name := os.environ.get("FTF_PASSPHRASE_FILE")):  # (3)
        file = Path(name)
    if file is None:
        return None
    data = read_private(file)  # (1) or (3)
    # Only one line break is cut off: white space may belong to the passphrase.
    line = data[:-2] if data.endswith(b"\r\n") else data.removesuffix(b"\n")
    return _checked(line, f"'{file}'")


def _checked(passphrase: bytes, where: str) -> bytes:
    if not passphrase:
        raise KeyFileError(
            f"the passphrase in {where} is empty", hint="keys are stored under a passphrase only"
        )
    return passphrase
