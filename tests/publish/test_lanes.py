"""Lanes and their open batches: which records share a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.avro.schema import default_store
from broker.errors import UsageError
from broker.log import Message, append_bytes
from broker.participant.keyring import Keyring
from broker.publish.assembly import StreamPlace, build_record_batch
from broker.publish.lanes import Lane, Limits, OpenBatch
from broker.wire.batch import Item
from broker.wire.limits import MAX_BATCH_BYTES
from broker.wire.terms import Action, RecordTerms, Target
from support.coalition import AGENCIES, POLICE_A, Coalition, receiving_key, signing_key
from support.partition_log import record_terms

LANE = Lane(channel="repatriation", topic="returns", partition=0, record_type="ReturnEvent", releasable_to=())


def item(size: int = 10, terms: RecordTerms | None = None) -> Item:
    return Item(record_id=bytes(16), terms=terms or record_terms(20_000), body=bytes(size))


def filled(batch: OpenBatch, item: Item) -> int:
    """Fill a batch with copies of a record and return how many it took."""
    count = 0
    while batch.take(item) is not None:
        count += 1
    return count


def test_a_batch_takes_so_many_records_and_no_more() -> None:
    """A batch with max_records is full, says so, and takes no other record."""
    batch = OpenBatch(LANE, Limits(max_records=3))
    assert [batch.take(item()) for _ in range(3)] == [0, 1, 2]
    assert batch.is_full
    assert batch.take(item()) is None
    assert len(batch.items) == 3


def test_a_batch_takes_so_many_bytes() -> None:
    """A batch of the largest bodies ends before a million bytes as the log counts them."""
    batch = OpenBatch(LANE, Limits())
    count = filled(batch, item(32 * 1024))
    assert 20 < count < 31
    assert batch.take(item(0)) == count, "a smaller record still fits"


def test_any_record_fits_an_empty_batch() -> None:
    """A record that is larger than max_bytes travels alone."""
    batch = OpenBatch(LANE, Limits(max_bytes=1))
    assert batch.take(item(32 * 1024)) == 0
    assert batch.is_full
    assert batch.take(item(0)) is None


def test_targets_are_counted() -> None:
    """Orders on more than 256 records do not share a batch."""
    targets = tuple(Target(batch_id=bytes(32), index=i) for i in range(200))
    order = record_terms(20_000, action=Action.ERASE, targets=targets)
    batch = OpenBatch(LANE, Limits())
    assert batch.take(item(terms=order)) == 0
    assert batch.take(item(terms=order)) is None
    assert batch.take(item()) == 1


def test_limits_are_those_of_the_format() -> None:
    """Limits that would make batches no reader accepts are refused."""
    for wrong in ({"max_records": 0}, {"max_records": 257}, {"max_bytes": 0}, {"max_bytes": 1_000_001}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Limits(**wrong)


sizes = st.lists(st.sampled_from([0, 1, 400, 507, 508, 509, 5_000, 32 * 1024]), min_size=1, max_size=60)


@given(sizes, st.booleans(), st.booleans())
def test_a_batch_that_was_taken_is_never_too_large(sizes: list[int], many: bool, shared: bool) -> None:
    """The log takes whatever a batch has taken: its bytes are at most as many as were counted."""
    coalition = Coalition.create()
    releasable = tuple(sorted(AGENCIES)) if many else ()
    batch = OpenBatch(replace(LANE, releasable_to=releasable), Limits())
    for i, size in enumerate(sizes):
        terms = record_terms(20_000, review_by=20_100 + (0 if shared else i))
        if batch.take(item(size, terms)) is None:
            break
    keyring = Keyring.of(POLICE_A, signing_key(POLICE_A), [receiving_key(POLICE_A)])
    built = build_record_batch(
        coalition.directory,
        keyring,
        coalition.directory.channels["repatriation"],
        schema=default_store().current("ReturnEvent"),
        items=batch.items,
        place=StreamPlace(stream=bytes(16)),
        issued_at=coalition.now,
        releasable_to=releasable,
    )
    size = append_bytes([Message(key, value) for key, value in built.messages])
    assert size <= batch.max_size <= MAX_BATCH_BYTES
