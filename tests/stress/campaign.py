"""Many runs, in processes of their own, and what they found, by kind and seed.

cd tests && ../.venv/bin/python -m stress                    1,000 runs (FTF_THOROUGH=1: 10,000)
cd tests && ../.venv/bin/python -m stress --seed 4711        one run again, with all that it found
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import structlog

from stress.run import Outcome, run_seed

__all__ = ["campaign", "main", "summary"]

RUNS = 1_000
PROCESSES = 2
THOROUGH = 10
"""How many times as many runs ``FTF_THOROUGH=1`` makes."""
_RUNS_OF_A_PROCESS = 100
_SHOWN_SEEDS = 8


def campaign(seeds: Sequence[int], *, processes: int = PROCESSES) -> Iterator[Outcome]:
    """Run these seeds, in their order; a process ends after a hundred runs, with whatever it holds."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(processes, initializer=_quiet, maxtasksperchild=_RUNS_OF_A_PROCESS) as pool:
        yield from pool.imap(run_seed, seeds)


def _quiet() -> None:
    # The library warns of everything that this exercise provokes on purpose.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def summary(outcomes: Sequence[Outcome]) -> str:
    """What was run, and each kind of finding with the seeds that show it."""
    kinds: dict[str, list[int]] = defaultdict(list)
    example: dict[str, str] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            example.setdefault(finding.kind, finding.detail)
            if outcome.seed not in kinds[finding.kind]:
                kinds[finding.kind].append(outcome.seed)
    records, accesses = sum(one.records for one in outcomes), sum(one.accesses for one in outcomes)
    wrong = sum(bool(one.findings) for one in outcomes)
    lines = [
        f"{len(outcomes)} runs, seeds {outcomes[0].seed} to {outcomes[-1].seed}: {records} records, "
        f"{accesses} accesses, {wrong} runs with findings"
    ]
    for kind, seeds in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = " ".join(map(str, seeds[:_SHOWN_SEEDS])) + (" …" if len(seeds) > _SHOWN_SEEDS else "")
        lines.append(f"  {len(seeds)} runs: {kind} (seeds {shown})")
        lines.append(f"      {example[kind][:240]}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run as many seeds as asked for; exit code 1 if one of them found anything."""
    parser = argparse.ArgumentParser(prog="stress", description="Everybody is honest: nothing may be found.")
    factor = THOROUGH if os.environ.get("FTF_THOROUGH") == "1" else 1
    parser.add_argument("--runs", type=int, default=RUNS * factor)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--seed", type=int, help="run this seed alone, and show all that it found")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _one(asked.seed)
    begun, outcomes = time.monotonic(), list[Outcome]()
    for outcome in campaign(range(asked.first, asked.first + asked.runs), processes=asked.processes):
        outcomes.append(outcome)
        if outcome.findings:
            kinds = ", ".join(sorted({finding.kind for finding in outcome.findings}))
            print(f"seed {outcome.seed}: {kinds}", flush=True)
        elif len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} of {asked.runs} runs, {time.monotonic() - begun:.0f} s", flush=True)
    print(summary(outcomes))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _one(seed: int) -> int:
    _quiet()
    outcome = run_seed(seed)
    for finding in outcome.findings:
        print(f"{finding.kind}: {finding.detail}")
    print(f"seed {seed}: {outcome.records} records, {outcome.accesses} accesses, {outcome.seconds:.1f} s")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
