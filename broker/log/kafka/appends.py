"""Appends to a partition: each batch lands once, whatever happens to its acknowledgement.

Rules
-----
* There is one append at a time on a partition. Each batch carries the numbers by which the broker recognizes
  it when it comes again: producer, epoch, sequence (KIP-98). A sequence number is used up only when its batch
  stands; a batch that the broker refuses uses none.
* While an answer is missing, the same bytes go out again with the same numbers. A broker that has stored them
  already answers where they stand, so that a repetition never doubles them.
* When the time is over and any attempt may have arrived, the outcome is unknown and the batch stays in doubt.
  If the next append on the partition has the same messages, it is the same batch, with the same numbers, and
  stands once. If it has others, it begins a new epoch. From the moment that this append stands, no broker
  takes the old batch any more (KIP-360), even if it was held up in the network until then.
* A broker that has lost count of the numbers (``Code.LOST_COUNT``) gets a new epoch too, but never for a
  batch in doubt: under a new epoch the broker would not recognize it, and it could stand twice.
* When our produce quota is used up, the broker says for how long it will not read from us (KIP-219). Until
  then it is left alone, since a request would only wait in its socket and run into the time-out.

Who owns which field
--------------------
A lane belongs to the append that holds its ``busy``. ``_producer`` is written under ``_identifying``. The
event loop alone touches ``_lanes`` and ``_leave_alone``.

docs/adr/0002-kafka-client.md says why aiokafka's own producer does not suffice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from broker.errors import LogUnavailable, LogUnreachable, OutcomeUnknown
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.connections import Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import FORBIDDEN_HINT, Code, refusal
from broker.log.kafka.record_batch import Identity, encode_batch
from broker.log.kafka.wire import NoAnswer, NotSent, Produced
from broker.log.protocol import Message
from broker.logger import get_logger

__all__ = ["Appends"]

_LAST_EPOCH = 2**15 - 1  # epochs are signed 16-bit integers
_SEQUENCES = 2**31  # behind the largest sequence number brokers expect 0 (KIP-98)

_log = get_logger("broker.log")


@dataclass(slots=True)
class _Doubt:
    """A batch whose outcome is unknown: its messages with their times, and the bytes that were sent."""

    messages: tuple[Message, ...]
    times_ms: tuple[int, ...] | None
    batch: bytes


@dataclass(slots=True)
class _Lane:
    """The state of this producer on one partition; the holder of ``busy`` owns the other fields."""

    producer: int = -1
    epoch: int = 0
    sequence: int = 0
    doubt: _Doubt | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def identity(self) -> Identity:
        """The numbers of the next batch."""
        return Identity(self.producer, self.epoch, self.sequence)


@dataclass(slots=True)
class _Sending:
    """An append under way; ``in_doubt`` says that one of its attempts may have arrived."""

    topic: str
    number: int
    batch: bytes
    in_doubt: bool
    reason: str = "no attempt was made"


class _Verdict(Enum):
    """What follows from one attempt to append a batch."""

    STANDS = auto()
    RETRY = auto()
    RETRY_IN_DOUBT = auto()
    NEW_EPOCH = auto()
    UNKNOWN = auto()
    REFUSED = auto()


def _verdict(code: int, *, in_doubt: bool) -> _Verdict:
    """Judge a broker's answer; ``in_doubt`` says that an earlier attempt may have arrived."""
    if code == Code.NONE:
        return _Verdict.STANDS
    if code in Code.UNSURE:
        return _Verdict.RETRY_IN_DOUBT
    if code in Code.LOST_COUNT:
        # A batch in doubt may stand and be forgotten, so that only reading the partition can tell.
        return _Verdict.UNKNOWN if in_doubt else _Verdict.NEW_EPOCH
    if code == Code.DUPLICATE_SEQUENCE:
        # It stands, but the broker no longer knows where: it remembers the last five batches of a producer.
        return _Verdict.UNKNOWN
    if code in Code.NOT_DONE:
        return _Verdict.RETRY
    return _Verdict.UNKNOWN if in_doubt else _Verdict.REFUSED


class Appends:
    """The producer of one open log."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._producer: tuple[int, int] | None = None
        self._identifying = asyncio.Lock()
        # Brokers whose quota we have used up, and the end of the wait on the event loop's clock.
        self._leave_alone: dict[int, float] = {}

    async def append(
        self,
        topic: str,
        number: int,
        messages: Sequence[Message],
        stop: asyncio.Event,
        times_ms: tuple[int, ...] | None = None,
    ) -> int:
        """Append one batch and return the offset of its first message.

        Messages of another log bring their ``times_ms``, which a topic that dates its batches does not keep.

        ``stop`` asks it to end after the attempt under way. It must not be cancelled, since then nobody would
        know whether the batch that was sent is in doubt.
        """
        deadline = self._brokers.deadline()
        # Asked for first, so that no lane is made for a partition that does not exist.
        await self._brokers.leader(topic, number, deadline)
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
            return await self._append(lane, topic, number, tuple(messages), times_ms, stop, deadline)
        finally:
            lane.busy.release()

    async def _append(
        self,
        lane: _Lane,
        topic: str,
        number: int,
        messages: tuple[Message, ...],
        times_ms: tuple[int, ...] | None,
        stop: asyncio.Event,
        deadline: Deadline,
    ) -> int:
        # (1) Choose the batch: the one in doubt, if these are its messages. Otherwise a new one, and in a new
        # epoch if another batch is in doubt, which then can no longer arrive.
        if lane.doubt is not None and (lane.doubt.messages, lane.doubt.times_ms) == (messages, times_ms):
            sending = _Sending(topic, number, lane.doubt.batch, in_doubt=True)
        else:
            if lane.producer < 0 or lane.doubt is not None:
                await self._renew(lane, topic, deadline)
            sending = _Sending(topic, number, encode_batch(messages, lane.identity, times_ms), in_doubt=False)
        # (2) Send it until a broker says whether it stands.
        while True:
            verdict, offset = await self._attempt(sending, deadline)
            match verdict:
                case _Verdict.STANDS:
                    # Only now the numbers are used up. After a refusal the next batch gets the same ones.
                    lane.sequence = (lane.sequence + len(messages)) % _SEQUENCES
                    lane.doubt = None
                    return offset
                case _Verdict.UNKNOWN:
                    break
                case _Verdict.NEW_EPOCH:
                    await self._renew(lane, topic, deadline)
                    sending.batch = encode_batch(messages, lane.identity, times_ms)
            # (3) Try again while there is time, and while the caller waits for it.
            if stop.is_set() or not deadline.left_s:
                break
            _log.info("append tried again", topic=topic, partition=number, error=sending.reason)
            await deadline.pause()
        # (4) Say whether an attempt may have arrived. Only then must the caller look at the partition's end.
        if sending.in_doubt:
            lane.doubt = _Doubt(messages, times_ms, sending.batch)
            raise OutcomeUnknown(
                f"an append to partition {number} of {topic} may or may not stand: {sending.reason}",
                hint="reading the partition's end shows whether it does",
            )
        raise LogUnreachable(
            f"nothing can be appended to partition {number} of {topic}: {sending.reason}",
            hint="start the brokers that are down, and check the network",
        )

    async def _attempt(self, sending: _Sending, deadline: Deadline) -> tuple[_Verdict, int]:
        """Send a batch once; return what follows from the answer, and the offset if the batch stands.

        Raises the error of a request that no repetition helps, unless an earlier attempt may have arrived.
        """
        try:
            answer = await self._produce(sending, deadline)
        except NoAnswer as error:
            # The fault of a lost acknowledgement, or of a frozen leader: the batch may stand.
            sending.in_doubt = True
            sending.reason = error.reason
            return _Verdict.RETRY, -1
        except NotSent as error:
            if error.refused and not sending.in_doubt:
                raise self._brokers.refused(error) from error
            sending.reason = error.reason
            return _Verdict.RETRY, -1
        except LogUnavailable as error:
            if not sending.in_doubt:
                raise
            sending.reason = error.message
            return _Verdict.RETRY, -1
        verdict = _verdict(answer.code, in_doubt=sending.in_doubt)
        if verdict is _Verdict.STANDS:
            return verdict, answer.offset
        if verdict is _Verdict.REFUSED:
            raise refusal(answer.code, sending.topic)
        sending.reason = _words(answer, sending.topic, sending.number, self._brokers)
        if verdict in (_Verdict.RETRY_IN_DOUBT, _Verdict.UNKNOWN):
            sending.in_doubt = True
        if verdict is _Verdict.RETRY_IN_DOUBT:
            self._brokers.forget(sending.topic)  # the leader may be another by now
        return verdict, -1

    async def _produce(self, sending: _Sending, deadline: Deadline) -> Produced:
        topic = sending.topic
        number = sending.number
        leader = await self._brokers.leader(topic, number, deadline)
        await self._wait_for_quota(leader, topic, deadline)
        try:
            answer = await self._brokers.call(
                leader,
                Use.APPEND,
                lambda connection, left_s: connection.produce(topic, number, sending.batch, left_s),
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
                hint="try again later, or ask the operator of the brokers for a larger quota: see log acl",
            )
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _renew(self, lane: _Lane, topic: str, deadline: Deadline) -> None:
        """Begin a new epoch on a partition, with a new producer if the old one has no epoch left."""
        if lane.producer >= 0 and lane.epoch < _LAST_EPOCH:
            lane.epoch += 1
        else:
            async with self._identifying:
                # Another lane may have taken a new producer in the meantime, which serves this one as well.
                if self._producer is None or self._producer[0] == lane.producer:
                    self._producer = await self._identify(topic, deadline)
            lane.producer, lane.epoch = self._producer
        # Under a new epoch a broker expects the numbers from 0 on (KIP-360).
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
                    hint=FORBIDDEN_HINT,
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
