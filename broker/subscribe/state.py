"""The subscriber's state file: how far it has read, and what it must never accept less of.

JSON, so that an operator can read it; bytes are hexadecimal. Position, stream heads and the directory's
high-water mark are written together and atomically: temporary file, fsync, rename, fsync of the
folder. One process at a time: a lock is held on ``<file>.lock`` beside it.

A file that is damaged, of another coalition or of a newer version is an error, never a fresh start:
starting anew would read everything again, and accept a directory that was rolled back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from broker.directory import HighWater
from broker.errors import UsageError
from broker.log.protocol import MAX_OFFSET, Partition
from broker.verify.partition import ReaderState
from broker.verify.streams import StreamKey

__all__ = ["Json", "Position", "StateFile", "SubscriberState"]

VERSION = 1
MAX_FILE_BYTES = 64_000_000
"""Bytes of a state file: 64 heads for each of 128 members in 5 topics need a tenth."""

Json = None | bool | int | str | list[Any] | dict[str, Any]
"""A value that JSON can hold, without fractions."""

_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a partition was read, and within that how far it was delivered.

    Reading resumes from ``reader``; what stands before (``offset``, ``index``), the offset of a batch
    and a place in it, was delivered already, and is read again only to verify what follows.
    """

    reader: ReaderState
    offset: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberState:
    """Everything that a subscriber remembers; ``sink`` belongs to the caller."""

    genesis: bytes
    channel: str
    high_water: HighWater | None = None
    positions: Mapping[Partition, Position] = field(default_factory=dict)
    sink: Json = None

    def to_json(self) -> dict[str, Any]:
        """The state as the file holds it."""
        mark = self.high_water
        return {
            "version": VERSION,
            "genesis": self.genesis.hex(),
            "channel": self.channel,
            "directory": {"size": mark.size, "head": mark.head.hex()} if mark else None,
            "partitions": [_position_to_json(*item) for item in sorted(self.positions.items())],
            "sink": self.sink,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """What ``to_json`` gave; ValueError, KeyError or TypeError for anything else."""
        whole = _object(value)
        mark = whole["directory"]
        high_water = None
        if mark is not None:
            high_water = HighWater(size=_int(_object(mark)["size"]), head=_bytes(_object(mark)["head"], 32))
        if not isinstance(whole["channel"], str):
            raise ValueError("channel is no text")
        return cls(
            genesis=_bytes(whole["genesis"], 32),
            channel=whole["channel"],
            high_water=high_water,
            positions=dict(_position_from_json(one) for one in _list(whole["partitions"])),
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
    }


def _position_from_json(value: object) -> tuple[Partition, Position]:
    one = _object(value)
    delivered = _object(one["delivered_to"])
    if not isinstance(one["topic"], str):
        raise ValueError("topic is no text")
    reader = ReaderState(
        next_offset=_int(one["next_offset"]),
        mark=_int(one["mark"]),
        heads=tuple(_head_from_json(head) for head in _list(one["heads"])),
        closed=tuple(_stream_from_json(_object(key)) for key in _list(one["closed"])),
    )
    position = Position(reader=reader, offset=_int(delivered["offset"]), index=_int(delivered["index"]))
    return Partition(one["topic"], _int(one["partition"])), position


def _head_from_json(value: object) -> tuple[StreamKey, int, bytes, int]:
    head = _object(value)
    key = _stream_from_json(head)
    return key, _int(head["sequence"]), _bytes(head["digest"], 32), _int(head["offset"])


def _stream_to_json(key: StreamKey) -> dict[str, Any]:
    issuer, epoch, stream = key
    return {"issuer": issuer, "epoch": epoch, "stream": stream.hex()}


def _stream_from_json(one: dict[str, Any]) -> StreamKey:
    if not isinstance(one["issuer"], str):
        raise ValueError("issuer is no text")
    return one["issuer"], _int(one["epoch"]), _bytes(one["stream"], 16)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.60} is no object")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} is no list")
    return value


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_OFFSET + 1:
        raise ValueError(f"{value!r:.60} is no number from 0 to {MAX_OFFSET + 1}")
    return value


def _bytes(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        raise ValueError(f"{value!r:.60} is not {size} bytes in hexadecimal")
    return bytes.fromhex(value)


class StateFile:
    """An open state file, ours alone: ``with StateFile.open(path, genesis=…, channel=…) as file``."""

    def __init__(self, path: Path, lock: int, state: SubscriberState) -> None:
        self.path = path
        self.state = state
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, genesis: bytes, channel: str) -> Self:
        """Lock and read the file; a state at the beginning where there is none yet.

        UsageError where another process holds it, or where it is not what this subscriber wrote.
        """
        where = Path(path)
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
        """Replace the file, durably and all at once; UsageError where it cannot be written."""
        temporary = self.path.with_name(self.path.name + ".new")
        text = json.dumps(state.to_json(), indent=1, allow_nan=False).encode() + b"\n"
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            with open(temporary, "xb", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise _unusable(self.path, error) from error
        self.state = state

    def close(self) -> None:
        """Let go of the lock; twice does no harm."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in this folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> UsageError:
    hint = "check that the folder exists and is yours to write"
    return UsageError(f"{path}: {error.strerror or error}", hint=hint)


def _lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    try:
        # The lock stands on a file of its own: the state file is replaced each time it is saved.
        handle = _private(str(name), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _unusable(name, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        hint = "stop the other subscriber, or give this one a state file of its own"
        raise UsageError(f"{path}: another process is using it", hint=hint) from None
    return handle


def _read(path: Path) -> SubscriberState | None:
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    hint = "restore it from a copy; removing it starts from the beginning, and everything is delivered again"
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        value = _object(json.loads(text))
        if type(value.get("version")) is int and value["version"] > VERSION:
            raise UsageError(
                f"{path}: version {value['version']}, and this broker knows {VERSION}",
                hint="use the newer broker that wrote it",
            )
        if value.get("version") != VERSION:
            raise ValueError(f"version {value.get('version')!r:.60}")
        return SubscriberState.from_json(value)
    except KeyError as error:
        raise UsageError(f"{path}: damaged: {error} is missing", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged: {error}", hint=hint) from error
