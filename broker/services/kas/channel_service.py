"""One channel at work in the key access service: read, taken over, written to, and stopped when it was cut.

A task that works on a channel holds its ``turn``, so one task at a time reads and writes: the positions in
its access entries then never fall within a stream. What the logs say is read from them at every start. The
journal remembers only what must be in the access log. If the log lacks it, the channel stops: the lost
messages are appended again inside LATE entries, and nothing is released until an operator acknowledges the
alarm.

    apply ── the log seems to be cut ──▶ look again ── still cut ──▶ alarm ──▶ put back, stopped
      │                                                                              │
      └──▶ state, from which requests are decided          acknowledged, read anew ◀─┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import NoReturn

from broker.clock import day_of
from broker.directory import Channel, Directory
from broker.errors import KasStopped, KasUnavailable, LogForked
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.services.kas.channel_state import MAX_PENDING, ChannelState, WentBack, channel_partitions
from broker.services.kas.custody import take_over_all
from broker.services.kas.denials import Denials
from broker.services.kas.entries import AccessWriter, WrittenEntry, month_of
from broker.services.kas.journal import Alarm, is_in_log
from broker.services.kas.repair import late_entries, lost_entries, lost_words
from broker.services.kas.resources import Resources
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.access import AccessDetails
from broker.wire.manifest import CollectionTerms, Positions, PositionTerms, Terms

__all__ = ["BIND_AFTER_US", "COLLECTION_PAUSE_US", "LOOK_AGAIN_S", "ChannelService"]

COLLECTION_PAUSE_US = 1_000_000
"""While following live, a channel gets at most one COLLECTION entry in this time, in microseconds."""

BIND_AFTER_US = 60 * 1_000_000
"""Something new in a channel is bound by a position at the latest after this time, in microseconds."""

LOOK_AGAIN_S = (0.1, 0.4, 1.5, 3.0)
"""Pauses between looks at a log that seems to be cut, in seconds. A broker that stood still, while another
took its partitions over, answers the first questions with what it knew before."""

_log = get_logger("broker.access")


class _SeemsCut(Exception):
    """The log lacks what it must hold, at one look at it."""


class ChannelService:
    """A channel with its state and its writer.

    The task that holds ``turn`` owns all other attributes, and only it may call the methods.
    """

    def __init__(self, resources: Resources, channel: Channel) -> None:
        self.name = channel.name
        self.number = channel.number
        self.turn = asyncio.Lock()
        self.denials = Denials()
        self._resources = resources
        participant = resources.participant
        self._writer = AccessWriter(
            participant.log, participant.name, participant.keyring.signing, channel.number
        )
        self._state: ChannelState | None = None
        """None until the channel was read, and again after each alarm."""
        self._alarms_seen = 0
        """How many alarms the channel had had when the state was read: with each more it is read anew."""
        self._put_back_for = 0
        """How many alarms the channel had had when lost entries were last put back."""
        self._collected_at = 0
        self._applied_at = 0
        """When the ends were taken to which everything was last applied, by our own clock."""
        self._left_out: set[bytes] = set()
        """The intake keys of batches that could not be taken over, because the key store failed."""
        self._news_since: int | None = None
        """When news was first seen that no position binds, in microseconds; None while all is bound."""
        self._ends: Mapping[Partition, int] = {}
        """The ends to which the state was last read."""

    # reading

    async def apply(self) -> ChannelState:
        """Read to ends that are taken now, and return the state.

        A log that seems to be cut is looked at again before the alarm is raised: see LOOK_AGAIN_S. Raises
        KasUnavailable when the state must not be used.
        """
        for pause_s in LOOK_AGAIN_S:
            try:
                return await self._apply()
            except _SeemsCut as seems:
                _log.warning("the log seems to be cut", channel=self.name, detail=str(seems))
            await asyncio.sleep(pause_s)
        try:
            return await self._apply()
        except _SeemsCut as seems:
            await self._sound_alarm(str(seems))

    async def _apply(self) -> ChannelState:
        resources = self._resources
        log = resources.participant.log
        state = await self._opened()
        # All before the ends: an entry that another process appends and journals after the ends were taken,
        # and a directory that another channel reads on meanwhile, must not look like a loss.
        last = resources.journal.last(self.number)
        journalled = resources.journal.bound(self.number)
        own_key = resources.own_key
        directory_size = resources.participant.follower.history.size
        taken_at = resources.participant.clock()
        # All ends in one call: an operator who holds one partition back while it shows the others would
        # otherwise have the service decide on a mixture of old and new. What it shows is in the entry.
        ends = dict(await log.ends(channel_partitions(self.number)))
        # The newest entry first, then the ends, then what earlier entries saw: each is a cut that the one
        # before does not notice.
        if last is not None and not await is_in_log(log, last):
            raise _SeemsCut("the access log was cut")
        try:
            state.check_ends(ends, directory_size)
            await state.apply_to(ends, lambda: self._collect_once(state))
            if state.lacking(own_key, journalled) or state.contradicted(own_key):
                # Another process may have bound what was appended while our ends were taken. They are taken
                # again, and the access log is read no further, which could bind more than these ends.
                access = Partition(ACCESS_TOPIC, self.number)
                ends = {**await log.ends(channel_partitions(self.number)), access: ends[access]}
                await state.apply_to(ends, lambda: self._collect_once(state))
        except (WentBack, LogForked) as error:
            raise _SeemsCut(error.message) from None
        if lacking := state.lacking(own_key, journalled):
            raise _SeemsCut(lost_words(lacking, self.number))
        if contradicted := state.contradicted(own_key):
            resources.sound_alarm(self.number, f"another replica: {lost_words(contradicted, self.number)}")
        self._ends = ends
        self._applied_at = taken_at
        resources.journal.saw_directory(resources.participant.follower.high_water)
        # Behind the reading, which may have read the revocation of our own key.
        resources.check_own_key(resources.directory)
        return state

    def _is_open(self, directory: Directory) -> bool:
        """Whether an entry can be written: in a closed channel none can."""
        channel = directory.channel_at(self.number)
        return channel is not None and channel.is_open

    async def apply_if_moved(self, ends: Mapping[Partition, int], taken_at: int) -> ChannelState:
        """Return the state as it is when no log moved, and read on otherwise.

        ``ends``, taken at ``taken_at``, tell only whether a log moved; to read on, newer ones are taken.
        """
        partitions = channel_partitions(self.number)
        has_moved = any(ends[partition] != self._ends.get(partition) for partition in partitions)
        if has_moved or self._state is None:
            return await self.apply()
        self._applied_at = max(self._applied_at, taken_at)
        return self._state

    def has_taken_over(self, moment: int, intake_key_id: bytes) -> bool:
        """Whether no batch of the log as it stood at a moment of our clock still needs this intake key.

        It is known once everything was applied to ends that were taken after the moment.
        """
        is_applied = self._state is not None and not self._state.pending and self._applied_at > moment
        return is_applied and intake_key_id not in self._left_out

    async def read_own(self, written: WrittenEntry) -> int:
        """Read the access log up to our own entry, and return the offset at which it stands for every reader.

        That offset is lower than the written one when an append that seemed to have failed came to light:
        of two copies the first one counts. Raises KasUnavailable when the entry does not count.
        """
        state = self._state
        batch = written.batch
        if state is None:
            raise KasUnavailable(f"channel '{self.name}' is not open")
        end = written.offset + len(batch.messages)
        found = await state.apply_access(end, awaited=batch.batch_id)
        if found is None and await self._is_kept(written):
            # Another replica's entry, written meanwhile from a newer directory, made ours void: its epoch
            # or its key ended there. Nobody cut anything, and nothing is released for a void entry.
            self._writer.start_anew()
            raise KasUnavailable(f"the directory moved on while offset {written.offset} was written")
        if found is None or found > written.offset:
            await self._sound_alarm(f"our entry at offset {written.offset} does not stand")
        return found

    async def _is_kept(self, written: WrittenEntry) -> bool:
        entry = self._resources.journal.at(self.number, written.offset)
        return entry is not None and await is_in_log(self._resources.participant.log, entry)

    async def _opened(self) -> ChannelState:
        """Return the state as it is, or a new one: after an alarm, and at the start.

        A new state is read only after the whole journal was compared with the log.
        """
        journal = self._resources.journal
        alarms_ever = journal.alarms_ever(self.number)
        if alarms_ever != self._alarms_seen:
            # Another process of this host may have raised the alarm, and an operator acknowledged it
            # already: what we read before the cut is no longer true.
            self._state = None
            self._alarms_seen = alarms_ever
        if journal.alarm(self.number) is not None:
            await self._stay_stopped()
        if self._state is None:
            self._writer.start_anew()
            if await lost_entries(journal, self._resources.participant.log, self.number):
                raise _SeemsCut("the access log was cut")
            self._state = self._new_state()
            self._applied_at = 0
            self._left_out = set()
        return self._state

    def _new_state(self) -> ChannelState:
        return ChannelState(
            self._resources.participant,
            self._resources.directory.channels[self.name],
            on_entry=lambda batch: self._writer.saw_stream(batch.header.stream),
        )

    # writing

    async def write(
        self,
        directory: Directory,
        items: Sequence[tuple[Terms, AccessDetails | None]],
        *,
        now: int,
        positions: Positions | None = None,
    ) -> WrittenEntry:
        """Append one batch of entries and journal it; on return it is durable in both.

        It binds ``positions``, by default everything that was read.
        """
        resources = self._resources
        state = self._state
        resources.check_own_key(directory)
        channel = directory.channel_at(self.number)
        epoch = channel.epoch if channel and channel.is_open else None
        epoch_key = state.access_key(epoch.number) if state and epoch else None
        if state is None or epoch_key is None:
            raise KasUnavailable(f"channel '{self.name}' has no epoch that the service can write under")
        month_key = resources.keystore.access_key(month_of(now), self.number)
        written = await self._writer.write(
            directory,
            epoch_key,
            month_key,
            items,
            positions=positions or state.positions(directory),
            now=now,
            end=state.access.next_offset,
        )
        # Journalled before anything is released: an operator who cuts the entry off would otherwise leave
        # no proof of the release.
        await asyncio.to_thread(
            resources.journal.record,
            self.number,
            written.offset,
            written.batch.batch_id,
            written.batch.messages,
            positions=written.batch.manifest.positions,
            issued_at=now,
        )
        return written

    async def bind_news(self, *, at_once: bool = False) -> None:
        """Write an entry of positions where news is a minute old, or ``at_once``, and none binds it yet."""
        state = self._state
        if state is None or not self._is_open(self._resources.directory):
            return
        state.bound.settle()
        if not state.has_news:
            self._news_since = None
            return
        now = self._resources.participant.clock()
        self._news_since = now if self._news_since is None else self._news_since
        if at_once or not 0 <= now - self._news_since < BIND_AFTER_US:
            await self.read_own(await self._write_now(PositionTerms()))
            self._news_since = None

    async def _write_now(self, terms: Terms) -> WrittenEntry:
        resources = self._resources
        return await self.write(resources.directory, [(terms, None)], now=resources.participant.clock())

    # taking over

    async def collect(self, state: ChannelState, wanted: Collection[bytes]) -> None:
        """Take over batches that wait, until none of the wanted ones waits any more."""
        while any(batch_id in state.pending for batch_id in wanted):
            await self._collect_once(state)

    async def collect_if_due(self, state: ChannelState) -> None:
        """Take over batches that wait, at most once a second."""
        if (
            state.pending
            and not 0 <= self._resources.participant.clock() - self._collected_at < COLLECTION_PAUSE_US
        ):
            await self._collect_once(state)

    async def _collect_once(self, state: ChannelState) -> None:
        """Take over up to 256 batches that wait, and write the COLLECTION entry that lists them."""
        resources = self._resources
        directory = resources.directory
        now = resources.participant.clock()
        if not self._is_open(directory):
            state.pending.clear()  # nothing can be written there any more, and nothing new comes
            return
        waiting = list(islice(state.pending.values(), MAX_PENDING))
        taken, failed = take_over_all(waiting, directory, resources.keystore)
        for batch, error in failed:
            # Our fault, so nobody is blamed: it is tried again when the channel is opened anew.
            del state.pending[batch.batch_id]
            self._left_out.add(batch.opened.manifest.intake_key_id)
            resources.sound_alarm(self.number, error)
        if any(batch.is_too_late for batch in taken):
            await state.apply_access(await resources.participant.end_of(Partition(ACCESS_TOPIC, self.number)))
            taken = [batch for batch in taken if batch.listed.batch_id in state.pending]
        if not taken:
            return
        # The secrets before the entry: a crash between the two leaves secrets that nobody can ask for, and
        # the other way round an entry that promises records which nobody can open.
        secrets = [(batch.listed.batch_id, batch.secret) for batch in taken if batch.secret is not None]
        await resources.custody.keep(secrets, day_of(now))
        terms = CollectionTerms(batches=tuple(batch.listed for batch in taken))
        written = await self.write(directory, [(terms, None)], now=now)
        await self.read_own(written)
        self._collected_at = now
        _log.info("batches collected", channel=self.name, count=len(taken), entry=written.offset)

    # denials

    async def logs_denial_whole(self, directory: Directory, agency: str, now: int) -> bool:
        """Whether a denial gets an entry of its own. Otherwise it is counted, if the channel is open."""
        if not self._is_open(directory):
            return False
        if self.denials.is_first(agency, now):
            return True
        self.denials.count(agency, now)
        await self.log_denials()
        return False

    async def log_denials(self, *, all: bool = False) -> None:
        """Log the counted denials whose minute is over, or all of them."""
        clock = self._resources.participant.clock
        for terms in self.denials.due(clock(), all=all):
            if self._state is None:
                return
            written = await self._write_now(terms)
            # Before the entry is read back, which may fail: it is durable, and must not be counted twice.
            self.denials.settled(terms, written.batch.manifest.header.issued_at)
            await self.read_own(written)
        self.denials.forget_quiet(clock())

    # alarms

    async def _sound_alarm(self, detail: str) -> NoReturn:
        """Stop releasing until an operator acknowledges, and put back what was lost."""
        alarm = Alarm(self.number, detail, self._resources.participant.clock())
        self._resources.journal.raise_alarm(alarm)
        await self._stay_stopped()

    async def _stay_stopped(self) -> NoReturn:
        """Put back what the log lost, once for each alarm; always raises KasStopped."""
        journal = self._resources.journal
        alarm = journal.alarm(self.number)
        detail = alarm.detail if alarm else "the access log was cut"
        self._resources.sound_alarm(self.number, detail)
        self._state = None
        self._writer.start_anew()
        # Only once: otherwise each request to a stopped channel would have the whole journal compared with
        # the log again, and any member could keep the service busy.
        alarms_ever = journal.alarms_ever(self.number)
        if self._put_back_for != alarms_ever:
            await self._put_back()
        self._put_back_for = alarms_ever
        raise KasStopped(
            f"releasing is stopped on channel '{self.name}': {detail}",
            hint="whoever runs the key access service looks into it and acknowledges: ftf-broker kas alarms",
        )

    async def _put_back(self) -> None:
        """Append again what the journal has and the log lacks, and name the ranges that differ."""
        log, journal = self._resources.participant.log, self._resources.journal
        lost = await lost_entries(journal, log, self.number)
        journalled = journal.bound(self.number)
        state = self._state = self._new_state()
        await state.apply_to(await log.ends(channel_partitions(self.number)))
        for entry, terms in late_entries(lost, state.lacking(self._resources.own_key, journalled)):
            await self._write_now(terms)
            if entry is not None:
                journal.mark_late(entry)
        self._state = None
