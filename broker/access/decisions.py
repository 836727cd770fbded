"""A whole request decided: every record that it names, from one state of the logs.

The key access service decides with this before it logs, and replay decides again from the entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.access.answers import RecordRef, grouped
from broker.access.policy import Decision, RecordState, decide, decide_log, decide_unknown
from broker.access.record_states import ChannelRecords
from broker.directory import Directory
from broker.wire.access import AccessRequest
from broker.wire.manifest import LogItem, RecordItem, RecordOutcome, Verdict

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
    for place, item in enumerate(request.items):
        if isinstance(item, LogItem):
            decisions[RecordRef(place, -1)] = decide_log(request, directory, partition)
        else:
            decided = _decide_item(request, item, directory, records, partition, now)
            decisions.update((RecordRef(place, index), decision) for index, decision in decided)
    return decisions


def _decide_item(
    request: AccessRequest,
    item: RecordItem,
    directory: Directory,
    records: ChannelRecords,
    partition: int,
    now: int,
) -> Iterator[tuple[int, Decision]]:
    """Each index with its decision; records of the same terms and state are decided once."""
    batch = records.find(item)
    unknown = decide_unknown(request, directory, partition)
    known: dict[tuple[int, int], tuple[RecordState, Decision]] = {}
    for index in item.indexes:
        if batch is None or index >= batch.count:
            yield index, unknown
            continue
        state = records.state(batch, index)
        key = (batch.term_of[index], id(state))
        if key not in known:  # the state is kept beside its decision: its id stays its own
            known[key] = state, decide(request, batch.entry(index), directory, state, now)
        yield index, known[key][1]


def is_wholly_denied(decisions: Mapping[RecordRef, Decision]) -> bool:
    """Whether nothing at all is allowed."""
    return all(decision.verdict is Verdict.DENIED for decision in decisions.values())


def record_outcomes(decisions: Mapping[RecordRef, Decision]) -> tuple[RecordOutcome, ...]:
    """Decisions as an access entry lists them: grouped by item and by what was decided, in order."""
    return tuple(
        RecordOutcome(item=item, indexes=indexes, verdict=one.verdict, reason=one.reason)
        for item, one, indexes in grouped(decisions)
    )
