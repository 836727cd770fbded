"""Blame: violations on their way out, and the root that each of them follows from.

One manipulation is one root, however much it breaks. The root of a message is found in this order:

    what is known of the message                            its root
    a body of a batch that was voided                       the root of that batch
    the very body that a voided batch missed                the root of that batch
    a body right behind a message that was in trouble       the root of that message

and a sequence that a stream lost has the first root between the two statements around it.

Everything is kept in bounded memory, and an adversary can fill it. What is forgotten costs a cause: the
violation is then a root of its own, and is reported all the same.

Ownership. Only Blame writes its fields. Violations leave by ``take``, in the order of the log; a run of
messages that were rejected for one reason stays open until something else is reported or ``flush`` is
called.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from hashlib import sha256

from broker.log.protocol import StoredMessage
from broker.verify.verdict import Rejected, batch_of_body
from broker.verify.violations import Kind, Place, Violation

__all__ = ["Blame"]

_MAX_BLAMED = 64
"""Voided batches whose late bodies find their root."""

_MAX_EXPECTED = 4096
"""Bodies that were missed where they belonged, by digest."""

_MAX_ROOTS = 256
"""Roots that a lost sequence may follow from."""


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
    """Collects the violations of one partition and finds the root of each."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self._out: list[Violation] = []
        self._run: _Run | None = None
        self._roots: deque[Place] = deque(maxlen=_MAX_ROOTS)
        # The root of each voided batch by manifest_id, the oldest first.
        self._batches: OrderedDict[bytes, Place] = OrderedDict()
        # The root of each missed body by digest, the oldest first.
        self._expected: OrderedDict[bytes, Place] = OrderedDict()
        # The offset behind the last message that was in trouble, and the root of that one.
        self._trouble: tuple[int, Place] | None = None

    def place(self, offset: int) -> Place:
        """Return the place of this offset in the partition."""
        return Place(self.topic, self.partition, offset)

    # reporting

    def report(
        self, kind: Kind, offset: int, detail: str, cause: Place | None = None, count: int = 1
    ) -> Place:
        """Report a violation; returns its root, which is its own place if nothing caused it."""
        self.flush()
        place = self.place(offset)
        if cause is None:
            self._roots.append(place)
        self._out.append(Violation(kind=kind, place=place, detail=detail, count=count, caused_by=cause))
        return cause or place

    def reject(self, message: StoredMessage, rejected: Rejected) -> Place:
        """Report a message that nothing accounts for, as part of the run before it; returns its root."""
        place = self.place(message.offset)
        cause = rejected.cause or self.cause_of(message)
        run = self._run
        if (
            run is not None
            and run.kind is rejected.kind
            and run.next_offset == message.offset
            # The messages of a run may follow from its first one, which is then their root.
            and cause in (run.cause, run.place)
        ):
            run.count += 1
            run.next_offset = message.offset + 1
        else:
            self.flush()
            run = _Run(rejected.kind, place, rejected.detail, cause, message.offset + 1)
            self._run = run
            if cause is None:
                self._roots.append(place)
        root = run.cause or run.place
        # A rejected manifest is blamed for its bodies, a rejected body for the rest of its batch.
        if message.key is not None and len(message.key) in (16, 20):
            self.blame(message.key[:16], root)
        self.trouble(message.offset, root)
        return root

    def flush(self) -> None:
        """Report the open run, if there is one."""
        run = self._run
        if run is not None:
            self._run = None
            self._out.append(
                Violation(
                    kind=run.kind, place=run.place, detail=run.detail, count=run.count, caused_by=run.cause
                )
            )

    def take(self) -> list[Violation]:
        """Return the violations that were reported since the last call."""
        out = self._out
        self._out = []
        return out

    @property
    def unreported(self) -> int | None:
        """The offset at which the open run begins, None without one."""
        return None if self._run is None else self._run.place.offset

    # remembering

    def trouble(self, offset: int, root: Place) -> None:
        """Remember that the message at ``offset`` was in trouble: a body right behind it shares its root."""
        self._trouble = (offset + 1, root)

    def blame(self, manifest_id: bytes, root: Place) -> None:
        """Remember that bodies of this batch that come from now on follow from ``root``."""
        self._batches[manifest_id] = root
        if len(self._batches) > _MAX_BLAMED:
            self._batches.popitem(last=False)

    def expect(self, digests: bytes, root: Place) -> None:
        """Remember that these bodies were missed: wherever they turn up, they follow from ``root``."""
        for at in range(0, len(digests), 32):
            self._expected[digests[at : at + 32]] = root
        while len(self._expected) > _MAX_EXPECTED:
            self._expected.popitem(last=False)

    # finding the root

    def cause_of(self, message: StoredMessage) -> Place | None:
        """Return the root that this message follows from, None if none is known."""
        owner = batch_of_body(message.key)
        if owner is not None and owner in self._batches:
            return self._batches[owner]
        cause = self.cause_by_digest(message)
        if cause is None and owner and self._trouble and self._trouble[0] == message.offset:
            return self._trouble[1]
        return cause

    def root_of(self, manifest_id: bytes) -> Place | None:
        """Return the root of a batch that was voided or whose manifest was rejected."""
        return self._batches.get(manifest_id)

    def cause_by_digest(self, message: StoredMessage) -> Place | None:
        """Return the root of the batch that missed this very body where it belonged."""
        if not self._expected or message.value is None:
            return None
        return self._expected.get(sha256(message.value).digest())

    def cause_between(self, after: int, before: int) -> Place | None:
        """Return the first root behind offset ``after`` and up to offset ``before``."""
        return next((root for root in self._roots if after < root.offset <= before), None)
