"""The steps in which the key access service answers a request: check, decide, log, release.

Theory of operation. Accountable reading has six steps. The reader makes the first two and the last:

    (1) The reader verifies a batch.
    (2) It signs a request, which the service checks: ``check_request``.
    (3) The service takes the ends of the directory, of the channel's partition in every record topic and
        of the access log in one call, reads everything to there, and decides: ``take_view``.
    (4) It appends the access entry: ``_log_access``. Commit point: the entry is durable, in the log and in
        the service's journal.
    (5) It reads the access log up to that entry and gathers what it would release: ``gather_release``. If
        (3) is older than ten seconds by then, it decides again at fresh ends. It withholds what is no
        longer allowed, and only then answers.
    (6) The reader unlocks.

Nothing is released without a durable entry, and a failure anywhere releases nothing: the reader asks again
and its request is decided anew. Bad input never stops the service.

The order of the steps stands against these attacks (docs/threat-model.md):

    a member reads without a trace           (4) is before (5), and nothing leaves the service before (6)
    a record is erased while the service is  (5) decides again: an operator, or a loaded host, may pause the
    paused between (4) and its answer        service there for any time
    an operator holds a partition back       (3) takes all ends in one call and records them in the entry
    an old or stolen request is sent again   (2) and (3) compare its time and its key, and (5) seals the
                                             answer to the agency that signed it
    a stranger asks in order to learn        the same answer always, and never an entry
    a member fills the access log            its denials of a minute are one entry
"""

from __future__ import annotations

from broker.access.decisions import record_outcomes
from broker.access.request_checks import CheckedRequest, check_issuer, parse_request
from broker.errors import RequestRefused
from broker.services.kas.channel_service import ChannelService
from broker.services.kas.release import Logged, gather_release, nothing_released, seal_answer
from broker.services.kas.resources import Resources
from broker.services.kas.view import View, take_view
from broker.wire.access import EntryRef
from broker.wire.manifest import AccessTerms

__all__ = ["answer_request", "check_request"]


async def check_request(resources: Resources, request_bytes: bytes, details_bytes: bytes) -> CheckedRequest:
    """Step 2: check the bytes of a request. Raises RequestRefused when it cannot be judged."""
    follower = resources.participant.follower
    # What is malformed or old is refused before anything is read: it must cost its sender more than us.
    checked = parse_request(request_bytes, details_bytes, resources.participant.clock())
    try:
        return check_issuer(checked, follower.history)
    except RequestRefused:
        size = follower.history.size
        # Its issuer, its key or its view of the directory may be newer than what we have read.
        await follower.refresh()
        if follower.history.size == size:
            raise
        return check_issuer(checked, follower.history)


async def answer_request(
    resources: Resources, channel: ChannelService, checked: CheckedRequest
) -> bytes | None:
    """Steps 3 to 5 for a request of a member or an auditor. The caller holds the channel's turn.

    Returns the sealed answer. Returns None when the requester left the channel meanwhile: it then gets the
    answer that strangers get.
    """
    view = await take_view(resources, channel, checked)  # (3)
    if not view.is_participant:
        return None
    if view.is_denied and not await channel.logs_denial_whole(view.directory, view.issuer, view.taken_at):
        return seal_answer(resources, checked, None, nothing_released(view.decisions))
    entry = await _log_access(channel, checked, view)  # (4)
    release = await gather_release(resources, channel, checked, view)  # (5)
    logged = Logged(entry, view.state.positions(resources.directory))
    return seal_answer(resources, checked, logged, release)


async def _log_access(channel: ChannelService, checked: CheckedRequest, view: View) -> EntryRef:
    """Step 4: append the access entry, and read the access log up to it."""
    terms = AccessTerms(request=checked.signed, outcomes=record_outcomes(view.decisions))
    written = await channel.write(
        view.directory, [(terms, checked.details)], now=view.taken_at, positions=view.positions
    )
    # Commit point: the entry is durable, in the log and in our journal. A crash before it released nothing;
    # a crash from here on leaves an entry for something that was not released.
    if view.is_denied:
        # Before reading back, which may fail: the denial is logged, and a second one is only counted.
        channel.denials.logged(view.issuer, view.taken_at)
    # Reading it back shows what other replicas appended before it: an erasure among that withholds.
    offset = await channel.read_own(written)
    return EntryRef(batch_id=written.batch.batch_id, partition=channel.number, offset=offset, index=0)
