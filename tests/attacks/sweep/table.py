"""The table of what is found: kept as numbers in ``table.json``, and shown in ``docs/threat-model.md``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attacks.sweep.long_log import LongLog
from attacks.sweep.manipulations import MANIPULATIONS
from attacks.sweep.run import Row
from attacks.sweep.watch import Seen

__all__ = ["NUMBERS", "PAGE", "counted", "kept", "page_part", "rendered", "write"]

NUMBERS = Path(__file__).with_name("table.json")
PAGE = Path(__file__).parents[3] / "docs" / "threat-model.md"
_BEGIN, _END = "<!-- sweep: begin -->\n", "<!-- sweep: end -->\n"
_WORDS = {Seen.USE: "in use", Seen.UNBOUND: "unbound", Seen.HARMLESS: "harmless"}
_COLUMNS = ("directory", "access", "emergence", "justice", "rehabilitation", "relocation", "returns", "keys")

Numbers = Mapping[str, Any]
"""``batches``: how many each topic has; ``rows``: for manipulation and topic how often each was seen."""


def counted(log: LongLog, rows: Iterable[Row]) -> dict[str, Any]:
    """The numbers of a sweep."""
    found: dict[str, dict[str, Counter[str]]] = {name: {} for name in MANIPULATIONS}
    for row in rows:
        found[row.manipulation].setdefault(row.batch.topic, Counter())[str(row.seen)] += 1
    return {
        "batches": dict(sorted(Counter(batch.topic for batch in log.batches).items())),
        "rows": {
            name: {topic: dict(sorted(seen.items())) for topic, seen in sorted(topics.items())}
            for name, topics in found.items()
        },
    }


def kept() -> dict[str, Any]:
    """The numbers of the last sweep."""
    numbers: dict[str, Any] = json.loads(NUMBERS.read_text())
    return numbers


def rendered(numbers: Numbers) -> str:
    """The numbers as a table."""
    topics = [topic for topic in _COLUMNS if topic in numbers["batches"]]
    lines = [
        "| what the operator does to a batch | " + " | ".join(f"`{topic}`" for topic in topics) + " |",
        "|---|" + "---|" * len(topics),
        "| *batches* | " + " | ".join(str(numbers["batches"][topic]) for topic in topics) + " |",
    ]
    for name, row in numbers["rows"].items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(topic, {})) for topic in topics) + " |")
    return "\n".join(lines) + "\n"


def _cell(seen: Mapping[str, int]) -> str:
    parts = [str(seen[Seen.REPLAY])] if Seen.REPLAY in seen else []
    parts += [f"{seen[kind]} {word}" for kind, word in _WORDS.items() if kind in seen]
    parts += [f"**{seen[Seen.MISSED]} missed**"] if Seen.MISSED in seen else []
    return ", ".join(parts) or "–"


def page_part() -> str:
    """What stands between the marks of the page."""
    _, _, rest = PAGE.read_text().partition(_BEGIN)
    shown, _, _ = rest.partition(_END)
    return shown


def write(numbers: Numbers) -> None:
    """Keep the numbers, and put their table into the page."""
    NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(before + _BEGIN + rendered(numbers) + _END + after)
