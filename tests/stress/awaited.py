"""The kinds of findings that the honest stress still shows, until what causes them is mended.

``make stress`` counts them like all others; only the short run of the ordinary tests passes over them.
The list shrinks to nothing.
"""

from __future__ import annotations

__all__ = ["AWAITED"]

_SUSPENDED = "what an agency published before its suspension was seen is refused, and it lacks the next keys"

AWAITED = {
    "error in publish": _SUSPENDED,
    "undelivered, NOT_COLLECTED, REFUSED": _SUSPENDED,
}
"""Each kind, and what it comes from."""
