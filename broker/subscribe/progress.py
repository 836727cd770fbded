"""Progress of a subscription: which records were handed over, which are done, and which are stored as done.

A record is *in hand* from the moment it is handed to the consumer until the consumer asks for the next one,
or commits. Then it is *done*. ``save`` stores what is done, and nothing that is only in hand: after a crash
the record in hand is delivered again, never lost.

Only the subscriber's delivery loop and its ``commit`` call these methods, from one task at a time, so
nothing here is locked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from broker.directory import check_high_water
from broker.errors import UsageError
from broker.log.protocol import Partition
from broker.participant.follower import DirectoryFollower
from broker.subscribe.reader_set import Window
from broker.subscribe.receipts import ReceiptFile
from broker.subscribe.state import Json, Position, StateFile, SubscriberState
from broker.verify.partition import ReaderState, Stale, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.manifest import Signed

__all__ = ["Progress"]

_SAVE_RECORDS = 1024
_SAVE_S = 1.0
"""With autocommit, the position is stored after this many records or seconds, whichever comes first."""

_MAX_FAULTS = 16
"""Faults of a partition that are looked at again at each start: a flood of them must not make that slow."""

_BEGINNING = Position(reader=ReaderState(next_offset=0, mark=0))


class Progress:
    """The position of one subscription, with its state file and its receipts if it keeps them."""

    def __init__(self, follower: DirectoryFollower, channel: str, *, autocommit: bool) -> None:
        self.sink: Json = None
        """The consumer's own position, which is stored together with ours."""
        self._follower = follower
        self._channel = channel
        self._autocommit = autocommit
        self._file: StateFile | None = None
        self._receipts: ReceiptFile | None = None
        self._positions: dict[Partition, Position] = {}
        """The positions up to which records are done, moved record by record; ``save`` stores them."""
        self._in_hand: tuple[Partition, int, int] | None = None
        """Partition, offset of the batch and index of the record that the consumer is working on."""
        self._unsaved = 0
        """Records and windows that are done and not stored."""
        self._saved_at = time.monotonic()

    @classmethod
    def open(cls, path: Path | None, follower: DirectoryFollower, channel: str, *, autocommit: bool) -> Self:
        """Open the state file and the receipts beside it, and go on from the position that it holds.

        The state file is locked until ``close``. Without ``path`` nothing is stored, and reading starts at
        the beginning. Raises UsageError for a file that cannot be used, NotEntitled when the directory is
        not the one that this subscriber saw before, or is shorter.
        """
        progress = cls(follower, channel, autocommit=autocommit)
        if path is None:
            return progress
        # The state file comes first, because its lock keeps other processes from the receipts beside it too.
        progress._file = StateFile.open(path, genesis=follower.history.latest.genesis, channel=channel)
        try:
            progress._resume(progress._file)
            progress._receipts = ReceiptFile.open(path.with_name(path.name + ".receipts"))
        except BaseException:
            progress.close()
            raise
        return progress

    def _resume(self, file: StateFile) -> None:
        state = file.state
        if state.high_water is not None:
            # The directory may only grow. Somebody who runs the log could otherwise show an old state of it,
            # in which an agency is not suspended yet.
            check_high_water(self._follower.history, state.high_water)
        if state.sink is not None and self._autocommit:
            raise UsageError(
                f"{file.path}: belongs to a sink that commits its own position",
                hint="open it with that sink, or give this subscription a state file of its own",
            )
        self._positions = dict(state.positions)
        self.sink = state.sink

    def close(self) -> None:
        """Store what is done, except where only ``commit`` may store, and close the files."""
        try:
            if self._autocommit and self._unsaved:
                self.save()
        finally:
            if self._receipts is not None:
                self._receipts.close()
            if self._file is not None:
                self._file.close()

    def readers(self, partitions: Iterable[Partition]) -> dict[Partition, ReaderState]:
        """Return where reading goes on in each partition; a partition never read begins at its start."""
        return {
            partition: self._positions.setdefault(partition, _BEGINNING).reader for partition in partitions
        }

    def faults(self, partition: Partition) -> tuple[tuple[int, bytes], ...]:
        """Return the offset and the leaf of the newest messages that were not as they must be."""
        return self._positions[partition].faults

    def begin_anew(self, partition: Partition, kept: int) -> None:
        """Read a partition again from its beginning: it is the same as before up to the offset ``kept``.

        What is done below ``kept`` stays done, and everything else is delivered.
        """
        position = self._positions[partition]
        done = max((position.offset, position.index), (position.reader.next_offset, 0))
        offset, index = min(done, (kept, 0))
        self._positions[partition] = Position(reader=_BEGINNING.reader, offset=offset, index=index)
        self._unsaved += 1

    def remaining(self, partition: Partition, batch: VerifiedBatch) -> tuple[int, ...]:
        """Return the indexes of the batch's records that are not done."""
        position = self._positions[partition]
        # Where reading began anew, the position may stand inside a batch: its manifest is the same as before,
        # and a body is another one. It may have been void before, so all of it is delivered.
        if _end_of(batch) <= position.offset:
            return ()
        first = position.index if batch.offset == position.offset else 0
        return tuple(range(first, batch.opened.manifest.count))

    def is_news(self, partition: Partition, violation: Violation) -> bool:
        """Tell whether the violation stands after everything that is done, and so was not reported before."""
        return violation.place.offset >= self._positions[partition].offset

    def keep(self, request: Signed, receipt: Signed) -> None:
        """Add a receipt to the file; called before any record that it covers is handed over."""
        if self._receipts is not None:
            self._receipts.add(request, receipt)

    def hand_over(self, partition: Partition, offset: int, index: int) -> None:
        """Note that record ``index`` of the batch at ``offset`` is now in the consumer's hand."""
        position = self._positions[partition]
        if offset < position.offset:
            # Where reading began anew, the position may stand inside this batch: see ``remaining``.
            self._positions[partition] = replace(position, offset=offset, index=index)
        self._in_hand = (partition, offset, index)

    def finish(self) -> None:
        """Note that the record in hand, if there is one, is done."""
        if self._in_hand is not None:
            partition, offset, index = self._in_hand
            self._in_hand = None
            self._move(partition, offset, index + 1)
            self._unsaved += 1

    def finish_batch(self, partition: Partition, batch: VerifiedBatch | Stale) -> None:
        """Note that the whole batch is done."""
        self._move(partition, _end_of(batch), 0)

    def finish_window(self, window: Window) -> None:
        """Note that everything the readers had read before the states behind this window is done."""
        for partition, faults in window.faults.items():
            position = self._positions[partition]
            newest = tuple({**dict(position.faults), **faults}.items())[-_MAX_FAULTS:]
            self._positions[partition] = replace(position, faults=newest)
        # From here on reading resumes from the new states; nothing before them is needed to verify the rest.
        for partition, state in window.behind.items():
            position = self._positions[partition]
            # Where reading began anew, what is done may lie far ahead of what was read again.
            is_ahead = (position.offset, position.index) > (state.next_offset, 0)
            offset, index = (position.offset, position.index) if is_ahead else (0, 0)
            self._positions[partition] = replace(position, reader=state, offset=offset, index=index)
        self._unsaved += 1

    def _move(self, partition: Partition, offset: int, index: int) -> None:
        position = self._positions[partition]
        # The position never goes back: the batches of a window that were done before a restart pass through
        # here once more.
        if (offset, index) > (position.offset, position.index):
            self._positions[partition] = replace(position, offset=offset, index=index)

    def save_if_due(self) -> None:
        """Store what is done when enough of it is not stored yet; with ``autocommit=False`` never."""
        if self._autocommit and self._unsaved:
            # A monotonic clock cannot be set back, which would delay the next saving.
            is_old = time.monotonic() - self._saved_at >= _SAVE_S
            if self._unsaved >= _SAVE_RECORDS or is_old:
                self.save()

    def save(self) -> None:
        """Store what is done, durably, if there is a state file."""
        self._unsaved = 0
        self._saved_at = time.monotonic()
        if self._file is None:
            return
        # The receipts come first. Records before a stored position are never asked for again, so a receipt
        # that is lost after the position was stored would be lost for ever.
        if self._receipts is not None:
            self._receipts.sync()
        # Commit point: from here on the records that are done are stored as done. A crash before this point
        # delivers again those that were done since the last saving.
        self._file.save(
            SubscriberState(
                genesis=self._follower.history.latest.genesis,
                channel=self._channel,
                high_water=self._follower.high_water,
                positions=dict(self._positions),
                sink=self.sink,
            )
        )


def _end_of(batch: VerifiedBatch | Stale) -> int:
    """Return the offset behind the last body of a batch."""
    return batch.offset + 1 + batch.opened.manifest.count
