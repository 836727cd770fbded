"""Participants of a coalition and their keys as words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from broker.directory import Directory, Key, KeyState, Party
from broker.show.text import time_text

__all__ = ["channels_of", "keys_json", "keys_of", "party_json", "party_state", "pending_texts"]


def party_state(party: Party) -> str:
    """Return the word that says whether this participant may act: active, suspended or dismissed."""
    # The directory marks a dismissed auditor as suspended: both may do nothing from then on.
    if party.suspended:
        return "dismissed" if party.kind == "AUDITOR" else "suspended"
    return "active"


def channels_of(directory: Directory, name: str) -> list[str]:
    """Return the names of the open channels in which this agency is a member or this auditor audits."""
    return sorted(
        channel.name
        for channel in directory.channels.values()
        if channel.is_open and (name in channel.members or name in channel.auditors)
    )


def keys_of(party: Party) -> Sequence[Key]:
    """Return the keys of a participant, by their use, and the newest of each use first."""
    # A later place in the directory means a newer key. Times of issue are not used: an issuer can write any.
    return sorted(party.keys.values(), key=lambda key: (key.use, -key.added_size))


def pending_texts(party: Party) -> list[str]:
    """Return a line for each key of this participant that is pending: what it is, since when, and by whom."""
    return [
        f"{key.use.lower()} key {key.key_id.hex()} of {party.name} is pending, added "
        f"{time_text(key.added_at)} by {party.name if key.vouchers else 'the authority'}"
        for key in keys_of(party)
        if key.state is KeyState.PENDING
    ]


def keys_json(party: Party) -> list[dict[str, object]]:
    """Return the keys of a participant, for a program."""
    return [
        {
            "key_id": key.key_id.hex(),
            "use": key.use.lower(),
            "state": key.state.lower(),
            "added_at": time_text(key.added_at),
            "place": key.added_size,
        }
        for key in keys_of(party)
    ]


def party_json(directory: Directory, party: Party) -> dict[str, object]:
    """Return a participant, its channels and its keys, for a program."""
    return {
        "name": party.name,
        "title": party.title,
        "kind": party.kind.lower(),
        "state": party_state(party),
        "channels": channels_of(directory, party.name),
        "keys": keys_json(party),
    }
