"""Which violation follows from which: one manipulation is one root, however much it breaks.

    what is known of a message                           its cause
    a body of a batch that was voided                    the root of that batch
    the very body that a voided batch missed             the root of that batch
    the message behind one that nothing accounts for,
    if it is a body                                      the root of that one
    a sequence lost in a stream                          the first root between the statements around it

All of it lives in bounded memory: what is forgotten costs a cause, never a violation.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from hashlib import sha256

from broker.log.protocol import StoredMessage
from broker.verify.judge import Rejected, batch_of_body
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Blame"]

_MAX_BLAMED = 64
_MAX_EXPECTED = 4096
_MAX_ROOTS = 256


@dataclass(slots=True)
class _Run:
    """Consecutive messages rejected for one reason, not yet reported."""

    kind: Kind
    place: Place
    detail: str
    cause: Place | None
    next_offset: int
    count: int = 1


class Blame:
    """Violations of one partition on their way out, each with its root."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self._out: list[Violation] = []
        self._run: _Run | None = None
        self._roots: deque[Place] = deque(maxlen=_MAX_ROOTS)
        self._batches: OrderedDict[bytes, Place] = OrderedDict()
        self._expected: OrderedDict[bytes, Place] = OrderedDict()
        self._trouble: tuple[int, Place] | None = None

    def place(self, offset: int) -> Place:
        """A message of this partition."""
        return Place(self.topic, self.partition, offset)

    # reporting

    def report(
        self, kind: Kind, offset: int, detail: str, cause: Place | None = None, count: int = 1
    ) -> Place:
        """Report a violation; returns its root, which is its own place where nothing caused it."""
        self.flush()
        place = self.place(offset)
        if cause is None:
            self._roots.append(place)
        self._out.append(Violation(kind=kind, place=place, detail=detail, count=count, caused_by=cause))
        return cause or place

    def reject(self, message: StoredMessage, rejected: Rejected) -> Place:
        """Report a message that nothing accounts for, in the run that it continues; returns its root."""
        place = self.place(message.offset)
        cause = rejected.cause or self.cause_of(message)
        run = self._run
        if (
            run is not None
            and run.kind is rejected.kind
            and run.next_offset == message.offset
            and cause in (run.cause, run.place)
        ):
            run.count += 1
            run.next_offset = message.offset + 1
        else:
            self.flush()
            run = self._run = _Run(rejected.kind, place, rejected.detail, cause, message.offset + 1)
            if cause is None:
                self._roots.append(place)
        root = run.cause or run.place
        if message.key is not None and len(message.key) in (16, 20):
            self.blame(message.key[:16], root)
        self.trouble(message.offset, root)
        return root

    def flush(self) -> None:
        """Report the run that was going on."""
        if self._run is not None:
            run, self._run = self._run, None
            self._out.append(
                Violation(
                    kind=run.kind, place=run.place, detail=run.detail, count=run.count, caused_by=run.cause
                )
            )

    def take(self) -> list[Violation]:
        """What was reported since it was last asked."""
        out, self._out = self._out, []
        return out

    @property
    def unreported(self) -> int | None:
        """Where the run begins that is not yet reported."""
        return None if self._run is None else self._run.place.offset

    # remembering

    def trouble(self, offset: int, root: Place) -> None:
        """The message at ``offset`` was in trouble: a body right behind it shares its root."""
        self._trouble = (offset + 1, root)

    def blame(self, manifest_id: bytes, root: Place) -> None:
        """Bodies of this batch that come now follow from ``root``."""
        self._batches[manifest_id] = root
        if len(self._batches) > _MAX_BLAMED:
            self._batches.popitem(last=False)

    def expect(self, digests: bytes, root: Place) -> None:
        """These bodies were missed where they belonged: wherever they turn up, ``root`` is why."""
        for at in range(0, len(digests), 32):
            self._expected[digests[at : at + 32]] = root
        while len(self._expected) > _MAX_EXPECTED:
            self._expected.popitem(last=False)

    # asking

    def cause_of(self, message: StoredMessage) -> Place | None:
        """The root of the trouble that this message is part of, if it is known."""
        owner = batch_of_body(message.key)
        if owner is not None and owner in self._batches:
            return self._batches[owner]
        cause = self.cause_by_digest(message)
        if cause is None and owner and self._trouble and self._trouble[0] == message.offset:
            return self._trouble[1]
        return cause

    def root_of(self, manifest_id: bytes) -> Place | None:
        """The root of what bodies of this batch, or its manifest, were rejected for."""
        return self._batches.get(manifest_id)

    def cause_by_digest(self, message: StoredMessage) -> Place | None:
        """The root of the batch that missed this very message where it belonged."""
        if not self._expected or message.value is None:
            return None
        return self._expected.get(sha256(message.value).digest())

    def cause_between(self, after: int, before: int) -> Place | None:
        """The first root behind one offset and up to another."""
        return next((root for root in self._roots if after < root.offset <= before), None)
