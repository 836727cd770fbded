"""What may be published, checked before anything is built, in words that say what to do.

Every reader checks the same on its own (``broker.verify``); here the caller learns of it in time.
"""

from __future__ import annotations

from broker.directory import Channel, Directory, Epoch
from broker.errors import KasUnavailable, NotEntitled, UsageError
from broker.verify.terms import MAX_TARGETS
from broker.wire.batch import Intake
from broker.wire.terms import LOG_PURPOSES, Action, RecordTerms

__all__ = ["check_publisher", "check_terms", "intake_of"]

_INTAKE_DAYS_AHEAD = 15
"""Intake keys are announced 14 days ahead with their day."""


def check_publisher(
    directory: Directory, issuer: str, key_id: bytes, channel_name: str, record_type: str
) -> tuple[Channel, Epoch]:
    """The channel and the epoch to publish under; UsageError says why there is none for this issuer."""
    channel = directory.channel(channel_name)
    if channel is None:
        known = ", ".join(name for name in sorted(directory.channels) if _is_ours(directory, name, issuer))
        raise UsageError(f"there is no channel '{channel_name}'", hint=f"yours: {known or 'none'}")
    if not channel.is_open:
        raise UsageError(f"channel '{channel_name}' is closed", hint="publish in another channel")
    if issuer not in channel.members:
        hint = "ask the authority and the members to let you join it"
        raise UsageError(f"'{issuer}' is no member of channel '{channel_name}'", hint=hint)
    try:
        directory.signer(issuer, key_id)
    except NotEntitled as error:
        party = directory.parties.get(issuer)
        hint = "sign with an active key of the agency, or add this one to the directory"
        if party is not None and party.suspended:
            hint = "ask the authority: it suspends and reinstates agencies"
        raise UsageError(error.message, hint=hint) from None
    if record_type not in channel.record_types:
        allowed = ", ".join(sorted(channel.record_types))
        raise UsageError(
            f"channel '{channel_name}' does not allow '{record_type}'", hint=f"it allows: {allowed}"
        )
    epoch = channel.epoch
    if epoch is None or epoch.confirmed_at is None:
        hint = "a member publishes the channel's keys, then the key access service confirms them"
        raise UsageError(f"channel '{channel_name}' has no confirmed keys yet", hint=hint)
    return channel, epoch


def _is_ours(directory: Directory, channel_name: str, issuer: str) -> bool:
    return issuer in directory.channels[channel_name].members


def check_terms(channel: Channel, terms: RecordTerms, day: int) -> None:
    """Raise UsageError unless these terms may be published in the channel on this day."""
    if terms.purpose in LOG_PURPOSES or terms.purpose not in channel.purposes:
        allowed = ", ".join(sorted(channel.purposes))
        raise UsageError(
            f"channel '{channel.name}' does not allow the purpose {terms.purpose}",
            hint=f"it allows: {allowed}",
        )
    if not day <= terms.review_by <= terms.erase_by:
        hint = "review_by is today or later, and erase_by not before it"
        raise UsageError("review_by and erase_by are not in order", hint=hint)
    if terms.erase_by > day + channel.ceiling_days:
        raise UsageError(
            f"erase_by is {terms.erase_by - day} days ahead",
            hint=f"channel '{channel.name}' keeps records for at most {channel.ceiling_days} days",
        )
    if (terms.action is Action.NEW) == bool(terms.targets):
        hint = "NEW names no records, every other action does"
        raise UsageError(f"{terms.action} with {len(terms.targets)} targets", hint=hint)
    if len(terms.targets) > MAX_TARGETS:
        raise UsageError(f"{len(terms.targets)} targets", hint=f"at most {MAX_TARGETS} to a record")
    for listed in (terms.handling.codes, terms.handling.releasable_to):
        if list(listed) != sorted(set(listed)):
            raise UsageError("handling codes or releasable_to are not sorted and distinct")
    strangers = set(terms.handling.releasable_to) - channel.members
    if strangers:
        raise UsageError(
            f"releasable_to names no member of channel '{channel.name}': {', '.join(sorted(strangers))}",
            hint=f"members: {', '.join(sorted(channel.members))}",
        )


def intake_of(directory: Directory, day: int) -> Intake:
    """The intake key of this day, or of the nearest announced day behind it; else KasUnavailable."""
    for ahead in range(_INTAKE_DAYS_AHEAD):
        key = directory.intake_key(day + ahead)
        if key is not None:
            return Intake(key_id=key.key_id, public=key.public)
    raise KasUnavailable(
        "the key access service has announced no intake key for today or later",
        hint="whoever runs the service announces them: ftf-broker kas announce, or kas run; if it does, "
        "check this machine's clock",
    )
