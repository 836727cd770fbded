"""What reading a partition gives: batches that stand, violations, and the state to resume from."""

from __future__ import annotations

from dataclasses import dataclass

from broker.verify.streams import StreamKey
from broker.verify.violations import Violation
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import Header

__all__ = ["Event", "ReaderState", "VerifiedBatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBatch:
    """A batch that stands: entitled issuer, signature, stream, every body digest.

    ``judged_at`` is the directory size that its issuer was judged at; ``bodies`` are the values of
    the body messages, empty where the reader was told not to keep them.
    """

    topic: str
    partition: int
    offset: int
    appended_at: int
    judged_at: int
    opened: OpenedManifest
    bodies: tuple[bytes, ...]

    @property
    def batch_id(self) -> bytes:
        """The only name of the batch."""
        return self.opened.batch_id

    @property
    def header(self) -> Header:
        """The header of its manifest."""
        return self.opened.manifest.header


Event = VerifiedBatch | Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderState:
    """All that a reader must remember to resume: the next offset, the mark, the heads, the closed streams."""

    next_offset: int
    mark: int
    heads: tuple[tuple[StreamKey, int, bytes, int], ...] = ()
    closed: tuple[StreamKey, ...] = ()
