"""Repair of a cut access log: which entries the journal has and the log lacks, and how they are put back.

Whoever runs the log can cut the newest entries of the access log, and with them the proof that something
was released or erased. The journal still has them. Each is appended again, whole, inside LATE entries:
these are a violation by themselves, which tells every auditor that the log was cut, and where.
"""

from __future__ import annotations

from broker.log.protocol import Log
from broker.services.kas.journal import Journal, Journalled, is_in_log
from broker.wire.manifest import LateTerms

__all__ = ["late_parts", "lost_entries"]

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


def late_parts(entry: Journalled) -> list[LateTerms]:
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
