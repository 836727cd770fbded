"""Collections: what became of a publisher's batches, as the key access service answers, signed.

The service *collects* a batch when it takes over the keys that it needs to release the records. A batch that
is COLLECTED can be read. A batch that is REFUSED, or VOID for every reader, can never be read: its publisher
corrects it. A batch that is STALE came too late without anybody's fault: it is published anew here. While
there is no answer the publisher waits, and publishes nothing again: the batch is in the log, and the service
takes it over when it runs again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from broker.access.answers import open_collection_answer
from broker.access.client import KeyAccess
from broker.access.request_checks import MAX_QUERIED
from broker.access.requests import make_query
from broker.errors import KasUnavailable, PeerError
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.settle import backoff_s
from broker.publish.kept import KeptBatches
from broker.publish.tickets import Published
from broker.wire.access import BatchRef
from broker.wire.manifest import Collected, CollectionStatus

__all__ = ["ask_collected"]

_log = get_logger("broker.publish")


async def ask_collected(
    published: Sequence[Published],
    participant: Participant,
    kas: KeyAccess,
    *,
    timeout_s: float = 30.0,
    kept: KeptBatches | None = None,
) -> tuple[Collected, ...]:
    """Ask what became of these records' batches; return each batch once, in the order of its first record.

    The question is repeated until every batch has an answer, for at most ``timeout_s`` seconds. A batch
    without one is then returned as UNKNOWN, and a warning is logged; this is not an error. A REFUSED or VOID
    batch says why in ``detail``. A STALE batch that is among the ``kept`` ones is published anew, and what is
    returned in its place is the answer for the batch that replaces it. Raises PeerError for an answer that is
    not the service's.
    """
    refs = {
        record.batch_id: (
            record.channel,
            BatchRef(topic=record.topic, offset=record.offset, batch_id=record.batch_id),
        )
        for record in published
    }
    counts = Counter(record.batch_id for record in published)
    answers = {batch_id: _unanswered(ref, counts[batch_id]) for batch_id, (_, ref) in refs.items()}
    try:
        async with asyncio.timeout(timeout_s):
            await _ask_all(refs, answers, participant, kas, kept)
    except TimeoutError:
        pass  # ``answers`` holds everything that was answered in time, so nothing is lost.
    unknown = _unknown(answers)
    if unknown:
        _log.warning("batches not yet taken over", batches=len(unknown), waited_s=timeout_s)
    for answer in answers.values():
        if answer.status in (CollectionStatus.REFUSED, CollectionStatus.VOID, CollectionStatus.STALE):
            _log.warning(
                "batch not taken over",
                status=str(answer.status),
                topic=answer.topic,
                offset=answer.offset,
                reason=answer.detail,
            )
    return tuple(answers.values())


def _unanswered(ref: BatchRef, count: int) -> Collected:
    return Collected(
        topic=ref.topic,
        offset=ref.offset,
        batch_id=ref.batch_id,
        count=count,
        status=CollectionStatus.UNKNOWN,
        detail="no answer",
    )


def _unknown(answers: Mapping[bytes, Collected]) -> list[bytes]:
    return [batch_id for batch_id, answer in answers.items() if answer.status is CollectionStatus.UNKNOWN]


async def _ask_all(
    refs: dict[bytes, tuple[str, BatchRef]],
    answers: dict[bytes, Collected],
    participant: Participant,
    kas: KeyAccess,
    kept: KeptBatches | None,
) -> None:
    """Ask until no batch is unknown; each answer replaces the batch's entry in ``answers``.

    Both mappings go by the id that a batch had at first. What stands in them is about the batch that
    replaced it, if one did.
    """
    attempt = 0
    while unknown := _unknown(answers):
        if attempt:
            await asyncio.sleep(backoff_s(attempt))
        attempt += 1
        names = {refs[batch_id][1].batch_id: batch_id for batch_id in unknown}
        for channel, batches in _queries(refs[batch_id] for batch_id in unknown):
            try:
                answer = await _ask(channel, batches, participant, kas)
            except KasUnavailable as error:
                _log.info("key access service not reached", error=error.message)
                break  # The other queries would not reach it either.
            for batch in answer:
                name = names[batch.batch_id]
                answers[name] = batch
                if kept is not None:
                    await _take(kept, name, channel, refs, answers)


async def _take(
    kept: KeptBatches,
    name: bytes,
    channel: str,
    refs: dict[bytes, tuple[str, BatchRef]],
    answers: dict[bytes, Collected],
) -> None:
    """Take an answer for a batch that may be kept; where it is stale, ask on about its successor."""
    answer = answers[name]
    if answer.status is not CollectionStatus.STALE:
        kept.settle(answer)
        return
    sent = await kept.replace(answer)
    if sent is not None:
        ref = BatchRef(topic=answer.topic, offset=sent.offset, batch_id=sent.batch_id)
        refs[name] = (channel, ref)
        answers[name] = _unanswered(ref, answer.count)


def _queries(refs: Iterable[tuple[str, BatchRef]]) -> Iterator[tuple[str, list[BatchRef]]]:
    """Divide batches into queries: each is about one channel and at most 256 batches."""
    channels: dict[str, list[BatchRef]] = {}
    for channel, ref in refs:
        channels.setdefault(channel, []).append(ref)
    for channel, batches in channels.items():
        rest = iter(batches)
        while part := list(islice(rest, MAX_QUERIED)):
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
        # The service may sign with a key that the directory, as far as we read it, does not have yet.
        history = await participant.follower.refresh()
        return open_collection_answer(answer, query, history.latest)
