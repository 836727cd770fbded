"""The key access service: it logs, durably, who reads what and why, and only then releases.

Theory of operation. A request is answered in six steps; the reader does the first two and the last:

    (1) the reader verifies a batch, (2) and signs a request
    (3) the service takes the ends of the directory, of the channel's partition in every record topic
        and of the access log in one call, applies everything to there, and decides for each record
    (4) it appends the access entry. Commit point: durable in the log and in its own journal
    (5) it reads the access log up to that entry and gathers what it would release; if (3) is older than
        ten seconds by then it decides again at fresh ends; what is no longer allowed is withheld; only
        then it answers
    (6) the reader unlocks

Nothing is released that no durable entry stands for, and a failure anywhere releases nothing: the
reader asks again and is decided anew. Bad input never stops the service; its own key revoked, or an
access log that was cut, does (see ``followed``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from broker.access.answers import Outcome, RecordRef, requested_refs
from broker.access.decisions import decide_request, is_participant, is_wholly_denied, record_outcomes
from broker.access.policy import Decision
from broker.access.request_checks import (
    CheckedRequest,
    check_issuer,
    check_query,
    check_signed,
    check_time,
    parse_request,
)
from broker.directory import Channel, Directory, check_high_water
from broker.errors import KasUnavailable, KeyFileError, OperatorError, RequestRefused
from broker.log.outage import Outage
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.services.kas.channel_reader import ChannelState, channel_partitions
from broker.services.kas.channel_service import FollowedChannel, Means
from broker.services.kas.held import HeldReleases
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.log_range import requested_entries
from broker.services.kas.release import not_released, release
from broker.services.kas.sealing import seal_answer, sign_collections
from broker.wire.access import BatchRef, EntryRef, LogEntry
from broker.wire.manifest import (
    AccessTerms,
    Collected,
    CollectionStatus,
    Positions,
    Reason,
    RecordItem,
    Verdict,
)

__all__ = ["DECISION_HOLDS_US", "KeyAccessService"]

DECISION_HOLDS_US = 10 * 1_000_000
"""Older than this when its entry is durable, in microseconds, a decision is made again at fresh ends."""

_FLUSH_TIMEOUT_S = 5.0
_MAX_ROUNDS = 5
_log = get_logger("broker.access")


@dataclass(frozen=True, slots=True)
class _Decided:
    """Step 3: what was decided, when, by which directory and positions."""

    at: int
    directory: Directory
    positions: Positions
    version: int
    decisions: Mapping[RecordRef, Decision]


class KeyAccessService:
    """A running key access service: ``async with KeyAccessService(...) as kas``.

    It answers by itself; ``run`` also takes over what is published before anybody asks for it. A cancelled
    call leaves at most an entry in the log for which nothing was released.
    """

    def __init__(
        self, participant: Participant, keystore: KeyStore, journal: Journal, *, poll_s: float = 1.0
    ) -> None:
        self.stranger_denials = 0
        """Requests by who takes no part in the channel, or for one that does not exist: counted only."""
        self._participant = participant
        self._keystore = keystore
        self._journal = journal
        self._poll_s = poll_s
        self._channels: dict[int, FollowedChannel] = {}
        self._started: Means | None = None

    async def __aenter__(self) -> Self:
        participant, journal = self._participant, self._journal
        await participant.follower.refresh()
        # The journal remembers what every replica with this key store has seen, the profile only what it saw.
        mark = journal.high_water()
        if mark is not None:
            check_high_water(participant.follower.history, mark)
        means = Means(
            participant=participant,
            keystore=self._keystore,
            journal=journal,
            held=HeldReleases(participant.log, self._keystore),
        )
        means.check_own_key(means.directory)
        journal.saw_directory(participant.follower.high_water)
        for alarm in journal.alarms():
            means.alarm_in(alarm.partition, alarm.detail)
        self._started = means
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log the denials that were only counted; what fails there is lost, and nothing else is pending."""
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                for channel in self._channels.values():
                    async with channel.turn:
                        await channel.log_denials(all=True)
        except (OperatorError, KeyFileError, TimeoutError) as failure:
            _log.error("denials not logged", error=str(failure))

    @property
    def _means(self) -> Means:
        if self._started is None:
            raise KasUnavailable("the key access service is not running")
        return self._started

    @property
    def alarms(self) -> tuple[str, ...]:
        """What an operator must look at."""
        return tuple(self._means.alarms)

    def acknowledge_alarm(self, channel_number: int) -> None:
        """An operator has looked into the alarm: the channel is read anew and releasing goes on."""
        self._journal.acknowledge(channel_number)
        prefix = self._means.channel_words(channel_number)
        self._means.alarms[:] = [text for text in self._means.alarms if not text.startswith(prefix)]

    # the two questions

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Decide a request, log it, and answer: see :class:`~broker.access.client.KeyAccess`."""
        async with _answering("access"):
            checked = await self._check(request, details)
            means, issuer, name = self._means, checked.request.issuer, checked.request.channel
            if not is_participant(means.directory, issuer, name):
                await means.participant.follower.refresh()  # it may have joined since
            found = means.directory.channel(name)
            if found is None or not is_participant(means.directory, issuer, name):
                return self._answer_stranger(checked)
            channel = self.followed(found)
            async with channel.turn:
                return await self._answer(channel, checked)

    async def collections(self, query: bytes) -> bytes:
        """What became of batches: see :class:`~broker.access.client.KeyAccess`."""
        async with _answering("collections"):
            means = self._means
            await means.participant.follower.refresh()
            checked = check_query(query, means.participant.follower.history, self._participant.clock())
            asked, channel = checked.query, means.directory.channel(checked.query.channel)
            if channel is not None and channel.is_open and asked.issuer in channel.members:
                answers = await self._collected(self.followed(channel), asked.batches)
            else:
                answers = tuple(_unknown(one) for one in asked.batches)
            return sign_collections(means, checked.digest, answers)

    async def _collected(
        self, channel: FollowedChannel, batches: tuple[BatchRef, ...]
    ) -> tuple[Collected, ...]:
        async with channel.turn:
            state = await channel.apply()
            await channel.collect(state, {one.batch_id for one in batches})
            found = [(one, state.records.listed(one.batch_id)) for one in batches]
        return tuple(
            listed if listed and (listed.topic, listed.offset) == (one.topic, one.offset) else _unknown(one)
            for one, listed in found
        )

    async def _check(self, request: bytes, details: bytes) -> CheckedRequest:
        follower = self._means.participant.follower
        parsed = parse_request(
            request, details, self._participant.clock()
        )  # what is malformed has nothing read for it
        try:
            return check_issuer(parsed, follower.history)
        except RequestRefused:
            before = follower.history.size
            await follower.refresh()  # its issuer, its key or its view may be newer than what we read
            if follower.history.size == before:
                raise
            return check_issuer(parsed, follower.history)

    # the steps

    async def _answer(self, channel: FollowedChannel, checked: CheckedRequest) -> bytes:
        request = checked.request
        state, decided = await self._decide(channel, checked)  # (3)
        if not is_participant(decided.directory, request.issuer, request.channel):
            return self._answer_stranger(checked)
        is_denied = is_wholly_denied(decided.decisions)
        if is_denied and not await self._logs_denial(channel, checked, decided):
            return self._seal(checked, None, not_released(decided.decisions))
        terms = AccessTerms(
            request=checked.signed,
            outcomes=record_outcomes(decided.decisions),
            positions=decided.positions,
        )
        written = await channel.write(  # (4)
            decided.directory, [(terms, checked.details)], now=decided.at
        )
        # Commit point: the entry is durable, in the log and in our journal. A crash before it released
        # nothing; one from here on leaves an entry for something that was not released.
        if is_denied:
            channel.denials.logged(request.issuer, decided.at)
        offset = await channel.read_own(written)  # (5)
        entry = EntryRef(batch_id=written.batch.batch_id, partition=channel.number, offset=offset, index=0)
        latest = decided
        for _ in range(_MAX_ROUNDS):
            if not self._holds(latest):
                state, latest = await self._decide(channel, checked)
            now_known = (state.records.version, self._means.directory)
            still = latest.decisions
            if now_known != (latest.version, latest.directory):
                still = decide_request(request, now_known[1], state.records, channel.number, latest.at)
            outcomes, shares = await release(self._means, request, state.records, decided.decisions, still)
            entries = await requested_entries(self._means, state, request, outcomes)
            # Reading what is released may have taken its time, and others read the directory on.
            if self._holds(latest) and (state.records.version, self._means.directory) == now_known:
                return self._seal(checked, entry, outcomes, shares, entries)
        raise KasUnavailable("what was decided grew old before it could be answered; nothing was released")

    def _holds(self, decided: _Decided) -> bool:
        return 0 <= self._participant.clock() - decided.at <= DECISION_HOLDS_US

    async def _decide(
        self, channel: FollowedChannel, checked: CheckedRequest
    ) -> tuple[ChannelState, _Decided]:
        """Step 3: apply everything to ends taken now, list what was not yet taken over, decide."""
        state, request = await channel.apply(), checked.request
        wanted = {item.batch_id for item in request.items if isinstance(item, RecordItem)}
        await channel.collect(state, wanted)
        now, directory = self._participant.clock(), self._means.directory
        check_time(request.issued_at, now)  # it may have waited for its turn
        check_signed(checked.signed, request.issuer, directory)  # its key may be revoked by now
        return state, _Decided(
            at=now,
            directory=directory,
            positions=state.positions(directory),
            version=state.records.version,
            decisions=decide_request(request, directory, state.records, channel.number, now),
        )

    async def _logs_denial(
        self, channel: FollowedChannel, checked: CheckedRequest, decided: _Decided
    ) -> bool:
        """Whether a denial is logged whole; else it was counted, or the channel is closed to entries too."""
        if not decided.directory.channels[checked.request.channel].is_open:
            return False
        issuer = checked.request.issuer
        if channel.denials.is_first(issuer, decided.at):
            return True
        channel.denials.count(issuer, decided.at)
        await channel.log_denials()
        return False

    # answers

    def _answer_stranger(self, checked: CheckedRequest) -> bytes:
        """The one answer to who takes no part in a channel, whether it exists or not: DENIED, unlogged."""
        self.stranger_denials += 1
        denied = Outcome(Verdict.DENIED, Reason.NOT_MEMBER, False)
        return self._seal(checked, None, dict.fromkeys(requested_refs(checked.request), denied))

    def _seal(
        self,
        checked: CheckedRequest,
        entry: EntryRef | None,
        outcomes: Mapping[RecordRef, Outcome],
        shares: Mapping[RecordRef, bytes] | None = None,
        entries: tuple[LogEntry, ...] = (),
    ) -> bytes:
        return seal_answer(self._means, checked, entry, outcomes, shares or {}, entries)

    # following all channels

    def followed(self, channel: Channel) -> FollowedChannel:
        """A channel in our hands; whoever works on it holds its ``turn``."""
        found = self._channels.get(channel.number)
        if found is None:
            found = self._channels[channel.number] = FollowedChannel(self._means, channel)
        return found

    async def run(self) -> None:
        """Follow every channel until cancelled: take over what arrives, log counted denials.

        While the log is away it waits; whatever else fails has a log line, and is tried again.
        """
        outage = Outage(service=self._participant.name)
        while True:
            try:
                await outage.outlast(self.collect)
            except (OperatorError, KeyFileError) as error:
                _log.error("following failed", error=error.message)
            await asyncio.sleep(self._poll_s)

    async def collect(self) -> None:
        """Once over every open channel: take over what is new there, at most once a second each."""
        means = self._means
        await means.participant.follower.refresh()
        means.check_own_key(means.directory)
        usable = [one for one in means.directory.channels.values() if one.is_open and one.epoch]
        channels = [self.followed(one) for one in usable]
        partitions = [one for channel in channels for one in channel_partitions(channel.number)]
        ends = await means.participant.log.ends(partitions) if partitions else {}
        for channel in channels:
            try:
                async with channel.turn:
                    await channel.collect_if_due(await channel.apply_if_moved(ends))
                    await channel.log_denials()
            except (OperatorError, KeyFileError) as error:
                _log.error("following a channel failed", channel=channel.name, error=error.message)


@asynccontextmanager
async def _answering(question: str) -> AsyncIterator[None]:
    """Whatever fails outside is KasUnavailable to who asks, and both that and a refusal are in our log."""
    try:
        yield
    except RequestRefused as error:
        _log.warning("request refused", question=question, detail=error.message)
        raise
    except (OperatorError, KeyFileError) as error:
        _log.error("question not answered", question=question, error=error.message)
        if isinstance(error, KasUnavailable):
            raise
        # Its words may name files of ours, and are for our log alone.
        raise KasUnavailable(
            "the key access service cannot answer now; nothing was released", hint="its own log says why"
        ) from error


def _unknown(ref: BatchRef) -> Collected:
    return Collected(
        topic=ref.topic,
        offset=ref.offset,
        batch_id=ref.batch_id,
        count=0,
        status=CollectionStatus.UNKNOWN,
        detail="",
    )
