"""What a manifest may say of its records, judged with the channel's rules."""

from __future__ import annotations

from broker.crypto.seal import receiving_key_id
from broker.directory import Channel, Directory
from broker.errors import NotEntitled
from broker.wire.batch import OpenedManifest
from broker.wire.terms import LOG_PURPOSES, Action, RecordTerms

__all__ = ["MAX_TARGETS", "MICROSECONDS_A_DAY", "check_record_terms", "seal_recipients"]

MAX_TARGETS = 256
MICROSECONDS_A_DAY = 86_400_000_000


def seal_recipients(issuer: str, releasable_to: tuple[str, ...]) -> tuple[str, ...]:
    """The agencies whose receiving keys open the member share of a batch with ``releasable_to``."""
    return tuple(sorted({issuer, *releasable_to}))


def check_record_terms(directory: Directory, channel: Channel, opened: OpenedManifest) -> None:
    """Raise NotEntitled unless everything the manifest says of its records is allowed in the channel.

    (1) terms of records only, (2) one releasable_to list to a batch, of members, (3) purposes of the
    channel, (4) retention in order and within the ceiling, (5) targets exactly where the action
    needs them, (6) the member share sealed to whom the terms say, (7) an intake key that was announced.
    """
    manifest = opened.manifest
    issued_day = manifest.header.issued_at // MICROSECONDS_A_DAY
    targets, lists = 0, set()
    for terms in opened.entries.terms:
        if not isinstance(terms, RecordTerms):
            raise NotEntitled(f"'{type(terms).__name__}' in a batch of records")  # (1)
        lists.add(terms.handling.releasable_to)
        if terms.purpose in LOG_PURPOSES or terms.purpose not in channel.purposes:
            raise NotEntitled(f"purpose {terms.purpose} is not allowed in channel '{channel.name}'")  # (3)
        if not issued_day <= terms.review_by <= terms.erase_by <= issued_day + channel.ceiling_days:
            raise NotEntitled("review_by and erase_by are not in order within the channel's ceiling")  # (4)
        if (terms.action is Action.NEW) == bool(terms.targets):
            raise NotEntitled(f"{len(terms.targets)} targets with action {terms.action}")  # (5)
        targets += len(terms.targets)
        _check_handling(terms)
    if targets > MAX_TARGETS:
        raise NotEntitled(f"{targets} targets in a batch, at most {MAX_TARGETS}")
    if len(lists) != 1:
        raise NotEntitled("records with different releasable_to in one batch")  # (2)
    (releasable_to,) = lists
    _check_seals(directory, channel, opened, releasable_to)  # (6)
    if manifest.intake_key_id not in directory.intake_keys:
        raise NotEntitled("the intake key was never announced")  # (7)


def _check_handling(terms: RecordTerms) -> None:
    for listed in (terms.handling.codes, terms.handling.releasable_to):
        if list(listed) != sorted(set(listed)):
            raise NotEntitled("handling codes or releasable_to are not sorted and distinct")
    if any(not 0 <= target.index < 256 for target in terms.targets):
        raise NotEntitled("target index out of range")


def _check_seals(
    directory: Directory, channel: Channel, opened: OpenedManifest, releasable_to: tuple[str, ...]
) -> None:
    sealed_to = [seal.key_id for seal in opened.manifest.member_seals]
    if not releasable_to:
        epoch = channel.epochs[opened.manifest.header.epoch]
        if sealed_to != [receiving_key_id(epoch.content_key)]:
            raise NotEntitled("the member share is not sealed to the channel's content key")
        return
    if not channel.members.issuperset(releasable_to):
        strangers = ", ".join(sorted(set(releasable_to) - channel.members))
        raise NotEntitled(f"releasable_to names no member of channel '{channel.name}': {strangers}")
    names = seal_recipients(opened.manifest.header.issuer, releasable_to)
    owned = [{key.key_id for key in directory.receiving_keys(name)} for name in names]
    if len(sealed_to) != len(owned) or any(k not in keys for k, keys in zip(sealed_to, owned, strict=True)):
        raise NotEntitled("the member share is not sealed to the authorities that releasable_to names")
