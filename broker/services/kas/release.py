"""What is released of a decided request: what was allowed when it was logged, is allowed now, and is held."""

from __future__ import annotations

from collections.abc import Mapping

from broker.access.answers import Outcome, RecordRef
from broker.access.policy import Decision
from broker.access.record_states import ChannelRecords
from broker.errors import OpenError
from broker.logger import get_logger
from broker.services.kas.channel_service import Means
from broker.wire.access import AccessRequest
from broker.wire.manifest import LogItem, Reason, RecordItem, Verdict

__all__ = ["not_released", "release"]

_RELEASED = Outcome(Verdict.ALLOWED, None, True)
_NOT_HELD = Outcome(Verdict.ALLOWED, Reason.NOT_COLLECTED, False)
_log = get_logger("broker.access")


def not_released(decisions: Mapping[RecordRef, Decision]) -> dict[RecordRef, Outcome]:
    """The outcomes where nothing is released."""
    return {ref: Outcome(one.verdict, one.reason, False) for ref, one in decisions.items()}


async def release(
    means: Means,
    request: AccessRequest,
    records: ChannelRecords,
    logged: Mapping[RecordRef, Decision],
    now: Mapping[RecordRef, Decision],
) -> tuple[dict[RecordRef, Outcome], dict[RecordRef, bytes]]:
    """The outcome of each record, and the shares that go along.

    ``logged`` is what the durable entry says, ``now`` what is decided after it was read back. Withheld
    with NOT_COLLECTED is what should be held and is not.
    """
    outcomes: dict[RecordRef, Outcome] = {}
    shares: dict[RecordRef, bytes] = {}
    held: Mapping[int, bytes] = {}
    current = -1
    for ref, decision in logged.items():
        item, record = ref
        if item != current:
            current, held = item, await _held_of(means, records, request.items[item])
        if decision.verdict is Verdict.DENIED:
            outcomes[ref] = Outcome(Verdict.DENIED, decision.reason, False)
        elif now[ref].verdict is Verdict.DENIED:
            outcomes[ref] = Outcome(Verdict.ALLOWED, now[ref].reason, False)
        elif record < 0:  # a range of the access log has entries, not shares
            outcomes[ref] = _RELEASED
        elif record in held:
            outcomes[ref], shares[ref] = _RELEASED, held[record]
        else:
            outcomes[ref] = _NOT_HELD
    return outcomes, shares


async def _held_of(means: Means, records: ChannelRecords, item: RecordItem | LogItem) -> Mapping[int, bytes]:
    batch = records.find(item) if isinstance(item, RecordItem) else None
    if batch is None:
        return {}
    context, erased = batch.context(means.genesis), records.shredded(batch.batch_id)
    for is_refreshed in (False, True):
        try:
            return await means.held.shares(
                batch.batch_id, context, batch.count, erased=erased, day=means.day()
            )
        except OpenError as error:
            if is_refreshed:
                _log.error("held release unusable", batch=batch.batch_id.hex(), detail=error.message)
            else:
                await means.held.refresh()  # a replica may have taken it over, or written it again
    return {}
