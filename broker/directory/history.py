"""The history of a directory: its value at every size, and checks against a log that takes messages back.

A participant remembers the most of the directory that it has ever seen, as a ``HighWater`` mark. With it the
participant notices a log that was rolled back or that shows another directory than before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.clock import HOUR_US
from broker.directory.directory import Directory
from broker.directory.fold import DirectoryMessage, fold
from broker.errors import LogUnavailable, NotEntitled, PeerError

__all__ = ["CLOCK_TOLERANCE_US", "HighWater", "History", "check_append_time", "check_high_water"]

CLOCK_TOLERANCE_US = 2 * HOUR_US
"""How far the log's clock may differ from the clock of a participant that follows it live: two hours.

So a clock that is wrong by a change of summer time raises no alarm. Of the 72 hours in which everybody can
see a pending key at least 68 are left.
"""


class History:
    """The directory at every size, from the empty one to the latest.

    The values share their structure, so all of them fit in memory.
    """

    def __init__(self, genesis: bytes | None = None) -> None:
        """Begin before the first message; ``genesis`` pins the digest that the genesis must have."""
        # Only ``extend`` appends here. Place n holds the directory of size n.
        self._values = [Directory.empty(genesis)]

    @classmethod
    def replay(cls, messages: Iterable[DirectoryMessage], genesis: bytes | None = None) -> History:
        """Return the history after these messages, valid or not."""
        history = cls(genesis)
        for message in messages:
            history.extend(message)
        return history

    def copy(self) -> History:
        """Return a history with the same values, which can be extended without changing this one."""
        other = History()
        other._values = list(self._values)
        return other

    @property
    def size(self) -> int:
        """The number of messages that were applied, valid or not."""
        return len(self._values) - 1

    @property
    def latest(self) -> Directory:
        """The directory after all messages that were applied."""
        return self._values[-1]

    def at(self, size: int) -> Directory:
        """Return the directory after ``size`` messages; raises NotEntitled when it never had this size."""
        if not 0 <= size < len(self._values):
            raise NotEntitled(f"there is no directory of size {size}, expected 0 to {self.size}")
        return self._values[size]

    def head_at(self, size: int) -> bytes | None:
        """Return the running hash at this size, or None when the directory never had this size."""
        return self._values[size].head if 0 <= size < len(self._values) else None

    def extend(self, message: DirectoryMessage) -> PeerError | None:
        """Apply the next message of the log, and return the reason why it does not count, if any."""
        directory, error = fold(self.latest, message)
        self._values.append(directory)
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """The largest size of the directory that a participant has ever seen, and the running hash there."""

    size: int
    head: bytes


def check_high_water(history: History, mark: HighWater) -> HighWater:
    """Check that the log shows everything that was seen before, and return the new mark.

    Raises NotEntitled when the log ends earlier than it did, or shows other messages.
    """
    # Stands against an operator of the log who rolls the directory back, for example to hide a suspension.
    head = history.head_at(mark.size)
    if head is None:
        raise NotEntitled(
            f"the directory ends at {history.size}, and {mark.size} messages were seen before",
            hint="the log has lost or withholds statements: do not go on, ask the authority",
        )
    # Stands against an operator who shows this participant a fork of the directory.
    if head != mark.head:
        raise NotEntitled(
            f"the directory differs from what was seen before, within its first {mark.size} messages",
            hint="somebody shows you another directory: do not go on, ask the authority",
        )
    return HighWater(size=history.size, head=history.latest.head)


def check_append_time(appended_at: int, *, ended_at: int | None, now: int) -> None:
    """Raise LogUnavailable when the append time of a message that has just arrived cannot be true.

    ``ended_at`` is when this participant last saw the log end before this message; None while it catches up.
    ``now`` is its own clock. All times are in microseconds.

    The 72 hours of a pending key are counted in append time, and the operator of the log decides the append
    time. A participant that follows live knows when a message arrived, so it refuses a message that is dated
    back. A time in the future is refused always, also while the participant catches up. A difference up to
    ``CLOCK_TOLERANCE_US`` is accepted in both cases.

    Stopping is the only safe answer. A participant that judged by its own clock would get a different
    directory from everybody who replays the log later.
    """
    # While it catches up, a participant has seen no message arrive, so it has no reason to refuse an old one.
    earliest = appended_at if ended_at is None else ended_at - CLOCK_TOLERANCE_US
    if not earliest <= appended_at <= now + CLOCK_TOLERANCE_US:
        since = "" if ended_at is None else f"{ended_at} to "
        raise LogUnavailable(
            f"a message of the directory says it was appended at {appended_at}, expected {since}{now}",
            hint="the log's clock or this machine's is wrong: find out which before you go on",
        )
