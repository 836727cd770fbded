"""The state file of a subscriber: how far it has read, and the least that it may ever accept again.

The file is JSON, so that an operator can read it; bytes are hexadecimal. It holds the position, the stream
heads, the frontier of the tree and the newest faults of each partition, the directory's high-water mark, and
a value of the consumer's own. They are replaced together and atomically (``broker.files``), since a position
without its heads and its frontier could not be trusted.

One process at a time uses a state file: it holds a lock on ``<file>.lock`` beside it.

A file that is damaged, belongs to another coalition or was written by a newer version is an error. It is
never a reason to start anew: that would read every record again, and log each reading again, and it would
accept a directory that somebody has rolled back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from broker.crypto.log_tree import Frontier
from broker.directory import HighWater
from broker.errors import UsageError
from broker.files import open_lock, write_atomically
from broker.log.protocol import MAX_OFFSET, Partition
from broker.verify.partition import ReaderState
from broker.verify.streams import StreamKey

__all__ = ["Json", "Position", "StateFile", "SubscriberState"]

VERSION = 1
MAX_FILE_BYTES = 64_000_000
"""Largest state file that is read; 64 heads for each of 128 members in 5 topics need a tenth of it."""

Json = None | bool | int | str | list[Any] | dict[str, Any]
"""A value that JSON can hold, without fractions."""

# bytes.fromhex also takes spaces and capital letters, which this program never writes.
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far one partition was read, and how far its records were delivered.

    Reading goes on from ``reader``. Delivery goes on with record ``index`` of the batch at ``offset``:
    the records before it are read again, since what follows is verified by them, and are not delivered again.

    ``faults`` are the newest messages that were not as they must be, each as its offset and its leaf.
    """

    reader: ReaderState
    offset: int = 0
    index: int = 0
    faults: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberState:
    """Everything that a subscriber remembers between two runs.

    ``sink`` is the consumer's own position, which is stored here for it and never looked at.
    """

    genesis: bytes
    channel: str
    high_water: HighWater | None = None
    positions: Mapping[Partition, Position] = field(default_factory=dict)
    sink: Json = None

    def to_json(self) -> dict[str, Any]:
        """Return the state in the form that the file holds."""
        mark = self.high_water
        return {
            "version": VERSION,
            "genesis": self.genesis.hex(),
            "channel": self.channel,
            "directory": {"size": mark.size, "root": mark.root.hex()} if mark else None,
            "partitions": [_position_to_json(*item) for item in sorted(self.positions.items())],
            "sink": self.sink,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the form that ``to_json`` gives; raises ValueError or KeyError for any other value."""
        whole = _object(value)
        mark = whole["directory"]
        high_water = None
        if mark is not None:
            high_water = HighWater(size=_int(_object(mark)["size"]), root=_bytes(_object(mark)["root"], 32))
        if not isinstance(whole["channel"], str):
            raise ValueError("channel is not a text")
        return cls(
            genesis=_bytes(whole["genesis"], 32),
            channel=whole["channel"],
            high_water=high_water,
            positions=dict(_position_from_json(position) for position in _list(whole["partitions"])),
            sink=whole["sink"],
        )


def _position_to_json(partition: Partition, position: Position) -> dict[str, Any]:
    reader = position.reader
    return {
        "topic": partition.topic,
        "partition": partition.number,
        "next_offset": reader.next_offset,
        "mark": reader.mark,
        "delivered_to": {"offset": position.offset, "index": position.index},
        "heads": [
            {**_stream_to_json(key), "sequence": sequence, "digest": digest.hex(), "offset": offset}
            for key, sequence, digest, offset in reader.heads
        ],
        "closed": [_stream_to_json(key) for key in reader.closed],
        "tree": _frontier_to_json(reader.frontier),
        "faults": [{"offset": offset, "leaf": leaf.hex()} for offset, leaf in position.faults],
    }


def _position_from_json(value: object) -> tuple[Partition, Position]:
    fields = _object(value)
    delivered = _object(fields["delivered_to"])
    if not isinstance(fields["topic"], str):
        raise ValueError("topic is not a text")
    next_offset = _int(fields["next_offset"])
    reader = ReaderState(
        next_offset=next_offset,
        mark=_int(fields["mark"]),
        heads=tuple(_head_from_json(head) for head in _list(fields["heads"])),
        closed=tuple(_stream_from_json(_object(key)) for key in _list(fields["closed"])),
        frontier=_frontier_from_json(fields["tree"], next_offset),
    )
    position = Position(
        reader=reader,
        offset=_int(delivered["offset"]),
        index=_int(delivered["index"]),
        faults=tuple(_fault_from_json(fault) for fault in _list(fields["faults"])),
    )
    return Partition(fields["topic"], _int(fields["partition"])), position


def _fault_from_json(value: object) -> tuple[int, bytes]:
    fields = _object(value)
    offset = _int(fields["offset"])
    if offset > MAX_OFFSET:
        raise ValueError(f"{offset} is no offset")
    return offset, _bytes(fields["leaf"], 32)


def _frontier_to_json(frontier: Frontier | None) -> dict[str, Any] | None:
    if frontier is None:
        return None
    return {
        "peaks": [peak.hex() for peak in frontier.peaks],
        "leaves": [leaf.hex() for leaf in frontier.leaves],
    }


def _frontier_from_json(value: object, size: int) -> Frontier | None:
    if value is None:
        return None
    fields = _object(value)
    peaks, leaves = (
        tuple(_bytes(digest, 32) for digest in _list(fields[name])) for name in ("peaks", "leaves")
    )
    frontier = Frontier(size, peaks, leaves)
    if not frontier.is_whole:
        raise ValueError("the tree is not one of this size")
    return frontier


def _head_from_json(value: object) -> tuple[StreamKey, int, bytes, int]:
    head = _object(value)
    key = _stream_from_json(head)
    return key, _int(head["sequence"]), _bytes(head["digest"], 32), _int(head["offset"])


def _stream_to_json(key: StreamKey) -> dict[str, Any]:
    issuer, epoch, stream = key
    return {"issuer": issuer, "epoch": epoch, "stream": stream.hex()}


def _stream_from_json(fields: dict[str, Any]) -> StreamKey:
    if not isinstance(fields["issuer"], str):
        raise ValueError("issuer is not a text")
    return fields["issuer"], _int(fields["epoch"]), _bytes(fields["stream"], 16)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.60} is not an object")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} is not a list")
    return value


def _int(value: object) -> int:
    # ``type`` and not ``isinstance``: to Python true and false are integers too, and they are no offsets.
    if type(value) is not int or not 0 <= value <= MAX_OFFSET + 1:
        raise ValueError(f"{value!r:.60} is not a number from 0 to {MAX_OFFSET + 1}")
    return value


def _bytes(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        raise ValueError(f"{value!r:.60} is not {size} bytes in hexadecimal")
    return bytes.fromhex(value)


class StateFile:
    """An open state file, which no other process can open: ``with StateFile.open(path, …) as file``."""

    def __init__(self, path: Path, lock: int, state: SubscriberState) -> None:
        self.path = path
        self.state = state
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, genesis: bytes, channel: str) -> Self:
        """Lock and read the file; without one the state is that of a subscriber that has read nothing.

        Raises UsageError when another process holds the file, or when it is damaged or belongs to
        another coalition or channel.
        """
        where = Path(path)
        # The file is locked before it is read: another process could still replace what was read.
        lock = _lock(where)
        try:
            state = _read(where)
            if state is None:
                state = SubscriberState(genesis=genesis, channel=channel)
            elif state.genesis != genesis:
                raise UsageError(
                    f"{where}: belongs to the coalition {state.genesis.hex()}, not to {genesis.hex()}",
                    hint="each profile has its own state file: check the profile",
                )
            elif state.channel != channel:
                raise UsageError(
                    f"{where}: belongs to channel '{state.channel}', not to '{channel}'",
                    hint="give each subscription its own state file",
                )
        except BaseException:
            os.close(lock)
            raise
        return cls(where, lock, state)

    def save(self, state: SubscriberState) -> None:
        """Replace the file's content, durably and all at once; raises UsageError when that fails."""
        # NaN is not JSON (RFC 8259, section 6): a sink that holds one must not write a file that cannot be
        # read.
        text = json.dumps(state.to_json(), indent=1, allow_nan=False).encode() + b"\n"
        write_atomically(self.path, text)
        self.state = state

    def close(self) -> None:
        """Release the lock; closing again does no harm."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(path: Path) -> int:
    # The lock needs a file of its own. Each saving puts a new file in the place of the state file, so a lock
    # on the old one would keep no process out.
    try:
        return open_lock(path.with_name(path.name + ".lock"), wait=False)
    except BlockingIOError:
        hint = "stop the other subscriber, or give this one a state file of its own"
        raise UsageError(f"{path}: another process is using it", hint=hint) from None


def _read(path: Path) -> SubscriberState | None:
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(text) > MAX_FILE_BYTES:
        raise _damaged(path, f"more than {MAX_FILE_BYTES} bytes")
    try:
        fields = _object(json.loads(text))
        version = fields.get("version")
        # The version is looked at first: a newer file is not damaged, and its operator needs another hint.
        if type(version) is int and version > VERSION:
            raise UsageError(
                f"{path}: version {version}, and this broker knows {VERSION}",
                hint="use the newer broker that wrote it",
            )
        if version != VERSION:
            raise ValueError(f"version {version!r:.60}")
        return SubscriberState.from_json(fields)
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error
    # RecursionError: a file of nested brackets exhausts the stack of the JSON parser.
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, detail: str) -> UsageError:
    hint = "restore it from a copy; without it reading starts anew, and every record is delivered again"
    return UsageError(f"{path}: damaged: {detail}", hint=hint)
