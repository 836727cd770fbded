"""The broker's own files: written whole or not at all, added to line by line, locked between processes.

A file survives a power cut when two things have reached the disk: its bytes (``fsync`` of the file) and its
name (``fsync`` of its folder). A new or renamed file whose folder was not synced may be gone after the cut,
with all of its bytes. Everything here does both, in that order.

Raises UsageError, which names the file, wherever the operating system refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from broker.errors import UsageError

__all__ = ["LineFile", "locked", "make_folder", "open_lock", "sync_folder", "write_atomically", "write_new"]

_PRIVATE = os.O_NOFOLLOW | os.O_CLOEXEC
"""A link in the place of one of our files is refused: it would redirect what we write."""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and its parents, durably; a folder that exists stays as it is."""
    if folder.is_dir():
        return
    # Listed before mkdir(): afterwards nobody can tell which of the folders are new and need a sync.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in reversed(missing):
            sync_folder(path.parent)
    except OSError as error:
        raise _unusable(folder, error) from error


def open_lock(path: Path, *, wait: bool = True) -> int:
    """Lock a file, which is created if it is missing, and return its descriptor.

    The lock is held until the descriptor is closed, or the process ends. The file itself stays: another
    process may already wait for it, and would then hold a lock on a file that nobody finds any more.
    Raises BlockingIOError when another process holds the lock and ``wait`` is False.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PRIVATE, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        # Even for Ctrl-C: a descriptor that stays open would hold the lock until the process ends.
        os.close(descriptor)
        if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
            raise _unusable(path, error) from error
        raise
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; wait while another process holds it."""
    make_folder(path.parent)
    descriptor = open_lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by these bytes, or leave it as it was; on return the new content is durable.

    Only the owner can read the file. A crash may leave a file with a name of its own beside it, which
    nobody reads.
    """
    try:
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                # The bytes come before the name: renamed first, the file could be empty after a power cut.
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # it may have been renamed already
                os.unlink(name)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def write_new(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 that does not exist yet, durably.

    Raises FileExistsError, and writes nothing, when the path exists; a broken link counts as existing. When
    the disk fails, no part of the file stays behind: half a key would stand in the way of the next attempt.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PRIVATE, 0o600)
    except FileExistsError:
        # Not turned into UsageError like the errors below: the caller knows what a path that is taken means.
        raise
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unusable(path, error) from error


class LineFile:
    """A file of mode 0600 to which lines are added, by one process or several; nothing is ever removed.

    A line is durable after ``sync`` or ``close``.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._has_unsynced = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it durably. Its folder must exist."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _PRIVATE, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        lines = cls(path, descriptor)
        try:
            # For a file that exists as well: the process that created it may have died before its own sync.
            sync_folder(path.parent)
        except OSError as error:
            lines.close()
            raise _unusable(path, error) from error
        return lines

    def add(self, line: bytes) -> None:
        """Append a line, which ends with a line break.

        Where a crash cut the last line short, a line break comes first: only the cut line is lost.
        """
        try:
            # The lock covers both writes: another process must not add its line between them.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                if not self._ends_with_a_line():
                    self._write(b"\n")
                self._write(line)
                self._has_unsynced = True
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError as error:
            raise _unusable(self._path, error) from error

    def sync(self) -> None:
        """Make every line durable that was added."""
        if self._has_unsynced:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise _unusable(self._path, error) from error
            self._has_unsynced = False

    def close(self) -> None:
        """Close the file, durably; closing it again does no harm."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _ends_with_a_line(self) -> bool:
        size = os.fstat(self._descriptor).st_size
        return size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n"

    def _write(self, data: bytes) -> None:
        # A disk that is nearly full takes a part of the bytes, and says so only in the number it returns.
        while data:
            data = data[os.write(self._descriptor, data) :]


def _unusable(path: Path, error: OSError) -> UsageError:
    hint = "check that the folder exists, is yours to write, and has room"
    return UsageError(f"cannot write '{path}': {error.strerror or error}", hint=hint)
