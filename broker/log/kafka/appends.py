"""Appending: each batch lands once, whatever happens to its acknowledgement.

Rules
-----
* One append at a time on a partition. Each carries what the broker knows it again by: producer, epoch,
  sequence. A number is used up only when its batch stands; a broker that refuses a batch uses none.
* While an answer is missing, the same bytes with the same number go out again: a broker that has them
  already says where they stand (KIP-98), so trying again cannot double them.
* When the time is over and any attempt may have arrived, the outcome is unknown and the batch stays in
  doubt. If the next append on the partition is of the same messages, it is the same batch: same number,
  so that it stands once. If it is of others, it begins a new epoch, which closes the door: from the
  moment that it stands no broker takes the old batch any more (KIP-360).
* A broker that has lost count (45, 47, 59) gets a new epoch too, but never for a batch in doubt.
* A broker whose quota is used up says for how long, and is left alone until then: it would not read on.

docs/adr/0002-kafka-client.md says why aiokafka's producer does not do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.errors import LogUnavailable, LogUnreachable, OutcomeUnknown
from broker.log.kafka.brokers import Brokers, Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import Code, refusal
from broker.log.kafka.record_batch import Identity, encode_batch
from broker.log.kafka.wire import NoAnswer, NotSent, Produced
from broker.log.protocol import Message
from broker.logger import get_logger

__all__ = ["Appends"]

_LAST_EPOCH = 2**15 - 1
_SEQUENCES = 2**31

_log = get_logger("broker.log")


@dataclass(slots=True)
class _Doubt:
    """A batch of which nobody knows whether it stands."""

    messages: tuple[Message, ...]
    batch: bytes


@dataclass(slots=True)
class _Lane:
    """What this producer has done on one partition; ``busy`` guards the rest."""

    producer: int = -1
    epoch: int = 0
    sequence: int = 0
    doubt: _Doubt | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class Appends:
    """The producer of one connection to the log."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._producer: tuple[int, int] | None = None
        self._identifying = asyncio.Lock()
        self._leave_alone: dict[int, float] = {}  # brokers, and until when on the loop's clock

    async def append(self, topic: str, number: int, messages: Sequence[Message], stop: asyncio.Event) -> int:
        """Append one batch and return the offset of its first message.

        ``stop`` asks it to end after the attempt under way. It is not to be cancelled: use ``stop``.
        """
        deadline = self._brokers.deadline()
        await self._brokers.leader(topic, number, deadline)  # before a lane is made for what does not exist
        lane = self._lanes.setdefault((topic, number), _Lane())
        try:
            async with asyncio.timeout(deadline.left_s):
                await lane.busy.acquire()
        except TimeoutError:
            raise LogUnreachable(
                f"partition {number} of {topic} is busy with another append that gets no answer",
                hint="check that the brokers run, then try again",
            ) from None
        try:
            if stop.is_set():
                raise asyncio.CancelledError
            return await self._append(lane, topic, number, tuple(messages), stop, deadline)
        finally:
            lane.busy.release()

    async def _append(
        self,
        lane: _Lane,
        topic: str,
        number: int,
        messages: tuple[Message, ...],
        stop: asyncio.Event,
        deadline: Deadline,
    ) -> int:
        # (1) Which batch: the one in doubt, or a new one behind a closed door.
        if lane.doubt is not None and lane.doubt.messages == messages:
            batch, unsure = lane.doubt.batch, True
        else:
            if lane.producer < 0 or lane.doubt is not None:
                await self._renew(lane, topic, deadline)
            batch, unsure = encode_batch(messages, Identity(lane.producer, lane.epoch, lane.sequence)), False
        # (2) Send it until a broker says how it went.
        reason = "no attempt was made"
        while True:
            try:
                answer = await self._attempt(topic, number, batch, deadline)
            except (NotSent, LogUnavailable) as error:
                if isinstance(error, LogUnavailable) and not unsure:
                    raise
                if isinstance(error, NotSent) and error.refused and not unsure:
                    raise self._brokers.refused(error) from error
                reason = error.reason if isinstance(error, NotSent) else error.message
            except NoAnswer as error:
                unsure, reason = True, error.reason
            else:
                if answer.code == Code.NONE:
                    lane.sequence = (lane.sequence + len(messages)) % _SEQUENCES
                    lane.doubt = None
                    return answer.offset
                reason = _words(answer, topic, number, self._brokers)
                if answer.code in Code.UNSURE:
                    unsure = True
                    self._brokers.forget(topic)
                elif answer.code in (
                    Code.OUT_OF_ORDER_SEQUENCE,
                    Code.INVALID_PRODUCER_EPOCH,
                    Code.UNKNOWN_PRODUCER_ID,
                ):
                    if unsure:
                        break  # it may stand, and be forgotten
                    await self._renew(lane, topic, deadline)
                    batch = encode_batch(messages, Identity(lane.producer, lane.epoch, lane.sequence))
                elif answer.code == Code.DUPLICATE_SEQUENCE:
                    unsure = True
                    break  # it stands, and the broker no longer knows where
                elif answer.code not in Code.NOT_DONE:
                    if unsure:
                        break
                    raise refusal(answer.code, topic)
            # (3) Again, while there is time and somebody waits for it.
            if stop.is_set() or not deadline.left_s:
                break
            _log.info("append tried again", topic=topic, partition=number, error=reason)
            await deadline.pause()
        if unsure:
            lane.doubt = _Doubt(messages, batch)
            raise OutcomeUnknown(
                f"an append to partition {number} of {topic} may or may not stand: {reason}",
                hint="reading the partition's end shows whether it does",
            )
        raise LogUnreachable(
            f"nothing can be appended to partition {number} of {topic}: {reason}",
            hint="start the brokers that are down, and check the network",
        )

    async def _attempt(self, topic: str, number: int, batch: bytes, deadline: Deadline) -> Produced:
        leader = await self._brokers.leader(topic, number, deadline)
        await self._wait_for_quota(leader, topic, deadline)
        try:
            answer = await self._brokers.call(
                leader,
                Use.APPEND,
                lambda connection, left_s: connection.produce(topic, number, batch, left_s),
                deadline.attempt_s,
            )
        except (NotSent, NoAnswer):
            self._brokers.forget(topic)
            raise
        if answer.wait_ms > 0:
            _log.info("append slowed down by a quota", topic=topic, partition=number, wait_ms=answer.wait_ms)
            self._leave_alone[leader] = asyncio.get_running_loop().time() + answer.wait_ms / 1000
        return answer

    async def _wait_for_quota(self, node: int, topic: str, deadline: Deadline) -> None:
        wait_s = self._leave_alone.get(node, 0.0) - asyncio.get_running_loop().time()
        if wait_s > deadline.left_s:
            raise LogUnreachable(
                f"nothing can be appended to topic {topic} for {wait_s:.1f} s: our produce quota is used up",
                hint="try again later, or ask whoever operates the brokers for a larger quota: see log acl",
            )
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _renew(self, lane: _Lane, topic: str, deadline: Deadline) -> None:
        """Begin a new epoch on a partition, or with a new producer when there is none."""
        if lane.producer >= 0 and lane.epoch < _LAST_EPOCH:
            lane.epoch += 1
        else:
            async with self._identifying:
                if self._producer is None or self._producer[0] == lane.producer:
                    self._producer = await self._identify(topic, deadline)
            lane.producer, lane.epoch = self._producer
        lane.sequence = 0
        lane.doubt = None

    async def _identify(self, topic: str, deadline: Deadline) -> tuple[int, int]:
        while True:
            code, producer, epoch = await self._brokers.ask(
                lambda connection, left_s: connection.producer_id(left_s), deadline
            )
            if code == Code.NONE:
                return producer, epoch
            if code == Code.CLUSTER_AUTHORIZATION_FAILED:
                raise LogUnavailable(
                    f"the cluster does not let us append to topic {topic}, nor to any other",
                    hint="whoever operates the brokers must give this principal its role: see log acl",
                )
            if not deadline.left_s:
                raise LogUnreachable(
                    f"the cluster gives no producer id, error {code}",
                    hint="try again; the broker's log says more",
                )
            await deadline.pause()


def _words(answer: Produced, topic: str, number: int, brokers: Brokers) -> str:
    match answer.code:
        case Code.NOT_ENOUGH_REPLICAS | Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND:
            known = (brokers.topic(topic) or {}).get(number)
            of = f" of {len(known.replicas)}" if known else ""
            return f"fewer of its replicas{of} are in sync than min.insync.replicas demands"
        case Code.NOT_LEADER:
            return "its leader has changed"
        case Code.REQUEST_TIMED_OUT:
            return "its replicas do not confirm in time"
        case Code.STORAGE_ERROR:
            return "the broker's disk fails, or is full"
        case _:
            return f"error {answer.code}"
