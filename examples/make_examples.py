"""Make the example files beside this script: synthetic people of four states that do not exist.

Aldoria (XAA), Borvenia (XBB), Cassarine (XCC) and Dorvale (XDD) have user-assigned ISO 3166-1 codes.
Everything is drawn from one seed, so the script makes the same bytes each time. The order of the draws
therefore matters: a draw that is added in the middle changes every row behind it.

    python examples/make_examples.py
"""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID

HERE = Path(__file__).parent
SEED = 2396
CONFLICT_AREA = "M49:145"
STATES = ("XAA", "XBB", "XCC", "XDD")

Json = dict[str, Any]


def main() -> None:
    """Write every example file."""
    rng = random.Random(SEED)  # noqa: S311 - examples, and the same ones each time
    families = _families(rng)
    _write_csv(
        "returns-batch.csv", [_return_row(rng, number, person) for number, person in enumerate(families)]
    )
    _write_lines("relocations.jsonl", [_relocation(rng, number) for number in range(10)])
    _write_lines("rehabilitation.jsonl", [_rehabilitation(rng, number) for number in range(25)])
    _write_lines("emergence.jsonl", [_emergence(rng, number) for number in range(8)])
    _write_csv("justice.csv", [_justice_row(rng, number) for number in range(20)])
    _write_lines("returns-with-mistakes.jsonl", _mistakes(rng))


def _uuid(rng: random.Random) -> str:
    return str(UUID(bytes=rng.randbytes(16), version=4))


def _day(rng: random.Random, first: int, last: int) -> str:
    return f"{rng.randint(first, last)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _retention(rng: random.Random) -> Json:
    return {"review_by": _day(rng, 2027, 2028), "erase_by": _day(rng, 2029, 2030)}


# --- returns: one repatriation of 100 people, half of them children


def _families(rng: random.Random) -> list[Json]:
    """Return fifty families of an adult and a child each; the two name each other."""
    people: list[Json] = []
    for number in range(50):
        group = number // 25
        adult = _uuid(rng)
        child = _uuid(rng)
        # A few ages are unknown: the rules protect these people as children.
        age = "unknown" if number % 17 == 16 else "child"
        people.append({"ref": adult, "other": child, "relation": "child", "age": "adult", "group": group})
        people.append({"ref": child, "other": adult, "relation": "parent", "age": age, "group": group})
    return people


GROUPS = ("0b0a7a52-5d5e-4c0a-9f0e-6d1f6f4a2a01", "0b0a7a52-5d5e-4c0a-9f0e-6d1f6f4a2a02")


def _return_row(rng: random.Random, number: int, person: Json) -> dict[str, str]:
    is_adult = person["age"] == "adult"
    arrived = person["group"] == 0
    role = rng.choice(("suspect", "victim", "other", "other") if is_adult else ("victim", "victim", "other"))
    month = 10 if arrived else 3
    row = {
        "File no": f"ALD-R-{number + 1:04}",
        "Name": f"SYNTH-{number + 1:04} TESTPERSON",
        "Born": _day(rng, 1985, 2000) if is_adult else _day(rng, 2012, 2024),
        "Passport no": f"XAA00000{number:02}",
        "Person": person["ref"],
        "Role": role,
        "Age": person["age"],
        "Sex": rng.choice("MF"),
        "Status": "arrived" if arrived else "planned",
        "Date": f"{rng.randint(1, 28):02}.{month:02}.{2026 if arrived else 2027}",
        "From": CONFLICT_AREA,
        "To": "XAA",
        "Citizenship": rng.choice(("XAA", "XAA", "XAA;XCC", "XAA;XBB", "XAA")),
        "Custody": ("judicial" if role == "suspect" else "none") if is_adult else "care",
        "Received by": "XAA:border",
        "Convoy": GROUPS[person["group"]],
        "Document": rng.choice(("PE", "PE", "PP", "")),
        "Protection": "" if is_adult else "XCC:child-protection",
        "Best interests": "" if is_adult else rng.choice(("done", "running", "open")),
        "Relative": person["other"],
        "Relation": person["relation"],
        "Purpose": "reintegration" if is_adult else "child",
        "Review": _day(rng, 2027, 2028),
        "Erase": _day(rng, 2029, 2030),
        "Remarks": "not to leave this office",
    }
    return row | {"Document state": {"PE": "emergency", "PP": "valid", "": ""}[row["Document"]]}


# --- relocation, rehabilitation, emergence


def _common(rng: random.Random, category: str, *, basis: str = "FACT", age: str = "ADULT") -> Json:
    return {
        "subject": {"ref": _uuid(rng), "category": category, "age_band": age, "sex": rng.choice("MFU")},
        "evaluation": {
            "source": rng.choice("AB"),
            "information": rng.randint(1, 3),
            "basis": basis,
            "lawful_collection": True,
        },
        "legal_basis": {"kind": "UNSC_RESOLUTION", "citation": "UNSC:2396(2017)"},
    }


def _handling(*codes: str, tlp: str = "AMBER", to: tuple[str, ...] = ()) -> Json:
    return {"codes": list(codes), "tlp": tlp, "releasable_to": list(to)}


def _relocation(rng: random.Random, number: int) -> Json:
    stage = ("INTENDED", "OBSERVED", "CONFIRMED", "LAPSED", "OBSERVED")[number % 5]
    category = "OTHER_PARTY" if stage == "LAPSED" else rng.choice(("SUSPECT", "CONVICTED", "OTHER_PARTY"))
    body = _common(rng, category, basis="ASSESSMENT" if stage == "INTENDED" else "FACT") | {
        "stage": stage,
        "context": rng.choice(("THIRD_STATE", "STATE_OF_RESIDENCE", "STATE_RESETTLEMENT")),
        "event_date": f"2026-{rng.randint(3, 9):02}" + rng.choice(("", "~")),
        "from_place": "XAA",
        "to_place": rng.choice(("XBB", "XBB", "XDD")),
        "transport": rng.choice(("ROAD", "RAIL", "AIR", "MARITIME")),
        "requested_action": "INFORMATION_ONLY" if stage == "LAPSED" else "CONTACT_ORIGINATOR_FIRST",
    }
    if stage == "CONFIRMED":
        body["travel_document"] = {"type": "PP", "issuer": "XAA", "status": "REPORTED_LOST_STOLEN"}
    has_note = number == 4
    if has_note:
        body["handling_note"] = "Call the originator's duty officer before any use."
    handling = _handling("H1", *(["H3"] if has_note else []))
    head = {"record_type": "RelocationEvent", "handling": handling, "purpose": "PREVENTION"}
    return head | _retention(rng) | {"body": body}


def _rehabilitation(rng: random.Random, number: int) -> Json:
    milestones = (
        "REFERRED",
        "INTAKE",
        "STARTED",
        "REVIEWED",
        "COMPLETED",
        "TRANSFERRED",
        "AFTERCARE_STARTED",
    )
    is_child = number % 5 == 4
    body = _common(rng, "VICTIM" if is_child else "CONVICTED", age="CHILD" if is_child else "ADULT") | {
        "milestone": milestones[number % len(milestones)],
        "event_date": f"2026-{rng.randint(1, 9):02}-{rng.randint(1, 28):02}",
        "place": "XDD",
        "setting": "CHILD_CARE" if is_child else rng.choice(("CUSTODIAL", "COMMUNITY", "RESIDENTIAL")),
        "participation": "VOLUNTARY" if is_child else rng.choice(("VOLUNTARY", "PROBATION_CONDITION")),
        "lead_sector": "SOCIAL" if is_child else rng.choice(("PRISON_PROBATION", "SOCIAL", "CIVIL_SOCIETY")),
        "components": sorted(rng.sample(("EDUCATION", "VOCATIONAL", "PSYCHOSOCIAL", "FAMILY", "HOUSING"), 3)),
        "programme_ref": f"XDD:{'HARBOUR' if is_child else 'HOME'}-{rng.randint(1, 4)}",
        "continuity_authority": "XCC:child-protection" if is_child else "XDD:rehabilitation",
    }
    return {
        "record_type": "RehabilitationEvent",
        "handling": _handling("H2"),
        "purpose": "REHAB_REINTEGRATION",
    } | (_retention(rng) | {"body": body})


def _emergence(rng: random.Random, number: int) -> Json:
    triggers = ("CONFLICT_ZONE_EVIDENCE", "BORDER_ENCOUNTER", "FAMILY_REPORT", "COURT_DISCLOSURE")
    conduct = ("GROUP_PARTICIPATION", "TRAVEL", "FINANCING", "TRAINING_RECEIVED")
    grounds = "SERIOUS_GROUNDS" if number % 2 == 0 else "REASONABLE_GROUNDS"
    body = _common(rng, "SUSPECT" if number % 2 == 0 else "OTHER_PARTY", basis="ASSESSMENT") | {
        "trigger": triggers[number % 4],
        "first_seen": f"{rng.randint(2019, 2025)}~",
        "last_known_place": rng.choice((CONFLICT_AREA, "XBB")),
        "alleged_conduct": sorted(rng.sample(conduct, 2)),
        "grounds": grounds,
        "human_review": {
            "reviewed_at": f"2026-{rng.randint(4, 9):02}-{rng.randint(1, 28):02}T09:30:00Z",
            "reviewer_role": rng.choice(("SUPERVISOR", "PROSECUTOR")),
        },
        "evidence_refs": [
            {"sha256": rng.randbytes(32).hex(), "holder": "XBB:justice", "kind": "DIGITAL_MEDIA"},
        ],
    }
    head = {"record_type": "EmergenceReport", "handling": _handling("H2"), "purpose": "INVESTIGATION"}
    return head | _retention(rng) | {"body": body}


# --- justice


def _justice_row(rng: random.Random, number: int) -> dict[str, str]:
    measures = (
        "conviction",
        "acquittal",
        "warrant",
        "notice",
        "discontinued",
        "release",
        "supervision",
        "travel ban",
    )
    measure = measures[number % len(measures)]
    is_cleared = measure in ("acquittal", "discontinued")
    is_sentence = measure in ("conviction", "release", "supervision")
    return {
        "Case": f"BV-{number + 101}/2026",
        "Accused": f"SYNTH-{number + 501:04} TESTPERSON",
        "Person": _uuid(rng),
        "Position": "other" if is_cleared else "convicted" if is_sentence else "suspect",
        "Sex": rng.choice("MF"),
        "Measure": measure,
        "State": "in force",
        "Final": "yes" if is_sentence or is_cleared else "no",
        "Decided": f"{rng.randint(1, 28):02}/{rng.randint(1, 9):02}/2026",
        "Until": "2029-12-31" if measure in ("travel ban", "supervision") else "",
        "Offences": "" if is_cleared else rng.choice(("travel", "membership", "travel+financing")),
        "Notice": f"2026/{number + 1001}" if measure == "notice" else "",
        "Conditions": "REPORTING|RESIDENCE" if measure == "supervision" else "",
        "ECLI": f"ECLI:XB:SC:2026:{number + 101}" if measure in ("conviction", "acquittal") else "",
        "Court use": "ask" if number % 3 == 0 else "free",
        "Purpose": "PENALTY_EXECUTION" if is_sentence else "PROSECUTION",
        "Review": "2027-09-01" if is_cleared else _day(rng, 2027, 2028),
        # An acquittal or a discontinued case is kept for a year at most.
        "Erase": "2027-10-31" if is_cleared else _day(rng, 2029, 2030),
        "Grounds of judgment": "free text that stays at the court",
    }


# --- mistakes


def _mistakes(rng: random.Random) -> list[Json]:
    """Return six rows: the first and the last are right, each of the others is wrong in its own way."""
    rows = [_plain_return(rng) for _ in range(6)]
    rows[1]["body"]["subject"]["category"] = "SUSPECT"
    rows[2]["body"]["subject"]["age_band"] = "UNKNOWN"
    del rows[2]["body"]["child_protection"]
    rows[3]["body"]["name"] = "SYNTH-0042 TESTPERSON"
    rows[4]["body"]["to_place"] = "Aldoria"
    rows[4]["review_by"] = "2030-06-01"
    return rows


def _plain_return(rng: random.Random) -> Json:
    body = _common(rng, "VICTIM", age="CHILD") | {
        "stage": "ARRIVED",
        "modality": "STATE_REPATRIATION",
        "event_date": "2026-10-02",
        "from_place": CONFLICT_AREA,
        "to_place": "XAA",
        "nationalities": ["XAA"],
        "custody": "CARE",
        "receiving_authority": "XAA:border",
        "child_protection": {"authority": "XCC:child-protection", "best_interests": "IN_PROGRESS"},
    }
    dates = {"review_by": "2028-05-01", "erase_by": "2029-05-01"}
    head = {"record_type": "ReturnEvent", "handling": _handling("H1"), "purpose": "CHILD_PROTECTION"}
    return head | dates | {"body": body}


# --- files


def _write_lines(name: str, rows: list[Json]) -> None:
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_csv(name: str, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (HERE / name).write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
