"""Participants as they are shown."""

from __future__ import annotations

from broker.cli.found.issuing import How
from broker.cli.output import note
from broker.directory import Directory, Party
from broker.errors import UsageError
from broker.session import Session
from broker.show.text import time_text

__all__ = ["channels_of", "party_json", "party_named", "party_state", "tell_epochs"]


def tell_epochs(session: Session, how: How) -> None:
    """A suspension or a revoked key does not close a channel's epoch: a member must publish the next."""
    waiting = [one.name for one in session.directory.channels.values() if one.is_open and one.needs_new_epoch]
    if waiting and not how.as_json:
        note(f"these channels need new keys: {', '.join(sorted(waiting))}")
        note("next, by a member of each: ftf-broker channel rotate CHANNEL", style="dim")


def party_named(directory: Directory, name: str) -> Party:
    """The party of this name; UsageError that lists whom there is."""
    party = directory.parties.get(name)
    if party is None:
        known = ", ".join(sorted(directory.parties)) or "nobody yet"
        raise UsageError(f"nobody in the directory is called '{name}'", hint=f"there are: {known}")
    return party


def party_state(party: Party) -> str:
    """A word for whether this party may act."""
    if party.suspended:
        return "dismissed" if party.kind == "AUDITOR" else "suspended"
    return "active"


def channels_of(directory: Directory, name: str) -> list[str]:
    return sorted(
        channel.name
        for channel in directory.channels.values()
        if channel.is_open and (name in channel.members or name in channel.auditors)
    )


def party_json(directory: Directory, party: Party) -> dict[str, object]:
    return {
        "name": party.name,
        "title": party.title,
        "kind": party.kind.lower(),
        "state": party_state(party),
        "channels": channels_of(directory, party.name),
        "keys": [
            {
                "key_id": key.key_id.hex(),
                "use": key.use.lower(),
                "state": key.state.lower(),
                "added_at": time_text(key.added_at),
                "place": key.added_size,
            }
            for key in sorted(party.keys.values(), key=lambda one: (one.use, -one.added_size))
        ],
    }
