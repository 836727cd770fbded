"""Verdicts on the messages of a partition: the judge returns them, and the reader acts on them."""

from __future__ import annotations

from dataclasses import dataclass

from broker.verify.standing import Lapse
from broker.verify.streams import Step, StreamKey
from broker.verify.violations import Kind, Place
from broker.wire.envelope import OpenedManifest

__all__ = [
    "Accepted",
    "DirectoryBehind",
    "NewestManifest",
    "Opaque",
    "Rejected",
    "Repeat",
    "Verdict",
    "batch_of_body",
]


class DirectoryBehind(Exception):
    """Flow control, not an error: read the directory to its end, then feed the same message again."""


@dataclass(frozen=True, slots=True)
class NewestManifest:
    """The newest manifest of a stream, reduced to what is needed to recognise a copy and its bodies."""

    fingerprint: bytes
    manifest_id: bytes
    digests: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A manifest that passed the checks (1) to (9) of the judge.

    ``newest`` is the manifest as the newest of ``stream``, which it continues. ``refused`` says what
    failed at (10), the terms of its records, or is None. ``lapse`` is set where the batch is stale (11).
    ``step`` is the result of (12): what the manifest means for its stream. ``judged_at`` is the size of the
    directory at the mark.
    """

    opened: OpenedManifest
    newest: NewestManifest
    stream: StreamKey
    judged_at: int
    step: Step
    refused: str | None
    lapse: Lapse | None = None

    @property
    def is_repeat(self) -> bool:
        """Whether it is the newest statement of its stream, met again by a reader that resumed behind it.

        A reader that never stopped remembers it and gets a Repeat instead; both do the same.
        """
        return self.step.head is None and self.step.kind is None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is no valid manifest: a body, or a message that nothing accounts for.

    ``fingerprint`` is set where a holder of the seed sealed the message, so that the next copy of it costs
    nothing more. ``is_passing`` says that the copy may be valid at a later mark.
    """

    kind: Kind
    detail: str
    cause: Place | None = None
    fingerprint: bytes | None = None
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """The newest manifest of a stream once more, as a repeated append leaves it."""

    newest: NewestManifest


@dataclass(frozen=True, slots=True)
class Opaque:
    """A manifest of an epoch whose key we do not hold.

    ``may_count`` is False where its epoch was superseded twice at the mark: then no reader delivers it, so
    that whoever holds no key of an old epoch need not wonder what it says.
    """

    may_count: bool = True


Verdict = Accepted | Rejected | Repeat | Opaque


def batch_of_body(key: bytes | None) -> bytes | None:
    """Return the manifest_id at the beginning of a body message's key; None for every other key."""
    return key[:16] if key is not None and len(key) == 20 else None
