"""Decisions about a whole request: about every record that it names, from one state of the logs.

The key access service decides with this before it logs, and the replay decides again from the entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.access.answers import RecordRef, grouped
from broker.access.policy import Decision, RecordState, decide, decide_log, decide_unknown
from broker.access.record_states import ChannelRecords
from broker.directory import Directory
from broker.errors import RequestRefused
from broker.wire.access import AccessRequest
from broker.wire.manifest import LogItem, RecordItem, RecordOutcome, Verdict

__all__ = ["check_one_issuer", "decide_request", "is_participant", "is_wholly_denied", "record_outcomes"]


def is_participant(directory: Directory, issuer: str, channel: str) -> bool:
    """Whether the issuer is a member or an auditor of the channel; for all others it does not exist."""
    found = directory.channel(channel)
    return found is not None and (issuer in found.members or issuer in found.auditors)


def check_one_issuer(request: AccessRequest, records: ChannelRecords) -> None:
    """Raise RequestRefused when the batches that a request names have several issuers.

    An issuer is shown the entries of the requests that name a batch of its own, so such an entry must not
    tell it what the same agency has read of others. A batch that does not stand has no issuer yet.
    """
    batches = [records.batch(item.batch_id) for item in request.items if isinstance(item, RecordItem)]
    issuers = sorted({batch.issuer for batch in batches if batch is not None})
    if len(issuers) > 1:
        raise RequestRefused(
            f"request for batches of {len(issuers)} issuers, expected 1",
            hint="ask for the batches of each issuer by a request of their own",
        )


def decide_request(
    request: AccessRequest, directory: Directory, records: ChannelRecords, partition: int, now: int
) -> dict[RecordRef, Decision]:
    """Decide about each record of the request, in its order.

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
    """Yield each index with its decision. Records of the same terms and the same state are decided once."""
    batch = records.find(item)
    unknown = decide_unknown(request, directory, partition)
    known: dict[tuple[int, int], tuple[RecordState, Decision]] = {}
    for index in item.indexes:
        if batch is None or index >= batch.count:
            yield index, unknown
            continue
        state = records.state(batch, index)
        key = (batch.term_of[index], id(state))
        if key not in known:
            # The state is kept beside its decision, so that no other state can get its id meanwhile.
            known[key] = state, decide(request, batch.entry(index), directory, state, now)
        yield index, known[key][1]


def is_wholly_denied(decisions: Mapping[RecordRef, Decision]) -> bool:
    """Whether every record of the request is denied."""
    return all(decision.verdict is Verdict.DENIED for decision in decisions.values())


def record_outcomes(decisions: Mapping[RecordRef, Decision]) -> tuple[RecordOutcome, ...]:
    """Return the decisions as an access entry lists them: grouped by item, equal decisions together."""
    return tuple(
        RecordOutcome(item=item, indexes=indexes, verdict=decision.verdict, reason=decision.reason)
        for item, decision, indexes in grouped(decisions)
    )
