"""Rounds for some minutes, in one process, whose memory must stay flat.

cd tests && ../.venv/bin/python -m fuzz --minutes 10         new seeds each time, which are printed
cd tests && ../.venv/bin/python -m fuzz --seed 4711          one round again
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from broker.services.kas import channel_service
from fuzz.rounds import Fault, play_round

__all__ = ["MAX_GROWTH_BYTES", "growth", "main"]

MAX_GROWTH_BYTES = 32 * 1024 * 1024
"""How much more memory the last third of the rounds may use than the first third."""
_WARM_UP = 20
"""Rounds before memory is looked at: schemas are compiled and modules loaded in them."""


def quiet() -> None:
    """The library warns of everything that is done here, and a service waits where it finds its log cut."""
    channel_service.LOOK_AGAIN_S = (0.0,) * 4
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def resident_bytes() -> int:
    """The memory of this process; 0 where the machine does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def growth(sizes: Sequence[int]) -> int:
    """The median of the last third less that of the first third."""
    third = len(sizes) // 3
    if not third:
        return 0
    return round(statistics.median(sizes[-third:]) - statistics.median(sizes[:third]))


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Mutations that are truly signed and sealed.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=time.time_ns() // 1_000_000_000)
    parser.add_argument("--seed", type=int, help="play this round alone")
    asked = parser.parse_args(arguments)
    quiet()
    if asked.seed is not None:
        faults = play_round(asked.seed)
        _tell(faults)
        return 1 if faults else 0
    end, seed, sizes = time.monotonic() + 60 * asked.minutes, asked.first, list[int]()
    faults = []
    while time.monotonic() < end:
        found = play_round(seed)
        _tell(found)
        faults += found
        seed += 1
        gc.collect()
        sizes.append(resident_bytes())
        if len(sizes) % 100 == 0:
            print(f"{len(sizes)} rounds, {len(faults)} faults, {sizes[-1] >> 20} MiB", flush=True)
    grown = growth(sizes[_WARM_UP:])
    print(
        f"{len(sizes)} rounds, seeds {asked.first} to {seed - 1}: {len(faults)} faults, "
        f"memory grew by {grown / 2**20:.1f} MiB"
    )
    return 1 if faults or grown > MAX_GROWTH_BYTES else 0


def _tell(faults: Sequence[Fault]) -> None:
    for fault in faults:
        print(f"seed {fault.seed}, {fault.fed}:\n{fault.words}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
