"""Meanings of the codes that the broker answers with: denials, violations, grades, handling codes, purposes.

There is one table for each kind of code, so that every command and every page explains a code in the same
words. A test holds that each table has every code, and no other.
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
    "reason_meaning",
    "violation_line",
]


class Meaning(NamedTuple):
    """Why access was denied, and what the reader can do about it."""

    text: str
    advice: str


REASONS: Mapping[str, Meaning] = MappingProxyType(
    {
        # The service gives strangers this answer whether the channel and the record exist or not, so the
        # words must not say more either.
        Reason.NOT_MEMBER: Meaning(
            "your agency is not a member of this channel, and is told nothing about it",
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
            "the key access service has not taken the record over, or has refused it",
            "try again in a moment; if the service refused it, its originator must publish it anew",
        ),
        Reason.NOT_HELD: Meaning(
            "the key access service took the record over, and has lost its share of the key",
            "its originator must publish it anew",
        ),
        Reason.EPOCH_NOT_GRANTED: Meaning(
            "the record was shared under earlier channel keys, which your agency does not have",
            "ask a member of the channel to grant the earlier keys: ftf-broker channel grant",
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
            "the record was shared for a purpose that does not include this one (LED art. 4(2))",
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
            "its originator has withdrawn it",
            "delete your copies of it, and tell everybody to whom you passed it on",
        ),
        Reason.ERASED: Meaning(
            "it was erased, and nobody can read it any more",
            "delete your copies of it, and tell everybody to whom you passed it on",
        ),
        Reason.EXPIRED: Meaning(
            "the time for which it may be kept is over: its erase_by has passed (LED art. 5)",
            "delete your copies of it",
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
"""Why a record was not delivered. The keys are those of Reason, and READER_TOO_OLD."""

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.DIRECTORY_STATEMENT: "a statement of the directory is not valid, so it does not count",
        Kind.LOG_FORKED: "the log differs from what the key access service had read; nobody is accused",
        Kind.DIRECTORY_ROLLBACK: "the directory is shorter than, or differs from, the one seen before",
        Kind.JUNK_HALF: "what was sealed to you of a channel's keys is junk: who sealed it is to blame",
        Kind.OFFSET_MISSING: "messages are missing from the log",
        Kind.UNACCOUNTED: "a message belongs to no valid manifest",
        Kind.BODY_ALTERED: "a body is not the one that its manifest signed",
        Kind.BODY_MISPLACED: "a body is in the wrong place",
        Kind.BODY_MISSING: "a body of a batch is missing",
        Kind.BATCH_VOID: "a batch is void: not all of its bodies follow its manifest",
        Kind.BATCH_UNFINISHED: "the log ends within a batch",
        Kind.MANIFEST_COPIED: "a manifest of this log was written once more",
        Kind.MANIFEST_MALFORMED: "a manifest is not in the one form that the format allows",
        Kind.EPOCH_UNKNOWN: "a manifest names channel keys that do not exist",
        Kind.EPOCH_SUPERSEDED: "a manifest uses channel keys that have been replaced twice since",
        Kind.VIEW_UNKNOWN: "an issuer relied on a directory that is not a part of ours",
        Kind.NOT_ENTITLED: "an issuer was not entitled to publish",
        Kind.TERMS_INVALID: "a record has terms that the channel does not allow",
        Kind.STALE_BATCH: "a batch came too late, and its publisher has not published it anew",
        Kind.STREAM_GAP: "statements are missing from the stream of an issuer",
        Kind.STREAM_FORK: "an issuer wrote two different statements for one place in its stream",
        Kind.STREAM_REPLAYED: "a statement of an issuer was repeated, or is out of order",
        Kind.STREAM_CLOSED: "an issuer went on with a stream that it had closed",
        Kind.SCHEMA_MISMATCH: "a record names a schema of another record type",
        Kind.MEMBER_SEAL: "the member share of a batch does not open: its issuer is to blame",
        Kind.RELEASE_SHARE: "a release share does not fit the record: the key access service is to blame",
        Kind.BODY_LOCKED: "a body does not unlock with the right keys: its issuer is to blame",
        Kind.RECORD_INVALID: "a record breaks the rules of its type: its issuer is to blame",
        Kind.RECEIPT_INVALID: "an answer of the key access service is wrong",
        Kind.RECEIPT_WITHOUT_ENTRY: "the access log lacks the entry that a receipt names",
        Kind.NOT_COLLECTED: "the key access service never took a batch over",
        Kind.COLLECTION_WRONG: "a take-over entry of the service does not fit the batches in the log",
        Kind.ACCESS_REQUEST: "an access entry holds no valid signed request",
        Kind.ACCESS_RECORD: "an access entry names a record that does not exist",
        Kind.ACCESS_POSITIONS: "an access entry records positions of the logs that cannot be right",
        Kind.ACCESS_DECISION: "an access was allowed or denied against the rules",
        Kind.LATE_ENTRY: "the end of the access log was cut off and appended again later",
    }
)
"""What each kind of violation means."""

# The same letters mean other things in the Admiralty system, so the words must always be shown with them.
GRADES_OF_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "A": "no doubt about the source",
        "B": "the source was mostly reliable",
        "C": "the source was mostly unreliable",
        "X": "the source cannot be assessed",
    }
)
"""Europol's grades of sources (Regulation (EU) 2016/794, art. 29)."""

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
        HandlingCode.H3: "on another condition, which the note states",
    }
)
"""SIENA handling codes."""

TLP: Mapping[Tlp, str] = MappingProxyType(
    {
        Tlp.RED: "only for the persons to whom it is addressed",
        Tlp.AMBER_STRICT: "only for those in the agency who need to know",
        Tlp.AMBER: "for those in the agency and among its clients who need to know",
        Tlp.GREEN: "for the community, but not for the public",
    }
)
"""Labels of the Traffic Light Protocol 2.0."""

USE_LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "NO_DEATH_PENALTY_OR_CIDT": "not for a death penalty, nor for cruel, inhuman or degrading treatment "
        "(LED art. 9(3), recital 71)",
    }
)
"""Uses that the provider forbids to every recipient."""

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
"""Purposes of reading. The last four are for reading the access log only (LED art. 25(2))."""


def reason_meaning(reason: str) -> Meaning:
    """Return what a reason of a denial means.

    A newer service may give a reason that this version does not know. It is then shown as it is.
    """
    # The keys are members of a StrEnum, each equal to its text, so the text of an answer finds them.
    return REASONS.get(reason) or Meaning(reason, "ask the operator of the key access service")


def violation_line(violation: Violation) -> str:
    """Return a violation as one line: kind, place, how many in a row, detail, and its cause."""
    # The detail may quote a peer, so it is the only part that printable() must make harmless.
    in_a_row = f" ({violation.count} in a row)" if violation.count > 1 else ""
    cause = f", caused by {violation.caused_by}" if violation.caused_by else ""
    return f"{violation.kind} at {violation.place}{in_a_row}: {printable(violation.detail)}{cause}"
