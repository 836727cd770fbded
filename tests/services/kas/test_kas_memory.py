"""Floods that the key access service must hold out: its memory stays flat, and each maximum has a name."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from threading import Thread

import pytest

from broker.access.record_states import ChannelRecords, IndexedBatch
from broker.services.kas.channel_state import MAX_PENDING
from broker.services.kas.entries import _MAX_NEWER_STREAMS
from broker.services.kas.orders_ahead import OrdersInFile
from broker.services.kas.resources import _MAX_ALARMS, Alarms
from broker.wire.terms import Action, Target
from support.coalition import POLICE_A, POLICE_B, Coalition
from support.placing import record_terms

DAY = Coalition.create().day


def _order(
    number: int, *targets: Target, issuer: str = POLICE_A, action: Action = Action.ERASE
) -> IndexedBatch:
    """A batch of 256 records that order the same."""
    return IndexedBatch(
        batch_id=number.to_bytes(32, "big"),
        topic="returns",
        partition=0,
        offset=257 * number,
        epoch=0,
        issuer=issuer,
        record_type="ReturnEvent",
        manifest_id=bytes(16),
        count=256,
        judged_at=0,
        terms=(record_terms(DAY, action=action, targets=targets),),
        term_of=bytes(256),
    )


def _grown(step: Callable[[int], object], first: int, last: int) -> int:
    """The bytes that steps ``first`` to ``last`` leave behind, after those before them."""
    for number in range(first):
        step(number)
    tracemalloc.start()
    try:
        for number in range(first, last):
            step(number)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["nobody's", "another's"])
def test_orders_on_records_that_are_not_there_or_not_ones_own(kind: str) -> None:
    """256 orders of a batch, each on another record, cost no more memory than one order does."""
    random = Random(7)
    sizes = []
    for targets in (1, 256):
        records = ChannelRecords(OrdersInFile())
        records.put(replace(_order(2**200, issuer=POLICE_B), terms=(record_terms(DAY),)))

        def step(number: int, records: ChannelRecords = records, targets: int = targets) -> None:
            named = [
                random.randbytes(32) if kind == "nobody's" else (2**200).to_bytes(32, "big")
                for _ in range(targets)
            ]
            batch = _order(number, *(Target(batch_id=name, index=i) for i, name in enumerate(named)))
            # What the service keeps of a batch has no targets; see ChannelRecords.add.
            records._put(replace(batch, terms=(record_terms(DAY),)), batch.terms)

        sizes.append(_grown(step, 50, 350))
    assert sizes[1] < sizes[0] * 1.2 + 100_000


def test_orders_ahead_count_when_their_record_comes() -> None:
    """However many orders stand before their record, each counts, and those of others do not."""
    records = ChannelRecords(OrdersInFile())
    target = (2**200).to_bytes(32, "big")
    for number in range(300):
        records.put(_order(number, Target(batch_id=target, index=number % 256), action=Action.RESTRICT))
    records.put(_order(300, Target(batch_id=target, index=7), issuer=POLICE_B))
    batch = replace(_order(2**200), terms=(record_terms(DAY),))
    records.put(batch)
    states = [records.state(batch, index) for index in range(256)]
    assert all(state.restricted and not state.erased for state in states)


def test_the_file_is_closed_in_whatever_thread() -> None:
    """The garbage collector may run in another thread than the one that kept the orders."""
    ahead = [OrdersInFile()]
    ahead[0].put(bytes(32), b"order")
    thread = Thread(target=ahead.clear)
    thread.start()
    thread.join()
    assert ahead == []


def test_the_same_order_without_end_on_one_record() -> None:
    """256 equal orders of a batch are one entry, so a decision looks at batches and not at records."""
    records = ChannelRecords()
    batch = replace(_order(2**200), terms=(record_terms(DAY),))
    records.put(batch)
    for number in range(100):
        records.put(_order(number, Target(batch_id=batch.batch_id, index=0), action=Action.RECTIFY))
    assert len(records._orders_on(batch.batch_id, 0)) == 100


def test_alarms_have_a_maximum() -> None:
    """Alarms beyond the maximum are not kept, whatever they say and in whichever channel."""
    alarms = Alarms()

    def step(number: int) -> None:
        alarms.add(number % 50, f"detail {number}", f"text {number}")

    assert _grown(step, _MAX_ALARMS, 20 * _MAX_ALARMS) < 10_000
    assert len(alarms.texts) == _MAX_ALARMS


def test_the_maxima_have_names() -> None:
    """What is kept of streams of other replicas, and of batches that wait, is bounded by these numbers."""
    assert (_MAX_NEWER_STREAMS, MAX_PENDING) == (32, 256)
