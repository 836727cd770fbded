"""Timing work against its baseline: taken in turns, so that both meet the machine in the same moods.

A run is timed by two clocks. *cpu* counts what this process computed, whatever else the machine did
meanwhile; *wall* also counts what it waited for. Work that one process does by itself is compared by
cpu, work that waits for a disk or another process by wall. The minimum of the runs is the cost, the
median tells how quiet the machine was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

__all__ = ["Clock", "Comparison", "Job", "Timing", "compare", "plain"]

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Microseconds for one record in each run, by both clocks."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def runs(self, clock: Clock) -> tuple[float, ...]:
        """The runs by one clock."""
        return self.cpu if clock == "cpu" else self.wall

    def least(self, clock: Clock) -> float:
        """The cost of a record."""
        return min(self.runs(clock))

    def middle(self, clock: Clock) -> float:
        """What it cost in the median run."""
        return median(self.runs(clock))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to be timed: ``run`` handles ``records`` records each time; what is around it is not."""

    records: int
    run: Callable[[], Awaitable[object]]
    prepare: Callable[[], Awaitable[object]] | None = None
    clean: Callable[[], Awaitable[object]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Our work against a baseline. ``reach`` and ``then`` are the ratios to reach, now and later."""

    work: str
    against: str
    batch: int | None
    ours: Timing
    baseline: Timing
    clock: Clock
    reach: float | None = None
    then: float | None = None
    by_others: bool = False
    """Other processes do all the work, and this one only waits for them."""

    @property
    def ratio(self) -> float:
        """How many times cheaper we are: by the least of the runs."""
        return self.baseline.least(self.clock) / self.ours.least(self.clock)

    @property
    def median_ratio(self) -> float:
        """The same by the medians."""
        return self.baseline.middle(self.clock) / self.ours.middle(self.clock)

    @property
    def cpu_ratio(self) -> float | None:
        """How many times less this process computes, whatever it waits for; None where others do the work."""
        if self.by_others:
            return None
        return self.baseline.least("cpu") / self.ours.least("cpu")


def plain(records: int, call: Callable[[], object]) -> Job:
    """A job that waits for nothing."""

    async def run() -> None:
        call()

    return Job(records=records, run=run)


async def compare(jobs: Mapping[str, Job], repeat: int) -> dict[str, Timing]:
    """Run each job once to warm it, then all in turn, ``repeat`` times."""
    for job in jobs.values():
        await _timed(job)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(repeat):
        for name, job in jobs.items():
            found[name].append(await _timed(job))
    return {
        name: Timing(cpu=tuple(cpu for cpu, _ in runs), wall=tuple(wall for _, wall in runs))
        for name, runs in found.items()
    }


async def _timed(job: Job) -> tuple[float, float]:
    if job.prepare is not None:
        await job.prepare()
    try:
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        await job.run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        if job.clean is not None:
            await job.clean()
    return cpu * 1e6 / job.records, wall * 1e6 / job.records
