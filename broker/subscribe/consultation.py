"""Consulting one record: a person or a system reads it once, and the access is logged first.

    found ──▶ asked for ──▶ receipt kept ──▶ opened

    (1) the caller names the record by its verified batch; ``find_batch`` finds one by its id or its offset
    (2) the key access service is asked; it logs the access, or the denial, before it answers
    (3) its receipt is made durable
    (4) the record is unlocked, if the service released it

The receipt is kept before anything is opened, so whatever happens afterwards, an auditor can find out that
the entry of this access was cut from the log. A denial has a receipt as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from broker.access.client import KeyAccess
from broker.errors import KasUnavailable, UsageError
from broker.files import make_folder
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.subscribe.asking import Asker, Ground, Selection, WrongAnswer
from broker.subscribe.delivery import READER_TOO_OLD, Delivery, Opener, not_delivered
from broker.subscribe.receipts import ReceiptFile
from broker.verify.partition import Stale, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.access import EntryRef, Receipt
from broker.wire.manifest import TopicHead

__all__ = ["Consultation", "consult", "find_batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consultation:
    """One record that was asked for: what came of it, and the receipt of the key access service."""

    delivery: Delivery
    receipt: Receipt | None = None
    """The receipt, which is in the file; None when nothing was asked, since we could not read the record."""

    @property
    def entry(self) -> EntryRef | None:
        """The place of the access entry in the log; None for a denial that the log only counts."""
        return None if self.receipt is None else self.receipt.entry


async def consult(
    participant: Participant,
    kas: KeyAccess,
    *,
    ground: Ground,
    batch: VerifiedBatch,
    index: int,
    receipts: Path,
    seen: Sequence[TopicHead] = (),
    kas_timeout_s: float = 60.0,
) -> Consultation:
    """Read record ``index`` of a batch of the ground's channel; ``receipts`` is the file for the receipt.

    ``seen`` is how much the caller has read of the batch's partition, and its root. Raises OtherLogRead when
    the key access service has read another log.

    Raises UsageError when the batch has no such record or the receipt cannot be kept, and KasUnavailable
    when the key access service did not answer in time, or answered wrongly; then nothing was opened.
    """
    count = batch.opened.manifest.count
    if not 0 <= index < count:
        raise UsageError(f"the batch has no record {index}", hint=f"it has {count}, counted from 0")
    opener = Opener(participant.keyring, participant.store)
    schema = opener.schema_of(batch)
    # A record that we could not read anyway is not asked for: the log would hold an access that never was.
    if schema is None:
        return Consultation(delivery=not_delivered(batch, index, READER_TOO_OLD))
    if isinstance(schema, Violation):
        return Consultation(delivery=schema)
    make_folder(receipts.parent)
    # The file is opened before the service is asked. If it cannot be written, that is found out before the
    # access is logged, and not after.
    file = ReceiptFile.open(receipts)
    try:
        asker = Asker(participant, kas, ground, kas_timeout_s)
        answer = await asker.ask([Selection(batch=batch, indexes=(index,))], seen=seen)
        if isinstance(answer, WrongAnswer):
            raise KasUnavailable(
                f"the key access service answered wrongly: {answer.error.message}",
                hint="nothing was read; report it to the service's operator and to the auditor",
            )
        file.add(answer.prepared.signed, answer.answer.signed)
        # Commit point: from here on the access can be proved, whether or not the record is ever opened.
        file.sync()
    finally:
        file.close()
    channel = participant.channel(ground.channel)
    opened = opener.open(
        batch,
        (index,),
        answer.releases[0],
        schema=schema,
        directory=participant.directory,
        channel=channel,
    )
    ((_, delivery),) = opened
    return Consultation(delivery=delivery, receipt=answer.answer.receipt)


async def find_batch(
    participant: Participant,
    *,
    channel: str,
    topic: str,
    offset: int | None = None,
    batch_id: bytes | None = None,
) -> VerifiedBatch | Violation:
    """Find the verified batch with this id, or at this offset, or the violation that covers the offset.

    A batch is verified by what stands before it, so the partition is read from its beginning up to the
    batch, in bounded memory. Raises UsageError when there is no such channel or no such batch.
    """
    if (offset is None) == (batch_id is None):
        raise UsageError("name the batch by its id or by its offset", hint="one of the two")
    await participant.follower.refresh()
    found = participant.channel(channel)
    partition = Partition(topic, found.number)
    end = await participant.end_of(partition)
    reader = participant.reader(found, topic)
    violations: list[Violation] = []
    async with aclosing(participant.read(reader, end=end)) as events:
        async for event in events:
            if isinstance(event, Stale):
                if event.batch_id == batch_id or event.offset == offset:
                    raise UsageError(
                        f"the batch came too late, and counts for nobody: {event.lapse.fault.detail}",
                        hint="its publisher publishes it anew, in another batch",
                    )
            elif isinstance(event, VerifiedBatch):
                if event.batch_id == batch_id or event.offset == offset:
                    return event
                # Batches come in the order of the log, so no later one can stand at this offset.
                if offset is not None and event.offset > offset:
                    break
            elif _covers(event, offset):
                violations.append(event)
    unfinished = reader.flush()
    violations += [event for event in unfinished if isinstance(event, Violation) and _covers(event, offset)]
    if violations:
        return violations[0]
    wanted = f"at offset {offset}" if batch_id is None else batch_id.hex()
    raise UsageError(f"there is no batch {wanted} in {topic}/{found.number}", hint="check topic and channel")


def _covers(violation: Violation, offset: int | None) -> bool:
    place = violation.place
    return offset is not None and place.offset <= offset < place.offset + violation.count
