"""A log copied to another: every message at its offset and with its time, verified on both sides by roots.

Rules
-----
* The copy is marked as unfinished until its roots are those of the original. So long nobody else can open it.
* What a copy that was stopped has left is read and compared, message by message, before anything is added. A
  message that differs ends the copying and is named; nothing that is there is ever changed.
* The roots are those of the partitions' trees (schemas/README.md, "The messages of a partition"). The root of
  the original is computed of what was read from it, that of the copy of what is read back in the end.
* ``keys`` is compacted and has no tree. The values that stand are copied, in the order of their offsets, and
  a key that the original no longer has is deleted in the copy.
* The original must not grow meanwhile. Its ends are compared in the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from broker.crypto.log_tree import LogTree
from broker.errors import UsageError
from broker.log import CopyableLog, Message, Partition, StoredMessage, TopicShape, append_bytes, physical
from broker.wire.log_leaf import HOLE, message_leaf

__all__ = ["Copied", "Moved", "copy_log"]

Moved = Callable[[int, int], None]
"""Called with the number of messages that are done, and with the number of all."""

_BATCH_MESSAGES = 1_000
_BATCH_BYTES = 900_000
_MOVED_EVERY = 256
_LEAVES_KEPT = 65_536

_ELSEWHERE = "copy to another file, or under another prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: the messages of each partition, those whose roots differ, and topics left out."""

    messages: Mapping[Partition, int]
    differing: tuple[Partition, ...]
    left_out: tuple[str, ...]

    @property
    def roots_equal(self) -> bool:
        """Whether every partition of the copy has the root that it has in the original."""
        return not self.differing


async def copy_log(
    source: CopyableLog, target: CopyableLog, topics: Iterable[str], moved: Moved = lambda done, of: None
) -> Copied:
    """Copy these topics, as far as the source has them, and return what was copied.

    A copy that was stopped goes on; one that is finished is only compared. Raises UsageError if the target
    holds anything that the source does not, or the source grew meanwhile.
    """
    there = await source.topics()
    wanted = {topic: there[topic] for topic in topics if topic in there}
    if not wanted:
        raise UsageError(
            f"there is nothing to copy: no topic of a coalition has the prefix {source.prefix} there",
            hint="check the URL of the log that is copied, and the prefix in it",
        )
    # (1) Mark the target, unless it is a copy that was finished before.
    is_open = await target.is_unfinished() or not await target.topics()
    if is_open:
        await target.begin_copy(wanted)
    _check_shapes(await target.topics(), wanted, target)
    # (2) Compare what it has, and add what it lacks.
    ends = await source.ends(_partitions(wanted, compacted=False) + _partitions(wanted, compacted=True))
    work = _Copying(source, target, ends, is_open, moved)
    plain = _partitions(wanted, compacted=False)
    roots = {partition: await work.fill(partition) for partition in plain}
    messages = dict(ends)
    for partition in _partitions(wanted, compacted=True):
        messages[partition] = await work.fill_compacted(partition)
    # (3) Read it back.
    differing = tuple([partition for partition in plain if await work.root(partition) != roots[partition]])
    if await source.ends(ends) != ends:
        raise UsageError(
            "the original grew while it was copied, and what was appended last is not in the copy",
            hint="stop every service and every publisher of it, then make the same copy again",
        )
    # (4) From here on anybody can open it.
    if is_open and not differing:
        await target.finish_copy()
    return Copied(
        messages=messages, differing=differing, left_out=tuple(sorted(there.keys() - wanted.keys()))
    )


def _partitions(topics: Mapping[str, TopicShape], *, compacted: bool) -> list[Partition]:
    chosen = [(name, shape) for name, shape in topics.items() if shape.compacted == compacted]
    return [Partition(name, number) for name, shape in chosen for number in range(shape.partitions)]


def _check_shapes(
    found: Mapping[str, TopicShape], wanted: Mapping[str, TopicShape], log: CopyableLog
) -> None:
    """Raise a UsageError for a topic that is not the same in the copy and in the original."""
    for topic in sorted(found.keys() | wanted.keys()):
        if found.get(topic) != wanted.get(topic):
            raise UsageError(
                f"topic {physical(log, topic)} of the copy has {_shape(found.get(topic))}, and that of the"
                f" original {_shape(wanted.get(topic))}",
                hint=_ELSEWHERE,
            )


def _shape(shape: TopicShape | None) -> str:
    if shape is None:
        return "no partition"
    kind = "compacted partition" if shape.compacted else "partition"
    return f"{shape.partitions} {kind}{'' if shape.partitions == 1 else 's'}"


class _Copying:
    """The copying of one log under way: both logs, and how far it has come."""

    def __init__(
        self,
        source: CopyableLog,
        target: CopyableLog,
        ends: Mapping[Partition, int],
        is_open: bool,
        moved: Moved,
    ) -> None:
        self._source = source
        self._target = target
        self._ends = ends
        self._is_open = is_open
        self._moved = moved
        self._done = 0
        # Each message is read once from the original and once, in the end, from the copy.
        self._total = 2 * sum(ends.values())

    def _step(self) -> None:
        self._done += 1
        if self._done % _MOVED_EVERY == 0 or self._done == self._total:
            self._moved(self._done, self._total)

    # Partitions with a tree

    async def fill(self, partition: Partition) -> bytes | None:
        """Compare what the copy has of a partition, add what it lacks, and return the original's root."""
        has = (await self._target.ends([partition]))[partition]
        end = self._ends[partition]
        if has > end or (has < end and not self._is_open):
            raise UsageError(
                f"partition {self._name(partition)} ends at {has}, and in the original at {end}",
                hint=_ELSEWHERE,
            )
        tree = _Tree()
        reading = self._read(self._source, partition, tree)
        first = await self._compare(partition, reading, has)
        await self._add(partition, first, reading, has)
        if tree.size != end:
            raise self._gap(partition, tree.size)
        return tree.root

    async def root(self, partition: Partition) -> bytes | None:
        """Read a partition of the copy, and return its root."""
        tree = _Tree()
        async for _ in self._read(self._target, partition, tree):
            pass
        return tree.root

    async def _read(
        self, log: CopyableLog, partition: Partition, tree: _Tree
    ) -> AsyncIterator[StoredMessage]:
        async for message in log.read(partition, 0):
            tree.add(message)
            self._step()
            yield message

    async def _compare(
        self, partition: Partition, reading: AsyncIterator[StoredMessage], has: int
    ) -> StoredMessage | None:
        """Compare the beginnings of both partitions, and return the first message that the copy lacks."""
        copied = self._target.read(partition, 0)
        async for message in reading:
            other = await anext(copied, None)
            if message.offset >= has and other is None:
                return message
            if other != message:
                raise self._differs(partition, message if other is None else min(message, other, key=_offset))
        other = await anext(copied, None)
        if other is not None:
            raise self._differs(partition, other)
        return None

    async def _add(
        self,
        partition: Partition,
        first: StoredMessage | None,
        reading: AsyncIterator[StoredMessage],
        has: int,
    ) -> None:
        batch: list[StoredMessage] = []
        size = 0
        message = first
        while message is not None:
            if message.offset != has and not self._target.keeps_gaps:
                raise self._gap(partition, has)
            has = message.offset + 1
            more = _size(message)
            if batch and (len(batch) == _BATCH_MESSAGES or size + more > _BATCH_BYTES):
                await self._target.put(partition, batch)
                batch = []
                size = 0
            batch.append(message)
            size += more
            message = await anext(reading, None)
        if batch:
            await self._target.put(partition, batch)

    def _differs(self, partition: Partition, message: StoredMessage) -> UsageError:
        return UsageError(
            f"partition {self._name(partition)} differs from the original at offset {message.offset}",
            hint=f"it is no copy of this log: {_ELSEWHERE}",
        )

    def _gap(self, partition: Partition, offset: int) -> UsageError:
        return UsageError(
            f"the original has no message at offset {offset} of partition"
            f" {physical(self._source, partition.topic)}/{partition.number}: this gap cannot be copied there",
            hint="messages were deleted, or transactions were used: replay the original",
        )

    def _name(self, partition: Partition) -> str:
        return f"{physical(self._target, partition.topic)}/{partition.number} of the copy"

    # Compacted partitions

    async def fill_compacted(self, partition: Partition) -> int:
        """Copy the values that stand, delete those that do not, and return how many stand."""
        wanted = await self._newest(self._source, partition)
        has = await self._newest(self._target, partition)
        lacking = {key for key, (_, digest) in wanted.items() if key not in has or has[key][1] != digest}
        gone = has.keys() - wanted.keys()
        if (lacking or gone) and not self._is_open:
            raise UsageError(f"partition {self._name(partition)} has other values", hint=_ELSEWHERE)
        async for message in self._source.read(partition, 0):
            self._step()
            if message.key in lacking and message.offset == wanted[message.key][0]:
                await self._target.put(partition, [message])
        for key in sorted(gone):
            # The original erased it since the copying began.
            await self._target.put(partition, [StoredMessage(0, key, None, 0)])
        has = await self._newest(self._target, partition)
        if {key: digest for key, (_, digest) in has.items()} != {key: d for key, (_, d) in wanted.items()}:
            raise UsageError(f"partition {self._name(partition)} has other values", hint=_ELSEWHERE)
        return len(wanted)

    async def _newest(self, log: CopyableLog, partition: Partition) -> dict[bytes, tuple[int, bytes]]:
        """Return the offset and the digest of the value that stands for each key."""
        found: dict[bytes, tuple[int, bytes]] = {}
        async for message in log.read(partition, 0):
            if message.key is None:
                continue
            if message.value is None:
                found.pop(message.key, None)
            else:
                found[message.key] = (message.offset, sha256(message.value).digest())
        return found


class _Tree:
    """The tree of a partition that is read once: it keeps few leaves, since only its last root is wanted."""

    def __init__(self) -> None:
        self._tree = LogTree()
        self._kept = 0

    @property
    def size(self) -> int:
        """The offset behind the last message."""
        return self._tree.size

    @property
    def root(self) -> bytes | None:
        """The root over all messages; None behind a gap of more than a million."""
        return self._tree.root

    def add(self, message: StoredMessage) -> None:
        """Add a message, and the gap before it."""
        if message.offset > self._tree.size:
            self._tree.skip(HOLE, message.offset - self._tree.size)
        digest = None if message.value is None else sha256(message.value).digest()
        self._tree.add(message_leaf(message.appended_at, message.key, digest))
        self._kept += 1
        if self._kept == _LEAVES_KEPT and self._tree.root is not None:
            self._tree = self._tree.copy()
            self._kept = 0


def _offset(message: StoredMessage) -> int:
    return message.offset


def _size(message: StoredMessage) -> int:
    return append_bytes([Message(message.key, message.value)])
