"""Subscribing: a channel's records, verified, their reading logged, then unlocked; none lost, none twice.

Theory of operation. Windows of up to 16 verified batches (``reader_set``) are asked for at once
(``asking``), the receipt is kept, and then each record is opened (``delivery``) and handed to the
consumer, one by one:

    verified ──▶ asked for ──▶ receipt kept ──▶ opened ──▶ handed over ──▶ done ──▶ stored

A record is *done* when the consumer asks for the next one, or commits. What is done is stored: where the
readers stood behind a window that is wholly done, and within a window the place of the next record.
After a crash the window is read and verified again, what was done in it is passed over, and the rest is
asked for again: a new access, with an entry of its own.

    autocommit=True    stored each 256 records, each second, and at close; a crash delivers again at
                       most what was done since
    autocommit=False   stored by ``commit(sink=…)`` alone, with the consumer's own position in the same
                       file: a consumer that cuts its output back to ``sink`` when it starts has every
                       record exactly once

Whatever others write is reported with its place, and reading goes on. Violations may be reported again
after a restart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from broker.access.client import KeyAccess
from broker.directory import Channel, check_high_water
from broker.errors import KasUnavailable, UsageError
from broker.exchange.asking import AnswerWrong, Asked, Asker, Ground, Wanted
from broker.exchange.clock import Clock, system_clock
from broker.exchange.delivery import (
    READER_TOO_OLD,
    Delivered,
    Delivery,
    NotDelivered,
    Opener,
    not_delivered,
)
from broker.exchange.follower import DirectoryFollower
from broker.exchange.keyring import Keyring
from broker.exchange.reader_set import ReaderSet, Window
from broker.exchange.receipts import ReceiptFile
from broker.exchange.state import Json, Position, StateFile, SubscriberState
from broker.formats.schema import RecordSchema, SchemaStore
from broker.log.protocol import Log, Partition
from broker.verify.partition import ReaderState, VerifiedBatch
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Delivered", "Delivery", "Ground", "NotDelivered", "Subscriber", "Violation"]

_SAVE_RECORDS = 256
_SAVE_S = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("broker.exchange")


class Subscriber:
    """Reads one channel for one participant: ``async with Subscriber(...) as subscriber``.

    ``record_types`` are those to be delivered, by default all that the channel allows and the store
    knows. Without ``state_path`` it reads from the beginning each time and keeps no receipts.
    """

    def __init__(
        self,
        log: Log,
        follower: DirectoryFollower,
        keyring: Keyring,
        kas: KeyAccess,
        *,
        ground: Ground,
        store: SchemaStore,
        record_types: Sequence[str] | None = None,
        state_path: str | os.PathLike[str] | None = None,
        autocommit: bool = True,
        kas_timeout_s: float = 60.0,
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._follower = follower
        self._keyring = keyring
        self._store = store
        self._record_types = record_types
        self._state_path = None if state_path is None else Path(state_path)
        self._autocommit = autocommit
        self._asker = Asker(kas, follower, keyring, ground, clock, kas_timeout_s)
        self._opener = Opener(keyring, store)
        self._tasks = asyncio.TaskGroup()
        self._file: StateFile | None = None
        self._receipts: ReceiptFile | None = None
        self._positions: dict[Partition, Position] = {}
        self._current: tuple[Partition, int, int] | None = None
        self._sink: Json = None
        self._unsaved = 0
        self._saved_at = 0.0
        self._is_delivering = False
        self._readers: list[ReaderSet] = []

    async def __aenter__(self) -> Self:
        self._wanted_types()
        genesis = self._follower.history.latest.genesis
        try:
            if self._state_path is not None:
                channel = self._asker.ground.channel
                self._file = StateFile.open(self._state_path, genesis=genesis, channel=channel)
                self._resume(self._file.state)
                name = self._state_path.name + ".receipts"
                self._receipts = ReceiptFile.open(self._state_path.with_name(name))
        except BaseException:
            self._close_files()
            raise
        self._saved_at = asyncio.get_running_loop().time()
        await self._tasks.__aenter__()
        return self

    def _resume(self, state: SubscriberState) -> None:
        if state.high_water is not None:
            check_high_water(self._follower.history, state.high_water)
        if state.sink is not None and self._autocommit:
            raise UsageError(
                f"{self._state_path}: belongs to a sink that commits its own position",
                hint="open it with that sink, or give this subscription a state file of its own",
            )
        self._positions = dict(state.positions)
        self._sink = state.sink

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for readers in list(self._readers):
                await readers.aclose()  # of deliveries that were left without being closed
            if kind is not None and not issubclass(kind, Exception):
                await self._tasks.__aexit__(kind, error, trace)
            else:  # the caller's own error goes on as it is, not in a group
                await self._tasks.__aexit__(None, None, None)
        finally:
            try:
                if self._autocommit and self._unsaved:
                    self._save()
            finally:
                self._close_files()

    def _close_files(self) -> None:
        if self._receipts is not None:
            self._receipts.close()
        if self._file is not None:
            self._file.close()

    # what the consumer sees

    @property
    def sink(self) -> Json:
        """What the consumer committed last, None at the beginning."""
        return self._sink

    async def deliveries(self, *, follow: bool = False) -> AsyncGenerator[Delivery, None]:
        """Every record from the stored position on, up to where the log ends now, or for ever.

        In order within each topic. Close it (``contextlib.aclosing``) when leaving early; the item in
        hand then counts as not done unless it was committed.

        Raises KasUnavailable when the key access service did not answer in time or answered wrongly,
        LogUnavailable when the log cannot be read; the position is kept, and it may be called again.
        """
        if self._is_delivering:
            raise UsageError("deliveries are being read already", hint="one at a time to a subscriber")
        self._is_delivering = True
        try:
            async with aclosing(self._deliveries(follow)) as items:
                async for item in items:
                    yield item
        finally:
            self._is_delivering = False

    async def commit(self, *, sink: Json = None) -> None:
        """Store that everything handed over so far is done, the item in hand included, with ``sink``.

        Durable on return. ``sink`` needs ``autocommit=False``, else a position could be stored without it.
        """
        if sink is not None:
            if self._autocommit:
                hint = "open the subscriber with autocommit=False"
                raise UsageError("a sink's position needs to be stored with each commit", hint=hint)
            self._sink = sink
        self._finish_current()
        self._save()

    async def _deliveries(self, follow: bool) -> AsyncGenerator[Delivery, None]:
        await self._follower.refresh()
        channel = self._channel()
        self._check_recipient(channel)
        types = self._wanted_types()
        topics = sorted({self._store.current(one).topic for one in types})
        partitions = [Partition(topic, channel.number) for topic in topics]
        beginning = Position(reader=ReaderState(next_offset=0, mark=0))
        for partition in partitions:
            self._positions.setdefault(partition, beginning)
        states = {partition: self._positions[partition].reader for partition in partitions}
        ends = None if follow else await self._log.ends(partitions)
        readers = ReaderSet(self._log, self._follower, self._keyring, channel, states, ends, self._tasks)
        self._readers.append(readers)
        try:
            while (window := await readers.next_window()) is not None:
                async with aclosing(self._open(window, types)) as items:
                    async for item in items:
                        yield item
                for partition, state in window.behind.items():
                    self._positions[partition] = Position(reader=state)
                self._unsaved += 1
                self._save_if_due()
        finally:
            self._readers.remove(readers)
            await readers.aclose()

    # one window

    async def _open(self, window: Window, types: frozenset[str]) -> AsyncGenerator[Delivery, None]:
        """Everything in the window that was not done before, in order."""
        plans: dict[int, tuple[RecordSchema | Violation | None, tuple[int, ...]]] = {}
        wanted: list[tuple[int, Wanted]] = []
        for place, (partition, event) in enumerate(window.events):
            if isinstance(event, VerifiedBatch) and event.opened.manifest.record_type in types:
                indexes = self._remaining(partition, event)
                schema = self._opener.schema_of(event) if indexes else None
                plans[place] = (schema, indexes)
                if isinstance(schema, RecordSchema):
                    wanted.append((place, Wanted(batch=event, indexes=indexes)))
        releases = {}
        if wanted:
            asked = await self._asker.ask([one for _, one in wanted])
            if isinstance(asked, AnswerWrong):
                yield self._wrong(asked, wanted[0][1])
                raise KasUnavailable(
                    f"the key access service answered wrongly: {asked.error.message}",
                    hint="nothing was delivered; report the violation, and ask again later",
                )
            self._keep(asked)
            releases = {place: release for (place, _), release in zip(wanted, asked.releases, strict=True)}
        directory, channel = self._follower.history.latest, self._channel()
        for place, (partition, event) in enumerate(window.events):
            if isinstance(event, Violation):
                if event.place.offset >= self._positions[partition].offset:
                    yield event
                continue
            schema, indexes = plans.get(place, (None, ()))
            if isinstance(schema, Violation):
                yield schema
            elif schema is None:
                for i in indexes:
                    self._current = (partition, event.offset, i + 1)
                    yield not_delivered(event, i, READER_TOO_OLD)
                    self._done()
            else:
                opened = self._opener.open(
                    event, indexes, releases[place], schema=schema, directory=directory, channel=channel
                )
                for i, item in opened:
                    self._current = (partition, event.offset, i + 1)
                    yield item
                    self._done()
            self._move(partition, event.offset + 1, 0)

    def _remaining(self, partition: Partition, batch: VerifiedBatch) -> tuple[int, ...]:
        """The indexes of a batch that were not done before."""
        position = self._positions[partition]
        if batch.offset < position.offset:
            return ()
        first = position.index if batch.offset == position.offset else 0
        return tuple(range(first, batch.opened.manifest.count))

    def _keep(self, asked: Asked) -> None:
        receipt = asked.answer.receipt
        _log.info(
            "records asked for",
            channel=self._asker.ground.channel,
            batches=len(asked.releases),
            released=sum(len(one.shares) for one in asked.releases),
            withheld=sum(len(one.withheld) for one in asked.releases),
            entry_offset=None if receipt.entry is None else receipt.entry.offset,
        )
        if self._receipts is not None:
            self._receipts.add(asked.prepared.signed, asked.answer.signed)

    def _wrong(self, asked: AnswerWrong, first: Wanted) -> Violation:
        batch = first.batch
        detail = f"'{self._follower.history.latest.kas_name}': {asked.error.message}"
        place = Place(batch.topic, batch.partition, batch.offset)
        return Violation(kind=Kind.RECEIPT_INVALID, place=place, detail=detail)

    def _channel(self) -> Channel:
        name = self._asker.ground.channel
        channel = self._follower.history.latest.channel(name)
        if channel is None:
            raise UsageError(f"there is no channel '{name}'", hint="check its name")
        return channel

    def _check_recipient(self, channel: Channel) -> None:
        name = self._keyring.name
        if name not in channel.members and not any(one.is_recipient(name) for one in channel.epochs.values()):
            hint = "ask the authority and the members to let you join it"
            raise UsageError(f"'{name}' is no member of channel '{channel.name}'", hint=hint)

    def _wanted_types(self) -> frozenset[str]:
        channel, known = self._channel(), frozenset(self._store.record_types)
        if self._record_types is None:
            return channel.record_types & known
        unknown = [one for one in self._record_types if one not in channel.record_types & known]
        if unknown:
            allowed = ", ".join(sorted(channel.record_types & known))
            raise UsageError(
                f"channel '{channel.name}' has no record type '{unknown[0]}'", hint=f"it has: {allowed}"
            )
        return frozenset(self._record_types)

    # what is done, and what is stored

    def _done(self) -> None:
        self._finish_current()
        self._save_if_due()

    def _finish_current(self) -> None:
        if self._current is not None:
            partition, offset, index = self._current
            self._current = None
            self._move(partition, offset, index)
            self._unsaved += 1

    def _move(self, partition: Partition, offset: int, index: int) -> None:
        position = self._positions[partition]
        if (offset, index) > (position.offset, position.index):
            self._positions[partition] = Position(reader=position.reader, offset=offset, index=index)

    def _save_if_due(self) -> None:
        if not self._autocommit or not self._unsaved:
            return
        is_old = asyncio.get_running_loop().time() - self._saved_at >= _SAVE_S
        if self._unsaved >= _SAVE_RECORDS or is_old:
            self._save()

    def _save(self) -> None:
        self._unsaved = 0
        self._saved_at = asyncio.get_running_loop().time()
        if self._file is None:
            return
        if self._receipts is not None:
            self._receipts.sync()
        # Commit point: what is done is stored. A crash before it delivers again what was done since.
        self._file.save(
            SubscriberState(
                genesis=self._follower.history.latest.genesis,
                channel=self._asker.ground.channel,
                high_water=self._follower.high_water,
                positions=dict(self._positions),
                sink=self._sink,
            )
        )
