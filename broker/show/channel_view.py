"""Channels and their epochs as words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from broker.directory import Channel, Epoch
from broker.wire.statements import Mandate

__all__ = [
    "channel_json",
    "channel_state",
    "epoch_state",
    "epoch_text",
    "epochs_of",
    "mandates_of",
    "members_text",
]


def members_text(channel: Channel) -> str:
    """Return the members' names, sorted, on one line."""
    return ", ".join(sorted(channel.members))


def epoch_text(channel: Channel) -> str:
    """Return the number of the epoch under which members publish now, or ``-`` when there is none yet."""
    return "-" if channel.newest_confirmed < 0 else str(channel.newest_confirmed)


def epochs_of(channel: Channel) -> Sequence[Epoch]:
    """Return the channel's epochs, the oldest first."""
    return sorted(channel.epochs.values(), key=lambda epoch: epoch.number)


def mandates_of(channel: Channel) -> Sequence[Mandate]:
    """Return the channel's mandates, sorted by their reference."""
    return sorted(channel.mandates.values(), key=lambda mandate: mandate.ref)


def channel_state(channel: Channel) -> str:
    """Return in words whether members can publish, and what the channel's keys need first."""
    if not channel.is_open:
        return "closed"
    # This comes before the comparison: after a suspension the newest epoch is confirmed, and still due to be
    # replaced.
    if channel.needs_new_epoch:
        return "open, needs new keys"
    return "open" if channel.newest_confirmed == channel.newest_published else "open, keys not confirmed"


def epoch_state(epoch: Epoch) -> str:
    """Return in words whether the keys of an epoch can be used."""
    # A complaint comes first: it also stands against an epoch that was confirmed.
    if epoch.complained:
        return "complained of"
    return "not confirmed" if epoch.confirmed_at is None else f"confirmed at {epoch.confirmed_at}"


def channel_json(channel: Channel) -> dict[str, object]:
    """Return everything that the directory says of a channel, for a program."""
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
            {"ref": mandate.ref, "agency": mandate.agency, "purposes": list(mandate.purposes)}
            for mandate in mandates_of(channel)
        ],
        # -1 while no epoch is confirmed; programs rely on that, so it is not the "-" of the table.
        "epoch": channel.newest_confirmed,
        "epochs": [
            {
                "number": epoch.number,
                "publisher": epoch.publisher,
                "state": epoch_state(epoch),
                # Only members have content seeds. Auditors and the service hold metadata seeds, which open no
                # record.
                "readers": sorted(epoch.content.offers),
            }
            for epoch in epochs_of(channel)
        ],
    }
