"""The kinds of findings that the honest stress still shows, until what causes them is mended.

``make stress`` counts them like all others; only the short run of the ordinary tests passes over them.
The list shrinks to nothing.
"""

from __future__ import annotations

__all__ = ["AWAITED"]

AWAITED = {
    "undelivered, NOT_COLLECTED, REFUSED": "an agency is suspended between the append and the take-over: the "
    "batch is REFUSED, and its honest publisher publishes nothing anew",
}
"""Each kind, and what happens."""
