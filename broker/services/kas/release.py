"""Release: the shares and log entries that a request is given, and the sealed answer that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.access.answers import Outcome, RecordRef, encode_answer, receipt_outcomes, requested_refs
from broker.access.policy import Decision
from broker.access.request_checks import CheckedRequest
from broker.crypto import seal
from broker.errors import KasUnavailable, NotEntitled, OpenError, RequestRefused
from broker.logger import get_logger
from broker.services.kas.channel_service import ChannelService
from broker.services.kas.channel_state import ChannelState
from broker.services.kas.custody import SHARES_GONE
from broker.services.kas.log_range import requested_entries
from broker.services.kas.resources import Resources
from broker.services.kas.view import View, take_view
from broker.wire.access import CollectionAnswer, EntryRef, LogEntry, Receipt
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import (
    Collected,
    CollectionStatus,
    LogItem,
    Positions,
    Reason,
    RecordItem,
    Signed,
    Verdict,
)

__all__ = [
    "Logged",
    "Release",
    "gather_release",
    "nothing_released",
    "refused_to_stranger",
    "released_at",
    "seal_answer",
    "sign_collections",
]

_RELEASED = Outcome(Verdict.ALLOWED, None, True)
_NOT_HELD = Outcome(Verdict.ALLOWED, Reason.NOT_HELD, False)
_NOT_MEMBER = Outcome(Verdict.DENIED, Reason.NOT_MEMBER, False)
_MAX_ROUNDS = 5
"""How often a release is gathered, before the reader is told to ask again."""

_log = get_logger("broker.access")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Release:
    """What a request is given: an outcome for each record, and the shares or entries that were released."""

    outcomes: Mapping[RecordRef, Outcome]
    shares: Mapping[RecordRef, bytes] = field(default_factory=dict)
    entries: tuple[LogEntry, ...] = ()


def nothing_released(decisions: Mapping[RecordRef, Decision]) -> Release:
    """Return these decisions as outcomes, without any share."""
    return Release(
        outcomes={
            ref: Outcome(decision.verdict, decision.reason, False) for ref, decision in decisions.items()
        }
    )


def refused_to_stranger(checked: CheckedRequest) -> Release:
    """Return what a requester is given that takes no part in the channel: DENIED, whatever it asks for.

    The outcome is the same whether the channel, the batch and the record exist or not, so that a stranger
    learns nothing from it.
    """
    return Release(outcomes=dict.fromkeys(requested_refs(checked.request), _NOT_MEMBER))


async def gather_release(
    resources: Resources, channel: ChannelService, checked: CheckedRequest, logged: View
) -> Release:
    """Gather what is released, from a view that still holds once everything is gathered.

    ``logged`` is the view from which the durable entry was written. Raises KasUnavailable when gathering
    takes too long five times.
    """
    view = logged
    for _ in range(_MAX_ROUNDS):
        if not view.is_fresh(resources.participant.clock()):
            view = await take_view(resources, channel, checked)
        view = view.brought_forward(checked, resources.directory)
        release = await released_at(resources, checked, logged, view)
        # Asked behind the gathering, which may have taken its time, while another channel's task may have
        # read a suspension of the requester.
        if view.is_fresh(resources.participant.clock()) and view.is_current(resources.directory):
            return release
    raise KasUnavailable("what was decided grew old before it could be answered; nothing was released")


async def released_at(resources: Resources, checked: CheckedRequest, logged: View, view: View) -> Release:
    """Return what is released at a view: what was allowed when it was logged, is allowed now, and is held."""
    outcomes: dict[RecordRef, Outcome] = {}
    shares: dict[RecordRef, bytes] = {}
    held: Mapping[int, bytes] = {}
    current = -1
    for ref, decision in logged.decisions.items():
        item, record = ref
        if item != current:
            current = item
            held = await _held_shares(resources, view.state, checked.request.items[item])
        if decision.verdict is Verdict.DENIED:
            # Also where it would be allowed by now: the entry says that it was denied.
            outcomes[ref] = Outcome(Verdict.DENIED, decision.reason, False)
        elif view.decisions[ref].verdict is Verdict.DENIED:
            outcomes[ref] = Outcome(Verdict.ALLOWED, view.decisions[ref].reason, False)
        elif record < 0:  # a range of the access log has entries, not shares
            outcomes[ref] = _RELEASED
        elif record in held:
            outcomes[ref] = _RELEASED
            shares[ref] = held[record]
        else:
            outcomes[ref] = _NOT_HELD
    entries = await requested_entries(resources, view.state, checked, outcomes)
    return Release(outcomes=outcomes, shares=shares, entries=entries)


async def _held_shares(
    resources: Resources, state: ChannelState, item: RecordItem | LogItem
) -> Mapping[int, bytes]:
    batch = state.records.find(item) if isinstance(item, RecordItem) else None
    if batch is None:
        return {}
    context = batch.context(resources.genesis)
    erased = state.records.shredded(batch.batch_id)
    for is_refreshed in (False, True):
        try:
            return await resources.custody.shares(
                batch.batch_id, context, batch.count, erased=erased, day=resources.today()
            )
        except OpenError as error:
            if is_refreshed:
                _log.error("held release unusable", batch=batch.batch_id.hex(), detail=error.message)
                listed = state.records.listed(batch.batch_id)
                if listed is not None and listed.status is CollectionStatus.COLLECTED:
                    resources.sound_alarm(state.number, SHARES_GONE)
            else:
                # A replica may have taken the batch over, or have written its value again.
                await resources.custody.refresh()
    return {}


class Logged(NamedTuple):
    """The access entry of an answer, and what the service had read of each log when it answered.

    The positions reach beyond the entry. So a receipt whose entry is missing convicts the service only
    where its positions fit the log, and a log that was replaced accuses nobody.
    """

    entry: EntryRef
    positions: Positions


def seal_answer(
    resources: Resources, checked: CheckedRequest, logged: Logged | None, release: Release
) -> bytes:
    """Sign the receipt, and seal the answer to the newest receiving key of the requester.

    Sealed to the agency that signed the request: whoever overheard the request and sends it gets an answer
    that only the agency opens. Raises RequestRefused when the requester has no receiving key.
    """
    request = checked.request
    receipt = Receipt(
        issuer=resources.participant.name,
        issued_at=resources.participant.clock(),
        request_digest=checked.digest,
        entry=None if logged is None else logged.entry,
        positions=None if logged is None else logged.positions,
        outcomes=receipt_outcomes(release.outcomes),
    )
    answer = encode_answer(_sign(resources, "receipt", encode(receipt)), release.shares, release.entries)
    try:
        _, public = resources.directory.receiving_key(request.issuer)
    except NotEntitled as error:
        raise RequestRefused(error.message) from None
    _log.info(
        "access answered",
        request=checked.digest.hex(),
        agency=request.issuer,
        channel=request.channel,
        asked=len(release.outcomes),
        released=sum(outcome.released for outcome in release.outcomes.values()),
        entry=None if logged is None else logged.entry.offset,
    )
    return seal.seal_answer(public, answer, checked.digest)


def sign_collections(resources: Resources, query_digest: bytes, batches: tuple[Collected, ...]) -> bytes:
    """Sign the answer to a collection query, and return it as bytes."""
    answer = CollectionAnswer(
        issuer=resources.participant.name,
        issued_at=resources.participant.clock(),
        query_digest=query_digest,
        batches=batches,
    )
    return encode(_sign(resources, "collection-answer", encode(answer)))


def _sign(resources: Resources, kind: str, content: bytes) -> Signed:
    return sign_content(resources.participant.keyring.signing, kind, resources.genesis, content)
