"""What the machine's words mean: reasons of a denial, kinds of a violation, grades, handling codes.

One table each, so that every command says the same; a test checks that no word is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from broker.show.text import printable
from broker.subscribe.delivery import READER_TOO_OLD
from broker.verify.violations import Kind, Violation
from broker.wire.manifest import Reason
from broker.wire.terms import HandlingCode, Purpose, Tlp

__all__ = [
    "GRADES_OF_INFORMATION",
    "GRADES_OF_SOURCES",
    "HANDLING",
    "KINDS",
    "PURPOSES",
    "REASONS",
    "TLP",
    "USE_LIMITS",
    "Meaning",
    "counted",
    "printable",
    "reason_meaning",
    "violation_line",
]


class Meaning(NamedTuple):
    """What a reason says, and what the reader can do about it."""

    says: str
    do: str


REASONS: Mapping[str, Meaning] = MappingProxyType(
    {
        Reason.NOT_MEMBER: Meaning(
            "your agency is no member of this channel, or nothing may be said of the record",
            "ask the authority and the members to let your agency join: ftf-broker channel join",
        ),
        Reason.SUSPENDED: Meaning(
            "your agency is suspended", "ask the authority: it suspends and reinstates agencies"
        ),
        Reason.CHANNEL_CLOSED: Meaning("the channel is closed", "ask the authority why it was closed"),
        Reason.UNKNOWN_RECORD: Meaning(
            "there is no such record in this channel",
            "check the record's id, or the batch and the index; then try again",
        ),
        Reason.NOT_COLLECTED: Meaning(
            "the key access service has not taken the record over, or refused to",
            "try again in a moment; if it was refused, its originator must publish it anew",
        ),
        Reason.EPOCH_NOT_GRANTED: Meaning(
            "the record was shared under keys that your agency was not given, before it joined",
            "ask a member of the channel to grant the earlier keys",
        ),
        Reason.RECORD_TYPE: Meaning(
            "the channel does not allow this type of record",
            "see what it allows: ftf-broker channel show NAME",
        ),
        Reason.PURPOSE_CHANNEL: Meaning(
            "the channel does not allow this purpose",
            "name a purpose that it allows: ftf-broker channel show NAME",
        ),
        Reason.PURPOSE_RECORD: Meaning(
            "the record was shared for a purpose that does not stand for this one (LED art. 4(2))",
            "read it for the purpose that it was shared for, if that is yours; else ask the originator",
        ),
        Reason.MANDATE: Meaning(
            "no standing mandate of your agency covers this",
            "name a mandate of the channel with --mandate, or consult as a person with --person",
        ),
        Reason.HANDLING: Meaning(
            "its handling codes exclude this purpose: H0 only against crime, H1 not in judicial proceedings",
            "ask the originator for its permission",
        ),
        Reason.NOT_RELEASABLE: Meaning(
            "its originator released it to other members of the channel only",
            "ask the originator",
        ),
        Reason.RESTRICTED: Meaning(
            "its originator has restricted it to judicial purposes",
            "ask the originator; do not use what you hold",
        ),
        Reason.WITHDRAWN: Meaning(
            "its originator has withdrawn it", "delete what you hold of it, and tell whom you passed it on to"
        ),
        Reason.ERASED: Meaning(
            "it is erased, and nobody can read it any more",
            "delete what you hold of it, and tell whom you passed it on to",
        ),
        Reason.EXPIRED: Meaning(
            "its time is over: erase_by has passed (LED art. 5)", "delete what you hold of it"
        ),
        Reason.NOT_AUDITOR: Meaning(
            "you do not audit this channel", "ask the authority: ftf-broker auditor assign"
        ),
        READER_TOO_OLD: Meaning(
            "it was written with a newer schema than this version knows",
            "update ftf-broker, then read it with: ftf-broker consult",
        ),
    }
)
"""Why a record was not released, in words; its keys are those of Reason, and READER_TOO_OLD."""

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.DIRECTORY_STATEMENT: "a statement of the directory that does not count",
        Kind.DIRECTORY_ROLLBACK: "a directory that is less, or another, than what was seen before",
        Kind.OFFSET_MISSING: "messages are missing from the log",
        Kind.UNACCOUNTED: "a message that no valid manifest accounts for",
        Kind.BODY_ALTERED: "a body that is not the one its manifest signed for",
        Kind.BODY_MISPLACED: "a body in the wrong place",
        Kind.BODY_MISSING: "a body of a batch is missing",
        Kind.BATCH_VOID: "a batch that is void: not all of its bodies follow it",
        Kind.BATCH_UNFINISHED: "a batch whose end the log does not hold",
        Kind.MANIFEST_COPIED: "a manifest that was written before, once more",
        Kind.MANIFEST_MALFORMED: "a manifest that is not in the one right form",
        Kind.MANIFEST_SIGNATURE: "a manifest whose signature is wrong",
        Kind.EPOCH_UNKNOWN: "a manifest under channel keys that do not exist",
        Kind.EPOCH_SUPERSEDED: "a manifest under channel keys that were replaced twice",
        Kind.VIEW_UNKNOWN: "an issuer that saw another directory than ours",
        Kind.NOT_ENTITLED: "an issuer that was not entitled to publish",
        Kind.TERMS_INVALID: "terms that the channel does not allow",
        Kind.STREAM_GAP: "a stream of an issuer lacks statements",
        Kind.STREAM_FORK: "two statements of an issuer for one place in its stream",
        Kind.STREAM_REPLAYED: "a statement of an issuer that came before, or out of order",
        Kind.STREAM_CLOSED: "a statement on a stream that was closed",
        Kind.SCHEMA_MISMATCH: "a record whose schema is of another type",
        Kind.MEMBER_SEAL: "a batch whose member share does not open: its issuer is to blame",
        Kind.RELEASE_SHARE: "a release share that does not fit: the key access service is to blame",
        Kind.BODY_LOCKED: "a body that does not unlock: its issuer is to blame",
        Kind.RECORD_INVALID: "a record that breaks the rules: its issuer is to blame",
        Kind.RECEIPT_INVALID: "an answer of the key access service that is wrong",
        Kind.RECEIPT_WITHOUT_ENTRY: "a receipt whose access entry is not in the log",
        Kind.NOT_COLLECTED: "a batch that the key access service never took over",
        Kind.COLLECTION_WRONG: "a take-over that does not fit the batches there are",
        Kind.ACCESS_REQUEST: "an access without a valid signed request",
        Kind.ACCESS_RECORD: "an access to a record that does not exist",
        Kind.ACCESS_POSITIONS: "an access decided on positions that cannot be",
        Kind.ACCESS_DECISION: "an access that should have been decided otherwise",
        Kind.LATE_ENTRY: "the access log was cut, and its lost part appended later",
    }
)
"""Every kind of violation in words."""

GRADES_OF_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "A": "no doubt about the source",
        "B": "the source was mostly reliable",
        "C": "the source was mostly unreliable",
        "X": "the source cannot be assessed",
    }
)
"""Europol's grades of sources (Regulation (EU) 2016/794, art. 29). Admiralty C means something else."""

GRADES_OF_INFORMATION: Mapping[int, str] = MappingProxyType(
    {
        1: "no doubt about the information",
        2: "known to the source, not to the official",
        3: "not known to the source, but corroborated",
        4: "not known to the source, and not corroborated",
    }
)
"""Europol's grades of information (Regulation (EU) 2016/794, art. 29)."""

HANDLING: Mapping[HandlingCode, str] = MappingProxyType(
    {
        HandlingCode.H0: "only to prevent and combat crime",
        HandlingCode.H1: "not in judicial proceedings without the provider's permission",
        HandlingCode.H2: "not passed on without the provider's permission",
        HandlingCode.H3: "a condition of its own, see the note",
    }
)
"""SIENA handling codes."""

TLP: Mapping[Tlp, str] = MappingProxyType(
    {
        Tlp.RED: "for the eyes of those addressed only",
        Tlp.AMBER_STRICT: "for the agency only, who needs to know",
        Tlp.AMBER: "for the agency and its clients, who need to know",
        Tlp.GREEN: "for the community, not in public",
    }
)
"""TLP 2.0."""

USE_LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "NO_DEATH_PENALTY_OR_CIDT": "not for a death penalty, nor for cruel, inhuman or degrading treatment "
        "(LED art. 9(3), recital 71)",
    }
)
"""What the recipient must never use a record for."""

PURPOSES: Mapping[Purpose, str] = MappingProxyType(
    {
        Purpose.PREVENTION: "preventing offences",
        Purpose.INVESTIGATION: "investigating and detecting offences",
        Purpose.PROSECUTION: "prosecuting offences",
        Purpose.PENALTY_EXECUTION: "executing penalties",
        Purpose.PUBLIC_SECURITY: "safeguarding against threats to public security",
        Purpose.CHILD_PROTECTION: "protecting children",
        Purpose.REHAB_REINTEGRATION: "rehabilitation and reintegration",
        Purpose.LAWFULNESS: "verifying that processing was lawful",
        Purpose.SELF_MONITORING: "self-monitoring by the agency",
        Purpose.INTEGRITY_SECURITY: "integrity and security of the data",
        Purpose.CRIMINAL_PROCEEDINGS: "criminal proceedings",
    }
)
"""Purposes; the last four are for reading the access log (LED art. 25(2))."""


def reason_meaning(reason: str) -> Meaning:
    """What a reason means; one that this version does not know is said as it is."""
    return REASONS.get(reason) or Meaning(reason, "ask whoever runs the key access service")


def violation_line(violation: Violation) -> str:
    """A violation as one line: kind, place, how often, detail, cause."""
    many = f" ({violation.count} in a row)" if violation.count > 1 else ""
    cause = f", caused by {violation.caused_by}" if violation.caused_by else ""
    return f"{violation.kind} at {violation.place}{many}: {printable(violation.detail)}{cause}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and its noun: ``1 batch``, ``2,000 records``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
