"""The records that are measured: one of each type as it arrives in practice, a return of about 400 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from uuid import UUID

from broker.avro.schema import default_store
from broker.records.record import Record, encode_body, from_json

__all__ = ["BODY_BYTES", "MEASURED", "body_of", "measured", "records", "sample"]

BODY_BYTES = 400
"""What a body of the measured type is padded to, as near as a valid record comes."""
MEASURED = "ReturnEvent"

_SUBJECT = {"category": "OTHER_PARTY", "age_band": "ADULT", "sex": "F"}
_COMMON = {
    "evaluation": {"source": "B", "information": 2, "basis": "FACT", "lawful_collection": True},
    "legal_basis": {"kind": "UNSC_RESOLUTION", "citation": "UNSC:2396(2017)/OP4"},
}
_BODIES: dict[str, dict[str, Any]] = {
    "ReturnEvent": {
        "stage": "ARRIVED",
        "modality": "STATE_REPATRIATION",
        "event_date": "2026-10-02",
        "from_place": "M49:145",
        "to_place": "XAA",
        "nationalities": ["XAA", "XXB", "XXC"],
        "custody": "CARE",
        "receiving_authority": "XAA:border-west",
        "group_ref": "0b0a7a52-5d5e-4c0a-9f0e-6d1f6f4a2a01",
        "child_protection": {"authority": "XCC:child-protection.2", "best_interests": "IN_PROGRESS"},
        "travel_document": {"type": "PE", "issuer": "XAA", "status": "EMERGENCY"},
        "external_refs": [{"scheme": "UNSC_REF", "value": "QDi.001"}],
        "relatives": [
            {"ref": f"7f9619ff-8b86-4011-b42d-00cf4fc964{i:02x}", "relation": relation}
            for i, relation in enumerate(("SPOUSE_PARTNER", "CHILD", "CHILD", "CHILD", "SIBLING"))
        ],
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


def _today() -> date:
    return datetime.now(UTC).date()


def sample(record_type: str, number: int = 0) -> Record:
    """A record that breaks no rule, about the subject of this number."""
    today = _today()
    ref = str(UUID(int=Random(number).getrandbits(128), version=4))
    return from_json(
        None,
        {
            "record_type": record_type,
            "handling": {"codes": ["H2"], "tlp": "AMBER", "releasable_to": []},
            "purpose": "PUBLIC_SECURITY",
            "review_by": str(today + timedelta(days=100)),
            "erase_by": str(today + timedelta(days=500)),
            "body": _COMMON | _BODIES[record_type] | {"subject": _SUBJECT | {"ref": ref}},
        },
        store=default_store(),
        today=today,
    )


@cache
def measured(count: int) -> Sequence[Record]:
    """So many different records of the measured type."""
    return tuple(sample(MEASURED, number) for number in range(count))


def records(count: int, distinct: int = 1024) -> Sequence[Record]:
    """So many records of the measured type; from ``distinct`` on they repeat, as making one is dear."""
    made = measured(min(count, distinct))
    return [made[i % len(made)] for i in range(count)]


def body_of(record: Record) -> bytes:
    """The record as plain Avro."""
    return encode_body(record, default_store().current(record.record_type))
