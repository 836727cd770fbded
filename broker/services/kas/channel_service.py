"""One channel in the hands of the key access service: read, written to, stopped when its log was cut.

Whoever works on a channel holds its ``turn``: one task at a time, so that the positions in its access
entries never fall within a stream. What the logs say is read from them at every start; the journal
remembers only what must be in the access log. If it is not there the channel stops: the lost messages
are appended again inside LATE entries, and nothing is released until an operator acknowledges the alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NoReturn

from broker.directory import Channel, Directory
from broker.errors import KasStopped, KasUnavailable, KeyFileError, NotEntitled
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.services.kas.channel_reader import MAX_PENDING, ChannelState, WentBack, channel_partitions
from broker.services.kas.denials import Denials
from broker.services.kas.entries import AccessWriter, WrittenEntry, month_of
from broker.services.kas.held import HeldReleases
from broker.services.kas.journal import Alarm, Journal, Journalled, is_in_log
from broker.services.kas.keystore import KeyStore
from broker.services.kas.takeover import KeyMissing, TakenOver, take_over
from broker.wire.access import AccessDetails
from broker.wire.manifest import CollectionTerms, LateTerms, Terms

__all__ = ["COLLECTION_PAUSE_US", "LOOK_AGAIN_S", "FollowedChannel", "Means"]

COLLECTION_PAUSE_US = 1_000_000
"""At most one COLLECTION entry a channel in this time, in microseconds, while following live."""

LOOK_AGAIN_S = (0.1, 0.4, 1.5, 3.0)
"""Pauses between looks at a log that seems to be cut, in seconds. A broker that stood still, while another
took its partitions over, answers the first questions with what it knew before."""

_MAX_LATE_BYTES = 600_000
_MAX_ALARMS = 1000
_MICROSECONDS_A_DAY = 86_400_000_000
_log = get_logger("broker.access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the service works with, shared by all its channels; ``alarms`` is for an operator."""

    participant: Participant
    keystore: KeyStore
    journal: Journal
    held: HeldReleases
    alarms: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Directory:
        """The directory as far as it was read."""
        return self.participant.directory

    @property
    def genesis(self) -> bytes:
        """The SHA-256 of the coalition's genesis."""
        return self.participant.directory.genesis

    def day(self) -> int:
        """Today, counted from 1970-01-01."""
        return self.participant.clock() // _MICROSECONDS_A_DAY

    def check_own_key(self, directory: Directory) -> None:
        """Raise KasUnavailable once our own key, or our role, is no longer in force."""
        name = self.participant.name
        if directory.kas_name != name:
            raise KasUnavailable(f"'{name}' is not the key access service of this directory")
        try:
            directory.signer(name, self.participant.keyring.signing.key_id)
        except NotEntitled as error:
            raise KasUnavailable(f"the service stops: {error.message}") from None

    def alarm_in(self, number: int, detail: str) -> None:
        """Tell an operator, once, of a channel."""
        self.alarm(self.channel_words(number) + detail)

    def channel_words(self, number: int) -> str:
        """How an alarm of this channel begins."""
        name = self.directory.numbers.get(number)
        return f"channel {number}: " if name is None else f"channel '{name}': "

    def alarm(self, text: str) -> None:
        """Tell an operator, once."""
        if text not in self.alarms and len(self.alarms) < _MAX_ALARMS:
            self.alarms.append(text)
            _log.error("alarm", detail=text)


class _SeemsCut(Exception):
    """The log lacks what it must hold, by one look at it."""


class FollowedChannel:
    """A channel with its state and its writer; every method but the first needs ``turn``."""

    def __init__(self, means: Means, channel: Channel) -> None:
        self.name = channel.name
        self.number = channel.number
        self.turn = asyncio.Lock()
        self.denials = Denials()
        self._means = means
        keyring = means.participant.keyring
        self._writer = AccessWriter(means.participant.log, keyring.name, keyring.signing, channel.number)
        self._state: ChannelState | None = None
        self._alarms_seen = 0
        self._put_back_for = 0
        self._collected_at = 0
        self._ends: Mapping[Partition, int] = {}

    # reading

    async def apply(self) -> ChannelState:
        """The state at ends that are taken now; KasUnavailable where it must not be used."""
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
        means = self._means
        state = await self._opened()
        # Before the ends: what another process journals after them must not look like a loss.
        last, size = means.journal.last(self.number), means.participant.follower.history.size
        ends = dict(await means.participant.log.ends(channel_partitions(self.number)))
        if last is not None and not await is_in_log(means.participant.log, last):
            raise _SeemsCut("the access log was cut")
        try:
            state.check_ends(ends, size)
        except WentBack as error:
            raise _SeemsCut(error.message) from None
        await state.apply_to(ends, lambda: self._collect_once(state))
        if state.lacks(ends):  # or another process saw what was appended while the ends were taken
            ends = dict(await means.participant.log.ends(channel_partitions(self.number)))
            await state.apply_to(ends, lambda: self._collect_once(state))
        if (lacking := state.lacks(ends)) and not means.journal.is_acknowledged(self.number, lacking):
            raise _SeemsCut(lacking)
        self._ends = ends
        means.journal.saw_directory(means.participant.follower.high_water)
        means.check_own_key(means.directory)
        return state

    async def apply_if_moved(self, ends: Mapping[Partition, int]) -> ChannelState:
        """The state as it is where nothing moved; ``ends`` tell only that, newer ones are taken."""
        moved = any(ends[one] != self._ends.get(one) for one in channel_partitions(self.number))
        return await self.apply() if moved or self._state is None else self._state

    async def read_own(self, written: WrittenEntry) -> int:
        """Read the access log up to our own entry; the offset at which it stands for every reader.

        That is a lower one where an append that seemed to have failed came to light: a copy counts once.
        """
        state, batch = self._state, written.batch
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
        last = self._means.journal.at(self.number, written.offset)
        return last is not None and await is_in_log(self._means.participant.log, last)

    async def _opened(self) -> ChannelState:
        """The state, read anew after an alarm; at the start the whole journal is compared."""
        journal = self._means.journal
        ever = journal.alarms_ever(self.number)
        if ever != self._alarms_seen:
            self._state, self._alarms_seen = None, ever
        if journal.alarm(self.number) is not None:
            await self._stay_stopped()
        if self._state is None:
            self._writer.start_anew()
            if await self._lost():
                raise _SeemsCut("the access log was cut")
            self._state = self._new_state()
        return self._state

    def _new_state(self) -> ChannelState:
        means = self._means
        found = means.directory.channel_at(self.number)
        if found is None:
            raise KasUnavailable(f"no channel has number {self.number}")
        return ChannelState(
            means.participant,
            found,
            on_entry=lambda batch: self._writer.saw(batch.header.stream),
        )

    # writing

    async def write(
        self, directory: Directory, items: Sequence[tuple[Terms, AccessDetails | None]], *, now: int
    ) -> WrittenEntry:
        """Append one batch of entries and journal it: durable twice on return."""
        means, state = self._means, self._state
        means.check_own_key(directory)
        found = directory.channel_at(self.number)
        epoch = found.epoch if found and found.is_open else None
        epoch_key = state.access_key(epoch.number) if state and epoch else None
        if state is None or epoch_key is None:
            raise KasUnavailable(f"channel '{self.name}' has no epoch that the service can write under")
        month_key = means.keystore.access_key(month_of(now), self.number)
        written = await self._writer.write(
            directory, epoch_key, month_key, items, now=now, end=state.access.next_offset
        )
        batch = written.batch
        await asyncio.to_thread(
            means.journal.record, self.number, written.offset, batch.batch_id, batch.messages
        )
        return written

    async def collect(self, state: ChannelState, wanted: Collection[bytes]) -> None:
        """Take over what waits, until none of the wanted batches waits any more."""
        while any(batch_id in state.pending for batch_id in wanted):
            await self._collect_once(state)

    async def _collect_once(self, state: ChannelState) -> None:
        """Take over what waits: release secrets first, then the COLLECTION entry that says so."""
        means, directory, now = self._means, self._means.directory, self._means.participant.clock()
        found = directory.channel_at(self.number)
        if found is None or not found.is_open:
            state.pending.clear()  # nothing can be written there any more, and nothing new comes
            return
        taken: list[TakenOver] = []
        for batch in list(islice(state.pending.values(), MAX_PENDING)):
            try:
                taken.append(take_over(batch, directory, means.keystore))
            except (KeyMissing, KeyFileError) as error:
                del state.pending[batch.batch_id]  # tried again when the channel is opened anew
                means.alarm_in(self.number, str(error))
        if not taken:
            return
        secrets = [(one.listed.batch_id, one.secret) for one in taken if one.secret is not None]
        await means.held.take(secrets, now // _MICROSECONDS_A_DAY)
        terms = CollectionTerms(batches=tuple(one.listed for one in taken))
        written = await self.write(directory, [(terms, None)], now=now)
        await self.read_own(written)
        self._collected_at = now
        _log.info("batches collected", channel=self.name, count=len(taken), entry=written.offset)

    async def collect_if_due(self, state: ChannelState) -> None:
        """Take over what waits, at most once a second."""
        if (
            state.pending
            and not 0 <= self._means.participant.clock() - self._collected_at < COLLECTION_PAUSE_US
        ):
            await self._collect_once(state)

    async def log_denials(self, *, all: bool = False) -> None:
        """Log the counted denials whose minute is over, or all of them."""
        clock = self._means.participant.clock
        for terms in self.denials.due(clock(), all=all):
            if self._state is None:
                return
            now = clock()
            written = await self.write(self._means.directory, [(terms, None)], now=now)
            self.denials.settled(terms, now)
            await self.read_own(written)
        self.denials.forget_quiet(clock())

    # alarms

    async def _lost(self) -> list[Journalled]:
        """What the journal has and the log lacks."""
        means, lost = self._means, list[Journalled]()
        chunk = means.journal.after(self.number, None)
        while chunk:
            lost += [entry for entry in chunk if not await is_in_log(means.participant.log, entry)]
            chunk = means.journal.after(self.number, chunk[-1])
        return lost

    async def _sound_alarm(self, detail: str) -> NoReturn:
        """Stop releasing until an operator acknowledges, and put back what was lost."""
        means = self._means
        means.journal.raise_alarm(Alarm(self.number, detail, means.participant.clock()))
        await self._stay_stopped()

    async def _stay_stopped(self) -> NoReturn:
        """Put back what the log lost, inside LATE entries; always raises KasStopped."""
        means = self._means
        alarm = means.journal.alarm(self.number)
        detail = alarm.detail if alarm else "the access log was cut"
        means.alarm_in(self.number, detail)
        self._state = None
        self._writer.start_anew()
        # Once for each alarm: else whoever asks has the whole journal compared with the log again.
        ever = means.journal.alarms_ever(self.number)
        lost = [] if self._put_back_for == ever else await self._lost()
        if lost:
            self._state = self._new_state()
            await self._state.apply_to(await means.participant.log.ends(channel_partitions(self.number)))
            for entry in lost:
                for terms in _late_parts(entry):
                    await self.write(means.directory, [(terms, None)], now=means.participant.clock())
                means.journal.mark_late(entry)
            self._state = None
        self._put_back_for = ever
        raise KasStopped(
            f"releasing is stopped on channel '{self.name}': {detail}",
            hint="whoever runs the key access service looks into it and acknowledges: ftf-broker kas alarms",
        )


def _late_parts(entry: Journalled) -> list[LateTerms]:
    """What was lost, in parts that fit into a batch each."""
    parts: list[list[int]] = [[]]
    size = 0
    for i, one in enumerate(entry.terms.messages):
        added = len(one.key) + len(one.value)
        if parts[-1] and size + added > _MAX_LATE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(i)
        size += added
    return [
        LateTerms(
            offset=entry.terms.offset + part[0],
            batch_id=entry.terms.batch_id,
            messages=tuple(entry.terms.messages[i] for i in part),
        )
        for part in parts
    ]
