"""What an operator does to one batch, as pure functions of a partition's messages.

Each manipulation gives the partitions that it changes, or None where it cannot be done to this batch. The
operator hides as well as it can: what takes another's place takes its append time too, unless the append
time is what is altered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from attacks.sweep.long_log import Batch

__all__ = ["MANIPULATIONS", "Case", "Cell", "Changed", "Partitions"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A message, wherever it stands."""

    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: int


Cells = Sequence[Cell]
Partitions = Mapping[tuple[str, int], Cells]
Changed = Mapping[tuple[str, int], Cells]


@dataclass(frozen=True, slots=True)
class Case:
    """One batch in the log: the batches of its partition in their order, and the epochs of its channel."""

    log: Partitions
    batch: Batch
    batches: Sequence[Batch]
    epoch: int
    """The newest epoch."""

    @property
    def place(self) -> tuple[str, int]:
        """The partition."""
        return self.batch.topic, self.batch.partition

    @property
    def cells(self) -> list[Cell]:
        """The messages of the partition."""
        return list(self.log[self.place])

    def span(self, batch: Batch | None = None) -> tuple[int, int]:
        """Where a batch, this one unless another is named, begins and ends in ``cells``."""
        one = batch or self.batch
        begin = next(i for i, cell in enumerate(self.cells) if cell.offset == one.offset)
        return begin, begin + one.messages

    def beside(self, by: int) -> Batch | None:
        """The batch before or behind this one."""
        at = self.batches.index(self.batch) + by
        return self.batches[at] if 0 <= at < len(self.batches) else None

    def with_cells(self, cells: Cells) -> Changed:
        """The partition with these messages."""
        return {self.place: cells}

    def with_cell(self, index: int, **changes: object) -> Changed:
        """The partition with one message changed; ``index`` counts from the manifest."""
        cells, at = self.cells, self.span()[0] + index
        cells[at] = replace(cells[at], **changes)  # type: ignore[arg-type]  # the fields of Cell, by name
        return self.with_cells(cells)

    def cell(self, index: int = 0) -> Cell:
        """A message of the batch."""
        return self.cells[self.span()[0] + index]


def _flipped(data: bytes | None) -> bytes:
    changed = bytearray(data or b"\0")
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def _closed_up(before: Cells, after: Cells) -> list[Cell]:
    """The messages at the offsets that there were, and behind them at new ones; dates never fall."""
    offsets = [cell.offset for cell in before]
    offsets += [offsets[-1] + 1 + i for i in range(len(after) - len(before))]
    placed = [replace(cell, offset=offset) for offset, cell in zip(offsets, after, strict=False)]
    for i, (earlier, later) in enumerate(pairwise(placed)):
        if later.appended_at < earlier.appended_at:
            placed[i + 1] = replace(later, appended_at=earlier.appended_at)
    return placed


def _manifest_altered(case: Case) -> Changed | None:
    return case.with_cell(0, value=_flipped(case.cell().value))


def _body_altered(case: Case) -> Changed | None:
    return case.with_cell(1, value=_flipped(case.cell(1).value)) if case.batch.messages > 1 else None


def _key_altered(case: Case) -> Changed | None:
    return case.with_cell(0, key=_flipped(case.cell().key))


def _key_null(case: Case) -> Changed | None:
    return case.with_cell(0, key=None)


def _body_cut(case: Case) -> Changed | None:
    if case.batch.messages < 2:
        return None
    cells = case.cells
    del cells[case.span()[0] + 1]
    return case.with_cells(cells)


def _batch_cut(case: Case) -> Changed | None:
    cells = case.cells
    begin, end = case.span()
    return case.with_cells(cells[:begin] + cells[end:])


def _stream_cut(case: Case) -> Changed | None:
    if not case.batch.stream:
        return None
    mine = [case.span(batch) for batch in case.batches if batch.stream == case.batch.stream]
    gone = {i for begin, end in mine for i in range(begin, end)}
    return case.with_cells([cell for i, cell in enumerate(case.cells) if i not in gone])


def _closing_up(manipulate: Callable[[Case], Changed | None]) -> Callable[[Case], Changed | None]:
    def closed(case: Case) -> Changed | None:
        changed = manipulate(case)
        return None if changed is None else case.with_cells(_closed_up(case.cells, changed[case.place]))

    return closed


def _exchanged(case: Case) -> Changed | None:
    other = case.beside(1)
    if other is None:
        return None
    cells = case.cells
    (begin, middle), (_, end) = case.span(), case.span(other)
    moved = cells[:begin] + cells[middle:end] + cells[begin:middle] + cells[end:]
    dated = [replace(one, appended_at=cell.appended_at) for one, cell in zip(moved, cells, strict=True)]
    return case.with_cells(_closed_up(cells, dated))


def _overwritten(case: Case) -> Changed | None:
    other = case.beside(-1) or case.beside(1)
    if other is None:
        return None
    cells = case.cells
    (begin, end), (first, last) = case.span(), case.span(other)
    copy = [replace(cell, appended_at=cells[begin].appended_at) for cell in cells[first:last]]
    return case.with_cells(_closed_up(cells, cells[:begin] + copy + cells[end:]))


def _repeated_at(case: Case, at: int) -> Changed:
    cells = case.cells
    begin, end = case.span()
    copy = [replace(cell, appended_at=cells[at - 1].appended_at) for cell in cells[begin:end]]
    return case.with_cells(_closed_up(cells, cells[:at] + copy + cells[at:]))


def _repeated_at_end(case: Case) -> Changed | None:
    return _repeated_at(case, len(case.cells))


def _repeated_in_middle(case: Case) -> Changed | None:
    return _repeated_at(case, case.span()[1]) if case.beside(1) else None


def _moved(case: Case, target: tuple[str, int]) -> Changed | None:
    begin, end = case.span()
    there = list(case.log.get(target, ()))
    at = there[-1].offset + 1 if there else 0
    copy = [replace(cell, offset=at + i) for i, cell in enumerate(case.cells[begin:end])]
    rest = _closed_up(case.cells, case.cells[:begin] + case.cells[end:])
    return {case.place: rest, target: there + copy}


def _moved_to_partition(case: Case) -> Changed | None:
    if case.batch.topic in ("directory", "keys"):
        return None
    return _moved(case, (case.batch.topic, (case.batch.partition + 1) % 3))


def _moved_to_topic(case: Case) -> Changed | None:
    return _moved(case, ("returns" if case.batch.topic != "returns" else "justice", case.batch.partition))


_DAY_US = 86_400_000_000


def _dated(by: int) -> Callable[[Case], Changed | None]:
    def dated(case: Case) -> Changed | None:
        cells = case.cells
        begin, end = case.span()
        for i in range(begin, end):
            cells[i] = replace(cells[i], appended_at=cells[i].appended_at + by)
        return case.with_cells(cells)

    return dated


def _random(age: int) -> Callable[[Case], Changed | None]:
    def replaced(case: Case) -> Changed | None:
        value = case.cell().value or b""
        epoch = max(case.epoch - age, 0)
        if case.batch.topic == "directory" and age:
            return None
        head = b"" if not case.batch.stream else b"\x01" + epoch.to_bytes(4, "big")
        cells = case.cells
        begin, end = case.span()
        cells[begin] = replace(cells[begin], value=head + secrets.token_bytes(len(value) - len(head)))
        for i in range(begin + 1, end):
            cells[i] = replace(cells[i], value=secrets.token_bytes(len(cells[i].value or b"")))
        return case.with_cells(cells)

    return replaced


MANIPULATIONS: Mapping[str, Callable[[Case], Changed | None]] = {
    "a byte of the manifest altered": _manifest_altered,
    "a byte of a body altered": _body_altered,
    "a byte of the key altered": _key_altered,
    "the key set to null": _key_null,
    "a body cut out": _body_cut,
    "a body cut out, offsets closed up": _closing_up(_body_cut),
    "the batch cut out": _batch_cut,
    "the batch cut out, offsets closed up": _closing_up(_batch_cut),
    "its stream cut out": _stream_cut,
    "its stream cut out, offsets closed up": _closing_up(_stream_cut),
    "exchanged with its neighbour": _exchanged,
    "overwritten by a copy of its neighbour": _overwritten,
    "repeated at the end": _repeated_at_end,
    "repeated in the middle": _repeated_in_middle,
    "moved to another partition": _moved_to_partition,
    "moved to another topic": _moved_to_topic,
    "dated a day earlier": _dated(-_DAY_US),
    "dated a second earlier": _dated(-1_000_000),
    "dated a second later": _dated(1_000_000),
    "dated a day later": _dated(_DAY_US),
    "replaced by random bytes of the newest epoch": _random(0),
    "replaced by random bytes of an old epoch": _random(2),
}
"""What the operator does, by name."""
