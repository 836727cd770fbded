"""Profiles opened for a command: the person at the terminal is asked for the passphrase."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from broker.errors import UsageError
from broker.services.kas.local import open_service as open_service_with
from broker.services.kas.service import KeyAccessService
from broker.services.key_access import open_profile
from broker.session import Profile, Session
from broker.session.passphrase import passphrase_for
from broker.session.passphrase import passphrase_of as passphrase_with

__all__ = ["new_passphrase", "open_service", "open_session", "passphrase_of"]

_HINT = "set FTF_PASSPHRASE_FILE to a file of mode 0600, or passphrase_file in the profile"


def open_session(profile: Profile) -> AbstractAsyncContextManager[Session]:
    """Open a profile; the passphrase is asked for when it is needed first."""
    return open_profile(profile, ask=_ask)


def open_service(profile: Profile) -> AbstractAsyncContextManager[tuple[Session, KeyAccessService]]:
    """Run the key access service of this profile while the block runs."""
    return open_service_with(profile, ask=_ask)


def passphrase_of(profile: Profile) -> bytes:
    """Return the passphrase for this profile's key files; it is not tried here."""
    return passphrase_with(profile, _ask)


def new_passphrase(name: str, file: Path | None = None) -> bytes:
    """Return the passphrase for new keys of ``name``; a person has to type it twice."""
    # A person types it twice, because a typing error in a new passphrase would make the keys useless.
    return passphrase_for(
        name, file, lambda name: _prompted(name, f"New passphrase for '{name}'", twice=True)
    )


def _ask(name: str) -> bytes:
    return _prompted(name, f"Passphrase of '{name}'", twice=False)


def _prompted(name: str, prompt: str, *, twice: bool) -> bytes:
    # In a pipe stdin is data, for example records to publish, and must not be read as a passphrase.
    if not sys.stdin.isatty():
        raise UsageError(
            f"the passphrase of '{name}' is not given, and there is no terminal to ask", hint=_HINT
        )
    # The question goes to stderr, because stdout may be a pipe that carries data.
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    # Bytes that are not UTF-8 come from the terminal as surrogates, and become the same bytes again here.
    return text.encode("utf-8", "surrogateescape")
