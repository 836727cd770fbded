"""A log looked over without any key: dates, partitions of no channel, deleted beginnings, unfinished copies.

Nothing is decided by what is found here: no date refuses a message. The operator and the coalition learn
which clock is wrong, and where somebody wrote what belongs to nobody. The signer of a message is named where
the directory's own statements tell it, and only if the statement counts: bytes that nobody signed accuse
nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from broker.audit.partition_check import ends_beyond, messages_of_no_channel
from broker.clock import MINUTE_US
from broker.directory import Directory, History
from broker.errors import FormatError
from broker.log import CopyableLog, Partition, StoredMessage
from broker.participant.follower import DIRECTORY
from broker.wire.encoding import decode, decode_content
from broker.wire.manifest import Signed

__all__ = ["CLOCK_TOLERANCE_US", "MAX_NAMED", "Finding", "What", "look_over"]

CLOCK_TOLERANCE_US = 5 * MINUTE_US
"""How far a message may be dated ahead of our clock before it is named."""

MAX_NAMED = 20
"""The most messages of a partition that are named one by one for their dates; the others are counted."""

_MOVED_EVERY = 2048


class What(StrEnum):
    """The kinds of findings, as they stand in JSON answers."""

    UNFINISHED_COPY = "unfinished-copy"
    BEGINNING_DELETED = "beginning-deleted"
    NO_CHANNEL = "no-channel"
    DATED_AHEAD = "dated-ahead"
    NO_DATE = "no-date"
    NO_DIRECTORY = "no-directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found; ``offset`` is the first of ``count`` messages.

    ``appended_at`` is the date of the message, and ``signer`` who signed it, where that is known.
    """

    what: What
    partition: Partition | None = None
    offset: int = 0
    count: int = 1
    appended_at: int | None = None
    signer: str | None = None


async def look_over(
    log: CopyableLog,
    record_topics: Sequence[str],
    *,
    genesis: bytes | None,
    now: int,
    moved: Callable[[int, int], None] = lambda done, of: None,
) -> list[Finding]:
    """Read every message of a log, and return what is found.

    Dates are compared with ``now``. ``genesis`` pins the directory; without it the directory is believed as
    the log shows it.
    """
    found = [Finding(what=What.UNFINISHED_COPY)] if await log.is_unfinished() else []
    shapes = await log.topics()
    plain = [
        Partition(topic, number)
        for topic, shape in shapes.items()
        if not shape.compacted
        for number in range(shape.partitions)
    ]
    for partition, begin in sorted((await log.begins(plain)).items()):
        if begin > 0:
            found.append(Finding(what=What.BEGINNING_DELETED, partition=partition, count=begin))
    ends = await log.ends(plain)
    dates = _Dates(now, sum(ends.values()), moved)
    directory = await _directory(log, genesis, dates) if DIRECTORY.topic in shapes else None
    if directory is None or directory.size == 0:
        if any(ends.values()):  # a log that was just made holds nothing yet
            found.append(Finding(what=What.NO_DIRECTORY))
    else:
        beyond = await ends_beyond(log, [t for t in record_topics if t in shapes], directory)
        for violation in await messages_of_no_channel(log, beyond, directory):
            where = Partition(violation.place.topic, violation.place.partition)
            found.append(
                Finding(
                    what=What.NO_CHANNEL,
                    partition=where,
                    offset=violation.place.offset,
                    count=violation.count,
                )
            )
    for partition in plain:
        if partition != DIRECTORY:
            async for message in log.read(partition, 0):
                dates.see(partition, message)
    return found + dates.findings()


async def _directory(log: CopyableLog, genesis: bytes | None, dates: _Dates) -> Directory:
    history = History(genesis)
    async for message in log.read(DIRECTORY, 0):
        if message.offset > history.size:
            history.skip(message.offset - history.size)
        counts = history.extend(message) is None
        dates.see(DIRECTORY, message, signer=_issuer(message) if counts else None)
    return history.latest


def _issuer(message: StoredMessage) -> str | None:
    try:
        return str(decode_content(decode(Signed, message.value or b"")).header.issuer)
    except FormatError:
        return None


class _Dates:
    """The dates of all messages, compared with one clock."""

    def __init__(self, now: int, total: int, moved: Callable[[int, int], None]) -> None:
        self._latest = now + CLOCK_TOLERANCE_US
        self._total = total
        self._moved = moved
        self._done = 0
        self._named: list[Finding] = []
        self._counts: dict[tuple[Partition, What], int] = {}
        self._more: dict[tuple[Partition, What], Finding] = {}

    def see(self, partition: Partition, message: StoredMessage, *, signer: str | None = None) -> None:
        """Take a message; nothing is kept of one whose date is in order."""
        self._done += 1
        if self._done % _MOVED_EVERY == 0:
            self._moved(self._done, self._total)
        if 0 < message.appended_at <= self._latest:
            return
        what = What.NO_DATE if message.appended_at == 0 else What.DATED_AHEAD
        finding = Finding(
            what=what,
            partition=partition,
            offset=message.offset,
            appended_at=message.appended_at or None,
            signer=signer,
        )
        count = self._counts.get((partition, what), 0) + 1
        self._counts[partition, what] = count
        if count <= MAX_NAMED:
            self._named.append(finding)
        else:
            self._more.setdefault((partition, what), finding)

    def findings(self) -> list[Finding]:
        """Return what was found, with one finding for all messages of a partition that are not named."""
        more = [
            Finding(
                what=finding.what,
                partition=finding.partition,
                offset=finding.offset,
                count=self._counts[key] - MAX_NAMED,
            )
            for key, finding in self._more.items()
        ]
        return self._named + more
