"""A key access service whose answers are changed on their way, and signed again with its own key."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from broker.crypto.seal import open_sealed_answer, seal_answer
from broker.errors import KasUnavailable
from broker.wire.access import AccessAnswer, Receipt
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.manifest import Signed
from support.coalition import KAS, signing_key
from support.world import World

__all__ = ["HostileKas"]


class HostileKas:
    """Stands before the real service of a world; ``change`` is done to each answer to ``name``."""

    def __init__(
        self,
        world: World,
        name: str,
        change: Callable[[AccessAnswer, Receipt], tuple[AccessAnswer, Receipt]] | None,
        data: bytes,
    ) -> None:
        self._world = world
        self._key = world.coalition.receiving[name]
        self._change = change
        self._data = data

    async def access(self, request: bytes, details: bytes) -> bytes:
        """The changed answer, or the data that stands for one."""
        if self._change is None:
            return self._data
        sealed = await self._world.kas.access(request, details)
        digest = sha256(decode(Signed, request).content).digest()
        answer = decode(AccessAnswer, open_sealed_answer(self._key, sealed, digest))
        answer, receipt = self._change(answer, decode(Receipt, answer.receipt.content))
        genesis = self._world.coalition.genesis
        signed = sign_content(signing_key(KAS), "receipt", genesis, encode(receipt))
        return seal_answer(
            self._key.public,
            encode(AccessAnswer(receipt=signed, shares=answer.shares, entries=answer.entries)),
            digest,
        )

    async def collections(self, query: bytes) -> bytes:
        """Nothing is said of collections."""
        raise KasUnavailable("no")
