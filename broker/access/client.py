"""The protocol by which a reader asks the key access service: two questions, bytes in and bytes out.

The service in this process implements it itself. A client of a service elsewhere carries the same
bytes over the network, so its callers do not change.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["KeyAccess"]


class KeyAccess(Protocol):
    """A key access service, or a client of it.

    Raises :class:`~broker.errors.RequestRefused` for a request that cannot be judged at all: it is too
    old, malformed, wrongly signed, or its details do not match their commitment. Sending the same bytes
    again does not help. Raises :class:`~broker.errors.KasUnavailable` when the service or its log cannot
    be reached, or when the service has stopped releasing; nothing was released then.
    """

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Ask to read: Avro(Signed access-request) and Avro(AccessDetails), as ``make_request`` makes them.

        Returns an AccessAnswer, sealed to the requester's newest receiving key, for ``open_answer``. A
        denial is an answer, not an error.
        """
        ...

    async def collections(self, query: bytes) -> bytes:
        """Ask what became of batches: Avro(Signed collection-query), as ``make_query`` makes it.

        Returns Avro(Signed collection-answer), for ``open_collection_answer``.
        """
        ...
