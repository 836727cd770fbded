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
from typing import NamedTuple

from broker.access.answers import check_service_signature
from broker.crypto.lock import unlock
from broker.crypto.merkle import verify_inclusion
from broker.directory import History
from broker.errors import FormatError, OpenError
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.access import AccessBody, AccessDetails, Enclosing, LogEntry
from broker.wire.batch import body_message_key
from broker.wire.encoding import decode
from broker.wire.entry import EntryBytes
from broker.wire.manifest import LateTerms, RecordManifest, Terms

__all__ = [
    "MAX_ENTRIES_BYTES",
    "LoggedAccess",
    "StoredBody",
    "check_log_entry",
    "entries_size",
    "open_log_entry",
]

MAX_ENTRIES_BYTES = 8_000_000
"""Bytes of entries in one answer. The service stops behind this; the caller asks again from there."""


class StoredBody(NamedTuple):
    """A body message by what names it: its batch, its place there, and the digest of its value."""

    manifest: RecordManifest
    place: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAccess:
    """An entry of the access log that was proved. ``details`` are there once its body was unlocked.

    ``stands`` is the body that must stand in the log at ``offset``: its own, or that of the outermost LATE
    entry around it.
    """

    offset: int
    index: int
    manifest: RecordManifest
    entry: EntryBytes
    terms: Terms
    details: AccessDetails | None
    stands: StoredBody


def open_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """Prove an entry of the access log, and unlock its body.

    Checks what ``check_log_entry`` checks, and that the body unlocks to what was committed to.
    """
    logged = check_log_entry(entry, history, partition)
    if entry.body_key is None:
        raise OpenError("the answer lacks the key of the body")
    body = unlock(entry.body_key, entry.index, entry.body, logged.entry.commitment)
    return replace(logged, details=decode(AccessBody, body).details)


def check_log_entry(entry: LogEntry, history: History, partition: int) -> LoggedAccess:
    """Prove an entry of the access log by the service's own signature; its body stays locked.

    (1) The manifest is the service's, signed with a key that was active at its directory size, (2) the
    entry is in it, (3) the body is the entry's, (4) each LATE entry around it is proved the same way and
    holds the body of what is within it. Raises FormatError, OpenError, NotEntitled or SignatureInvalid,
    which says what is wrong.
    """
    manifest, parts = _check_entry(entry, history, partition)
    if sha256(entry.body).digest() != parts.digest:
        raise OpenError("the body is not the one that the entry names")  # (3)
    stands = StoredBody(manifest, entry.index, parts.digest)
    for enclosing in reversed(entry.within):  # (4)
        around, late = _check_entry(enclosing, history, partition)
        terms = late.decoded_terms()
        key = body_message_key(stands.manifest.manifest_id, stands.place)
        if not isinstance(terms, LateTerms) or not any(
            message.key == key and sha256(message.value).digest() == stands.digest
            for message in terms.messages
        ):
            raise OpenError("the LATE entry around it does not hold it")
        stands = StoredBody(around, enclosing.index, late.digest)
    return LoggedAccess(
        offset=entry.offset,
        index=entry.index,
        manifest=manifest,
        entry=parts,
        terms=parts.decoded_terms(),
        details=None,
        stands=stands,
    )


def _check_entry(
    entry: LogEntry | Enclosing, history: History, partition: int
) -> tuple[RecordManifest, EntryBytes]:
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
    return manifest, EntryBytes.parse(entry.entry)


def entries_size(entries: Iterable[LogEntry]) -> int:
    """Return the bytes that an answer counts for these entries, to compare with MAX_ENTRIES_BYTES."""
    return sum(
        len(entry.manifest.content)
        + len(entry.entry)
        + len(entry.body)
        + sum(len(one.manifest.content) + len(one.entry) for one in entry.within)
        for entry in entries
    )
