"""Repair of a cut access log: which entries the journal has and the log lacks, and how they are put back.

Whoever runs the log can cut the newest entries of the access log, and with them the proof that something
was released or erased. The journal still has them. Each is appended again, whole, inside LATE entries:
these are a violation by themselves, which tells every auditor that the log was cut, and where. What a record
topic lacks nobody can put back: a LATE entry names the range, and so explains the positions that bind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.log.protocol import Log
from broker.services.kas.journal import Journal, Journalled, is_in_log
from broker.wire.manifest import LateTerms, LostRange

__all__ = ["late_entries", "lost_entries", "lost_words"]

_MAX_LATE_BYTES = 600_000
"""Bytes of messages in one LATE entry, so that it fits into a batch with all that is added to it."""


async def lost_entries(journal: Journal, log: Log, partition: int) -> list[Journalled]:
    """Compare the whole journal of a channel with its access log, and return what the log lacks."""
    lost: list[Journalled] = []
    chunk = journal.after(partition, None)
    while chunk:
        lost += [entry for entry in chunk if not await is_in_log(log, entry)]
        chunk = journal.after(partition, chunk[-1])
    return lost


def lost_words(lacking: Sequence[LostRange], number: int) -> str:
    """Say exactly what is lacking: an operator who acknowledges it acknowledges no more."""
    return "; ".join(
        f"{lost.topic}/{number}: messages {lost.start} to {lost.end - 1} are gone or differ"
        f" (root {lost.root.hex()[:16]})"
        for lost in lacking
    )


def late_entries(
    lost: Sequence[Journalled], lacking: tuple[LostRange, ...]
) -> Iterator[tuple[Journalled | None, LateTerms]]:
    """Yield the LATE entries that put lost entries back, and then one that names the ranges that differ.

    With the last part of a lost entry comes the entry itself: once that part is durable, it is put back. A
    crash before puts it back a second time, which counts once. The ranges stand last, because they explain
    only what was signed before them, which is what the lost entries bind.
    """
    for entry in lost:
        *parts, last = _late_parts(entry)
        yield from ((None, part) for part in parts)
        yield entry, last
    if lacking:
        yield None, LateTerms(offset=-1, batch_id=bytes(32), messages=(), lacking=lacking)


def _late_parts(entry: Journalled) -> list[LateTerms]:
    """Return a lost entry in parts that each fit into a batch of the access log."""
    parts: list[list[int]] = [[]]
    size = 0
    for index, message in enumerate(entry.terms.messages):
        added = len(message.key) + len(message.value)
        if parts[-1] and size + added > _MAX_LATE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(index)
        size += added
    return [
        LateTerms(
            offset=entry.terms.offset + part[0],
            batch_id=entry.terms.batch_id,
            messages=tuple(entry.terms.messages[index] for index in part),
        )
        for part in parts
    ]
