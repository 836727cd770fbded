"""Every directory there has been, by size, and the promise never to accept less than was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.directory.directory import Directory
from broker.directory.fold import DirectoryMessage, fold
from broker.errors import LogUnavailable, NotEntitled, PeerError

__all__ = ["CLOCK_TOLERANCE_US", "HighWater", "History", "check_append_time", "check_high_water"]

CLOCK_TOLERANCE_US = 2 * 3600 * 1_000_000
"""How far a log's clock may be from that of who follows it live: a clock set to the wrong summer time is
no alarm, and of the 72 hours 68 are left in which all can see what was announced."""


class History:
    """The directory at every size; values share their structure, so that all of them fit in memory."""

    def __init__(self, genesis: bytes | None = None) -> None:
        """Start before the first message; ``genesis`` pins what it must be."""
        self._values = [Directory.empty(genesis)]

    @classmethod
    def replay(cls, messages: Iterable[DirectoryMessage], genesis: bytes | None = None) -> History:
        """The history that these messages make, valid or not."""
        history = cls(genesis)
        for message in messages:
            history.extend(message)
        return history

    def copy(self) -> History:
        """The same history, to be extended on its own."""
        other = History()
        other._values = list(self._values)
        return other

    @property
    def size(self) -> int:
        """How many messages were applied."""
        return len(self._values) - 1

    @property
    def latest(self) -> Directory:
        """The directory now."""
        return self._values[-1]

    def at(self, size: int) -> Directory:
        """The directory after so many messages; NotEntitled beyond the end."""
        if not 0 <= size < len(self._values):
            raise NotEntitled(f"directory size {size} is beyond the directory's end {self.size}")
        return self._values[size]

    def head_at(self, size: int) -> bytes | None:
        """The running hash at this size; None beyond the end."""
        return self._values[size].head if 0 <= size < len(self._values) else None

    def extend(self, message: DirectoryMessage) -> PeerError | None:
        """Apply the next message of the log; returns why its statement did not count, if it did not."""
        directory, error = fold(self.latest, message)
        self._values.append(directory)
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """The most of the directory that a participant has ever seen."""

    size: int
    head: bytes


def check_high_water(history: History, mark: HighWater) -> HighWater:
    """The new mark; NotEntitled where the log shows less, or something else, than was seen before."""
    head = history.head_at(mark.size)
    if head is None:
        raise NotEntitled(
            f"the directory ends at {history.size}, and {mark.size} messages were seen before",
            hint="the log has lost or withholds statements: do not go on, ask the authority",
        )
    if head != mark.head:
        raise NotEntitled(
            f"the directory differs from what was seen before, within its first {mark.size} messages",
            hint="somebody shows you another directory: do not go on, ask the authority",
        )
    return HighWater(size=history.size, head=history.latest.head)


def check_append_time(appended_at: int, *, ended_at: int | None, now: int) -> None:
    """Raise LogUnavailable where the log's clock is wrong for a message that arrived while we followed it.

    ``ended_at`` is when we last saw the log end before this message, None for who only catches up;
    ``now`` is our clock. The 72 hours run by append time, which is the operator's word; for who follows
    live it cannot be dated back, nor for anybody the clock be put forward, by more than the tolerance. To
    stop is the only safe answer: to judge by another time than everybody who replays would split the
    directory in two.
    """
    earliest = appended_at if ended_at is None else ended_at - CLOCK_TOLERANCE_US
    if not earliest <= appended_at <= now + CLOCK_TOLERANCE_US:
        since = "" if ended_at is None else f"{ended_at} to "
        raise LogUnavailable(
            f"a message of the directory says it was appended at {appended_at}, expected {since}{now}",
            hint="the log's clock or this machine's is wrong: find out which before you go on",
        )
