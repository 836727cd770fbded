"""Whether a replay stays as cheap, in time and in memory, as its log grows.

A log is built for each number of records, replayed in fresh processes, and removed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.coalition import Coalition
from bench.filling import fill
from bench.machine import peak_rss_bytes
from bench.quiet import quiet
from bench.replay import replayed

__all__ = ["Growth", "measure_growth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A replay of so many records: CPU microseconds for each by run, peak memory, size of the log's file."""

    records: int
    cpu: tuple[float, ...]
    peak_rss_bytes: int
    log_bytes: int

    @property
    def least(self) -> float:
        """What a record cost."""
        return min(self.cpu)


def _measure(coalition: Coalition, count: int, answer: Connection) -> None:
    quiet()
    begin = time.process_time()
    report = asyncio.run(replayed(coalition))
    spent = time.process_time() - begin
    assert report.records == count
    answer.send((spent * 1e6 / count, peak_rss_bytes()))


def _in_new_process(coalition: Coalition, count: int) -> tuple[float, int]:
    spawn = multiprocessing.get_context("spawn")
    receiving, sending = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure, args=(coalition, count, sending), daemon=True)
    process.start()
    sending.close()
    try:
        spent, peak = receiving.recv()
    finally:
        process.join()
    return float(spent), int(peak)


async def measure_growth(folder: Path, *, counts: Sequence[int], size: int, repeat: int) -> list[Growth]:
    """One line for each number of records, in batches of ``size``."""
    found: list[Growth] = []
    for count in counts:
        coalition = await Coalition.found(folder / str(count))
        await fill(coalition, count, size)
        runs = [_in_new_process(coalition, count) for _ in range(repeat)]
        found.append(
            Growth(
                records=count,
                cpu=tuple(spent for spent, _ in runs),
                peak_rss_bytes=max(peak for _, peak in runs),
                log_bytes=coalition.path.stat().st_size,
            )
        )
        shutil.rmtree(coalition.folder)
    return found
