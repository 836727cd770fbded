"""Asking the key access service for the records of some batches: the ground, the request and the answer.

Nobody reads a record before a signed entry of the access is durable in the log. So the reader first says
who reads, why and on what legal basis; the service logs that, and only then releases its shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from broker.access.answers import Answer, open_answer
from broker.access.client import KeyAccess
from broker.access.request_checks import MAX_CLOCK_DIFFERENCE_US, MAX_ITEMS
from broker.access.requests import PreparedRequest, make_request, new_details
from broker.errors import KasStopped, KasUnavailable, PeerError, RequestRefused, UsageError
from broker.log.outage import Outage, outlasting
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.settle import backoff_s
from broker.subscribe.delivery import Release
from broker.verify.partition import VerifiedBatch
from broker.wire.access import AccessDetails
from broker.wire.manifest import Operation, Reason, RecordItem, TopicHead
from broker.wire.terms import Purpose

__all__ = ["MAX_ITEMS", "Asker", "Ground", "RightAnswer", "Selection", "WrongAnswer"]

_LOGGED_ATTEMPTS = 16
"""The first retries, each of which has a log line; an outage may last for days, so later ones have fewer."""

_log = get_logger("broker.subscribe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The ground on which records are read: the purpose, and who reads, why, and on what legal basis.

    A person reads by CONSULTATION; a system reads by DISCLOSURE, under the standing mandate ``mandate_ref``.
    ``details`` makes the details of one access (``broker.access.requests.new_details``). It is called for
    each request, since each needs a blind of its own: equal details must not look equal in the log.
    """

    channel: str
    purpose: Purpose
    operation: Operation
    details: Callable[[], AccessDetails]
    mandate_ref: str | None = None

    @classmethod
    def consultation(
        cls,
        channel: str,
        purpose: Purpose | str,
        *,
        person: str,
        role: str,
        legal_basis: str,
        justification: str,
        case_reference: str | None = None,
    ) -> Self:
        """Return the ground of a person who reads; ``person`` is the agency's own pseudonym for its officer.

        Raises UsageError where a text is missing or too long: the justification has at most 500 characters.
        """

        def details() -> AccessDetails:
            return new_details(
                person=person,
                role=role,
                legal_basis=legal_basis,
                case_reference=case_reference,
                justification=justification,
            )

        # A text that the service would refuse is refused here, before anything is asked.
        details()
        return cls(
            channel=channel,
            purpose=_purpose(purpose),
            operation=Operation.CONSULTATION,
            details=details,
        )

    @classmethod
    def disclosure(
        cls,
        channel: str,
        purpose: Purpose | str,
        *,
        mandate: str,
        role: str,
        legal_basis: str,
        justification: str,
    ) -> Self:
        """Return the ground of a system that reads under ``mandate``, a standing mandate of the channel.

        Raises UsageError where a text is missing or too long: the justification has at most 500 characters.
        """

        def details() -> AccessDetails:
            return new_details(role=role, legal_basis=legal_basis, justification=justification)

        # A text that the service would refuse is refused here, before anything is asked.
        details()
        return cls(
            channel=channel,
            purpose=_purpose(purpose),
            operation=Operation.DISCLOSURE,
            mandate_ref=mandate,
            details=details,
        )


def _purpose(purpose: Purpose | str) -> Purpose:
    try:
        return Purpose(purpose)
    except ValueError:
        known = ", ".join(Purpose)
        raise UsageError(f"there is no purpose '{purpose}'", hint=f"the purposes are: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The records of one batch that are to be read."""

    batch: VerifiedBatch
    indexes: tuple[int, ...]


# There is no ``repr``: release shares must never come into a log line or a traceback.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RightAnswer:
    """A valid answer: the request, its receipt, and one Release for each batch that was asked for."""

    prepared: PreparedRequest
    answer: Answer
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """An answer that an honest service does not give; nothing of it may be used."""

    error: PeerError


@dataclass(slots=True)
class Asker:
    """Asks the key access service on one ground, for one participant."""

    participant: Participant
    kas: KeyAccess
    ground: Ground
    timeout_s: float

    async def ask(
        self,
        selections: Sequence[Selection],
        outage: Outage | None = None,
        *,
        seen: Sequence[TopicHead] = (),
    ) -> RightAnswer | WrongAnswer:
        """Ask for records of at most 16 batches of one issuer, and open the answer.

        ``seen`` is how far the topics of the batches were read, with the root there: the service refuses
        where it reads another log than we do.

        While the service cannot be reached it is asked again, with a new request each time. Raises
        KasUnavailable after ``timeout_s``, KasStopped at once, since only the service's operator can help,
        and RequestRefused when the service says that it cannot judge this request (OtherLogRead where it has
        not read what we have ``seen``).

        A subscriber that follows gives the ``outage`` by which it waits for the log. The question is then
        repeated until the subscriber is cancelled, because a service does not answer while the log is away.
        """
        prepared, sealed = await self._send(selections, outage, seen)
        try:
            answer = await self._open(prepared, sealed, outage)
        except PeerError as error:
            return WrongAnswer(error)
        return RightAnswer(prepared=prepared, answer=answer, releases=_releases(selections, answer))

    async def _send(
        self, selections: Sequence[Selection], outage: Outage | None, seen: Sequence[TopicHead]
    ) -> tuple[PreparedRequest, bytes]:
        """Send requests until the service answers one; return that request and the sealed answer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout_s
        attempt = 0
        while True:
            asked_at = self.participant.clock()
            # A new request each time: the service refuses a request whose time is too long ago.
            prepared = self._prepare(selections, seen)
            try:
                return prepared, await self.kas.access(prepared.request_bytes, prepared.details_bytes)
            except KasStopped:
                raise
            except RequestRefused:
                # A request grows too old while the service, which has received it, waits for the log. It is
                # asked again without a pause, because the service has just answered.
                if outage is None or self.participant.clock() - asked_at <= MAX_CLOCK_DIFFERENCE_US:
                    raise
                continue
            except KasUnavailable as error:
                attempt += 1
                pause = backoff_s(attempt)
                if outage is None and loop.time() + pause > deadline:
                    raise
                if _is_logged(attempt):
                    _log.warning(
                        "key access retried",
                        channel=self.ground.channel,
                        attempt=attempt,
                        pause_s=round(pause, 3),
                        error=error.message,
                    )
            await asyncio.sleep(pause)

    def _prepare(self, selections: Sequence[Selection], seen: Sequence[TopicHead]) -> PreparedRequest:
        participant = self.participant
        ground = self.ground
        items = [
            RecordItem(
                topic=selection.batch.topic,
                offset=selection.batch.offset,
                batch_id=selection.batch.batch_id,
                # An index fits one byte, because a batch has at most 256 records.
                indexes=bytes(selection.indexes),
            )
            for selection in selections
        ]
        return make_request(
            participant.keyring,
            participant.directory,
            channel=ground.channel,
            operation=ground.operation,
            items=items,
            purpose=ground.purpose,
            details=ground.details(),
            now=participant.clock(),
            mandate_ref=ground.mandate_ref,
            seen=seen,
        )

    async def _open(self, prepared: PreparedRequest, sealed: bytes, outage: Outage | None) -> Answer:
        follower = self.participant.follower
        keys = self.participant.keyring.receiving.values()
        try:
            return open_answer(prepared, sealed, keys, follower.history.latest)
        except PeerError:
            # The service may sign with a key that the directory, as far as we read it, does not have yet.
            # It is blamed only if the directory's end does not know the key either.
            size = follower.history.size
            history = await outlasting(outage, follower.refresh)
            if history.size == size:
                raise
            return open_answer(prepared, sealed, keys, history.latest)


def _is_logged(attempt: int) -> bool:
    """Tell whether a retry has a log line: each of the first, then those whose number is a power of two."""
    return attempt <= _LOGGED_ATTEMPTS or attempt.bit_count() == 1


def _releases(selections: Sequence[Selection], answer: Answer) -> tuple[Release, ...]:
    """Divide an answer by batch, in the order in which they were asked for."""
    receipt = sha256(answer.signed.content).digest()
    shares: list[dict[int, bytes]] = [{} for _ in selections]
    withheld: list[dict[int, Reason]] = [{} for _ in selections]
    for (item, index), share in answer.shares.items():
        shares[item][index] = share
    for (item, index), outcome in answer.outcomes.items():
        if outcome.reason is not None:
            withheld[item][index] = outcome.reason
    return tuple(
        Release(receipt=receipt, shares=released, withheld=reasons)
        for released, reasons in zip(shares, withheld, strict=True)
    )
