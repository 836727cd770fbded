"""Failures of SQLite and of the file system, as errors of this package.

SQLite's result codes are explained at https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from broker.errors import BrokerError, LogUnavailable, LogUnreachable, UsageError

__all__ = ["LogBusy", "is_busy", "is_io_error", "is_too_big", "translated"]


class LogBusy(LogUnreachable):
    """Another connection holds the lock that a call needs; the same call may succeed soon."""


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code (the low byte of the extended one), or 0 if there is none.

    Errors that the sqlite3 module itself raises, such as for a closed connection, carry no code.
    """
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another connection holds the lock that was needed."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_io_error(error: sqlite3.Error) -> bool:
    """Tell whether reading, writing or syncing the file failed."""
    return _code(error) == sqlite3.SQLITE_IOERR


def is_too_big(error: sqlite3.Error) -> bool:
    """Tell whether a value is longer than the connection's limit."""
    return _code(error) == sqlite3.SQLITE_TOOBIG


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn any error that SQLite or the file system raises about this file into a BrokerError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except OSError as error:
        raise _from_system(error, path) from error


def _from_sqlite(error: sqlite3.Error, path: str) -> BrokerError:
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LogBusy(
                f"the log {path} is locked by another program",
                hint="close the program that keeps a transaction open on it, then try again",
            )
        case sqlite3.SQLITE_NOTADB:
            return UsageError(f"{path} is not a log: it is not a SQLite database", hint="check the log's URL")
        case sqlite3.SQLITE_CORRUPT:
            return LogUnavailable(
                f"the log {path} is damaged: {error}",
                hint="keep the file as it is, put a copy of the log in its place, and replay that",
            )
        case sqlite3.SQLITE_FULL:
            return LogUnavailable(
                f"no space left to write the log {path}", hint="free space on its disk, then try again"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return LogUnavailable(
                f"the log {path} may not be written by this user",
                hint="run as the user who owns it, or copy it into a directory of your own",
            )
        case sqlite3.SQLITE_CANTOPEN:
            return LogUnavailable(
                f"the log {path} cannot be opened",
                hint="check that this user may read and write the file and its directory",
            )
        case sqlite3.SQLITE_IOERR:
            return LogUnavailable(
                f"the log {path} cannot be read or written: {error}",
                hint="check its disk and the space left on it",
            )
        case _:
            return LogUnavailable(
                f"the log {path} refuses: {error}",
                hint="the file may have been changed by another program: replay it",
            )


def _from_system(error: OSError, path: str) -> BrokerError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UsageError(
            f"the log {path} cannot be created: its directory does not exist",
            hint="create the directory, or check the log's URL",
        )
    if isinstance(error, PermissionError):
        return LogUnavailable(
            f"the log {path} may not be created or read by this user",
            hint="check the permissions of its directory",
        )
    return LogUnavailable(
        f"the log {path} cannot be opened: {error.strerror or error}", hint="check the log's URL"
    )
