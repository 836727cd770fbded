"""Consulting one record: found and verified in its partition, asked for, opened."""

from __future__ import annotations

from broker.access.client import KeyAccess
from broker.avro.schema import SchemaStore
from broker.clock import Clock, system_clock
from broker.errors import KasUnavailable, UsageError
from broker.log.protocol import Log, Partition
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.reading import read_events
from broker.subscribe.asking import AnswerWrong, Asker, Ground, Wanted
from broker.subscribe.delivery import READER_TOO_OLD, Delivery, Opener, not_delivered
from broker.subscribe.reader_set import partition_reader
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Violation

__all__ = ["consult", "find_batch"]


async def consult(
    log: Log,
    follower: DirectoryFollower,
    keyring: Keyring,
    kas: KeyAccess,
    *,
    ground: Ground,
    store: SchemaStore,
    topic: str,
    index: int,
    offset: int | None = None,
    batch_id: bytes | None = None,
    kas_timeout_s: float = 60.0,
    clock: Clock = system_clock,
) -> Delivery:
    """Read one record, named by its batch's id or offset and its place in it; the access is logged.

    A Violation says what is wrong with the record, or with the batch at this offset. UsageError where
    there is no such record. KasUnavailable where the key access service did not answer, or wrongly.
    """
    found = await find_batch(
        log, follower, keyring, channel=ground.channel, topic=topic, offset=offset, batch_id=batch_id
    )
    if isinstance(found, Violation):
        return found
    count = found.opened.manifest.count
    if not 0 <= index < count:
        raise UsageError(f"the batch has no record {index}", hint=f"it has {count}, counted from 0")
    opener = Opener(keyring, store)
    schema = opener.schema_of(found)
    if schema is None:
        return not_delivered(found, index, READER_TOO_OLD)
    if isinstance(schema, Violation):
        return schema
    asker = Asker(kas, follower, keyring, ground, clock, kas_timeout_s)
    asked = await asker.ask([Wanted(batch=found, indexes=(index,))])
    directory = follower.history.latest
    channel = directory.channel(ground.channel)
    if isinstance(asked, AnswerWrong) or channel is None:
        why = asked.error.message if isinstance(asked, AnswerWrong) else "the channel is gone"
        raise KasUnavailable(f"the key access service answered wrongly: {why}")
    opened = opener.open(
        found, (index,), asked.releases[0], schema=schema, directory=directory, channel=channel
    )
    return next(item for _, item in opened)


async def find_batch(
    log: Log,
    follower: DirectoryFollower,
    keyring: Keyring,
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
    history = await follower.refresh()
    found = history.latest.channel(channel)
    if found is None:
        raise UsageError(f"there is no channel '{channel}'", hint="check its name")
    partition = Partition(topic, found.number)
    end = (await log.ends([partition]))[partition]
    reader = partition_reader(topic, found, follower, keyring)
    violations: list[Violation] = []
    async for event in read_events(log, reader, follower, end=end):
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
