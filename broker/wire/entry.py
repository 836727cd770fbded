"""One entry of a batch, as the bytes that are hashed into the entries root of its manifest.

    entry   salt (16) | record_id (16) | digest (32) | commitment (32) | release_check (32) | Avro(terms)

A manifest carries its entries as columns (``Entries``); a single entry stands alone only in an answer
about the access log, as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from broker.errors import FormatError
from broker.wire.encoding import decode
from broker.wire.manifest import Terms, TermsLeaf

__all__ = ["EntryBytes"]

_FIXED = Struct("16s16s32s32s32s")


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
