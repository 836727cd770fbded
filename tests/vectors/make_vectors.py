"""Make the vectors and the live example anew: ``cd tests && ../.venv/bin/python -m vectors.make_vectors``.

Sealing draws randomness, so every run gives other bytes: run it when a format changes, never else. It
writes the JSON files beside it, and the example's lines into the specification. ``make_vectors lock``
makes one area and leaves the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vectors import cases_avro, cases_lock, cases_manifest, cases_seal, cases_sign, cases_tree
from vectors.example import example, quoted

__all__ = ["AREAS", "main"]

HERE = Path(__file__).parent
SPECIFICATION = HERE.parents[1] / "schemas" / "README.md"
BEGIN, END = "<!-- example: begin -->\n", "<!-- example: end -->\n"

AREAS = {
    "avro": ("one value, one encoding", cases_avro.cases),
    "sign": ("one signature under one key", cases_sign.sign_cases),
    "signed": ("a signed statement under given keys", cases_sign.signed_cases),
    "keys": ("public keys, their ids, an epoch's seed from its halves", cases_seal.key_cases),
    "seal": ("one seal, opened with one key for one place", cases_seal.seal_cases),
    "release": ("release shares from a release secret", cases_seal.release_cases),
    "lock": ("one body, unlocked with its two shares", cases_lock.lock_cases),
    "held": ("a value of ftf.keys, opened with its storage key", cases_lock.held_cases),
    "manifest": ("one manifest message, opened and checked", cases_manifest.cases),
    "merkle": ("an entry and its inclusion proof", cases_lock.merkle_cases),
    "tree": ("the messages of a partition and its root", cases_tree.cases),
    "details": ("access details and the commitment to them", cases_lock.details_cases),
}


def _write(name: str, value: object) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _quote(found: dict[str, object]) -> None:
    text = SPECIFICATION.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    SPECIFICATION.write_text(f"{before}{BEGIN}```\n{quoted(found)}\n```\n{END}{after}")


def main(areas: list[str]) -> None:
    """Write the areas that are named, or all areas and the example."""
    for area, (what, cases) in AREAS.items():
        if not areas or area in areas:
            _write(area, {"area": area, "description": what, "cases": cases()})
    if not areas or "example" in areas:
        made = example()
        _write("example", made)
        found = made["found"]
        if isinstance(found, dict) and SPECIFICATION.exists():
            _quote(found)


if __name__ == "__main__":
    main(sys.argv[1:])
