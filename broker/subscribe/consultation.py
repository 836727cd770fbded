"""Consulting one record: found and verified in its partition, asked for, opened."""

from __future__ import annotations

from broker.access.client import KeyAccess
from broker.errors import KasUnavailable, UsageError
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.subscribe.asking import AnswerWrong, Asker, Ground, Wanted
from broker.subscribe.delivery import READER_TOO_OLD, Delivery, Opener, not_delivered
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Violation

__all__ = ["consult", "find_batch"]


async def consult(
    participant: Participant,
    kas: KeyAccess,
    *,
    ground: Ground,
    topic: str,
    index: int,
    offset: int | None = None,
    batch_id: bytes | None = None,
    kas_timeout_s: float = 60.0,
) -> Delivery:
    """Read one record, named by its batch's id or offset and its place in it; the access is logged.

    A Violation says what is wrong with the record, or with the batch at this offset. UsageError where
    there is no such record. KasUnavailable where the key access service did not answer, or wrongly.
    """
    found = await find_batch(
        participant, channel=ground.channel, topic=topic, offset=offset, batch_id=batch_id
    )
    if isinstance(found, Violation):
        return found
    count = found.opened.manifest.count
    if not 0 <= index < count:
        raise UsageError(f"the batch has no record {index}", hint=f"it has {count}, counted from 0")
    opener = Opener(participant.keyring, participant.store)
    schema = opener.schema_of(found)
    if schema is None:
        return not_delivered(found, index, READER_TOO_OLD)
    if isinstance(schema, Violation):
        return schema
    asker = Asker(participant, kas, ground, kas_timeout_s)
    asked = await asker.ask([Wanted(batch=found, indexes=(index,))])
    directory = participant.directory
    channel = directory.channel(ground.channel)
    if isinstance(asked, AnswerWrong) or channel is None:
        why = asked.error.message if isinstance(asked, AnswerWrong) else "the channel is gone"
        raise KasUnavailable(f"the key access service answered wrongly: {why}")
    opened = opener.open(
        found, (index,), asked.releases[0], schema=schema, directory=directory, channel=channel
    )
    return next(item for _, item in opened)


async def find_batch(
    participant: Participant,
    *,
    channel: str,
    topic: str,
    offset: int | None = None,
    batch_id: bytes | None = None,
) -> VerifiedBatch | Violation:
    """The verified batch of this id or at this offset; the violation that stands at the offset instead.

    Reads the partition from its beginning up to there, in bounded memory: a batch is verified by what
    stands before it.
    """
    if (offset is None) == (batch_id is None):
        raise UsageError("name the batch by its id or by its offset", hint="one of the two")
    history = await participant.follower.refresh()
    found = history.latest.channel(channel)
    if found is None:
        raise UsageError(f"there is no channel '{channel}'", hint="check its name")
    partition = Partition(topic, found.number)
    end = await participant.end_of(partition)
    reader = participant.reader(found, topic)
    violations: list[Violation] = []
    async for event in participant.read(reader, end=end):
        if isinstance(event, VerifiedBatch):
            if event.batch_id == batch_id or event.offset == offset:
                return event
            if offset is not None and event.offset > offset:
                break
        elif _covers(event, offset):
            violations.append(event)
    violations += [one for one in reader.flush() if isinstance(one, Violation) and _covers(one, offset)]
    if violations:
        return violations[0]
    wanted = f"at offset {offset}" if batch_id is None else batch_id.hex()
    raise UsageError(f"there is no batch {wanted} in {topic}/{found.number}", hint="check topic and channel")


def _covers(violation: Violation, offset: int | None) -> bool:
    place = violation.place
    return offset is not None and place.offset <= offset < place.offset + violation.count
