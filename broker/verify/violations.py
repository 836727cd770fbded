"""Violations: what a reader reports when a log holds something that must not be there.

A violation names its place. ``caused_by`` is the place of the violation that it follows from, so that
one manipulation is one root with its consequences, however much it breaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["MAX_DETAIL", "Kind", "Place", "Violation"]

MAX_DETAIL = 1000
"""The most characters of a violation's detail."""


class Kind(StrEnum):
    """The kinds of violations: a closed list, whose texts stand in reports and never change."""

    # the directory
    DIRECTORY_STATEMENT = "directory-statement"
    DIRECTORY_ROLLBACK = "directory-rollback"
    JUNK_HALF = "junk-half"
    # the logs as the key access service had read them
    LOG_FORKED = "log-forked"
    # framing of a partition
    OFFSET_MISSING = "offset-missing"
    UNACCOUNTED = "unaccounted"
    BODY_ALTERED = "body-altered"
    BODY_MISPLACED = "body-misplaced"
    BODY_MISSING = "body-missing"
    BATCH_VOID = "batch-void"
    BATCH_UNFINISHED = "batch-unfinished"
    # manifests
    MANIFEST_COPIED = "manifest-copied"
    MANIFEST_MALFORMED = "manifest-malformed"
    EPOCH_UNKNOWN = "epoch-unknown"
    EPOCH_SUPERSEDED = "epoch-superseded"
    VIEW_UNKNOWN = "view-unknown"
    NOT_ENTITLED = "not-entitled"
    TERMS_INVALID = "terms-invalid"
    STALE_BATCH = "stale-batch"
    # streams
    STREAM_GAP = "stream-gap"
    STREAM_FORK = "stream-fork"
    STREAM_REPLAYED = "stream-replayed"
    STREAM_CLOSED = "stream-closed"
    # records, seen by the reader that unlocks them
    SCHEMA_MISMATCH = "schema-mismatch"
    MEMBER_SEAL = "member-seal"
    RELEASE_SHARE = "release-share"
    BODY_LOCKED = "body-locked"
    RECORD_INVALID = "record-invalid"
    # the key access service
    RECEIPT_INVALID = "receipt-invalid"
    RECEIPT_WITHOUT_ENTRY = "receipt-without-entry"
    # the access log
    NOT_COLLECTED = "not-collected"
    COLLECTION_WRONG = "collection-wrong"
    ACCESS_REQUEST = "access-request"
    ACCESS_RECORD = "access-record"
    ACCESS_POSITIONS = "access-positions"
    ACCESS_DECISION = "access-decision"
    LATE_ENTRY = "late-entry"


class Place(NamedTuple):
    """The place of a message: the logical topic, the partition and the offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One message that is wrong, or ``count`` messages in a row from ``place`` on.

    ``detail`` may quote an adversary. It is cut to MAX_DETAIL characters, and characters that cannot be
    printed are replaced, so that no report can move the cursor of a terminal.
    """

    kind: Kind
    place: Place
    detail: str
    count: int = 1
    caused_by: Place | None = None

    def __post_init__(self) -> None:
        if len(self.detail) > MAX_DETAIL or not self.detail.isprintable():
            kept = self.detail[:MAX_DETAIL]
            shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in kept)
            object.__setattr__(self, "detail", shown)
