"""What a person says who reads: the details of an access that break no rule."""

from __future__ import annotations

from typing import Any

from broker.access.requests import new_details
from broker.wire.access import AccessDetails

__all__ = ["details"]


def details(**changes: Any) -> AccessDetails:
    """Details of an access that break no rule, with a fresh blind; ``changes`` are other words."""
    words: dict[str, Any] = {
        "person": "officer-17",
        "role": "analyst",
        "legal_basis": "Exercise treaty, article 7",
        "justification": "Follow-up of a return",
    }
    return new_details(**(words | changes))
