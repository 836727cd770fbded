"""What callers see of the key access service: two questions, bytes in and bytes out.

In one process the service itself answers; elsewhere a client carries the same bytes over HTTP.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["KeyAccess"]


class KeyAccess(Protocol):
    """Whoever answers access requests and collection queries.

    Errors: :class:`~broker.errors.RequestRefused` for what cannot be judged at all (stale,
    malformed, wrongly signed, details that do not match their commitment); asking again with the
    same bytes does not help. :class:`~broker.errors.KasUnavailable` when the service or its log
    cannot be reached, or has stopped releasing; nothing was released.
    """

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Ask to read: Avro(Signed access-request) and Avro(AccessDetails), as ``make_request`` makes them.

        The answer is an AccessAnswer sealed to the requester's newest receiving key, for
        ``open_answer``. A denial is an answer, not an error.
        """
        ...

    async def collections(self, query: bytes) -> bytes:
        """Ask what became of batches: Avro(Signed collection-query) gives Avro(Signed collection-answer)."""
        ...
