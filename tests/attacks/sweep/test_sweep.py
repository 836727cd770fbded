"""The sweep of one topic, and the table of the last whole sweep."""

from __future__ import annotations

import os

import pytest

from attacks.sweep.long_log import LongLog
from attacks.sweep.manipulations import MANIPULATIONS
from attacks.sweep.run import Row, swept
from attacks.sweep.table import counted, kept, page_part, rendered
from attacks.sweep.watch import Seen

TOPICS = None if os.environ.get("FTF_THOROUGH") == "1" else ["justice"]


@pytest.fixture(scope="module")
def sweep() -> tuple[LongLog, list[Row]]:
    """The long log, and the rows of one topic, or of all of them."""
    log, *rows = swept(TOPICS)
    assert isinstance(log, LongLog)
    return log, [row for row in rows if isinstance(row, Row)]


def test_nothing_below_a_bound_position_is_missed(sweep: tuple[LongLog, list[Row]]) -> None:
    """Each manipulation of each batch is found, or lies above the newest bound position."""
    _, rows = sweep
    missed = [str(row) for row in rows if row.seen is Seen.MISSED]
    assert missed == []
    assert {row.manipulation for row in rows} == MANIPULATIONS.keys()


def test_the_long_log_has_at_least_forty_batches_in_several_streams(
    sweep: tuple[LongLog, list[Row]],
) -> None:
    """It is long enough, and has several streams in the access log and in most topics."""
    log, _ = sweep
    batches = [batch for batch in log.batches if batch.stream]
    assert len(batches) >= 40
    streams = {(batch.topic, batch.stream) for batch in batches}
    assert len([one for one in streams if one[0] == "access"]) >= 4
    assert len([one for one in streams if one[0] == "returns"]) >= 4


def test_the_table_is_that_of_the_sweep(sweep: tuple[LongLog, list[Row]]) -> None:
    """The page shows the last whole sweep, and sweeping a topic again gives the same numbers."""
    assert page_part() == rendered(kept()), "make sweep writes the table"
    log, rows = sweep
    again, before = counted(log, rows), kept()
    assert again["batches"] == before["batches"]
    for name, topics in again["rows"].items():
        for topic, seen in topics.items():
            assert before["rows"][name][topic] == seen, (name, topic)


def test_the_table_shows_every_topic_and_manipulation() -> None:
    """Nothing was missed in the last whole sweep, and no topic and no manipulation was left out."""
    numbers = kept()
    assert set(numbers["rows"]) == set(MANIPULATIONS)
    for name, topics in numbers["rows"].items():
        missed = [topic for topic, seen in topics.items() if Seen.MISSED in seen]
        assert not missed, (name, missed)
    assert {"directory", "access", "keys", "returns"} <= set(numbers["batches"])
