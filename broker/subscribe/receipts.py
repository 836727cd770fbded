"""The receipts of the key access service, kept: each names the access entry that must be in the log.

One JSON object a line: the signed request and the signed receipt, in base64. No share and no detail of
a person or a case is among them, so that the file may be kept after an erasure.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from broker.errors import FormatError, UsageError
from broker.subscribe.state import sync_folder
from broker.wire.encoding import decode, encode
from broker.wire.manifest import Signed

__all__ = ["ReceiptFile", "read_receipts"]


class ReceiptFile:
    """A file of receipts that is only ever added to, with mode 0600."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._is_dirty = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it; a line that a crash cut short is ended, and nothing is lost."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
                file.write(b"\n")
            sync_folder(path.parent)
        except OSError as error:
            raise _unusable(path, error) from error
        return cls(path, file)

    def add(self, request: Signed, receipt: Signed) -> None:
        """Append a receipt and the request that it answers; UsageError where it cannot be kept."""
        line = {name: base64.b64encode(encode(one)).decode() for name, one in _named(request, receipt)}
        data = json.dumps(line).encode() + b"\n"
        try:
            while data:  # a disk that is nearly full takes a part, and says so only in what it returns
                data = data[self._file.write(data) :]
        except OSError as error:
            raise _unusable(self._path, error) from error
        self._is_dirty = True

    def sync(self) -> None:
        """Make durable what was added."""
        if self._is_dirty:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise _unusable(self._path, error) from error
            self._is_dirty = False

    def close(self) -> None:
        """Close the file, durably."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()


def _unusable(path: Path, error: OSError) -> UsageError:
    hint = "check that the folder exists, is yours to write, and has room"
    return UsageError(f"{path}: {error.strerror or error}", hint=hint)


def _named(request: Signed, receipt: Signed) -> tuple[tuple[str, Signed], ...]:
    return (("request", request), ("receipt", receipt))


def read_receipts(path: Path) -> Iterator[tuple[Signed, Signed]]:
    """Each (request, receipt) of a file; a line that is none, such as one cut short, is passed over."""
    with open(path, "rb") as file:
        for line in file:
            try:
                found = json.loads(line)
                parts = [base64.b64decode(found[name], validate=True) for name in ("request", "receipt")]
                yield decode(Signed, parts[0]), decode(Signed, parts[1])
            except (ValueError, KeyError, TypeError, RecursionError, FormatError):
                continue
