"""A single entry of a batch, and the columns that it comes from."""

from __future__ import annotations

import pytest

from broker.errors import FormatError
from broker.wire.entry import EntryBytes, entry_bytes
from broker.wire.manifest import DenialTerms, Entries

COUNT = 5
ENTRIES = Entries(
    salts=bytes(range(16 * COUNT)),
    record_ids=b"".join(bytes([i]) * 16 for i in (1, 2, 1, 3, 4)),
    digests=b"".join(bytes([i + 10]) * 32 for i in range(COUNT)),
    commitments=b"".join(bytes([i + 20]) * 32 for i in range(COUNT)),
    release_checks=b"".join(bytes([i + 30]) * 32 for i in range(COUNT)),
    terms=(DenialTerms(agency="XAA:police", count=1, first_at=1, last_at=2),),
    term_of=bytes(COUNT),
)


def test_the_bytes_of_an_entry_are_taken_apart_into_named_fields() -> None:
    """Each part of an entry is the cell of its column, and its terms decode."""
    entry = EntryBytes.parse(entry_bytes(ENTRIES, 3))
    assert entry.salt == ENTRIES.salts[48:64]
    assert entry.record_id == ENTRIES.record_id(3) == b"\3" * 16
    assert entry.digest == b"\x0d" * 32
    assert entry.commitment == ENTRIES.commitment(3) == b"\x17" * 32
    assert entry.release_check == b"\x21" * 32
    assert entry.decoded_terms() == ENTRIES.terms[0]


@pytest.mark.parametrize("size", [0, 127, 128])
def test_an_entry_that_is_cut_short_is_refused(size: int) -> None:
    """Bytes without the whole fixed part, or without terms, are a FormatError."""
    with pytest.raises(FormatError):
        EntryBytes.parse(entry_bytes(ENTRIES, 0)[:size]).decoded_terms()


def test_records_are_found_by_their_id() -> None:
    """Every record with the id is found, and bytes that span two neighbouring ids are no id."""
    assert ENTRIES.indexes_of(b"\1" * 16) == [0, 2]
    assert ENTRIES.indexes_of(b"\4" * 16) == [4]
    assert ENTRIES.indexes_of(b"\1" * 8 + b"\2" * 8) == []
    assert ENTRIES.indexes_of(b"\x09" * 16) == []
