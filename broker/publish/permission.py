"""Permission to publish: the checks that a publisher makes before it builds a batch.

Every reader makes the same checks again (`broker.verify`) and ignores a batch that fails one of them. Here
the caller learns of it in time, in words that say what to do.
"""

from __future__ import annotations

from broker.directory import Channel, Directory, Epoch
from broker.errors import KasUnavailable, NotEntitled, UsageError
from broker.records.term_rules import MAX_TARGETS, TARGET_INDEXES, TermRule, broken_rules
from broker.wire.batch import Intake
from broker.wire.terms import RecordTerms

__all__ = ["check_publisher", "check_terms", "intake_of"]

_INTAKE_DAYS_AHEAD = 15
"""Days that are searched for an intake key, today included: keys are announced 14 days ahead."""


def check_publisher(
    directory: Directory, issuer: str, key_id: bytes, channel_name: str, record_type: str
) -> tuple[Channel, Epoch]:
    """Return the channel and its epoch if this agency may publish records of this type there now.

    Raises UsageError with a hint that says what is missing: the channel, the membership, an active signing
    key, the record type or confirmed channel keys.
    """
    # The checks go from the channel to its keys, because the first thing that is missing explains the others.
    channel = _open_channel(directory, issuer, channel_name)
    _check_signer(directory, issuer, key_id)
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


def _open_channel(directory: Directory, issuer: str, channel_name: str) -> Channel:
    channel = directory.channel(channel_name)
    if channel is None:
        own_channels = [name for name in sorted(directory.channels) if _is_member(directory, name, issuer)]
        known = ", ".join(own_channels) or "none"
        raise UsageError(f"there is no channel '{channel_name}'", hint=f"your channels: {known}")
    if not channel.is_open:
        raise UsageError(f"channel '{channel_name}' is closed", hint="publish in another channel")
    if issuer not in channel.members:
        hint = "ask the authority and the members to let you join it"
        raise UsageError(f"'{issuer}' is no member of channel '{channel_name}'", hint=hint)
    return channel


def _is_member(directory: Directory, channel_name: str, issuer: str) -> bool:
    return issuer in directory.channels[channel_name].members


def _check_signer(directory: Directory, issuer: str, key_id: bytes) -> None:
    try:
        directory.signer(issuer, key_id)
    except NotEntitled as error:
        party = directory.parties.get(issuer)
        hint = "sign with an active key of the agency, or add this one to the directory"
        if party is not None and party.suspended:
            hint = "ask the authority: it suspends and reinstates agencies"
        raise UsageError(error.message, hint=hint) from None


def check_terms(channel: Channel, terms: RecordTerms, day: int) -> None:
    """Check that a record with these terms may be published in the channel on this day.

    Raises UsageError for the first rule of `broker.records.term_rules` that is broken. ``day`` is counted
    from 1970-01-01.
    """
    broken = broken_rules(terms, channel, day)
    if broken:
        raise _refusal(broken[0], channel, terms, day)


def _refusal(rule: TermRule, channel: Channel, terms: RecordTerms, day: int) -> UsageError:
    """Say for the caller which rule the terms break, and what the channel allows."""
    match rule:
        case TermRule.RECORD_PURPOSE | TermRule.CHANNEL_PURPOSE:
            allowed = ", ".join(sorted(channel.purposes))
            words = f"channel '{channel.name}' does not allow the purpose {terms.purpose}"
            hint: str | None = f"it allows: {allowed}"
        case TermRule.CHANNEL_CEILING:
            words = f"erase_by is {terms.erase_by - day} days ahead"
            hint = f"channel '{channel.name}' keeps records for at most {channel.ceiling_days} days"
        case TermRule.TARGETS_OF_ACTION:
            words = f"{terms.action} with {len(terms.targets)} targets"
            hint = "a NEW record has no targets, every other action has at least one"
        case TermRule.TARGET_COUNT:
            words = f"{len(terms.targets)} targets"
            hint = f"a record has at most {MAX_TARGETS} targets"
        case TermRule.TARGET_INDEX:
            words = "the index of a target is out of range"
            hint = f"an index is a place in a batch, {TARGET_INDEXES[0]} to {TARGET_INDEXES[-1]}"
        case TermRule.HANDLING_ORDER:
            words = "handling codes or releasable_to are not sorted and distinct"
            hint = None
        case TermRule.RELEASED_TO_MEMBERS:
            strangers = ", ".join(sorted(set(terms.handling.releasable_to) - channel.members))
            words = f"releasable_to names agencies outside channel '{channel.name}': {strangers}"
            hint = f"members: {', '.join(sorted(channel.members))}"
        case _:
            words = "review_by and erase_by are not in order"
            hint = "review_by is today or later, and erase_by is not before review_by"
    return UsageError(words, hint=hint)


def intake_of(directory: Directory, day: int) -> Intake:
    """Return the intake key of this day, or of the nearest later day that has one.

    Raises KasUnavailable if the key access service has announced no key for today or the next 14 days.
    """
    # A key of a later day serves as well: the key access service holds every key that it announced. So a day
    # that is missing in the directory does not stop publishing.
    for days_ahead in range(_INTAKE_DAYS_AHEAD):
        key = directory.intake_key(day + days_ahead)
        if key is not None:
            return Intake(key_id=key.key_id, public=key.public)
    raise KasUnavailable(
        "the key access service has announced no intake key for today or later",
        hint="the operator of the service announces them with ftf-broker kas announce, or kas run; "
        "if that was done, check this machine's clock",
    )
