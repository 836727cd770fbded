"""Signed statements appended to the directory, and read back that they count."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from broker.clock import system_clock
from broker.directory import Directory, apply, directory_message
from broker.errors import NotEntitled, PeerError, UsageError
from broker.log import Message
from broker.participant.follower import DIRECTORY
from broker.session.session import Session
from broker.wire.manifest import Signed

__all__ = ["append", "judge", "with_hint"]


def judge(directory: Directory, statements: Sequence[Signed]) -> PeerError | None:
    """Why these statements would not count now, one after another; None if they would."""
    try:
        for signed in statements:
            directory = apply(directory, signed, appended_at=max(system_clock(), directory.clock))
    except PeerError as error:
        return error
    return None


async def append(session: Session, statements: Sequence[Signed]) -> list[int]:
    """Append statements that hold, one by one, and read that they count; returns their places.

    Raises what says why one would not count, before anything is appended; UsageError where somebody
    else's statement came in between.
    """
    await session.follower.refresh()
    error = judge(session.directory, statements)
    if error is not None:
        raise with_hint(error)
    places = []
    for signed in statements:
        key, value = directory_message(signed)
        place = await session.log.append(DIRECTORY, [Message(key, value)])
        await session.follower.refresh()
        if sha256(signed.content).digest() not in session.directory.applied:
            why = next((v.detail for v in session.follower.violations if v.place.offset == place), "")
            raise UsageError(
                f"the statement at {place} does not count: {why}",
                hint="another statement came in between; make it anew",
            )
        places.append(place)
    return places


def with_hint(error: PeerError) -> PeerError:
    """The error, saying what to do where a statement was drafted before the authority's newest."""
    if error.hint is None and isinstance(error, NotEntitled) and error.message.startswith("previous is"):
        error.hint = (
            "the authority has said something else since this was drafted: have it drafted anew "
            "(request again), then sign that"
        )
    return error
