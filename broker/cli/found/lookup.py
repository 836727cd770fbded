"""Participants and channels that a command line names, found in the directory."""

from __future__ import annotations

from broker.directory import Channel, Directory, Party
from broker.errors import UsageError

__all__ = ["channel_named", "party_named"]


def party_named(directory: Directory, name: str) -> Party:
    """Return the participant of this name. Raises UsageError, which lists the names there are."""
    party = directory.parties.get(name)
    if party is None:
        known = ", ".join(sorted(directory.parties)) or "nobody yet"
        raise UsageError(f"nobody in the directory is called '{name}'", hint=f"there are: {known}")
    return party


def channel_named(directory: Directory, name: str) -> Channel:
    """Return the channel of this name. Raises UsageError, which lists the names there are."""
    channel = directory.channel(name)
    if channel is None:
        known = ", ".join(sorted(directory.channels)) or "none yet"
        raise UsageError(f"there is no channel '{name}'", hint=f"there are: {known}")
    return channel
