"""Profiles opened for a command: the person at the terminal is asked for the passphrase."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import click

from broker.cli.output import note
from broker.errors import UsageError
from broker.services.kas.local import open_service as open_service_with
from broker.services.kas.service import KeyAccessService
from broker.services.key_access import open_profile
from broker.session import Profile, Session
from broker.session.passphrase import passphrase_for
from broker.session.passphrase import passphrase_of as passphrase_with
from broker.show.party_view import pending_texts

__all__ = ["new_passphrase", "note_pending_keys", "open_service", "open_session", "passphrase_of"]

_MAX_PENDING_LINES = 4
"""Lines about pending keys that a command prints at most."""

_HINT = "set FTF_PASSPHRASE_FILE to a file of mode 0600, or passphrase_file in the profile"


@asynccontextmanager
async def open_session(profile: Profile) -> AsyncIterator[Session]:
    """Open a profile; the passphrase is asked for when it is needed first.

    Keys of the profile's participant that are pending are told on stderr, since the owner may have to revoke
    them before they take effect.
    """
    async with open_profile(profile, ask=_ask) as session:
        note_pending_keys(session)
        yield session


def note_pending_keys(session: Session) -> None:
    """Say on stderr which keys of this participant are pending, and how they are revoked."""
    party = session.directory.parties.get(session.profile.name)
    lines = pending_texts(party) if party is not None else []
    for line in lines[:_MAX_PENDING_LINES]:
        note(line, style="yellow")
    if len(lines) > _MAX_PENDING_LINES:
        note(f"and {len(lines) - _MAX_PENDING_LINES} more keys", style="yellow")
    if lines:
        note("if it is not yours, now: ftf-broker agency key revoke KEY", style="dim")


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
