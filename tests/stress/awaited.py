"""The kinds of findings that the honest stress still shows, until what causes them is mended.

``make stress`` counts them like all others; only the short run of the ordinary tests passes over them.
The list shrinks to nothing.
"""

from __future__ import annotations

__all__ = ["AWAITED"]

_COMPLAINT = "a complaint forces a new epoch, and voids nothing that was published without seeing it"

AWAITED = {
    "error in publish": _COMPLAINT,
    "undelivered, NOT_COLLECTED, REFUSED": _COMPLAINT,
}
"""Each kind, and what TRUST.md says must come true instead."""
