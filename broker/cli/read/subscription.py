"""The files of a subscription: its state, and the output that holds each record exactly once."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.cli.read.ground import Why
from broker.errors import UsageError
from broker.files import make_folder, sync_folder
from broker.session import Profile
from broker.subscribe.state import Json

__all__ = ["OutFile", "state_path"]


def state_path(
    profile: Profile, channel: str, record_types: Sequence[str], why: Why, out: Path | None
) -> Path:
    """Return the state file of this channel, purpose, mandate, set of record types and output."""
    kind = "mandate" if why.mandate is not None else "person"
    parts = (why.mandate or "", *sorted(record_types), "" if out is None else os.path.abspath(out))
    # People recognise the file by channel and purpose, and the digest tells subscriptions apart. It may be
    # shortened, because it only chooses a name among the files of one profile and proves nothing.
    digest = sha256(json.dumps([channel, why.known_purpose, kind, *parts]).encode()).hexdigest()
    folder = profile.state / "subscriptions"
    make_folder(folder)
    return folder / f"{channel}.{why.known_purpose.lower()}.{digest[:16]}.json"


@dataclass(slots=True)
class OutFile:
    """A file of JSON Lines whose length is committed together with the subscriber's state.

    Lines behind the committed length were written and not committed. They are cut off when the file is
    opened, and their records are delivered again. Therefore the file holds every record exactly once.
    """

    path: Path
    _handle: int
    length: int

    @classmethod
    def open(cls, path: Path, committed: Json) -> Self:
        """Open the file as it was committed last, or create it.

        Raises UsageError for a file that this subscription has not written.
        """
        length = _length(committed)
        try:
            # O_NOFOLLOW: in a shared folder somebody could lay a link here, and we would cut off the file
            # behind it. O_NONBLOCK: a named pipe must not block the opening, so that ``_check`` can refuse
            # it.
            handle = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600
            )
        except OSError as error:
            raise UsageError(f"cannot write '{path}': {error.strerror}") from None
        try:
            # The check looks at the open file, and nothing is cut off before it: the name could mean another
            # file by now.
            _check(path, os.fstat(handle), length)
            os.ftruncate(handle, length or 0)
            os.lseek(handle, 0, os.SEEK_END)
            # The name of a new file is durable only when its folder is.
            sync_folder(path.absolute().parent)
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, length or 0)

    def write(self, value: object) -> None:
        """Add a line; it counts as soon as the length is committed."""
        data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        try:
            while data:
                # A write may take only a part, for example on a full disk. The length counts bytes that are
                # in the file.
                written = os.write(self._handle, data)
                data = data[written:]
                self.length += written
        except OSError as error:
            raise UsageError(f"cannot write '{self.path}': {error.strerror}") from None

    def sync(self) -> dict[str, Json]:
        """Make the file durable, and return what the subscriber commits with its position."""
        os.fsync(self._handle)
        return {"length": self.length}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)


def _check(path: Path, found: os.stat_result, length: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"'{path}' is no file", hint="for a pipe leave --out away and say --json")
    if length is None and found.st_size:
        raise UsageError(
            f"'{path}' exists, and is not of this subscription",
            hint="name a new file with --out; a subscription continues only what it wrote itself",
        )
    if found.st_size < (length or 0):
        raise UsageError(
            f"'{path}' has {found.st_size} bytes, and {length} were written",
            hint="put the file back, or name a new one with --out to begin anew",
        )


def _length(committed: Json) -> int | None:
    if committed is None:
        return None
    length = committed.get("length") if isinstance(committed, dict) else None
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise UsageError("the state file says nothing of the length of the output")
    return length
