"""The history of a directory: its value at every size, and checks against a log that takes messages back.

A participant remembers the most of the directory that it has ever seen, as a ``HighWater`` mark. With it the
participant notices a log that was rolled back or that shows another directory than before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from broker.crypto.log_tree import Frontier, LogTree
from broker.directory.directory import Directory
from broker.directory.fold import DirectoryMessage, fold
from broker.errors import FormatError, NotEntitled, PeerError
from broker.wire.log_leaf import HOLE, message_leaf

__all__ = ["Change", "HighWater", "History", "check_high_water"]

_KEPT_LEAVES = 4096
"""Leaves of the directory's tree that are kept, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A message that changed the directory, as it is kept to be folded again."""

    size: int
    """The size of the directory behind it, which is its offset and one."""
    appended_at: int
    value: bytes
    root: bytes
    """The root of the view that it made."""

    @property
    def key(self) -> bytes:
        """The key of every statement."""
        return b""


class History:
    """The directory at every view, from the empty one to the latest.

    There is a value for each message that changed the directory, and they share their structure. A message
    that changed nothing costs a leaf of the tree and no value, however many of them there are.
    """

    def __init__(self, genesis: bytes | None = None) -> None:
        """Begin before the first message; ``genesis`` pins the digest that the genesis must have."""
        # Only ``extend``, ``skip`` and ``resume`` change these. The sizes rise, and place n of the first two
        # belongs together; change n made value n + 1.
        self._sizes = [0]
        self._values = [Directory.empty(genesis)]
        self._changes: list[Change] = []
        self._tree = LogTree()

    @classmethod
    def replay(cls, messages: Iterable[DirectoryMessage], genesis: bytes | None = None) -> History:
        """Return the history after these messages, valid or not."""
        history = cls(genesis)
        for message in messages:
            history.extend(message)
        return history

    @classmethod
    def resume(cls, genesis: bytes, changes: Iterable[Change], frontier: Frontier) -> History:
        """Return the history that had these changes, and read on to this frontier.

        Every statement is judged again, signatures included; the roots of the views are taken as they stand,
        since the messages between them are not at hand. Raises PeerError when these do not fit together.
        """
        history = cls(genesis)
        for change in changes:
            if change.size <= history.latest.size:
                raise FormatError(f"a change of size {change.size} follows one of {history.latest.size}")
            directory, error = fold(history.latest, change, place=change.size - 1)
            if error is not None:
                raise error
            history._take(directory, change)
        latest = history.latest
        if not frontier.is_whole or frontier.size < latest.size:
            raise FormatError(f"the frontier of size {frontier.size} is none behind {latest.size} messages")
        if frontier.size == latest.size and frontier.root != latest.root:
            raise FormatError("the frontier has another root than the newest view")
        history._tree = LogTree(frontier)
        return history

    def copy(self) -> History:
        """Return a history with the same values, which can be extended without changing this one."""
        other = History()
        other._sizes = list(self._sizes)
        other._values = list(self._values)
        other._changes = list(self._changes)
        other._tree = self._tree.copy()
        return other

    @property
    def size(self) -> int:
        """The number of messages that were read, whether they counted or not."""
        return self._tree.size

    @property
    def latest(self) -> Directory:
        """The directory after all messages that were read."""
        return self._values[-1]

    def at(self, size: int) -> Directory:
        """Return the directory of the view with this size; raises NotEntitled when there is no such view."""
        found = self.upto(size)
        if found.size != size:
            raise NotEntitled(f"there is no view of the directory of size {size}, up to {self.latest.size}")
        return found

    def upto(self, size: int) -> Directory:
        """Return the directory after the first ``size`` messages: its newest view that is no larger."""
        return self._values[max(bisect_right(self._sizes, size) - 1, 0)]

    def root_at(self, size: int) -> bytes | None:
        """Return the root of the view with this size, or None when there is no such view."""
        return self.latest.roots.get(size)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The messages that changed the directory, in the order of the log."""
        return tuple(self._changes)

    @property
    def frontier(self) -> Frontier | None:
        """The frontier behind all messages that were read; None when it is not known any more."""
        return self._tree.frontier_at(self.size)

    def ends_with(self, message: DirectoryMessage) -> bool:
        """Tell whether this is the last message that was read; also when that is not known any more."""
        last = self._tree.last
        return last is None or _leaf_of(message) == last

    def extend(self, message: DirectoryMessage) -> PeerError | None:
        """Apply the next message of the log, and return the reason why it does not count, if any."""
        place = self._tree.size
        self._tree.add(_leaf_of(message))
        if self._tree.size % _KEPT_LEAVES == 0 and self._tree.last is not None:
            # Nobody asks for a root below: each view has its own. So garbage costs no memory.
            self._tree = self._tree.copy()
        directory, error = fold(self.latest, message, place=place)
        if error is None:
            root = self._tree.root
            if root is None:
                return NotEntitled("behind so many missing messages the directory has no root")
            self._take(directory, _change_of(message, directory.size, root))
        return error

    def _take(self, directory: Directory, change: Change) -> None:
        self._sizes.append(directory.size)
        self._values.append(directory.with_root(change.root))
        self._changes.append(change)

    def skip(self, count: int) -> None:
        """Note that the log holds no message at the next ``count`` offsets."""
        self._tree.skip(HOLE, count)


def _leaf_of(message: DirectoryMessage) -> bytes:
    digest = None if message.value is None else sha256(message.value).digest()
    return message_leaf(message.appended_at, message.key, digest)


def _change_of(message: DirectoryMessage, size: int, root: bytes) -> Change:
    return Change(size=size, appended_at=message.appended_at, value=message.value or b"", root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """The newest view of the directory that a participant has ever seen: its size and the root there."""

    size: int
    root: bytes


def check_high_water(history: History, mark: HighWater) -> HighWater:
    """Check that the log shows everything that was seen before, and return the new mark.

    Raises NotEntitled when the log ends earlier than it did, or shows other messages.
    """
    # Stands against an operator of the log who rolls the directory back, for example to hide a suspension.
    if mark.size > history.size:
        raise NotEntitled(
            f"the directory ends at {history.size}, and {mark.size} messages were seen before",
            hint="the log has lost or withholds statements: do not go on, ask the authority",
        )
    # Stands against an operator who shows this participant a fork of the directory.
    if history.root_at(mark.size) != mark.root:
        raise NotEntitled(
            f"the directory differs from what was seen before, within its first {mark.size} messages",
            hint="somebody shows you another directory: do not go on, ask the authority",
        )
    return HighWater(size=history.latest.size, root=history.latest.root)
