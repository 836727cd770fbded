"""The coalition of the demo: four states that do not exist, their agencies and their channels.

XAA to XDD are user-assigned codes of ISO 3166-1: no state will ever have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.session import Profile, Role
from broker.wire.statements import Mandate
from broker.wire.terms import Purpose

__all__ = [
    "AUDITOR",
    "CHANNELS",
    "COALITION",
    "COURTS",
    "FILES",
    "KAS",
    "KEYS",
    "PARTICIPANTS",
    "PROTECTION",
    "STATES",
    "THRESHOLD",
    "ChannelPlan",
    "PublishPlan",
    "World",
]

COALITION = "Exercise Amber"
KEYS = 3
THRESHOLD = 2
KAS = "kas"
AUDITOR = "auditor"
STATES = {"XAA": "Aldoria", "XBB": "Borvenia", "XCC": "Cassarine", "XDD": "Dorvale"}

PARTICIPANTS: dict[str, tuple[Role, str]] = {
    "XAA:police": (Role.AGENCY, "Police of Aldoria"),
    "XAA:border": (Role.AGENCY, "Border police of Aldoria"),
    "XBB:justice": (Role.AGENCY, "Ministry of justice of Borvenia"),
    "XBB:police": (Role.AGENCY, "Police of Borvenia"),
    "XCC:child-protection": (Role.AGENCY, "Child protection of Cassarine"),
    "XCC:border": (Role.AGENCY, "Border guard of Cassarine"),
    "XDD:rehabilitation": (Role.AGENCY, "Rehabilitation service of Dorvale"),
    "XDD:justice": (Role.AGENCY, "Ministry of justice of Dorvale"),
    KAS: (Role.KAS, "Key access service"),
    AUDITOR: (Role.AUDITOR, "Joint data protection auditor"),
}

PROTECTION = Mandate(
    ref="XCC-CARE-2026-04", agency="XCC:child-protection", purposes=(Purpose.CHILD_PROTECTION,)
)
COURTS = Mandate(
    ref="XDD-COURTS-2026-11",
    agency="XDD:justice",
    purposes=(Purpose.PROSECUTION, Purpose.PENALTY_EXECUTION),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPlan:
    """A channel that the authority opens. The first of its members publishes its keys."""

    name: str
    number: int
    members: tuple[str, ...]
    record_types: tuple[str, ...]
    purposes: tuple[Purpose, ...]
    legal_basis: str
    mandates: tuple[Mandate, ...] = ()


# The numbers run from 0 without a gap: the founding makes as many partitions as there are channels here.
CHANNELS = (
    ChannelPlan(
        name="repatriation",
        number=0,
        members=tuple(name for name, (role, _) in PARTICIPANTS.items() if role is Role.AGENCY),
        record_types=("RehabilitationEvent", "RelocationEvent", "ReturnEvent"),
        purposes=(
            Purpose.PREVENTION,
            Purpose.INVESTIGATION,
            Purpose.PROSECUTION,
            Purpose.PUBLIC_SECURITY,
            Purpose.CHILD_PROTECTION,
            Purpose.REHAB_REINTEGRATION,
        ),
        legal_basis="Repatriation Compact of the four states, article 7",
        mandates=(PROTECTION,),
    ),
    ChannelPlan(
        name="xaa-xbb",
        number=1,
        members=("XAA:police", "XBB:police"),
        record_types=("EmergenceReport", "RelocationEvent"),
        purposes=(Purpose.PREVENTION, Purpose.INVESTIGATION),
        legal_basis="Police Treaty of Aldoria and Borvenia, article 12",
    ),
    ChannelPlan(
        name="xbb-xdd",
        number=2,
        members=("XBB:justice", "XDD:justice"),
        record_types=("JusticeMeasure",),
        purposes=(Purpose.PROSECUTION, Purpose.PENALTY_EXECUTION),
        legal_basis="Mutual Legal Assistance Treaty of Borvenia and Dorvale, article 3",
        mandates=(COURTS,),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPlan:
    """A file that an agency publishes in a channel."""

    agency: str
    channel: str
    record_type: str
    file: str
    mapping: str | None = None


# The first file comes first in its partition, and ``forgery`` alters a record of its first batch. Names of
# people in the CSV files are invented, and no mapping names their columns.
FILES = (
    PublishPlan(
        agency="XAA:border",
        channel="repatriation",
        record_type="ReturnEvent",
        file="returns-batch.csv",
        mapping="returns-mapping.toml",
    ),
    PublishPlan(
        agency="XAA:border",
        channel="repatriation",
        record_type="ReturnEvent",
        # Its mistakes are there on purpose: the story shows rejected rows.
        file="returns-with-mistakes.jsonl",
    ),
    PublishPlan(
        agency="XAA:police", channel="repatriation", record_type="RelocationEvent", file="relocations.jsonl"
    ),
    PublishPlan(
        agency="XDD:rehabilitation",
        channel="repatriation",
        record_type="RehabilitationEvent",
        file="rehabilitation.jsonl",
    ),
    PublishPlan(
        agency="XAA:police", channel="xaa-xbb", record_type="EmergenceReport", file="emergence.jsonl"
    ),
    PublishPlan(
        agency="XBB:justice",
        channel="xbb-xdd",
        record_type="JusticeMeasure",
        file="justice.csv",
        mapping="justice-mapping.toml",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The demo's folder, its log, and the profiles of its participants by their names."""

    folder: Path
    log: str
    profiles: dict[str, Profile]

    @property
    def examples(self) -> Path:
        """The folder of the files that the agencies publish: copies, which the user may change."""
        return self.folder / "examples"
