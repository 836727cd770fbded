"""One access as a report tells it: the entry, the signed request, the decision, and the person behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from broker.access.answers import RecordRef, open_answer
from broker.access.client import KeyAccess
from broker.access.request_checks import details_commitment, names_others
from broker.access.requests import make_request
from broker.directory import Channel
from broker.errors import Denied, OpenError
from broker.participant.participant import Participant
from broker.wire.access import AccessDetails, AccessRequest, LogEntry
from broker.wire.encoding import encode
from broker.wire.manifest import AccessTerms, LogItem, Operation, Reason, RecordItem, Verdict
from broker.wire.terms import Purpose

__all__ = ["Access", "Disclosure", "LogAsker", "access_of", "checked_details"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """The decision for some records of one batch, or for a range of the access log itself."""

    item: RecordItem | LogItem
    indexes: bytes
    verdict: Verdict
    reason: Reason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One access: the entry at (partition, offset, index), its request, and the decisions.

    ``at`` is the time of the decision, in microseconds. ``details`` name the person, the case and the
    justification; they are None where the key of the entry's month was destroyed.
    """

    channel: str
    partition: int
    offset: int
    index: int
    at: int
    request: AccessRequest
    request_digest: bytes
    disclosures: tuple[Disclosure, ...]
    details: AccessDetails | None
    is_repeat: bool = False
    """Whether an earlier entry has the same request, with another decision. It is no further access."""


def access_of(
    channel: Channel,
    offset: int,
    index: int,
    at: int,
    terms: AccessTerms,
    request: AccessRequest,
    details: AccessDetails | None,
) -> Access:
    """Return the access that an entry with these terms stands for."""
    return Access(
        channel=channel.name,
        partition=channel.number,
        offset=offset,
        index=index,
        at=at,
        request=request,
        request_digest=sha256(terms.request.content).digest(),
        disclosures=tuple(
            Disclosure(
                item=request.items[outcome.item],
                indexes=outcome.indexes,
                verdict=outcome.verdict,
                reason=outcome.reason,
            )
            for outcome in terms.outcomes
            # The service writes this number, so it may be wrong. A replay reports such an entry.
            if 0 <= outcome.item < len(request.items)
        ),
        details=details,
    )


def checked_details(details: AccessDetails | None, request: AccessRequest, offset: int) -> AccessDetails:
    """Return the details if they are those that the request committed to.

    Raises OpenError, which convicts the service, where they are not, and where they name recipients that
    the request kept from the decision.
    """
    if details is None or details_commitment(encode(details)) != request.details_commitment:
        raise OpenError(f"the details of access@{offset} are not those that were committed to")
    if request.passes_on != names_others(details, request.issuer):
        raise OpenError(f"the request of access@{offset} does not say to whom its details pass the record on")
    return details


@dataclass(frozen=True, slots=True)
class LogAsker:
    """Asks the key access service for ranges of the access log; each request is logged with its reason."""

    participant: Participant
    kas: KeyAccess
    purpose: Purpose
    details: Callable[[], AccessDetails]

    async def ask(self, channel: Channel, item: LogItem) -> tuple[LogEntry, ...]:
        """Ask for a range, and return its entries. Raises Denied where the service refuses."""
        participant = self.participant
        prepared = make_request(
            participant.keyring,
            participant.directory,
            channel=channel.name,
            operation=Operation.CONSULTATION,
            items=[item],
            purpose=self.purpose,
            details=self.details(),
            now=participant.clock(),
        )
        sealed = await self.kas.access(prepared.request_bytes, prepared.details_bytes)
        # The service may have signed with a key that the directory had not yet when we read it last.
        await participant.follower.refresh()
        answer = open_answer(prepared, sealed, participant.keyring.receiving.values(), participant.directory)
        outcome = answer.outcomes[RecordRef(0, -1)]
        if not outcome.released:
            raise Denied(str(outcome.reason or outcome.verdict))
        return answer.entries
