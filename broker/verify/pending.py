"""The batch that a reader is in the middle of: a manifest, and how many of its bodies have come.

``Pending`` carries the progress. Its ``outcome`` says what the batch comes to when its last body is
there, and what a batch that breaks off costs:

    outcome   the manifest was                          whole                  broken off
    Whole     accepted, and may be delivered            a VerifiedBatch        BATCH_VOID
    Silent    accepted, and reported as a violation     nothing                nothing more
    Copy      the newest of its stream, once more       nothing                MANIFEST_COPIED

``Doubt`` is a manifest with a body of another batch right behind it: one of the two does not belong
there, and only the next message tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from broker.log.protocol import StoredMessage
from broker.verify.judge import Undo
from broker.verify.verdict import Accepted, NewestManifest, batch_of_body
from broker.verify.violations import Place
from broker.wire.limits import MAX_BATCH_BYTES

__all__ = ["Copy", "Doubt", "Outcome", "Pending", "Silent", "Whole"]

# The last four bytes of the keys of body messages; a batch has at most 256 bodies.
_U32 = tuple(i.to_bytes(4, "big") for i in range(256))


@dataclass(frozen=True, slots=True)
class Whole:
    """The batch is delivered when its last body has come; ``accepted`` is the verdict on its manifest.

    ``cause`` is the root of a violation of the manifest that does not keep the batch from being
    delivered: a gap in its stream. ``suspected`` is the root of the batch that this manifest broke off.
    If no body follows the manifest, it did not belong there, and that root explains both.
    """

    accepted: Accepted
    cause: Place | None
    suspected: Place | None


@dataclass(frozen=True, slots=True)
class Silent:
    """The batch is not delivered and its violation was reported; ``cause`` is the root of that one."""

    cause: Place


@dataclass(frozen=True, slots=True)
class Copy:
    """The batch was delivered before: it counts once, if all of its bodies follow once more."""


Outcome = Whole | Silent | Copy


@dataclass(slots=True)
class Pending:
    """A manifest whose bodies are still to come.

    ``undo`` restores what accepting the manifest changed. ``room`` is the number of bytes that the bodies
    to come may have: a whole batch fits into one append, whatever its manifest promises. ``bodies`` are
    the values of the bodies that have come, None where they are not kept.

    Only ``take`` and ``take_rest`` change a Pending, and they change ``room``, ``bodies`` and ``seen``.
    """

    manifest_id: bytes
    offset: int
    appended_at: int
    digests: bytes
    count: int
    outcome: Outcome
    undo: Undo | None
    room: int
    bodies: list[bytes] | None
    seen: int = 0

    @classmethod
    def behind(
        cls,
        message: StoredMessage,
        newest: NewestManifest,
        outcome: Outcome,
        *,
        undo: Undo | None,
        keep_bodies: bool,
    ) -> Pending:
        """Return the batch of this manifest message, before its first body."""
        return cls(
            newest.manifest_id,
            message.offset,
            message.appended_at,
            newest.digests,
            newest.count,
            outcome,
            undo,
            MAX_BATCH_BYTES - len(message.value or b""),
            [] if keep_bodies else None,
        )

    @property
    def cause(self) -> Place | None:
        """The root of what was reported of the manifest itself."""
        match self.outcome:
            case Whole(cause=cause) | Silent(cause=cause):
                return cause
            case Copy():
                return None

    @property
    def suspected(self) -> Place | None:
        """The root of the batch that the manifest broke off."""
        return self.outcome.suspected if isinstance(self.outcome, Whole) else None

    @property
    def next_key(self) -> bytes:
        """The key of the next body."""
        return self.manifest_id + _U32[self.seen]

    @property
    def next_digest(self) -> bytes:
        """The SHA-256 of the next body."""
        return self.digests[self.seen * 32 : self.seen * 32 + 32]

    @property
    def missing_digests(self) -> bytes:
        """The SHA-256 of each body that is still to come, one behind the other."""
        return self.digests[self.seen * 32 :]

    def take(self, key: bytes | None, value: bytes | None, digest: bytes | None) -> bool:
        """Take the next body; returns False, and nothing changes, if this is not the body expected.

        It has the next key and the next digest, and the batch has room for it. This runs for nearly every
        message of a log, which is why the test and the change stand in one method and compute the next
        key and digest by themselves. ``digest`` is the SHA-256 of the value.
        """
        i = self.seen
        at = i * 32
        if key != self.manifest_id + _U32[i] or value is None or digest != self.digests[at : at + 32]:
            return False
        room = self.room - len(value)
        if room < 0:
            return False
        self.seen = i + 1
        self.room = room
        if self.bodies is not None:
            self.bodies.append(value)
        return True

    def take_rest(self, messages: Sequence[StoredMessage]) -> bool:
        """Take all bodies to come at once; returns False, and nothing changes, if these are not they."""
        _, keys, values, _ = zip(*messages, strict=True)
        expected = tuple(map(self.manifest_id.__add__, _U32[self.seen : self.count]))
        if None in values or keys != expected:
            return False
        room = self.room - sum(map(len, values))
        if room < 0 or b"".join([sha256(value).digest() for value in values]) != self.missing_digests:
            return False
        self.seen = self.count
        self.room = room
        if self.bodies is not None:
            self.bodies.extend(values)
        return True


@dataclass(frozen=True, slots=True)
class Doubt:
    """A manifest, and right behind it a body of another batch: one of the two does not belong there."""

    pending: Pending
    message: StoredMessage

    def is_body_stranger(self, then: StoredMessage | None) -> bool:
        """Tell whether the body is the stranger; if not, the manifest is.

        ``then`` is the message behind both, None at the end. A body of one of the two batches decides
        for that batch. Otherwise the append times decide: they are the same throughout a whole batch,
        and never fall in an honest log.
        """
        body = self.message
        pending = self.pending
        owner = batch_of_body(body.key)
        then_key = then.key if then is not None else None
        follows = batch_of_body(then_key)
        if follows in (pending.manifest_id, owner):
            return follows == pending.manifest_id
        if pending.count > 1 and then is not None:
            return False  # if only its body 0 had been replaced, its body 1 would follow here
        if body.key is not None and body.key[16:] != _U32[0]:
            return True
        if pending.appended_at != body.appended_at:
            return pending.appended_at < body.appended_at
        return then_key == owner
