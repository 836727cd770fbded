"""Submission of signed statements: they are appended to the directory, and then read to see that they count.

The log takes whatever is appended, and every participant decides by itself whether a statement counts. So a
statement is judged before it is appended, and looked for in the directory afterwards: another participant's
statement may have come in between.
"""

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
    """Judge statements as if they were appended now, in order; return the first error, or None."""
    try:
        for signed in statements:
            directory = apply(directory, signed, appended_at=system_clock())
    except PeerError as error:
        return error
    return None


async def append(session: Session, statements: Sequence[Signed]) -> list[int]:
    """Append statements one by one, check after each that it counts, and return their offsets.

    If a statement would not count, the reason is raised before anything is appended. Raises UsageError
    when another participant's statement came in between and the statement does not count any more.
    """
    await session.follower.refresh()
    error = judge(session.directory, statements)
    if error is not None:
        raise with_hint(error)
    # Each statement is a message of its own. A crash in between leaves the first ones in the directory; they
    # were signed, and they count.
    places = []
    for signed in statements:
        key, value = directory_message(signed)
        place = await session.log.append(DIRECTORY, [Message(key, value)])
        await session.follower.refresh()
        if sha256(signed.content).digest() not in session.directory.applied:
            violations = session.follower.violations
            why = next((found.detail for found in violations if found.place.offset == place), "")
            raise UsageError(
                f"the statement at {place} does not count: {why}",
                hint="another statement came in between; make it anew",
            )
        places.append(place)
    return places


def with_hint(error: PeerError) -> PeerError:
    """Add a hint to the error of a statement that was drafted before the authority's newest statement."""
    # The fault is known by its words, which directory.case.check_header writes. A test in tests/cli compares
    # them.
    if error.hint is None and isinstance(error, NotEntitled) and error.message.startswith("previous is"):
        error.hint = (
            "the authority has issued another statement since this one was drafted: have it drafted anew "
            "(request again), then sign the new draft"
        )
    return error
