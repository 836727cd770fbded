"""Entries of the access log as evidence: each proves by itself that the service wrote it.

A member or an auditor who asked for a range of the access log gets such entries in the answer. The
log's operator may have altered the log, and the service might show one entry and have written another:
so each entry comes with the signed manifest, its inclusion path (RFC 9162, section 2.1.3), its body, and
the key of the body. Anything wrong here convicts the service and is a PeerError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256

from broker.access.answers import check_service_signature
from broker.crypto.lock import unlock
from broker.crypto.merkle import verify_inclusion
from broker.directory import History
from broker.errors import FormatError, OpenError
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.access import AccessBody, AccessDetails, LogEntry
from broker.wire.encoding import decode
from broker.wire.entry import EntryBytes
from broker.wire.manifest import RecordManifest, Terms

__all__ = [
    "MAX_ENTRIES_BYTES",
    "LoggedAccess",
    "check_log_entry",
    "entries_size",
    "open_log_entry",
]

MAX_ENTRIES_BYTES = 8_000_000
"""Bytes of entries in one answer. The service stops behind this; the caller asks again from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAccess:
    """An entry of the access log that was proved. ``details`` are there once its body was unlocked."""

    offset: int
    index: int
    manifest: RecordManifest
    entry: EntryBytes
    terms: Terms
    details: AccessDetails | None


def open_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """Prove an entry of the access log, and unlock its body.

    Checks what ``check_log_entry`` checks, and (4) that the body unlocks to what was committed to.
    """
    logged = check_log_entry(entry, history, partition)
    if entry.body_key is None:
        raise OpenError("the answer lacks the key of the body")
    body = unlock(entry.body_key, entry.index, entry.body, logged.entry.commitment)  # (4)
    return replace(logged, details=decode(AccessBody, body).details)


def check_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """Prove an entry of the access log by the service's own signature; its body stays locked.

    (1) The manifest is the service's, signed with a key that was active at its directory size, (2) the
    entry is in it, (3) the body is the entry's. Raises FormatError, OpenError, NotEntitled or
    SignatureInvalid, which says what is wrong.
    """
    signed = entry.manifest
    if signed.kind != "manifest":
        raise FormatError(f"kind {signed.kind[:40]!r}, expected 'manifest'")
    manifest = decode(RecordManifest, signed.content)
    header = manifest.header
    if (header.topic, header.partition) != (ACCESS_TOPIC, partition):
        raise FormatError("the manifest stands in another log")
    # The directory of that time, not the newest: a key that was revoked since has signed validly.
    check_service_signature(signed, header.issuer, history.at(header.directory_size))  # (1)
    verify_inclusion(entry.entry, entry.index, manifest.count, entry.path, manifest.entries_root)  # (2)
    parts = EntryBytes.parse(entry.entry)
    if sha256(entry.body).digest() != parts.digest:
        raise OpenError("the body is not the one that the entry names")  # (3)
    return LoggedAccess(
        offset=entry.offset,
        index=entry.index,
        manifest=manifest,
        entry=parts,
        terms=parts.decoded_terms(),
        details=None,
    )


def entries_size(entries: Iterable[LogEntry]) -> int:
    """Return the bytes that an answer counts for these entries, to compare with MAX_ENTRIES_BYTES."""
    return sum(len(entry.manifest.content) + len(entry.entry) + len(entry.body) for entry in entries)
