"""The entries of a batch: as columns in its manifest, and one by one as they are hashed.

    entry i      salt (16) | record_id (16) | digest (32) | commitment (32) | release_check (32) | Avro(terms)
    entries_root RFC 6962 tree hash over the entries

A manifest carries its entries as columns (``Entries``), since equal terms are then written once. A single
entry stands alone only in an answer about the access log, as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import repeat
from struct import Struct
from typing import Self

from broker.errors import FormatError
from broker.wire.encoding import decode, encode
from broker.wire.limits import MAX_TARGETS
from broker.wire.manifest import Entries, Terms, TermsLeaf
from broker.wire.terms import RecordTerms

__all__ = [
    "ENTRY_FIXED_BYTES",
    "EntryBytes",
    "check_entries",
    "count_targets",
    "distinct_terms",
    "entry_bytes",
    "leaf_hashes",
]

_COLUMNS = (("salts", 16), ("record_ids", 16), ("digests", 32), ("commitments", 32), ("release_checks", 32))
_FIXED = Struct("".join(f"{size}s" for _, size in _COLUMNS))

ENTRY_FIXED_BYTES = _FIXED.size
"""The length of an entry without its terms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBytes:
    """The parts of an entry; ``terms`` are still encoded."""

    salt: bytes
    record_id: bytes
    digest: bytes
    """SHA-256 of the body message's value."""
    commitment: bytes
    release_check: bytes
    terms: bytes

    @classmethod
    def parse(cls, entry: bytes) -> Self:
        """Take an entry apart. Raises FormatError when it is shorter than its fixed part of 128 bytes."""
        if len(entry) < _FIXED.size:
            raise FormatError(f"entry of {len(entry)} bytes, expected at least {_FIXED.size}")
        salt, record_id, digest, commitment, release_check = _FIXED.unpack_from(entry)
        return cls(
            salt=salt,
            record_id=record_id,
            digest=digest,
            commitment=commitment,
            release_check=release_check,
            terms=entry[_FIXED.size :],
        )

    def decoded_terms(self) -> Terms:
        """Return the terms of the entry. Raises FormatError when they are malformed."""
        return decode(TermsLeaf, self.terms).terms


def entry_bytes(entries: Entries, index: int) -> bytes:
    """Return entry ``index`` as it is hashed into the entries root."""
    columns = [getattr(entries, name)[index * size : (index + 1) * size] for name, size in _COLUMNS]
    return b"".join(columns) + encode(TermsLeaf(terms=entries.terms[entries.term_of[index]]))


def leaf_hashes(entries: Entries) -> list[bytes]:
    """Return the leaf hashes of the entries, whose columns must have been checked before."""
    encoded = [encode(TermsLeaf(terms=terms)) for terms in entries.terms]
    count = len(entries.term_of)
    columns = (_cells(size, count)(getattr(entries, name)) for name, size in _COLUMNS)
    terms_column = [encoded[term] for term in entries.term_of]
    # unpack, zip and join run in C. This line is a fifth of what replaying a record costs.
    leaves = map(b"".join, zip(repeat(b"\0"), *columns, terms_column, strict=False))
    return [sha256(leaf).digest() for leaf in leaves]


@lru_cache(maxsize=64)
def _cells(size: int, count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return a function that cuts a column into its cells, at a third of the cost of slices."""
    return Struct(f"{size}s" * count).unpack


def distinct_terms(terms_of_records: Sequence[Terms]) -> tuple[tuple[Terms, ...], bytes]:
    """Return each distinct term once, in order of first use, and for each record the place of its terms."""
    places: dict[Terms, int] = {}
    # Most records of a batch share one object of terms, and hashing terms costs more than locking a body. So
    # they are looked up by identity first. The caller keeps the objects alive, so an id is not used twice.
    known: dict[int, int] = {}
    term_of = bytearray()
    for terms in terms_of_records:
        place = known.get(id(terms))
        if place is None:
            place = places.setdefault(terms, len(places))
            known[id(terms)] = place
        term_of.append(place)
    return tuple(places), bytes(term_of)


def count_targets(terms: Sequence[Terms], term_of: bytes) -> int:
    """Return how many targets the records of a batch have together."""
    targets = [len(each.targets) if isinstance(each, RecordTerms) else 0 for each in terms]
    return sum(targets[term] for term in term_of) if any(targets) else 0


def check_entries(entries: Entries, count: int) -> None:
    """Check that the columns hold ``count`` entries in their one form. Raises FormatError if not."""
    for name, size in _COLUMNS:
        if len(getattr(entries, name)) != count * size:
            raise FormatError(f"column '{name}' does not hold {count} entries")
    if len(entries.term_of) != count:
        raise FormatError(f"column 'term_of' does not hold {count} entries")
    # Each distinct term stands once, in order of first use: so one meaning has one encoding and one digest.
    first_use = tuple(dict.fromkeys(entries.term_of))
    if first_use != tuple(range(len(entries.terms))) or len(set(entries.terms)) != len(entries.terms):
        raise FormatError("terms are not each distinct one once, in order of first use")
    if count_targets(entries.terms, entries.term_of) > MAX_TARGETS:
        raise FormatError(f"more than {MAX_TARGETS} targets")
