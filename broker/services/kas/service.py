"""The running key access service: its two questions, and following all channels.

How a request is answered stands in ``steps``; how one channel is read, written to and stopped stands in
``channel_service``. Two things stop the service: its own key is revoked, or an access log was cut. The
first stops everything, the second only the channel of that log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from broker.access.decisions import is_participant
from broker.access.request_checks import CheckedQuery, CheckedRequest, check_query
from broker.directory import Channel, check_high_water
from broker.errors import KasUnavailable, KeyFileError, LogForked, OperatorError, RequestRefused
from broker.log.outage import Outage
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.services.kas.channel_service import ChannelService
from broker.services.kas.channel_state import ChannelState, channel_partitions
from broker.services.kas.custody import Custody, intake_over_at
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.release import refused_to_stranger, seal_answer, sign_collections
from broker.services.kas.resources import Resources
from broker.services.kas.steps import answer_request, check_request
from broker.wire.access import BatchRef
from broker.wire.manifest import Collected, CollectionStatus

__all__ = ["KeyAccessService"]

_FLUSH_TIMEOUT_S = 5.0
_MAX_DETAIL = 200
_log = get_logger("broker.access")


class KeyAccessService:
    """A running key access service: ``async with KeyAccessService(...) as kas``.

    It implements :class:`~broker.access.client.KeyAccess`, and answers as soon as it is entered. ``run``
    also takes over what is published before a reader asks for it. A cancelled call leaves at most an entry
    in the log for which nothing was released.
    """

    def __init__(
        self, participant: Participant, keystore: KeyStore, journal: Journal, *, poll_s: float = 1.0
    ) -> None:
        self.stranger_denials = 0
        """Requests by strangers to the channel, or for a channel that does not exist. They are counted here
        and not logged: anybody could fill the access log with them."""
        self._participant = participant
        self._keystore = keystore
        self._journal = journal
        self._poll_s = poll_s
        self._channels: dict[int, ChannelService] = {}
        self._started: Resources | None = None

    async def __aenter__(self) -> Self:
        participant = self._participant
        await participant.follower.refresh()
        # The journal remembers what every replica with this journal has seen, the profile only what it saw.
        high_water = self._journal.high_water()
        if high_water is not None:
            check_high_water(participant.follower.history, high_water)
        resources = Resources(
            participant=participant,
            keystore=self._keystore,
            journal=self._journal,
            custody=Custody(participant.log, self._keystore),
        )
        resources.check_own_key(resources.directory)
        self._journal.saw_directory(participant.follower.high_water)
        for alarm in self._journal.alarms():
            resources.sound_alarm(alarm.partition, alarm.detail)
        self._started = resources
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log the denials that were only counted, and bind what no position binds yet.

        If that fails the denials are lost, and a later entry binds the rest.
        """
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                for channel in self._channels.values():
                    async with channel.turn:
                        await channel.log_denials(all=True)
                        await channel.bind_news(at_once=True)
        except (OperatorError, KeyFileError, TimeoutError) as failure:
            _log.error("not everything was logged at the end", error=str(failure))

    @property
    def _resources(self) -> Resources:
        if self._started is None:
            raise KasUnavailable("the key access service is not running")
        return self._started

    @property
    def alarms(self) -> tuple[str, ...]:
        """What an operator must look at."""
        return self._resources.alarms.texts

    def acknowledge_alarm(self, channel_number: int) -> None:
        """Note that an operator has looked into the alarms of a channel.

        The channel is read anew at the next request, and releasing goes on.
        """
        self._journal.acknowledge(channel_number)
        self._resources.alarms.clear(channel_number)

    # the two questions

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Decide a request, log it, and answer it: see :class:`~broker.access.client.KeyAccess`."""
        async with _answering("access"):
            checked = await check_request(self._resources, request, details)
            channel = await self._channel_of(checked)
            if channel is not None:
                async with channel.turn:
                    answer = await answer_request(self._resources, channel, checked)
                if answer is not None:
                    return answer
            self.stranger_denials += 1
            return seal_answer(self._resources, checked, None, refused_to_stranger(checked))

    async def _channel_of(self, checked: CheckedRequest) -> ChannelService | None:
        """Return the channel of a request, or None when its issuer takes no part in such a channel."""
        resources = self._resources
        issuer = checked.request.issuer
        name = checked.request.channel
        if not is_participant(resources.directory, issuer, name):
            await resources.participant.follower.refresh()  # it may have joined since
        channel = resources.directory.channel(name)
        if channel is None or not is_participant(resources.directory, issuer, name):
            return None
        return self.channel_service(channel)

    async def collections(self, query: bytes) -> bytes:
        """Answer what became of batches: see :class:`~broker.access.client.KeyAccess`."""
        async with _answering("collections"):
            resources = self._resources
            await resources.participant.follower.refresh()
            history = resources.participant.follower.history
            checked = check_query(query, history, resources.participant.clock())
            batches = await self._collected(checked)
            return sign_collections(resources, checked.digest, batches)

    async def _collected(self, checked: CheckedQuery) -> tuple[Collected, ...]:
        query = checked.query
        channel = self._resources.directory.channel(query.channel)
        if channel is None or not channel.is_open or query.issuer not in channel.members:
            # To a stranger every batch is unknown, as it is in a channel that does not exist.
            return tuple(_unknown(batch) for batch in query.batches)
        service = self.channel_service(channel)
        async with service.turn:
            state = await service.apply()
            await service.collect(state, {batch.batch_id for batch in query.batches})
            return tuple(_answered(batch, state) for batch in query.batches)

    # following all channels

    def channel_service(self, channel: Channel) -> ChannelService:
        """Return the service of a channel; a task that works with it holds its ``turn``."""
        service = self._channels.get(channel.number)
        if service is None:
            service = self._channels[channel.number] = ChannelService(self._resources, channel)
        return service

    async def run(self) -> None:
        """Follow every channel until cancelled: take over what arrives, and log counted denials.

        While the log is away it waits. It ends with LogForked where the directory is not the one that it
        read. Any other failure gets a log line, and is tried again.
        """
        outage = Outage(service=self._participant.name)
        while True:
            try:
                await outage.outlast(self.collect)
            except LogForked:
                # The failure of a channel is caught where the channel is followed; this one is for all.
                raise
            except (OperatorError, KeyFileError) as error:
                _log.error("following failed", error=error.message)
            await asyncio.sleep(self._poll_s)

    async def collect(self) -> None:
        """Go once over every open channel and take over what is new there, at most once a second each.

        Then destroy the intake keys that nothing more can come for.
        """
        resources = self._resources
        # Before the directory is read: a channel that it does not name yet has no batch from before this.
        started_at = resources.participant.clock()
        await resources.participant.follower.refresh()
        resources.check_own_key(resources.directory)
        channels = [
            self.channel_service(channel)
            for channel in resources.directory.channels.values()
            if channel.is_open and channel.epoch
        ]
        # One call for all channels: with hundreds of them, one call each would take longer than a round.
        partitions = [part for channel in channels for part in channel_partitions(channel.number)]
        taken_at = resources.participant.clock()
        ends = await resources.participant.log.ends(partitions) if partitions else {}
        for channel in channels:
            try:
                async with channel.turn:
                    state = await channel.apply_if_moved(ends, taken_at)
                    await channel.collect_if_due(state)
                    await channel.log_denials()
                    await channel.bind_news()
                    await resources.custody.look_for(channel.name, state.records)
            except (OperatorError, KeyFileError) as error:
                _log.error("following a channel failed", channel=channel.name, error=error.message)
        self._destroy_intake_keys(channels, started_at)

    def _destroy_intake_keys(self, channels: Sequence[ChannelService], started_at: int) -> None:
        """Destroy the intake keys that are over, where all channels have taken over what came before."""
        announced = self._resources.directory.intake_days
        for day in self._keystore.intake_days():
            over_at = intake_over_at(day)
            if started_at < over_at:
                continue
            # Under a key that was never announced there is no batch.
            key_id = announced.get((self._participant.name, day), b"")
            if all(channel.has_taken_over(over_at, key_id) for channel in channels):
                self._keystore.destroy_intake_key(day)
                _log.info("intake key destroyed", day=day)


@asynccontextmanager
async def _answering(question: str) -> AsyncIterator[None]:
    """Make every failure outside a KasUnavailable for the caller, and log it and every refusal."""
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


def _answered(batch: BatchRef, state: ChannelState) -> Collected:
    """Return what became of a batch, as its publisher may believe it."""
    listed = state.records.listed(batch.batch_id)
    if listed is not None and (listed.topic, listed.offset) == (batch.topic, batch.offset):
        return listed
    # A copy at another offset is no batch, and its publisher must not believe that it was taken over.
    reason = state.void_reason(batch)
    if reason is None:
        return _unknown(batch)
    return replace(_unknown(batch), status=CollectionStatus.VOID, detail=reason[:_MAX_DETAIL])


def _unknown(batch: BatchRef) -> Collected:
    return Collected(
        topic=batch.topic,
        offset=batch.offset,
        batch_id=batch.batch_id,
        count=0,
        status=CollectionStatus.UNKNOWN,
        detail="",
    )
