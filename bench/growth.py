"""Whether a replay stays as cheap, in time and in memory, as its log grows.

A log is built for each number of records and replayed in fresh processes. What a replay costs
whatever the number of records (imports, codecs, the directory) is not counted.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.coalition import AUDITOR, CHANNELS, Coalition
from bench.filling import fill
from bench.machine import peak_rss_bytes
from bench.quiet import quiet
from broker.audit.replay import replay

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


async def _replay_once(coalition: Coalition) -> tuple[float, int]:
    """CPU seconds of a replay whose directory was read, and the records that it verified."""
    async with coalition.participant(AUDITOR) as auditor:
        begin = time.process_time()
        report = await replay(auditor, channels=CHANNELS[:1])
        spent = time.process_time() - begin
    assert report.verified, report.violations[:3]
    return spent, report.counts.records


async def _warm(folder: Path) -> None:
    """Compile the codecs on a log of one batch."""
    coalition = await Coalition.found(folder)
    await fill(coalition, 1, 1)
    await _replay_once(coalition)


def _measure(coalition: Coalition, count: int, answer: Connection) -> None:
    quiet()
    with tempfile.TemporaryDirectory(dir=coalition.folder) as place:
        asyncio.run(_warm(Path(place) / "warm"))
    spent, records = asyncio.run(_replay_once(coalition))
    assert records == count
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
    """One line for each number of records, in batches of ``size``; the replays take turns."""
    logs: dict[int, Coalition] = {}
    for count in counts:
        logs[count] = await Coalition.found(folder / str(count))
        await fill(logs[count], count, size)
    runs: dict[int, list[tuple[float, int]]] = {count: [] for count in logs}
    for _ in range(repeat):
        for count, coalition in logs.items():
            runs[count].append(_in_new_process(coalition, count))
    return [
        Growth(
            records=count,
            cpu=tuple(spent for spent, _ in runs[count]),
            peak_rss_bytes=max(peak for _, peak in runs[count]),
            log_bytes=coalition.path.stat().st_size,
        )
        for count, coalition in logs.items()
    ]
