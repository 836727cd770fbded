"""URLs of logs: ``sqlite:///srv/ftf/log.db``, ``kafka://broker1:9092,broker2:9092?ca=ca.pem``.

The scheme chooses the kind of log. A path after ``sqlite:`` is relative to the working directory unless it
begins with a slash; ``sqlite:///path`` and ``sqlite:/path`` are the same. Characters that mean something in a
URL, such as ``?``, ``#`` and ``%``, are written percent-encoded in a path (RFC 3986, section 2.1).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Generic, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from broker.errors import UsageError
from broker.log.copyable import CopyableLog
from broker.log.protocol import Log, check_prefix
from broker.log.sqlite.sqlite_log import SqliteLog

__all__ = ["Opening", "check_url", "open_copyable", "open_log", "query_options"]

_EXAMPLE = "for example sqlite:///srv/ftf/log.db, or sqlite:log.db for a file in the working directory"


_L = TypeVar("_L", bound=Log, covariant=True)


class Opening(Generic[_L]):
    """A log that is about to be opened: ``await`` it, or use ``async with``, which also closes it."""

    __slots__ = ("_log", "_open")

    def __init__(self, open_it: Callable[[], Awaitable[_L]]) -> None:
        self._open = open_it
        self._log: _L | None = None

    def __await__(self) -> Generator[object, None, _L]:
        return self._open().__await__()

    async def __aenter__(self) -> _L:
        self._log = await self._open()
        return self._log

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log is not None:
            await self._log.aclose()


def open_log(url: str) -> Opening[Log]:
    """Open the log that a URL names: ``async with open_log(url) as log``, or ``log = await open_log(url)``.

    Raises UsageError at once when the URL cannot be used, and LogUnavailable, when it is awaited, if the log
    cannot be reached or is a copy that is not finished. The file of a SQLite log is created if it is missing;
    its directory must exist.
    """
    return Opening(_parse(url, False))


def open_copyable(url: str, *, must_exist: bool = False) -> Opening[CopyableLog]:
    """Open the log that a URL names to copy it, to make it as a copy, or to look at it, finished or not.

    Raises UsageError if a SQLite log ``must_exist`` and there is no file; none is created then.
    """
    open_it = _parse(url, True)
    parts = urlsplit(url)
    path = unquote(parts.path, errors="surrogateescape")
    if must_exist and parts.scheme == "sqlite" and not os.path.exists(path):
        raise UsageError(f"there is no log at '{url}'", hint="check the path in the log's URL")
    return Opening(open_it)


def check_url(url: str) -> None:
    """Raise a UsageError unless this can be the URL of a log; nothing is opened."""
    _parse(url, False)


def _parse(url: str, may_be_unfinished: bool) -> Callable[[], Awaitable[CopyableLog]]:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"invalid log URL {url!r}: {error}", hint=_EXAMPLE) from error
    if not parts.scheme:
        raise UsageError(f"invalid log URL {url!r}: it has no scheme", hint=_EXAMPLE)
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        raise UsageError(f"unknown kind of log {parts.scheme!r}, expected one of: {known}", hint=_EXAMPLE)
    return kind(url, parts, may_be_unfinished)


def _sqlite(url: str, parts: SplitResult, may_be_unfinished: bool) -> Callable[[], Awaitable[CopyableLog]]:
    if parts.netloc:
        raise UsageError(
            f"invalid log URL {url!r}: {parts.netloc!r} stands where a host would",
            hint="write three slashes before an absolute path, and none before a relative one: " + _EXAMPLE,
        )
    if parts.fragment or url.endswith("#"):
        raise UsageError(f"invalid log URL {url!r}: it has a fragment", hint="write %23 for # in a path")
    path = unquote(parts.path, errors="surrogateescape")
    if not path or path.endswith("/") or "\0" in path:
        raise UsageError(f"invalid log URL {url!r}: it names no file", hint=_EXAMPLE)
    if path == ":memory:":
        raise UsageError(f"invalid log URL {url!r}: a log in memory is not durable", hint=_EXAMPLE)
    prefix = query_options(url, parts, allowed=("prefix",)).get("prefix", "ftf")
    check_prefix(prefix)

    async def open_it() -> CopyableLog:
        return await SqliteLog.open(path, prefix=prefix, may_be_unfinished=may_be_unfinished)

    return open_it


def _kafka(url: str, parts: SplitResult, may_be_unfinished: bool) -> Callable[[], Awaitable[CopyableLog]]:
    # Imported here, so that a program with a SQLite log never loads aiokafka and cryptography's X.509.
    from broker.log.kafka.options import OPTION_NAMES, KafkaOptions

    if "@" in parts.netloc:
        raise UsageError(
            "a log URL carries no password: URLs are shown and logged",
            hint="write user=NAME&password_file=FILE behind the question mark",
        )
    options = KafkaOptions.from_url(url, parts, query_options(url, parts, allowed=OPTION_NAMES))

    async def open_it() -> CopyableLog:
        from broker.log.kafka.kafka_log import KafkaLog

        return await KafkaLog.open(options, may_be_unfinished=may_be_unfinished)

    return open_it


def query_options(url: str, parts: SplitResult, *, allowed: tuple[str, ...]) -> dict[str, str]:
    """Read the options behind the question mark. Each must be known, and be given once."""
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UsageError(f"invalid options in the log URL {url!r}: {error}") from error
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            raise UsageError(
                f"unknown option {name!r} in the log URL {url!r}", hint=f"known options: {', '.join(allowed)}"
            )
        if name in options:
            raise UsageError(f"option {name!r} is given twice in the log URL {url!r}")
        options[name] = value
    return options


_KINDS: dict[str, Callable[[str, SplitResult, bool], Callable[[], Awaitable[CopyableLog]]]] = {
    "kafka": _kafka,
    "sqlite": _sqlite,
}
