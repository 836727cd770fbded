"""A right record of each type, for tests that break one thing at a time."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from typing import Any

from broker.avro.schema import default_store
from broker.errors import RecordInvalid
from broker.records.record import Record, from_json

__all__ = ["TODAY", "problems", "read", "valid"]

TODAY = date(2026, 11, 24)
CEILING_DAYS = 1830

_SUBJECT = {
    "ref": "6f9619ff-8b86-4011-b42d-00cf4fc964ff",
    "category": "OTHER_PARTY",
    "age_band": "ADULT",
    "sex": "F",
}
_COMMON = {
    "subject": _SUBJECT,
    "evaluation": {"source": "A", "information": 1, "basis": "FACT", "lawful_collection": True},
    "legal_basis": {"kind": "UNSC_RESOLUTION", "citation": "UNSC:2396(2017)"},
}
_BODIES: dict[str, dict[str, Any]] = {
    "ReturnEvent": {
        "stage": "ARRIVED",
        "modality": "STATE_REPATRIATION",
        "event_date": "2026-10-02",
        "from_place": "M49:145",
        "to_place": "XAA",
        "nationalities": ["XAA", "XXB"],
        "custody": "CARE",
        "receiving_authority": "XAA:border",
        "group_ref": "0b0a7a52-5d5e-4c0a-9f0e-6d1f6f4a2a01",
        "child_protection": {"authority": "XCC:child-protection", "best_interests": "IN_PROGRESS"},
        "travel_document": {"type": "PE", "issuer": "XAA", "status": "EMERGENCY"},
        "relatives": [{"ref": "7f9619ff-8b86-4011-b42d-00cf4fc964ff", "relation": "PARENT"}],
    },
    "RelocationEvent": {
        "stage": "OBSERVED",
        "context": "THIRD_STATE",
        "event_date": "2026-09~",
        "to_place": "XBB",
        "transport": "AIR",
    },
    "RehabilitationEvent": {
        "milestone": "STARTED",
        "event_date": "2026-09-01",
        "place": "XDD",
        "setting": "COMMUNITY",
        "participation": "VOLUNTARY",
        "lead_sector": "SOCIAL",
        "components": ["EDUCATION"],
        "programme_ref": "XDD:HOME-3",
        "continuity_authority": "XDD:rehabilitation",
    },
    "EmergenceReport": {
        "trigger": "BORDER_ENCOUNTER",
        "first_seen": "2024",
        "alleged_conduct": ["TRAVEL"],
        "grounds": "REASONABLE_GROUNDS",
        "un_group_ref": "QDe.115",
        "human_review": {"reviewed_at": "2026-09-01T09:30:00.5Z", "reviewer_role": "SUPERVISOR"},
        "evidence_refs": [{"sha256": "ab" * 32, "holder": "XBB:justice", "kind": "DOCUMENT"}],
    },
    "JusticeMeasure": {
        "measure": "WARRANT",
        "status": "IN_FORCE",
        "final": False,
        "decided_on": "2026-05-01",
        "jurisdiction": "XBB",
        "authority": "XBB:justice",
        "juvenile_procedure": False,
    },
}


def valid(record_type: str, changes: dict[str, object] | None = None) -> dict[str, Any]:
    """A right record in JSON, with changes by dotted path; ``...`` as a value takes the field away."""
    record: dict[str, Any] = {
        "record_type": record_type,
        "handling": {"codes": ["H2"], "tlp": "AMBER", "releasable_to": []},
        "purpose": "PUBLIC_SECURITY",
        "review_by": "2027-05-01",
        "erase_by": "2029-05-01",
        "body": deepcopy(_COMMON) | deepcopy(_BODIES[record_type]),
    }
    for path, value in (changes or {}).items():
        *above, last = path.split(".")
        inside = record
        for step in above:
            inside = inside[step]
        if value is ...:
            del inside[last]
        else:
            inside[last] = value
    return record


def read(obj: object, record_type: str | None = None, *, today: date = TODAY) -> Record:
    """Read a record with the record types that come with the broker."""
    return from_json(record_type, obj, store=default_store(), today=today, ceiling_days=CEILING_DAYS)


def problems(obj: object, record_type: str | None = None, *, today: date = TODAY) -> tuple[str, ...]:
    """Return the problems of a record; empty for a right record."""
    try:
        read(obj, record_type, today=today)
    except RecordInvalid as invalid:
        return invalid.problems
    return ()
