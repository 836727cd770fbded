"""What became of a batch: the publisher asks the key access service, which answers signed.

COLLECTED batches can be read. REFUSED ones can not, and only these are published anew, with new ids.
Without an answer the publisher waits: the batch is in the log, and will be taken over when the service
runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

from broker.access.answers import open_collection_answer
from broker.access.client import KeyAccess
from broker.access.requests import make_query
from broker.errors import KasUnavailable, PeerError
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.settle import backoff_s
from broker.publish.tickets import Published
from broker.wire.access import BatchRef
from broker.wire.manifest import Collected, CollectionStatus

__all__ = ["ask_collected"]

_QUERIED = 256

_log = get_logger("broker.exchange")


async def ask_collected(
    published: Sequence[Published],
    participant: Participant,
    kas: KeyAccess,
    *,
    timeout_s: float = 30.0,
) -> tuple[Collected, ...]:
    """What became of the batches of these records, each batch once, in the order of their first record.

    Asks until all are COLLECTED or REFUSED, at most for ``timeout_s``. What is UNKNOWN then, or was
    never answered, comes back as UNKNOWN with a warning in the log: it is no error. A REFUSED batch
    says why in ``detail``. PeerError where an answer is not the service's.
    """
    refs = {
        one.batch_id: (
            one.channel,
            BatchRef(topic=one.topic, offset=one.offset, batch_id=one.batch_id),
        )
        for one in published
    }
    counts: dict[bytes, int] = {}
    for one in published:
        counts[one.batch_id] = counts.get(one.batch_id, 0) + 1
    known: dict[bytes, Collected] = {
        batch_id: Collected(
            topic=ref.topic,
            offset=ref.offset,
            batch_id=batch_id,
            count=counts[batch_id],
            status=CollectionStatus.UNKNOWN,
            detail="no answer",
        )
        for batch_id, (_, ref) in refs.items()
    }
    try:
        async with asyncio.timeout(timeout_s):
            await _ask_all(refs, known, participant, kas)
    except TimeoutError:
        pass
    unknown = [one for one in known.values() if one.status is CollectionStatus.UNKNOWN]
    if unknown:
        _log.warning("batches not yet taken over", batches=len(unknown), waited_s=timeout_s)
    for status in known.values():
        if status.status is CollectionStatus.REFUSED:
            _log.warning("batch refused", topic=status.topic, offset=status.offset, reason=status.detail)
    return tuple(known.values())


async def _ask_all(
    refs: dict[bytes, tuple[str, BatchRef]],
    known: dict[bytes, Collected],
    participant: Participant,
    kas: KeyAccess,
) -> None:
    attempt = 0
    while True:
        open_ = [refs[key] for key, one in known.items() if one.status is CollectionStatus.UNKNOWN]
        if not open_:
            return
        for channel, batches in _by_channel(open_):
            try:
                answer = await _ask(channel, batches, participant, kas)
            except KasUnavailable as error:
                _log.info("key access service not reached", error=error.message)
                break
            asked = {ref.batch_id for ref in batches}
            known.update((one.batch_id, one) for one in answer if one.batch_id in asked)
        else:
            if all(one.status is not CollectionStatus.UNKNOWN for one in known.values()):
                return
        attempt += 1
        await asyncio.sleep(backoff_s(attempt))


def _by_channel(refs: Iterable[tuple[str, BatchRef]]) -> Iterable[tuple[str, list[BatchRef]]]:
    channels: dict[str, list[BatchRef]] = {}
    for channel, ref in refs:
        channels.setdefault(channel, []).append(ref)
    for channel, batches in channels.items():
        rest = iter(batches)
        while part := list(islice(rest, _QUERIED)):
            yield channel, part


async def _ask(
    channel: str,
    batches: Sequence[BatchRef],
    participant: Participant,
    kas: KeyAccess,
) -> tuple[Collected, ...]:
    directory = participant.directory
    query, query_bytes = make_query(
        participant.name,
        participant.keyring.signing,
        directory,
        channel=channel,
        batches=batches,
        now=participant.clock(),
    )
    answer = await kas.collections(query_bytes)
    try:
        return open_collection_answer(answer, query, directory)
    except PeerError:
        # The service may have a key that we have not read of yet.
        history = await participant.follower.refresh()
        return open_collection_answer(answer, query, history.latest)
