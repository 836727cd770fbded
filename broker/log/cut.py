"""What a follower is told where the log is another one than it has read: cut, replaced or altered."""

from __future__ import annotations

from broker.errors import LogForked

__all__ = ["cut", "replaced"]

_HINT = "do not go on before the operator of the log has explained it; keep your state file"


def cut(topic: str, number: int, position: int) -> LogForked:
    """Return the error of a partition that ends before ``position``, up to where it was read."""
    return LogForked(
        f"partition {number} of {topic} ends before offset {position}, up to where it was read:"
        " messages are lost, or it was tampered with",
        hint=_HINT,
    )


def replaced(topic: str, number: int, offset: int) -> LogForked:
    """Return the error of a partition that holds another message than the one that was read last."""
    return LogForked(
        f"partition {number} of {topic} holds another message {offset} than the one that was read:"
        " it was restored, made anew or tampered with",
        hint=_HINT,
    )
