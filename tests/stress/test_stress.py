"""Where everybody is honest nothing is found: a short run of the stress, with the same seeds each time."""

from __future__ import annotations

from stress.awaited import AWAITED
from stress.campaign import campaign, summary

RUNS = 50


def test_fifty_honest_runs_find_nothing() -> None:
    """Two services, publishers, readers, suspensions, epochs, complaints and restarts: no fault at all."""
    outcomes = list(campaign(range(RUNS)))
    print(summary(outcomes))
    found = [(one.seed, finding) for one in outcomes for finding in one.findings]
    assert [one for one in found if one[1].kind not in AWAITED] == []
    assert sum(one.records for one in outcomes) > RUNS
    assert sum(one.accesses for one in outcomes) > RUNS
