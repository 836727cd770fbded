"""How far a subscriber has come: what was handed over, what is done, what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from broker.directory import check_high_water
from broker.errors import UsageError
from broker.log.protocol import Partition
from broker.participant.follower import DirectoryFollower
from broker.subscribe.receipts import ReceiptFile
from broker.subscribe.state import Json, Position, StateFile, SubscriberState
from broker.verify.partition import ReaderState, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.manifest import Signed

__all__ = ["Progress"]

_SAVE_RECORDS = 1024
_SAVE_S = 1.0
_BEGINNING = Position(reader=ReaderState(next_offset=0, mark=0))


class Progress:
    """The position of one subscription, with its state file and receipts where it has them.

    An item is *in hand* from when it is given to the consumer until the next one is asked for, or
    until a commit: then it is *done*. ``save`` stores what is done.
    """

    def __init__(self, follower: DirectoryFollower, channel: str, *, autocommit: bool) -> None:
        self.sink: Json = None
        """The consumer's own position, stored together with ours."""
        self._follower = follower
        self._channel = channel
        self._autocommit = autocommit
        self._file: StateFile | None = None
        self._receipts: ReceiptFile | None = None
        self._positions: dict[Partition, Position] = {}
        self._in_hand: tuple[Partition, int, int] | None = None
        self._unsaved = 0
        self._saved_at = time.monotonic()

    @classmethod
    def open(cls, path: Path | None, follower: DirectoryFollower, channel: str, *, autocommit: bool) -> Self:
        """What the state file says, the file being ours until ``close``; the beginning without one."""
        progress = cls(follower, channel, autocommit=autocommit)
        if path is None:
            return progress
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
            check_high_water(self._follower.history, state.high_water)
        if state.sink is not None and self._autocommit:
            raise UsageError(
                f"{file.path}: belongs to a sink that commits its own position",
                hint="open it with that sink, or give this subscription a state file of its own",
            )
        self._positions = dict(state.positions)
        self.sink = state.sink

    def close(self) -> None:
        """Store what is done, unless only commits may, and let go of the files."""
        try:
            if self._autocommit and self._unsaved:
                self.save()
        finally:
            if self._receipts is not None:
                self._receipts.close()
            if self._file is not None:
                self._file.close()

    # where reading goes on

    def readers(self, partitions: Iterable[Partition]) -> dict[Partition, ReaderState]:
        """Where reading these partitions goes on: at the beginning, those that were never read."""
        return {one: self._positions.setdefault(one, _BEGINNING).reader for one in partitions}

    def remaining(self, partition: Partition, batch: VerifiedBatch) -> tuple[int, ...]:
        """The indexes of a batch that are not done."""
        position = self._positions[partition]
        if batch.offset < position.offset:
            return ()
        first = position.index if batch.offset == position.offset else 0
        return tuple(range(first, batch.opened.manifest.count))

    def is_news(self, partition: Partition, violation: Violation) -> bool:
        """Tell whether a violation stands behind what is done."""
        return violation.place.offset >= self._positions[partition].offset

    # what happens to items

    def keep(self, request: Signed, receipt: Signed) -> None:
        """Keep a receipt, before anything that it stands for is handed over."""
        if self._receipts is not None:
            self._receipts.add(request, receipt)

    def hand_over(self, partition: Partition, offset: int, index: int) -> None:
        """The record ``index`` of the batch at ``offset`` is in the consumer's hand."""
        self._in_hand = (partition, offset, index)

    def finish(self) -> None:
        """What is in hand is done."""
        if self._in_hand is not None:
            (partition, offset, index), self._in_hand = self._in_hand, None
            self._move(partition, offset, index + 1)
            self._unsaved += 1

    def finish_batch(self, partition: Partition, offset: int) -> None:
        """Everything in the batch at this offset is done."""
        self._move(partition, offset + 1, 0)

    def finish_window(self, behind: Mapping[Partition, ReaderState]) -> None:
        """Everything that the readers had read when they stood there is done."""
        self._positions.update((one, Position(reader=state)) for one, state in behind.items())
        self._unsaved += 1

    def _move(self, partition: Partition, offset: int, index: int) -> None:
        position = self._positions[partition]
        if (offset, index) > (position.offset, position.index):
            self._positions[partition] = Position(reader=position.reader, offset=offset, index=index)

    # storing

    def save_if_due(self) -> None:
        """Store what is done if enough is, unless only commits may."""
        if self._autocommit and self._unsaved:
            is_old = time.monotonic() - self._saved_at >= _SAVE_S
            if self._unsaved >= _SAVE_RECORDS or is_old:
                self.save()

    def save(self) -> None:
        """Store what is done, durably, where there is a state file."""
        self._unsaved, self._saved_at = 0, time.monotonic()
        if self._file is None:
            return
        if self._receipts is not None:
            self._receipts.sync()
        # Commit point: what is done is stored. A crash before it delivers again what was done since.
        self._file.save(
            SubscriberState(
                genesis=self._follower.history.latest.genesis,
                channel=self._channel,
                high_water=self._follower.high_water,
                positions=dict(self._positions),
                sink=self.sink,
            )
        )
