"""Subscribing: a channel's records, verified, their reading logged, then unlocked; none lost, none twice.

Theory of operation. Windows of up to 16 verified batches (``reader_set``) are asked for at once
(``asking``), the receipt is kept, and then each record is opened (``delivery``) and handed to the
consumer, one by one:

    verified ──▶ asked for ──▶ receipt kept ──▶ opened ──▶ handed over ──▶ done ──▶ stored

A record is *done* when the consumer asks for the next one, or commits. What is done is stored: where the
readers stood behind a window that is wholly done, and within a window the place of the next record.
After a crash the window is read and verified again, what was done in it is passed over, and the rest is
asked for again: a new access, with an entry of its own.

    autocommit=True    stored each 1024 records, each second, and at close; a crash delivers again at
                       most what was done since
    autocommit=False   stored by ``commit(sink=…)`` alone, with the consumer's own position in the same
                       file: a consumer that cuts its output back to ``sink`` when it starts has every
                       record exactly once

Whatever others write is reported with its place, and reading goes on. Violations may be reported again
after a restart.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.access.client import KeyAccess
from broker.avro.schema import RecordSchema
from broker.directory import Channel
from broker.errors import KasUnavailable, UsageError
from broker.log.outage import Outage, outlasting
from broker.log.protocol import Partition
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.participant.tasks import Tasks
from broker.subscribe.asking import AnswerWrong, Asked, Asker, Ground, Wanted
from broker.subscribe.delivery import (
    READER_TOO_OLD,
    Delivered,
    Delivery,
    NotDelivered,
    Opener,
    not_delivered,
)
from broker.subscribe.progress import Progress
from broker.subscribe.reader_set import ReaderSet, Window
from broker.subscribe.state import Json
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Delivered", "Delivery", "Ground", "NotDelivered", "Subscriber", "Violation"]

_log = get_logger("broker.exchange")


class Subscriber:
    """Reads one channel for one participant: ``async with Subscriber(...) as subscriber``.

    ``record_types`` are those to be delivered, by default all that the channel allows and the store
    knows. Without ``state_path`` it reads from the beginning each time and keeps no receipts.
    """

    def __init__(
        self,
        participant: Participant,
        kas: KeyAccess,
        *,
        ground: Ground,
        record_types: Sequence[str] | None = None,
        state_path: str | os.PathLike[str] | None = None,
        autocommit: bool = True,
        kas_timeout_s: float = 60.0,
    ) -> None:
        self._participant = participant
        self._record_types = record_types
        self._state_path = None if state_path is None else Path(state_path)
        self._autocommit = autocommit
        self._asker = Asker(participant, kas, ground, kas_timeout_s)
        self._opener = Opener(participant.keyring, participant.store)
        self._tasks = Tasks()
        self._open_progress: Progress | None = None
        self._is_delivering = False
        self._readers: list[ReaderSet] = []

    async def __aenter__(self) -> Self:
        self._wanted_types()
        channel = self._asker.ground.channel
        self._open_progress = Progress.open(
            self._state_path, self._participant.follower, channel, autocommit=self._autocommit
        )
        await self._tasks.__aenter__()
        return self

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
            self._progress.close()

    @property
    def _progress(self) -> Progress:
        if self._open_progress is None:
            raise UsageError("the subscriber is not open", hint="use it by 'async with'")
        return self._open_progress

    # what the consumer sees

    @property
    def sink(self) -> Json:
        """What the consumer committed last, None at the beginning."""
        return self._progress.sink

    async def deliveries(self, *, follow: bool = False) -> AsyncGenerator[Delivery, None]:
        """Every record from the stored position on, up to where the log ends now, or for ever.

        In order within each topic. Close it (``contextlib.aclosing``) when leaving early; the item in
        hand then counts as not done unless it was committed.

        Raises KasUnavailable when the key access service did not answer in time or answered wrongly,
        LogUnavailable when the log cannot be read; the position is kept, and it may be called again.
        Who follows waits, until cancelled, for a log and for a service that do not answer; what
        waiting cannot mend (a wrong answer, a service that was stopped, access refused) is raised.
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
            self._progress.sink = sink
        self._progress.finish()
        self._progress.save()

    async def _deliveries(self, follow: bool) -> AsyncGenerator[Delivery, None]:
        outage = Outage(channel=self._asker.ground.channel) if follow else None
        await outlasting(outage, self._participant.follower.refresh)
        channel = self._channel()
        self._check_recipient(channel)
        types = self._wanted_types()
        topics = sorted({self._participant.store.current(one).topic for one in types})
        partitions = [Partition(topic, channel.number) for topic in topics]
        states = self._progress.readers(partitions)
        ends = await outlasting(outage, partial(self._participant.log.ends, partitions))
        for partition, state in states.items():
            if ends[partition] < state.next_offset:
                yield _cut(partition, ends[partition], state.next_offset)
        readers = ReaderSet(
            self._participant, channel, states, None if follow else ends, self._tasks, outage=outage
        )
        self._readers.append(readers)
        try:
            while (window := await readers.next_window()) is not None:
                async with aclosing(self._open(window, types, outage)) as items:
                    async for item in items:
                        yield item
                self._progress.finish_window(window.behind)
                self._progress.save_if_due()
        finally:
            self._readers.remove(readers)
            await readers.aclose()

    # one window

    async def _open(
        self, window: Window, types: frozenset[str], outage: Outage | None
    ) -> AsyncGenerator[Delivery, None]:
        """Everything in the window that was not done before, in order."""
        progress = self._progress
        plans: dict[int, tuple[RecordSchema | Violation | None, tuple[int, ...]]] = {}
        wanted: list[tuple[int, Wanted]] = []
        for place, (partition, event) in enumerate(window.events):
            if isinstance(event, VerifiedBatch) and event.opened.manifest.record_type in types:
                indexes = progress.remaining(partition, event)
                schema = self._opener.schema_of(event) if indexes else None
                plans[place] = (schema, indexes)
                if isinstance(schema, RecordSchema):
                    wanted.append((place, Wanted(batch=event, indexes=indexes)))
        releases = {}
        if wanted:
            asked = await self._asker.ask([one for _, one in wanted], outage)
            if isinstance(asked, AnswerWrong):
                yield self._wrong(asked, wanted[0][1])
                raise KasUnavailable(
                    f"the key access service answered wrongly: {asked.error.message}",
                    hint="nothing was delivered; report the violation, and ask again later",
                )
            self._keep(asked)
            releases = {place: release for (place, _), release in zip(wanted, asked.releases, strict=True)}
        directory, channel = self._participant.directory, self._channel()
        for place, (partition, event) in enumerate(window.events):
            if isinstance(event, Violation):
                if progress.is_news(partition, event):
                    yield event
                continue
            schema, indexes = plans.get(place, (None, ()))
            if isinstance(schema, Violation):
                yield schema
            elif schema is None:
                for i in indexes:
                    progress.hand_over(partition, event.offset, i)
                    yield not_delivered(event, i, READER_TOO_OLD)
                    progress.finish()
                    progress.save_if_due()
            else:
                opened = self._opener.open(
                    event, indexes, releases[place], schema=schema, directory=directory, channel=channel
                )
                for i, item in opened:
                    progress.hand_over(partition, event.offset, i)
                    yield item
                    progress.finish()
                    progress.save_if_due()
            progress.finish_batch(partition, event.offset)

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
        self._progress.keep(asked.prepared.signed, asked.answer.signed)

    def _wrong(self, asked: AnswerWrong, first: Wanted) -> Violation:
        batch = first.batch
        detail = f"'{self._participant.directory.kas_name}': {asked.error.message}"
        place = Place(batch.topic, batch.partition, batch.offset)
        return Violation(kind=Kind.RECEIPT_INVALID, place=place, detail=detail)

    def _channel(self) -> Channel:
        name = self._asker.ground.channel
        channel = self._participant.directory.channel(name)
        if channel is None:
            raise UsageError(f"there is no channel '{name}'", hint="check its name")
        return channel

    def _check_recipient(self, channel: Channel) -> None:
        name = self._participant.name
        if name not in channel.members and not any(one.is_recipient(name) for one in channel.epochs.values()):
            hint = "ask the authority and the members to let you join it"
            raise UsageError(f"'{name}' is no member of channel '{channel.name}'", hint=hint)

    def _wanted_types(self) -> frozenset[str]:
        channel, known = self._channel(), frozenset(self._participant.store.record_types)
        if self._record_types is None:
            return channel.record_types & known
        unknown = [one for one in self._record_types if one not in channel.record_types & known]
        if unknown:
            allowed = ", ".join(sorted(channel.record_types & known))
            raise UsageError(
                f"channel '{channel.name}' has no record type '{unknown[0]}'", hint=f"it has: {allowed}"
            )
        return frozenset(self._record_types)


def _cut(partition: Partition, end: int, read: int) -> Violation:
    detail = f"the log ends here, and was read up to {read} before"
    place = Place(partition.topic, partition.number, end)
    return Violation(kind=Kind.OFFSET_MISSING, place=place, detail=detail, count=read - end)
