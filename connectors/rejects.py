"""The file of rejects: the rows that were not published, each with every reason.

Each line is a JSON object with ``line``, ``reasons`` and ``row``, which is the row as it was read. A row of
CSV holds its mapped fields only, so that a column of names that nobody maps is not copied here either. Only
the owner may read the file (mode 0600).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from broker.errors import UsageError
from broker.files import sync_folder, write_atomically

__all__ = ["Rejects"]


class Rejects:
    """The rejects of a run, written as they come: ``with Rejects(path, …) as rejects``.

    The file is made with the first reject. A file that exists already was left by an earlier run. If that run
    is resumed (``from_line`` above 1), rejects are added to it. Otherwise `Rejects` raises UsageError, so
    that nothing that a clerk mended in it is lost. ``is_dry`` counts the rejects and writes nothing.
    """

    def __init__(self, path: Path, *, from_line: int = 1, is_dry: bool = False) -> None:
        self.path = path
        self.count = 0
        self._is_dry = is_dry
        self._from_line = from_line
        self._file: BinaryIO | None = None
        if is_dry:
            return
        # Asked now and not at the first reject: by then, records of this run would already be published.
        if not os.access(path.parent, os.W_OK):
            raise UsageError(
                f"rejects cannot be written to '{path.parent}'", hint="name another file with --rejects FILE"
            )
        if path.exists() and from_line == 1:
            raise UsageError(
                f"'{path}' exists: rows of an earlier run were rejected, and the others published",
                hint="mend the rows in it and publish it, or resume with --from-line N; "
                "or move it away to publish the whole file again",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # Durable before the run ends: the file is the only trace of the rows that were not published.
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.path.absolute().parent)

    def add(self, line: int, reasons: Sequence[str], row: Mapping[str, Any] | None) -> None:
        """Write down why a row was not published; ``row`` is None for a line that could not be read."""
        self.count += 1
        if self._is_dry:
            return
        entry: dict[str, object] = {"line": line, "reasons": list(reasons)}
        if row is not None:
            entry["row"] = row
        if self._file is None:
            self._file = self._open()
        # JSON can name half of a surrogate pair (\ud800), which has no UTF-8. It is written as a question
        # mark.
        self._file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def _open(self) -> BinaryIO:
        # O_NOFOLLOW: a link that somebody laid at this name must not lead the rows into another file.
        try:
            if self._from_line > 1 and self.path.exists():
                self._keep_earlier()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(self.path, flags, 0o600), "ab")
        except OSError as error:
            raise UsageError(f"cannot write '{self.path}': {error.strerror}") from None

    def _keep_earlier(self) -> None:
        """Drop the rejects of lines that are read again, since they would stand there twice."""
        kept = [line for line in self.path.read_bytes().splitlines(keepends=True) if self._is_earlier(line)]
        write_atomically(self.path, b"".join(kept))

    def _is_earlier(self, line: bytes) -> bool:
        try:
            number = json.loads(line)["line"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return True  # a clerk may be mending this line: it is kept
        return not isinstance(number, int) or number < self._from_line
