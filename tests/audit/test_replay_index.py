"""What a replay remembers of a channel."""

from __future__ import annotations

from dataclasses import replace

from broker.audit.index import Index
from broker.verify.violations import Place
from support.coalition import POLICE_A, Coalition
from support.partition_log import PartitionLog, batches, scan


def test_a_batch_that_stands_twice_is_told_however_late() -> None:
    """A copy behind all that streams and tags remember is found by its name, and counts once."""
    written = PartitionLog(Coalition.create())
    for _ in range(3):
        written.publish(POLICE_A, 2)
    first, second, third = batches(scan(written.coalition, written.messages))
    with Index(0) as index:
        found = [*index.add(first), *index.add(second), *index.flush()]
        assert found == []
        found = [*index.add(third), *index.add(replace(first, offset=9)), *index.flush()]
        assert found == [(Place("returns", 0, 9), Place("returns", 0, 0))]
        stored = index.batch(first.batch_id)
        assert stored is not None
        assert stored.indexed.offset == 0
