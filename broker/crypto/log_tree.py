"""The Merkle tree of a partition, as it grows: RFC 6962 hashing, and its root at any size.

Leaf hashes are kept in chunks of 64, and the nodes above whole chunks in memory, which is one byte for each
leaf. So a root at any size that was seen costs at most 63 hashes and one for each bit of the size. Where the
leaves of a large tree would fill the memory they go into a temporary file (``LeafFile``).

A tree resumes from a ``Frontier``, which is all that its root and its growth depend on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Protocol

from broker.crypto.merkle import root_of_leaves

__all__ = ["EMPTY_ROOT", "Frontier", "LeafFile", "LogTree"]

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

_CHUNK_BITS = 6
_CHUNK = 1 << _CHUNK_BITS
_HASH = 32
_MAX_RUN = 1 << 20
"""The longest run of equal leaves that is kept. Behind a longer one no root can be told."""
_FILE_BUFFER = 1 << 16
_MAX_ROOTS = 64


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree at one size: its last 1 to 64 leaves, and the peaks above the leaves before them.

    The peaks stand in the order of their leaves, so the largest is the first.
    """

    size: int
    peaks: tuple[bytes, ...] = ()
    leaves: tuple[bytes, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether peaks and leaves are as many as the size demands; a stored frontier may be anything."""
        if self.size < 0:
            return False
        chunks, leaves = _divided(self.size)
        hashes = (*self.peaks, *self.leaves)
        return (len(self.peaks), len(self.leaves)) == (chunks.bit_count(), leaves) and all(
            len(digest) == _HASH for digest in hashes
        )

    @property
    def last(self) -> bytes | None:
        """The last leaf, None in an empty tree: it tells whether a log still ends as it did."""
        return self.leaves[-1] if self.leaves else None

    @property
    def root(self) -> bytes:
        """The root of the tree at this size."""
        parts = [*self.peaks, root_of_leaves(self.leaves)] if self.leaves else [*self.peaks]
        return _folded(parts)


def _divided(size: int) -> tuple[int, int]:
    """Return how many whole chunks stand before the last one, and how many leaves the last one has."""
    chunks = max(size - 1, 0) >> _CHUNK_BITS
    return chunks, size - (chunks << _CHUNK_BITS)


def _folded(parts: Sequence[bytes]) -> bytes:
    """Return the root above subtrees that stand side by side, the largest first."""
    if not parts:
        return EMPTY_ROOT
    node = parts[-1]
    for left in reversed(parts[:-1]):
        node = sha256(b"\x01" + left + node).digest()
    return node


class _Leaves(Protocol):
    def append(self, hashes: bytes) -> None: ...

    def read(self, first: int, last: int) -> bytes: ...


class _LeafMemory:
    """Leaf hashes in memory, one behind the other."""

    def __init__(self) -> None:
        self._hashes = bytearray()

    def append(self, hashes: bytes) -> None:
        self._hashes += hashes

    def read(self, first: int, last: int) -> bytes:
        return bytes(self._hashes[first * _HASH : last * _HASH])


class LeafFile:
    """Leaf hashes in a temporary file without a name, which disappears when it is closed.

    The file is made when the first 2,048 leaves are there: most partitions are smaller.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._written = 0
        self._buffer = bytearray()

    def append(self, hashes: bytes) -> None:
        """Add hashes behind the last one."""
        self._buffer += hashes
        if len(self._buffer) >= _FILE_BUFFER:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="ftf-tree-")  # noqa: SIM115 - closed in close()
            self._file.seek(self._written)
            self._file.write(self._buffer)
            self._written += len(self._buffer)
            self._buffer.clear()

    def read(self, first: int, last: int) -> bytes:
        """Return the hashes ``first`` up to, but without, ``last``."""
        start, end = first * _HASH, last * _HASH
        held = b""
        if self._file is not None and start < self._written:
            self._file.seek(start)
            held = self._file.read(min(end, self._written) - start)
        begin = max(start, self._written) - self._written
        return held + bytes(self._buffer[begin : max(end - self._written, begin)])

    def close(self) -> None:
        """Forget the hashes."""
        if self._file is not None:
            self._file.close()


class LogTree:
    """The tree of one partition: leaves are only ever added, and the root at each size can be asked for.

    ``frontier`` is where a resumed tree begins: roots below it are not known. ``leaves`` is where the leaf
    hashes are kept, by default in memory.
    """

    def __init__(self, frontier: Frontier | None = None, leaves: _Leaves | None = None) -> None:
        start = frontier or Frontier(0)
        if not start.is_whole:
            raise ValueError(f"no frontier of a tree of {start.size} leaves")
        self.size = start.size
        self._leaves = leaves or _LeafMemory()
        chunks, _ = _divided(start.size)
        self._first = chunks << _CHUNK_BITS
        """The number of the first leaf that is kept."""
        self._levels: list[bytearray] = []
        """The nodes above whole chunks, level by level; ``_starts`` has the number of the first of each."""
        self._starts: list[int] = []
        self._base = start.size
        self._known_to: int | None = None
        """Behind this size no root can be told; None while all can."""
        self._roots: dict[int, bytes] = {}
        self._take_peaks(chunks, start.peaks)
        self._leaves.append(b"".join(start.leaves))
        self._open: list[bytes] = []
        """The leaves of the last chunk while it is not whole. Only ``_fill`` writes them."""
        self._fill(start.leaves)

    def _take_peaks(self, chunks: int, peaks: Sequence[bytes]) -> None:
        waiting = list(reversed(peaks))
        level = 0
        while chunks >> level:
            self._levels.append(bytearray())
            self._starts.append(chunks >> level)
            if chunks >> level & 1:
                self._levels[level] += waiting.pop(0)
                self._starts[level] -= 1
            level += 1

    def copy(self, since: int | None = None) -> LogTree:
        """Return the same tree, which grows by itself and knows roots from ``since`` on alone.

        By default it knows its root of now, and nothing before.
        """
        start = self.size if since is None else since
        frontier = self.frontier_at(start)
        if frontier is None or self._known_to is not None:
            raise ValueError("a tree without a root cannot be copied")
        other = LogTree(frontier)
        held = self._leaves.read(start - self._first, self.size - self._first)
        other.extend(held[at : at + _HASH] for at in range(0, len(held), _HASH))
        return other

    @property
    def kept(self) -> int:
        """How many leaves are kept."""
        return self.size - self._first

    # growing

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes, in the order of their offsets."""
        added = list(leaves)
        self.size += len(added)
        # Where no root can be told any more no leaf is of use.
        if self._known_to is None:
            self._leaves.append(b"".join(added))
            self._fill(added)

    def _fill(self, leaves: Sequence[bytes]) -> None:
        self._open += leaves
        while len(self._open) >= _CHUNK:
            self._add_node(0, root_of_leaves(self._open[:_CHUNK]))
            del self._open[:_CHUNK]

    def skip(self, leaf: bytes, count: int) -> None:
        """Add the same leaf ``count`` times, for offsets at which the log holds nothing.

        Behind more of them than a million no root can be told any more, so that a hole costs no memory.
        """
        if count > _MAX_RUN:
            self._known_to = self.size if self._known_to is None else self._known_to
        if self._known_to is not None:
            self.size += count
            return
        for _ in range(0, count - _CHUNK + 1, _CHUNK):
            self.extend((leaf,) * _CHUNK)
        self.extend((leaf,) * (count % _CHUNK))

    def _chunk_leaves(self, chunk: int, count: int) -> list[bytes]:
        first = (chunk << _CHUNK_BITS) - self._first
        held = self._leaves.read(first, first + count)
        return [held[at : at + _HASH] for at in range(0, len(held), _HASH)]

    def _add_node(self, level: int, node: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
            self._starts.append(0)
        nodes = self._levels[level]
        nodes += node
        place = self._starts[level] + len(nodes) // _HASH - 1
        if place & 1:
            self._add_node(level + 1, sha256(b"\x01" + nodes[-2 * _HASH :]).digest())

    # asking

    def root_at(self, size: int) -> bytes | None:
        """Return the root at this size; None for a size that was not seen or is not known any more."""
        found = self._roots.get(size)
        if found is None:
            frontier = self.frontier_at(size)
            if frontier is None:
                return None
            if len(self._roots) >= _MAX_ROOTS:
                self._roots.pop(next(iter(self._roots)))
            found = self._roots[size] = frontier.root
        return found

    @property
    def root(self) -> bytes | None:
        """The root of everything that was added."""
        return self.root_at(self.size)

    def frontier_at(self, size: int) -> Frontier | None:
        """Return the frontier at this size; None for a size that was not seen or is not known any more."""
        last = self.size if self._known_to is None else self._known_to
        if not self._base <= size <= last:
            return None
        chunks, count = _divided(size)
        peaks = tuple(
            self._node(level, (chunks >> level) - 1)
            for level in range(chunks.bit_length() - 1, -1, -1)
            if chunks >> level & 1
        )
        return Frontier(size, peaks, tuple(self._chunk_leaves(chunks, count)))

    @property
    def last(self) -> bytes | None:
        """The last leaf; None in an empty tree, and where it is not known any more."""
        return self.leaf_at(self.size - 1)

    def leaf_at(self, number: int) -> bytes | None:
        """Return one leaf; None for one that was not seen or is not known any more."""
        if not self._first <= number < self.size or self._known_to is not None:
            return None
        return self._leaves.read(number - self._first, number + 1 - self._first)

    def _node(self, level: int, place: int) -> bytes:
        at = (place - self._starts[level]) * _HASH
        return bytes(self._levels[level][at : at + _HASH])
