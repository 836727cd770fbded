"""Asking the key access service for the records of some batches: the request, its answer, its receipt.

DESIGN of the exchange: nobody reads a record before a signed access entry for it is durable. So the
subscriber says who reads, why and on what legal basis, and only then is given release shares.
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
from broker.wire.manifest import Operation, Reason, RecordItem
from broker.wire.terms import Purpose

__all__ = ["MAX_ITEMS", "AnswerWrong", "Asked", "Asker", "Ground", "Wanted"]

_TOLD_ATTEMPTS = 16

_log = get_logger("broker.exchange")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """On what ground somebody reads: the purpose, the operation, and who, why and by which law.

    CONSULTATION by a person, or DISCLOSURE to a system under the standing mandate ``mandate_ref``.
    ``details`` makes the details of one access (``broker.access.requests.new_details``); it is called for
    each request, so that the blind which hides them is drawn anew.
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
        """The ground of a person who reads; ``person`` is the agency's own pseudonym of its officer.

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

        details()  # A text that the service would refuse is refused here, before anything is asked.
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
        """The ground of a system that reads under ``mandate``, a standing mandate of the channel.

        Raises UsageError where a text is missing or too long: the justification has at most 500 characters.
        """

        def details() -> AccessDetails:
            return new_details(role=role, legal_basis=legal_basis, justification=justification)

        details()  # A text that the service would refuse is refused here, before anything is asked.
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
        raise UsageError(f"there is no purpose '{purpose}'", hint=f"there are: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Records of one batch that are to be read."""

    batch: VerifiedBatch
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Asked:
    """A valid answer: the request, its receipt, and what was released of each batch."""

    prepared: PreparedRequest
    answer: Answer
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class AnswerWrong:
    """An answer that is not what the service owes; nothing of it may be used."""

    error: PeerError


@dataclass(slots=True)
class Asker:
    """Asks on one ground, for one participant."""

    participant: Participant
    kas: KeyAccess
    ground: Ground
    timeout_s: float

    async def ask(self, wanted: Sequence[Wanted], outage: Outage | None = None) -> Asked | AnswerWrong:
        """Ask for records of at most 16 batches of the channel.

        While the service cannot be reached it is asked again, with a new request each time; after
        ``timeout_s`` KasUnavailable. Who follows gives the ``outage`` by which it waits for the log, and
        asks on until cancelled: a service answers nothing while the log is away. KasStopped at once where
        only its operator can help. RequestRefused where it says that this request cannot be judged.
        """
        loop = asyncio.get_running_loop()
        deadline, attempt = loop.time() + self.timeout_s, 0
        while True:
            asked_at = self.participant.clock()
            prepared = self._prepare(wanted)
            try:
                sealed = await self.kas.access(prepared.request_bytes, prepared.details_bytes)
                break
            except KasStopped:
                raise
            except RequestRefused:
                # A request grows too old while the service, which has it, waits for the log.
                if outage is None or self.participant.clock() - asked_at <= MAX_CLOCK_DIFFERENCE_US:
                    raise
                continue
            except KasUnavailable as error:
                attempt += 1
                pause = backoff_s(attempt)
                if outage is None and loop.time() + pause > deadline:
                    raise
                if _is_told(attempt):
                    _log.warning(
                        "key access retried",
                        channel=self.ground.channel,
                        attempt=attempt,
                        pause_s=round(pause, 3),
                        error=error.message,
                    )
            await asyncio.sleep(pause)
        try:
            answer = await self._open(prepared, sealed, outage)
        except PeerError as error:
            return AnswerWrong(error)
        return Asked(prepared=prepared, answer=answer, releases=_releases(wanted, answer))

    def _prepare(self, wanted: Sequence[Wanted]) -> PreparedRequest:
        participant, ground = self.participant, self.ground
        items = [
            RecordItem(
                topic=one.batch.topic,
                offset=one.batch.offset,
                batch_id=one.batch.batch_id,
                indexes=bytes(one.indexes),
            )
            for one in wanted
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
        )

    async def _open(self, prepared: PreparedRequest, sealed: bytes, outage: Outage | None) -> Answer:
        follower, keys = self.participant.follower, self.participant.keyring.receiving.values()
        try:
            return open_answer(prepared, sealed, keys, follower.history.latest)
        except PeerError:
            # The service may sign with a key that we have not read of yet.
            size = follower.history.size
            history = await outlasting(outage, follower.refresh)
            if history.size == size:
                raise
            return open_answer(prepared, sealed, keys, history.latest)


def _is_told(attempt: int) -> bool:
    """Whether a retry has a log line: each of the first, then fewer and fewer of an outage without end."""
    return attempt <= _TOLD_ATTEMPTS or attempt.bit_count() == 1


def _releases(wanted: Sequence[Wanted], answer: Answer) -> tuple[Release, ...]:
    receipt = sha256(answer.signed.content).digest()
    shares: list[dict[int, bytes]] = [{} for _ in wanted]
    withheld: list[dict[int, Reason]] = [{} for _ in wanted]
    for (item, index), share in answer.shares.items():
        shares[item][index] = share
    for (item, index), outcome in answer.outcomes.items():
        if outcome.reason is not None:
            withheld[item][index] = outcome.reason
    return tuple(
        Release(receipt=receipt, shares=found, withheld=reasons)
        for found, reasons in zip(shares, withheld, strict=True)
    )
