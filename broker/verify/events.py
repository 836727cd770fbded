"""Events of reading a partition: verified and stale batches, and violations; and the state to resume from."""

from __future__ import annotations

from dataclasses import dataclass

from broker.crypto.log_tree import Frontier
from broker.verify.standing import Lapse
from broker.verify.streams import StreamKey
from broker.verify.violations import Violation
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import Header

__all__ = ["Event", "ReaderState", "Stale", "VerifiedBatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBatch:
    """A batch that passed every check: its issuer's entitlement, signature, stream and body digests.

    ``offset`` is that of its manifest. ``judged_at`` is the size of the directory by which its issuer was
    judged. ``bodies`` are the values of the body messages, empty where the reader does not keep them.
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
        """The digest of its manifest, which names the batch everywhere."""
        return self.opened.batch_id

    @property
    def header(self) -> Header:
        """The header of its manifest."""
        return self.opened.manifest.header


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A batch that was right in the view that its manifest names, and came too late: see ``standing``.

    It is whole, and its stream has moved on. It is not delivered, and it is no violation.
    """

    topic: str
    partition: int
    offset: int
    judged_at: int
    opened: OpenedManifest
    lapse: Lapse

    @property
    def batch_id(self) -> bytes:
        """The digest of its manifest, which names the batch everywhere."""
        return self.opened.batch_id

    @property
    def header(self) -> Header:
        """The header of its manifest."""
        return self.opened.manifest.header


Event = VerifiedBatch | Stale | Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderState:
    """All that a reader must remember to resume.

    ``next_offset`` is where it reads on and ``mark`` the largest directory size of the valid statements.
    ``heads`` are (stream, sequence, digest, offset) of the newest statement of each open stream. A
    subscriber stores all of it in its state file: the order of heads and closed streams is part of it.
    ``frontier`` is that of the partition's tree at ``next_offset``, where the reader has a tree.
    """

    next_offset: int
    mark: int
    heads: tuple[tuple[StreamKey, int, bytes, int], ...] = ()
    closed: tuple[StreamKey, ...] = ()
    frontier: Frontier | None = None
