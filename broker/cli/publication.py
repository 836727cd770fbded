"""One run that publishes a file: the rows that were published or rejected, and the line to go on from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from broker.cli.background import read_beside
from broker.cli.interrupt import stoppable
from broker.cli.output import note
from broker.cli.progress_bar import Moved, progress
from broker.clock import day_of, system_clock
from broker.directory import Channel
from broker.errors import BrokerError, RecordInvalid, UsageError
from broker.publish.permission import check_publisher, check_terms
from broker.publish.publisher import Published, Publisher, Ticket
from broker.records.record import Record, encode_body, from_json
from broker.session import Session
from broker.wire.manifest import Collected
from connectors.input_file import InputFile, Row
from connectors.lines import RowProblem
from connectors.rejects import Rejects

__all__ = ["Publication"]

_SHOWN_REJECTS = 5
_ROWS_A_TURN = 64
"""Rows that are read between two looks at Ctrl-C."""


@dataclass(slots=True, kw_only=True)
class Publication:
    """A run over one file: ``run`` publishes it, and the fields tell the result afterwards.

    A failure of the log ends the run, and so does Ctrl-C. ``resume_line`` then says where to go on so that
    nothing is lost. Rows behind that line that were published already are published a second time, with
    another record id.

    ``_waiting`` holds the records that were handed over and are not known to be durable, in the order of
    their lines. Only ``_take`` adds to it and only ``_redeem`` takes from it.
    """

    session: Session
    channel: Channel
    source: InputFile
    rejects: Rejects
    from_line: int = 1
    is_dry: bool = False
    batches: dict[bytes, Published] = field(default_factory=dict)
    """For each durable batch one of its records."""
    listed: list[tuple[int, Published]] | None = None
    """The durable records with their lines; kept only where they are printed as JSON."""
    records: int = 0
    """The number of durable records; in a dry run, of those that could be published."""
    rows: int = 0
    last_line: int = 0
    failure: BrokerError | None = None
    failed_line: int | None = None
    is_stopped: bool = False
    _publisher: Publisher | None = None
    _waiting: deque[tuple[int, Ticket]] = field(default_factory=deque)

    @property
    def resume_line(self) -> int:
        """The first line that is not known to be published."""
        return self.failed_line if self.failed_line is not None else self.last_line + 1

    async def run(self) -> None:
        """Publish every row that can be published; an error of the log is kept in ``failure``."""
        session = self.session
        # The rows of a file come at once, so it pays to wait until a batch is full. The rows of a pipe may
        # come one by one, and then nobody should wait long for the first.
        linger_s = 1.0 if self.source.is_file else 0.05
        publisher = Publisher(session.participant, linger_s=linger_s)
        self._publisher = publisher
        name = "checking" if self.is_dry else "publishing"
        lines = self.source.count_lines()
        with stoppable("stopping: what was read is published first") as stop, progress(name, lines) as moved:
            try:
                async with publisher:
                    try:
                        await self._feed(publisher, stop, moved)
                        await publisher.flush()
                    except BrokerError as error:
                        self.failure = error
            except BrokerError as error:
                # Leaving the block may report a second failure. The first one is the cause and is kept.
                self.failure = self.failure or error
            except asyncio.CancelledError:
                if not stop.is_set():
                    raise
                await self._redeem(everything=True)
                # The records were not sent because we stopped, which is no failure.
                self.failure = None
            await self._redeem(everything=True)
            self.is_stopped = stop.is_set()

    async def ask_collected(self, wait_s: float) -> tuple[Collected, ...] | None:
        """Ask which batches the key access service took over; None where it cannot be asked."""
        session = self.session
        publisher = self._publisher
        if publisher is None:
            return None
        if session.profile.kas is None:
            note("the profile names no key access service: it was not asked for what it took over")
            return None
        try:
            async with session.key_access() as kas:
                batches = tuple(self.batches.values())
                return await publisher.collected(batches, kas, timeout_s=wait_s)
        except BrokerError as error:
            note(f"the key access service was not asked: {error.message}", style="yellow")
            return None

    async def _feed(self, publisher: Publisher, stop: asyncio.Event, moved: Moved) -> None:
        async with aclosing(self._rows(stop)) as rows:
            async for line, row in rows:
                if stop.is_set() or self.failure is not None:
                    return
                # Earlier lines are read and passed over: in CSV a quoted field may hold line breaks (RFC
                # 4180, section 2), so nobody can jump to a line.
                if line < self.from_line:
                    continue
                self.rows += 1
                # The line counts only after this call: a row that Ctrl-C kept out must be read again by the
                # next run.
                await self._take(line, row, publisher)
                self.last_line = line
                if self.rows % _ROWS_A_TURN == 0:
                    moved(line, None)
                    # The event loop sees Ctrl-C only when we give it a turn.
                    await asyncio.sleep(0)
                    await self._redeem()

    async def _rows(self, stop: asyncio.Event) -> AsyncGenerator[tuple[int, Row | RowProblem], None]:
        if self.source.is_file:
            for row in self.source.rows():
                yield row
            return
        # A pipe may block for any time, so it is read in a thread of its own.
        async with aclosing(read_beside(self.source.rows(), stop)) as rows:
            async for row in rows:
                yield row

    async def _take(self, line: int, row: Row | RowProblem, publisher: Publisher) -> None:
        if isinstance(row, RowProblem):
            self._reject(line, row.problems, None)
            return
        try:
            record = self._read(row)
            if not self.is_dry:
                self._waiting.append((line, await publisher.publish(self.channel.name, record)))
            else:
                self.records += 1
        except UsageError as error:
            self._check_channel()
            reasons = error.problems if isinstance(error, RecordInvalid) else (_with_hint(error),)
            self._reject(line, reasons, row)

    def _read(self, row: Row) -> Record:
        store = self.session.store
        record = from_json(
            self.source.record_type,
            row,
            store=store,
            today=datetime.now(UTC).date(),
            ceiling_days=self.channel.ceiling_days,
        )
        check_terms(self.channel, record.terms, day_of(system_clock()))
        if self.is_dry:
            # In a real run the publisher finds a body that is too large. A dry run has no publisher.
            encode_body(record, store.current(record.record_type))
        return record

    def _check_channel(self) -> None:
        """Raise where nothing may be published in the channel any more: then the row is not to blame."""
        session = self.session
        key_id = session.keyring.signing.key_id
        check_publisher(
            session.directory, session.profile.name, key_id, self.channel.name, self.source.record_type
        )

    def _reject(self, line: int, reasons: Sequence[str], row: Row | None) -> None:
        self.rejects.add(line, reasons, row)
        if self.rejects.count <= _SHOWN_REJECTS:
            for reason in reasons:
                words = reason if reason.startswith(f"row {line}") else f"row {line}: {reason}"
                note(words, style="yellow")
        # A wrong column makes every row of a file fail. The first few say all that a person needs.
        elif self.rejects.count == _SHOWN_REJECTS + 1:
            where = "" if self.is_dry else f", see {self.rejects.path}"
            note(f"more rows are rejected{where}", style="yellow")

    async def _redeem(self, *, everything: bool = False) -> None:
        """Count the records that are durable by now; the first failure is kept with its line."""
        # Tickets are taken in the order of the lines, so ``failed_line`` is the first line that is not
        # durable. A later line would make --from-line skip rows that were never published.
        while self._waiting and (everything or self._waiting[0][1].is_settled()):
            line, ticket = self._waiting.popleft()
            try:
                published = await ticket
            except BrokerError as error:
                self.failure = self.failure or error
                if self.failed_line is None:
                    self.failed_line = line
            else:
                self.records += 1
                if self.listed is not None:
                    self.listed.append((line, published))
                self.batches.setdefault(published.batch_id, published)


def _with_hint(error: UsageError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
