"""Channels as they are shown."""

from __future__ import annotations

from broker.directory import Channel, Directory
from broker.errors import UsageError

__all__ = ["channel_json", "channel_named", "channel_state", "epoch_state", "epoch_text", "members_text"]


def channel_named(directory: Directory, name: str) -> Channel:
    """The channel of this name; UsageError that lists which there are."""
    channel = directory.channel(name)
    if channel is None:
        known = ", ".join(sorted(directory.channels)) or "none yet"
        raise UsageError(f"there is no channel '{name}'", hint=f"there are: {known}")
    return channel


def members_text(channel: Channel) -> str:
    return ", ".join(sorted(channel.members))


def epoch_text(channel: Channel) -> str:
    return "-" if channel.newest_confirmed < 0 else str(channel.newest_confirmed)


def channel_state(channel: Channel) -> str:
    if not channel.is_open:
        return "closed"
    if channel.needs_new_epoch:
        return "open, needs new keys"
    return "open" if channel.newest_confirmed == channel.newest_published else "open, keys not confirmed"


def epoch_state(confirmed_at: int | None, complained: bool) -> str:
    if complained:
        return "complained of"
    return "not confirmed" if confirmed_at is None else f"confirmed at {confirmed_at}"


def channel_json(channel: Channel) -> dict[str, object]:
    return {
        "name": channel.name,
        "number": channel.number,
        "kind": channel.kind.lower(),
        "state": channel_state(channel),
        "members": sorted(channel.members),
        "auditors": sorted(channel.auditors),
        "record_types": sorted(channel.record_types),
        "purposes": sorted(channel.purposes),
        "legal_basis": channel.legal_basis,
        "ceiling_days": channel.ceiling_days,
        "joining": channel.joining.value,
        "mandates": [
            {"ref": one.ref, "agency": one.agency, "purposes": list(one.purposes)}
            for one in sorted(channel.mandates.values(), key=lambda mandate: mandate.ref)
        ],
        "epoch": channel.newest_confirmed,
        "epochs": [
            {
                "number": one.number,
                "publisher": one.publisher,
                "state": epoch_state(one.confirmed_at, one.complained),
                "readers": sorted(one.content_seeds),
            }
            for one in sorted(channel.epochs.values(), key=lambda epoch: epoch.number)
        ],
    }
