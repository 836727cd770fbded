"""How long a call to the brokers may take, and how it waits before it tries again."""

from __future__ import annotations

import asyncio

from broker.log.pause import pause_s

__all__ = ["Deadline"]

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_ATTEMPTS_IN_A_CALL = 3


class Deadline:
    """When a call gives up, and how it waits until then."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + timeout_s
        self._pauses = 0

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._at - self._loop.time())

    @property
    def attempt_s(self) -> float:
        """How long one request may take: a call can make a few, should a broker say nothing."""
        return max(0.05, min(self.left_s, self.timeout_s / _ATTEMPTS_IN_A_CALL))

    async def pause(self) -> None:
        """Wait a moment, each time longer, with jitter."""
        self._pauses += 1
        wished_s = pause_s(self._pauses, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        await asyncio.sleep(min(self.left_s, wished_s))
