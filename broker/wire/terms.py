"""The terms of a record, which its manifest shows: action, targets, handling, purpose, retention.

Members, auditors and the key access service can read these terms. Everything else is in the locked body.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "LED_PURPOSES",
    "LOG_PURPOSES",
    "WELFARE_PURPOSES",
    "Action",
    "Handling",
    "HandlingCode",
    "Purpose",
    "RecordTerms",
    "Target",
    "Tlp",
]


class Action(StrEnum):
    """What a record does: it reports something new, or it acts on earlier records of its originator."""

    NEW = "NEW"
    RECTIFY = "RECTIFY"
    RESTRICT = "RESTRICT"
    ERASE = "ERASE"
    WITHDRAW = "WITHDRAW"


class HandlingCode(StrEnum):
    """The SIENA handling codes: conditions that a provider puts on the use of its records."""

    H0 = "H0"
    """For preventing and combating crime only."""
    H1 = "H1"
    """Not for use in judicial proceedings without the permission of the provider."""
    H2 = "H2"
    """Not to be passed on without the permission of the provider."""
    H3 = "H3"
    """Other conditions, which a note in the body names."""


class Tlp(StrEnum):
    """The labels of the Traffic Light Protocol 2.0, for people. AMBER_STRICT is its AMBER+STRICT."""

    RED = "RED"
    AMBER_STRICT = "AMBER_STRICT"
    AMBER = "AMBER"
    GREEN = "GREEN"


class Purpose(StrEnum):
    """The purpose for which a record is shared or read; the last four are only for the access log."""

    PREVENTION = "PREVENTION"
    INVESTIGATION = "INVESTIGATION"
    PROSECUTION = "PROSECUTION"
    PENALTY_EXECUTION = "PENALTY_EXECUTION"
    PUBLIC_SECURITY = "PUBLIC_SECURITY"
    CHILD_PROTECTION = "CHILD_PROTECTION"
    REHAB_REINTEGRATION = "REHAB_REINTEGRATION"
    LAWFULNESS = "LAWFULNESS"
    SELF_MONITORING = "SELF_MONITORING"
    INTEGRITY_SECURITY = "INTEGRITY_SECURITY"
    CRIMINAL_PROCEEDINGS = "CRIMINAL_PROCEEDINGS"


LED_PURPOSES = frozenset(
    {
        Purpose.PREVENTION,
        Purpose.INVESTIGATION,
        Purpose.PROSECUTION,
        Purpose.PENALTY_EXECUTION,
        Purpose.PUBLIC_SECURITY,
    }
)
"""Purposes of Directive (EU) 2016/680, art. 1(1)."""

WELFARE_PURPOSES = frozenset({Purpose.CHILD_PROTECTION, Purpose.REHAB_REINTEGRATION})
"""Purposes under welfare law, outside the LED."""

LOG_PURPOSES = frozenset(
    {
        Purpose.LAWFULNESS,
        Purpose.SELF_MONITORING,
        Purpose.INTEGRITY_SECURITY,
        Purpose.CRIMINAL_PROCEEDINGS,
    }
)
"""The only purposes for which the access log may be read (LED art. 25(2))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An earlier record, named by its batch and its place in the batch."""

    batch_id: bytes
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """The conditions of use: SIENA codes, a label for people, and who alone may receive the record."""

    codes: tuple[HandlingCode, ...]
    tlp: Tlp
    releasable_to: tuple[str, ...]
    """Agencies such as ``XAA:police``; empty means all members of the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTerms:
    """The terms of one record; ``review_by`` and ``erase_by`` are days since 1970-01-01."""

    action: Action
    targets: tuple[Target, ...]
    handling: Handling
    purpose: Purpose
    review_by: int
    erase_by: int
