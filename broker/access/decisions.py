"""A whole request decided: every record that it names, from one state of the logs.

The key access service decides with this before it logs, and replay decides again from the entry.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.access.answers import RecordRef, asked_for
from broker.access.policy import Decision, decide, decide_log, decide_unknown
from broker.access.records import ChannelRecords
from broker.directory import Directory
from broker.formats.access import AccessRequest
from broker.formats.manifest import LogItem, RecordOutcome, Verdict

__all__ = ["decide_request", "is_participant", "is_wholly_denied", "record_outcomes"]


def is_participant(directory: Directory, issuer: str, channel: str) -> bool:
    """Whether somebody is a member or an auditor of a channel; to all others it does not exist."""
    found = directory.channel(channel)
    return found is not None and (issuer in found.members or issuer in found.auditors)


def decide_request(
    request: AccessRequest, directory: Directory, records: ChannelRecords, partition: int, now: int
) -> dict[RecordRef, Decision]:
    """What is decided for each record asked for, in the order of the request.

    ``partition`` is the channel's number, ``now`` the access entry's issued_at in microseconds.
    """
    decisions: dict[RecordRef, Decision] = {}
    for ref in asked_for(request):
        item = request.items[ref.item]
        if isinstance(item, LogItem):
            decisions[ref] = decide_log(request, directory, partition)
            continue
        batch = records.find(item)
        if batch is None or ref.record >= batch.count:
            decisions[ref] = decide_unknown(request, directory, partition)
            continue
        state = records.state(batch, ref.record)
        decisions[ref] = decide(request, batch.entry(ref.record), directory, state, now)
    return decisions


def is_wholly_denied(decisions: Mapping[RecordRef, Decision]) -> bool:
    """Whether nothing at all is allowed."""
    return all(decision.verdict is Verdict.DENIED for decision in decisions.values())


def record_outcomes(decisions: Mapping[RecordRef, Decision]) -> tuple[RecordOutcome, ...]:
    """Decisions as an access entry lists them: grouped by item and by what was decided, in order."""
    groups: dict[tuple[int, Decision], list[int]] = {}
    for ref, decision in decisions.items():
        groups.setdefault((ref.item, decision), []).append(ref.record)
    return tuple(
        RecordOutcome(
            item=item,
            indexes=bytes(index for index in indexes if index >= 0),
            verdict=decision.verdict,
            reason=decision.reason,
        )
        for (item, decision), indexes in groups.items()
    )
