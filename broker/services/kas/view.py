"""Views: what the service knew of a channel when it decided a request, and what it decided from it.

A decision depends on the records of the channel, the directory and the time, and on nothing else. A view
holds all three, so that the service can tell later whether its decision still holds:

    fresh     it was taken at ends that are less than ten seconds old
    current   nothing was read since that may change a decision
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.access.answers import RecordRef
from broker.access.decisions import check_one_issuer, decide_request, is_participant, is_wholly_denied
from broker.access.policy import Decision
from broker.access.request_checks import CheckedRequest, check_signed, check_time
from broker.directory import Directory
from broker.errors import OtherLogRead
from broker.services.kas.channel_service import ChannelService
from broker.services.kas.channel_state import ChannelState
from broker.services.kas.resources import Resources
from broker.wire.access import AccessRequest
from broker.wire.manifest import Positions, RecordItem

__all__ = ["DECISION_HOLDS_US", "View", "take_view"]

DECISION_HOLDS_US = 10 * 1_000_000
"""A decision older than this, in microseconds, is made again at fresh ends before anything is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the service knew of a channel at one moment, and its decisions about one request.

    ``issuer`` is the requester. ``state`` reads on by itself: the view is about its records at ``version``.
    """

    issuer: str
    taken_at: int
    """When the ends were taken to which everything was read, in microseconds."""
    positions: Positions
    """How far everything was read then, as the access entry records it."""
    directory: Directory
    state: ChannelState
    version: int
    decisions: Mapping[RecordRef, Decision]
    is_participant: bool
    """Whether the requester is a member or an auditor of the channel."""

    @property
    def is_denied(self) -> bool:
        """Whether every record is denied."""
        return is_wholly_denied(self.decisions)

    def is_fresh(self, now: int) -> bool:
        """Whether the view was taken less than ten seconds ago. A clock that was set back makes it stale."""
        return 0 <= now - self.taken_at <= DECISION_HOLDS_US

    def is_current(self, directory: Directory) -> bool:
        """Whether nothing was read since that may change a decision. ``directory`` is the one of now."""
        return self.version == self.state.records.version and self.directory is directory

    def brought_forward(self, checked: CheckedRequest, directory: Directory) -> View:
        """Decide again from what was read since, without reading more; the same view if it is current.

        The time stays: it is the time to which the logs were read, so the view gets no fresher.
        """
        if self.is_current(directory):
            return self
        return replace(
            self,
            directory=directory,
            version=self.state.records.version,
            decisions=decide_request(
                checked.request, directory, self.state.records, self.state.number, self.taken_at
            ),
        )


def _check_seen(state: ChannelState, request: AccessRequest) -> None:
    """Raise OtherLogRead where the requester has read another log than the service.

    An operator who shows two participants two logs is noticed by whoever asks.
    """
    for head in request.seen:
        read = state.size(head.topic)
        if head.size > read or state.root_at(head.topic, head.size) != head.root:
            raise OtherLogRead(
                f"you have read another {head.topic}/{state.number}, up to {head.size}, than the service has",
                hint="somebody shows the two of you different logs: tell the log's operator and your auditor",
            )


async def take_view(resources: Resources, channel: ChannelService, checked: CheckedRequest) -> View:
    """Read everything to ends taken now, take over what the request names, and decide.

    Raises RequestRefused when the request cannot be judged any more.
    """
    request = checked.request
    state = await channel.apply()
    # A batch that is not yet taken over cannot be released, and its reader should not have to ask twice.
    await channel.collect(state, {item.batch_id for item in request.items if isinstance(item, RecordItem)})
    _check_seen(state, request)
    now = resources.participant.clock()
    directory = resources.directory
    # Both again, by the clock and the directory of the decision: an operator may have delayed an old request
    # until now, and a thief's key may have been revoked while its request waited for its turn.
    check_time(request.issued_at, now)
    check_signed(checked.signed, request.issuer, directory)
    check_one_issuer(request, state.records)
    return View(
        issuer=request.issuer,
        taken_at=now,
        positions=state.positions(directory),
        directory=directory,
        state=state,
        version=state.records.version,
        decisions=decide_request(request, directory, state.records, state.number, now),
        is_participant=is_participant(directory, request.issuer, request.channel),
    )
