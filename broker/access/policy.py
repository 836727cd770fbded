"""The decision: one pure function, by which the KAS decides and replay decides again.

    decide(request, entry, directory, state, now) -> Decision

``entry`` is what the manifest says of the record, ``state`` what later records and the take-over
made of it, ``directory`` the directory at the recorded size, ``now`` the access entry's issued_at
in microseconds. The first reason that denies is the answer; nothing allows by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.directory import Channel, Directory
from broker.wire.access import AccessRequest
from broker.wire.manifest import CollectionStatus, Operation, Reason, Verdict
from broker.wire.terms import (
    LED_PURPOSES,
    LOG_PURPOSES,
    WELFARE_PURPOSES,
    HandlingCode,
    Purpose,
    RecordTerms,
)

__all__ = [
    "ALLOWED",
    "Decision",
    "RecordEntry",
    "RecordState",
    "decide",
    "decide_log",
    "decide_unknown",
    "denied",
]

_MICROSECONDS_A_DAY = 86_400_000_000
_JUDICIAL = frozenset({Purpose.PROSECUTION, Purpose.PENALTY_EXECUTION, Purpose.CRIMINAL_PROCEEDINGS})
"""Judicial proceedings: what H1 excludes, and the only purposes that RESTRICT leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """What the manifest says of one record."""

    topic: str
    partition: int
    epoch: int
    issuer: str
    record_type: str
    terms: RecordTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordState:
    """What became of a record: its take-over, and the orders of its originator that were applied.

    ``erase_by`` is the earliest that a RECTIFY gave it, a day; None where none did.
    """

    status: CollectionStatus
    restricted: bool = False
    withdrawn: bool = False
    erased: bool = False
    erase_by: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """ALLOWED, or DENIED with its reason."""

    verdict: Verdict
    reason: Reason | None = None


ALLOWED = Decision(Verdict.ALLOWED)


def denied(reason: Reason) -> Decision:
    """DENIED for this reason."""
    return Decision(Verdict.DENIED, reason)


def decide(
    request: AccessRequest, entry: RecordEntry, directory: Directory, state: RecordState, now: int
) -> Decision:
    """Whether this request may read this record.

    (1) a member of the record's channel, admitted and not suspended, and the channel is open, since
    no entry can be written for a closed one, (2) taken over by the KAS,
    (3) the epoch was granted to it, (4) record type, (5) purpose against the channel and the
    record, (6) the operation and its mandate, (7) handling codes, (8) releasable_to,
    (9) restricted, withdrawn, erased, expired.
    """
    reason = _deny_party(request, directory, entry.partition)  # (1)
    if reason is not None:
        return denied(reason)
    channel = directory.channels[request.channel]
    if state.status is not CollectionStatus.COLLECTED:
        return denied(Reason.NOT_COLLECTED)  # (2)
    epoch = channel.epochs.get(entry.epoch)
    if epoch is None or not epoch.is_recipient(request.issuer):
        return denied(Reason.EPOCH_NOT_GRANTED)  # (3)
    if entry.record_type not in channel.record_types:
        return denied(Reason.RECORD_TYPE)  # (4)
    is_originator = request.issuer == entry.issuer
    reason = (
        _deny_purpose(request.purpose, channel, entry.terms.purpose)  # (5)
        or _deny_operation(request, channel)  # (6)
        or (None if is_originator else _deny_handling(request.purpose, entry.terms))  # (7)
        or _deny_release(request.issuer, entry)  # (8)
        or _deny_state(request.purpose, entry.terms, state, now)  # (9)
    )
    return ALLOWED if reason is None else denied(reason)


def decide_unknown(request: AccessRequest, directory: Directory, partition: int) -> Decision:
    """The answer for a record that is not where the request says: DENIED, with who asks looked at first."""
    return denied(_deny_party(request, directory, partition) or Reason.UNKNOWN_RECORD)


def decide_log(request: AccessRequest, directory: Directory, partition: int) -> Decision:
    """Whether this request may read a range of the channel's access log.

    Auditors of the channel read all of it, members what concerns them; for the four purposes of
    LED art. 25(2) only.
    """
    channel = directory.channel(request.channel)
    if channel is not None and request.issuer in channel.auditors and channel.number == partition:
        party = directory.auditor(request.issuer)
        if party is None or party.suspended:
            return denied(Reason.NOT_AUDITOR)
        if not channel.is_open:
            return denied(Reason.CHANNEL_CLOSED)
    else:
        reason = _deny_party(request, directory, partition)
        if reason is not None:
            return denied(reason)
    if request.purpose not in LOG_PURPOSES:
        return denied(Reason.PURPOSE_CHANNEL)
    if request.operation is not Operation.CONSULTATION:
        return denied(Reason.MANDATE)
    return ALLOWED


def _deny_party(request: AccessRequest, directory: Directory, partition: int) -> Reason | None:
    channel = directory.channel(request.channel)
    if channel is None or channel.number != partition or request.issuer not in channel.members:
        return Reason.NOT_MEMBER
    agency = directory.agency(request.issuer)
    if agency is None:
        return Reason.NOT_MEMBER
    if agency.suspended:
        return Reason.SUSPENDED
    return None if channel.is_open else Reason.CHANNEL_CLOSED


def _deny_purpose(purpose: Purpose, channel: Channel, shared_for: Purpose) -> Reason | None:
    """Purposes of the LED stand for one another where the channel allows them (LED art. 4(2));

    welfare purposes fall under other law and are neither widened to the LED nor narrowed from it.
    """
    if purpose in LOG_PURPOSES or purpose not in channel.purposes:
        return Reason.PURPOSE_CHANNEL
    if purpose in LED_PURPOSES and shared_for in LED_PURPOSES:
        return None
    if purpose in WELFARE_PURPOSES and shared_for is purpose:
        return None
    return Reason.PURPOSE_RECORD


def _deny_operation(request: AccessRequest, channel: Channel) -> Reason | None:
    if request.operation is Operation.CONSULTATION:
        return None
    if request.operation is not Operation.DISCLOSURE or request.mandate_ref is None:
        return Reason.MANDATE
    mandate = channel.mandates.get(request.mandate_ref)
    if mandate is None or mandate.agency != request.issuer or request.purpose not in mandate.purposes:
        return Reason.MANDATE
    return None


def _deny_handling(purpose: Purpose, terms: RecordTerms) -> Reason | None:
    codes = terms.handling.codes
    if HandlingCode.H0 in codes and purpose not in LED_PURPOSES:
        return Reason.HANDLING
    if HandlingCode.H1 in codes and purpose in _JUDICIAL:
        return Reason.HANDLING
    return None


def _deny_release(issuer: str, entry: RecordEntry) -> Reason | None:
    releasable_to = entry.terms.handling.releasable_to
    if not releasable_to or issuer == entry.issuer or issuer in releasable_to:
        return None
    return Reason.NOT_RELEASABLE


def _deny_state(purpose: Purpose, terms: RecordTerms, state: RecordState, now: int) -> Reason | None:
    if state.erased:
        return Reason.ERASED
    if state.withdrawn:
        return Reason.WITHDRAWN
    erase_by = terms.erase_by if state.erase_by is None else min(terms.erase_by, state.erase_by)
    if now >= erase_by * _MICROSECONDS_A_DAY:
        return Reason.EXPIRED
    if state.restricted and purpose not in _JUDICIAL:
        return Reason.RESTRICTED
    return None
