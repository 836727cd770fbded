"""The decision about one record: a pure function, by which the service decides and the replay again.

    decide(request, entry, directory, state, now) -> Decision

``entry`` is what the manifest says about the record. ``state`` is what became of the record since: whether
the service took its batch over, and what its originator ordered. ``directory`` is the directory at the
recorded size, and ``now`` the access entry's issued_at in microseconds. The first reason that denies is the
answer, so the order of the checks is part of the protocol: the replay must find the same reason. Nothing is
allowed by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.clock import DAY_US
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

_JUDICIAL = frozenset({Purpose.PROSECUTION, Purpose.PENALTY_EXECUTION, Purpose.CRIMINAL_PROCEEDINGS})
"""Judicial proceedings: handling code H1 excludes them, and a restricted record is read for them alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """What the manifest says about one record."""

    topic: str
    partition: int
    epoch: int
    issuer: str
    record_type: str
    terms: RecordTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordState:
    """What became of a record: the status of its batch, and the orders of its originator.

    ``listed_day`` is the day on which the COLLECTION entry that lists its batch was issued, and ``erase_by``
    the earliest day that a RECTIFY gave it, both counted from 1970-01-01; None without one.
    """

    status: CollectionStatus
    restricted: bool = False
    withdrawn: bool = False
    erased: bool = False
    listed_day: int | None = None
    erase_by: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """ALLOWED, or DENIED with a reason."""

    verdict: Verdict
    reason: Reason | None = None


ALLOWED = Decision(Verdict.ALLOWED)


def denied(reason: Reason) -> Decision:
    """Return the decision DENIED with this reason."""
    return Decision(Verdict.DENIED, reason)


def decide(
    request: AccessRequest, entry: RecordEntry, directory: Directory, state: RecordState, now: int
) -> Decision:
    """Decide whether this request may read this record.

    (1) The requester is a member of the record's channel, admitted and not suspended, and the channel is
    open, since no access entry can be written for a closed one, (2) the service took the batch over,
    (3) the epoch was granted to the requester, (4) the channel has the record type, (5) channel and record
    permit the purpose, (6) the operation has its mandate, (7) the handling codes permit the purpose, and
    that the record is passed on where the request says so, (8) releasable_to names the requester, (9) the
    record is not erased, withdrawn, expired or restricted.
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
        or (None if is_originator else _deny_handling(request, entry.terms))  # (7)
        or _deny_release(request.issuer, entry)  # (8)
        or _deny_state(request.purpose, _erase_by(entry.terms, state, channel), state, now)  # (9)
    )
    return ALLOWED if reason is None else denied(reason)


def decide_unknown(request: AccessRequest, directory: Directory, partition: int) -> Decision:
    """Decide about a record that does not stand where the request says: always DENIED.

    The requester is looked at first, so that a suspended agency does not learn which records exist.
    """
    return denied(_deny_party(request, directory, partition) or Reason.UNKNOWN_RECORD)


def decide_log(request: AccessRequest, directory: Directory, partition: int) -> Decision:
    """Decide whether this request may read a range of the channel's access log.

    Auditors of the channel read all of it, members the entries that concern them. Both do so for the four
    purposes of LED art. 25(2) only.
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
    """Return why this purpose may not be served, or None.

    A record shared for one purpose of the LED is read for any other of them that the channel allows (LED
    art. 4(2)). Welfare purposes fall under other law: a record shared for one is read for the same one only.
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


def _deny_handling(request: AccessRequest, terms: RecordTerms) -> Reason | None:
    codes = terms.handling.codes
    if HandlingCode.H0 in codes and request.purpose not in LED_PURPOSES:
        return Reason.HANDLING
    if HandlingCode.H1 in codes and request.purpose in _JUDICIAL:
        return Reason.HANDLING
    # H2: not passed on without the originator's permission, and no statement gives one yet.
    if HandlingCode.H2 in codes and request.passes_on:
        return Reason.HANDLING
    return None


def _deny_release(issuer: str, entry: RecordEntry) -> Reason | None:
    releasable_to = entry.terms.handling.releasable_to
    if not releasable_to or issuer == entry.issuer or issuer in releasable_to:
        return None
    return Reason.NOT_RELEASABLE


def _erase_by(terms: RecordTerms, state: RecordState, channel: Channel) -> int:
    """Return the day from which the record is denied: the earliest that its terms, orders and channel give.

    Every reader checked that ``terms.erase_by`` is within the channel's ceiling, counted from the date of the
    manifest. An issuer could date its manifest ahead, so the ceiling counts from the COLLECTION entry too,
    whichever is earlier.
    """
    days = [terms.erase_by]
    if state.erase_by is not None:
        days.append(state.erase_by)
    if state.listed_day is not None:
        days.append(state.listed_day + channel.ceiling_days)
    return min(days)


def _deny_state(purpose: Purpose, erase_by: int, state: RecordState, now: int) -> Reason | None:
    if state.erased:
        return Reason.ERASED
    if state.withdrawn:
        return Reason.WITHDRAWN
    if now >= erase_by * DAY_US:
        return Reason.EXPIRED
    if state.restricted and purpose not in _JUDICIAL:
        return Reason.RESTRICTED
    return None
