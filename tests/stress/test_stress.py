"""Where everybody is honest nothing is found: a short run of the stress, with the same seeds each time."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from stress import run
from stress.campaign import campaign, summary
from stress.exercise import Exercise

RUNS = 50


def test_fifty_honest_runs_find_nothing() -> None:
    """Two services, publishers, readers, suspensions, epochs, complaints and restarts: no fault at all."""
    outcomes = list(campaign(range(RUNS)))
    print(summary(outcomes))
    found = [(one.seed, finding) for one in outcomes for finding in one.findings]
    assert found == []
    assert sum(one.records for one in outcomes) > RUNS
    assert sum(one.accesses for one in outcomes) > RUNS


def test_a_run_in_which_somebody_is_not_honest_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose body is altered before the last reading is a finding for the reader and the replay."""
    settle = Exercise.settle

    async def alter(exercise: Exercise, rng: random.Random) -> None:
        await settle(exercise, rng)
        one = next(iter(exercise.sent.values())).published
        where = (f"ftf.{one.topic}", one.partition, one.offset + 1)
        with closing(sqlite3.connect(exercise.world.path)) as db, db:
            db.execute(
                "UPDATE message SET value = zeroblob(length(value))"
                " WHERE topic = ? AND partition = ? AND offset = ?",
                where,
            )

    monkeypatch.setattr(Exercise, "settle", alter)
    kinds = {finding.kind for finding in run.run_seed(1).findings}
    assert "body-altered in replay" in kinds
    assert kinds & {"body-altered seen by a reader", "error in the last reading"}
