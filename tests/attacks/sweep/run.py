"""Every batch of every topic through every manipulation, in processes that take turns at the cases."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from attacks.sweep.long_log import Batch, LongLog, play
from attacks.sweep.manipulations import MANIPULATIONS, Case
from attacks.sweep.watch import Seen, Watch, partitions
from broker.services.kas import channel_service

__all__ = ["Row", "quiet", "swept"]


@dataclass(frozen=True, slots=True)
class Row:
    """One manipulation of one batch, and what became of it."""

    manipulation: str
    batch: Batch
    seen: Seen
    words: str

    def __str__(self) -> str:
        place = f"{self.batch.topic}/{self.batch.partition}@{self.batch.offset}"
        return f"{place} {self.manipulation}: {self.seen} {self.words}".rstrip()


def swept(topics: Sequence[str] | None = None, *, processes: int = 1) -> Iterator[Row | LongLog]:
    """Play the long log, give it, and then the rows of these topics as they come."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ftf-sweep-", dir=shm if shm.is_dir() else None))
    try:
        (folder / "played").mkdir()
        log = play(folder / "played")
        yield log
        watch = Watch.over(log, folder / "watched")
        batches = [batch for batch in log.batches if topics is None or batch.topic in topics]
        with ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn"), initializer=quiet
        ) as pool:
            for rows in pool.map(partial(_rows, watch, folder), batches):
                yield from rows
    finally:
        shutil.rmtree(folder)


def quiet() -> None:
    """In a process of the sweep nothing is printed, and a service that finds its log cut does not wait."""
    channel_service.LOOK_AGAIN_S = (0.0,) * 4
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _rows(watch: Watch, folder: Path, batch: Batch) -> list[Row]:
    """One batch through every manipulation that can be done to it."""
    scratch = folder / f"{batch.topic}-{batch.partition}-{batch.offset}"
    log = partitions(watch.log.folder / "log.db")
    beside = [
        one for one in watch.log.batches if (one.topic, one.partition) == (batch.topic, batch.partition)
    ]
    case = Case(log, batch, beside, watch.log.epochs.get(batch.partition, 0))
    rows: list[Row] = []
    for name, manipulate in MANIPULATIONS.items():
        changed = manipulate(case)
        if changed is not None:
            seen = watch.see(changed, scratch)
            rows.append(Row(name, batch, seen.seen, seen.words))
    shutil.rmtree(scratch, ignore_errors=True)
    return rows
