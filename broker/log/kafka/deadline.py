"""The deadline of a call to the brokers, and its pauses between attempts."""

from __future__ import annotations

import asyncio

from broker.log.pause import pause_s

__all__ = ["Deadline"]

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_ATTEMPTS_IN_A_CALL = 3


class Deadline:
    """The moment at which a call gives up, and the pauses that it makes until then."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + timeout_s
        self._pauses = 0

    @property
    def left_s(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self._at - self._loop.time())

    @property
    def attempt_s(self) -> float:
        """The seconds that one request may take.

        It is a third of the whole, so that a call can ask again, and elsewhere, when a frozen broker keeps
        a connection open and does not answer.
        """
        return max(0.05, min(self.left_s, self.timeout_s / _ATTEMPTS_IN_A_CALL))

    async def pause(self) -> None:
        """Wait before the next attempt: longer each time, with jitter, and never beyond the deadline."""
        self._pauses += 1
        wished_s = pause_s(self._pauses, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        await asyncio.sleep(min(self.left_s, wished_s))
