"""A manifest whose bodies are awaited, and the doubt whether it is the stranger or what follows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.log.protocol import StoredMessage
from broker.verify.events import VerifiedBatch
from broker.verify.judge import batch_of_body
from broker.verify.streams import Head, StreamKey
from broker.verify.violations import Place

__all__ = ["U32", "Awaited", "Doubt"]

U32 = tuple(i.to_bytes(4, "big") for i in range(256))
"""How the keys of body messages end."""


@dataclass(slots=True)
class Awaited:
    """A manifest whose bodies are awaited; ``undo`` restores what its acceptance changed.

    ``batch`` is what a whole batch delivers, None for a repeat or what must not be delivered;
    of a ``silent`` one all was reported already. ``room`` is how many bytes its bodies may still have:
    whatever a manifest promises, it fits into one append. ``cause`` is the root of what was reported of it,
    ``suspected`` that of the batch which it broke off: if no body follows it, it is a stranger there.
    """

    manifest_id: bytes
    offset: int
    appended_at: int
    digests: bytes
    count: int
    room: int
    batch: VerifiedBatch | None = None
    undo: tuple[StreamKey, Head | None, int] | None = None
    cause: Place | None = None
    suspected: Place | None = None
    silent: bool = False
    is_copy: bool = False
    seen: int = 0
    bodies: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A manifest and the body of another batch right behind it: one of the two is a stranger."""

    awaited: Awaited
    message: StoredMessage

    def is_body_stranger(self, then: StoredMessage | None) -> bool:
        """Whether the body is the stranger, or else the manifest; ``then`` is the message behind both.

        It continues the batch of the one or of the other. If it does not, the append times tell, which
        are the same in a whole batch and never fall in an honest log.
        """
        body, pending = self.message, self.awaited
        owner, key = batch_of_body(body.key), then.key if then is not None else None
        follows = batch_of_body(key)
        if follows in (pending.manifest_id, owner):
            return follows == pending.manifest_id
        if pending.count > 1 and then is not None:
            return False  # what follows would be its body 1
        if body.key is not None and body.key[16:] != U32[0]:
            return True
        if pending.appended_at != body.appended_at:
            return pending.appended_at < body.appended_at
        return key == owner
