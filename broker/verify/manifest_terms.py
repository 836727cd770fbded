"""The terms of a manifest, checked against the rules of its channel."""

from __future__ import annotations

from broker.clock import day_of
from broker.directory import Channel, Directory
from broker.errors import NotEntitled
from broker.records.term_rules import MAX_TARGETS, TermRule, broken_rules
from broker.wire.envelope import OpenedManifest
from broker.wire.terms import RecordTerms

__all__ = ["check_record_terms", "seal_recipients"]


def seal_recipients(issuer: str, releasable_to: tuple[str, ...]) -> tuple[str, ...]:
    """Return the agencies whose receiving keys open the member share of a batch with ``releasable_to``."""
    return tuple(sorted({issuer, *releasable_to}))


def check_record_terms(directory: Directory, channel: Channel, opened: OpenedManifest) -> None:
    """Check that the channel allows everything that the manifest says of its records.

    Raises NotEntitled for the first of these checks that fails: (1) every entry has the terms of a record,
    (2) each entry's terms keep the rules of `broker.records.term_rules` on the day of issue, (3) the batch
    has at most 256 targets, (4) the batch has one releasable_to list, (5) the member share is sealed to the
    agencies that this list names, and to nobody when it names none, (6) the intake key was announced in the
    directory.
    """
    manifest = opened.manifest
    issued_day = day_of(manifest.header.issued_at)
    targets = 0
    lists = set()
    for terms in opened.entries.terms:
        if not isinstance(terms, RecordTerms):
            raise NotEntitled(f"'{type(terms).__name__}' in a batch of records")  # (1)
        broken = broken_rules(terms, channel, issued_day)
        if broken:
            raise NotEntitled(_words(broken[0], terms, channel))  # (2)
        targets += len(terms.targets)
        lists.add(terms.handling.releasable_to)
    if targets > MAX_TARGETS:
        raise NotEntitled(_too_many_targets(targets))  # (3)
    if len(lists) != 1:
        raise NotEntitled("records with different releasable_to in one batch")  # (4)
    (releasable_to,) = lists
    _check_seals(directory, opened, releasable_to)  # (5)
    # Any announced key will do, whatever its day: a publisher may have bridged a day without a key. A key
    # that was never announced may be the publisher's own. Whoever holds it could read without a log entry.
    if manifest.intake_key_id not in directory.intake_keys:
        raise NotEntitled("the intake key was never announced")  # (6)


def _words(rule: TermRule, terms: RecordTerms, channel: Channel) -> str:
    """Say for an auditor which rule the terms break."""
    match rule:
        case TermRule.RECORD_PURPOSE | TermRule.CHANNEL_PURPOSE:
            return f"purpose {terms.purpose} is not allowed in channel '{channel.name}'"
        case TermRule.TARGETS_OF_ACTION:
            return f"{len(terms.targets)} targets with action {terms.action}"
        case TermRule.TARGET_COUNT:
            return _too_many_targets(len(terms.targets))
        case TermRule.TARGET_INDEX:
            return "target index out of range"
        case TermRule.HANDLING_ORDER:
            return "handling codes or releasable_to are not sorted and distinct"
        case TermRule.RELEASED_TO_MEMBERS:
            strangers = ", ".join(sorted(set(terms.handling.releasable_to) - channel.members))
            return f"releasable_to names agencies outside channel '{channel.name}': {strangers}"
        case _:
            return "review_by and erase_by are not in order within the channel's ceiling"


def _too_many_targets(targets: int) -> str:
    return f"{targets} targets in a batch, at most {MAX_TARGETS}"


def _check_seals(directory: Directory, opened: OpenedManifest, releasable_to: tuple[str, ...]) -> None:
    # A member share that is sealed to one agency more, or to one less, would change who can read the
    # records without changing what the terms say.
    sealed_to = [seal.key_id for seal in opened.manifest.member_seals]
    if not releasable_to:
        if sealed_to:
            raise NotEntitled("the member share is sealed, and releasable_to names nobody")
        return
    names = seal_recipients(opened.manifest.header.issuer, releasable_to)
    owned = [{key.key_id for key in directory.receiving_keys(name)} for name in names]
    if len(sealed_to) != len(owned) or any(
        key_id not in key_ids for key_id, key_ids in zip(sealed_to, owned, strict=True)
    ):
        raise NotEntitled("the member share is not sealed to the authorities that releasable_to names")
