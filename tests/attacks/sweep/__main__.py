"""Sweep the long log, and keep the table of what was found.

cd tests && ../.venv/bin/python -m attacks.sweep                    everything; writes the table
cd tests && ../.venv/bin/python -m attacks.sweep access directory   these topics, and writes nothing
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from attacks.sweep.long_log import LongLog
from attacks.sweep.run import Row, quiet, swept
from attacks.sweep.table import counted, rendered, write
from attacks.sweep.watch import Seen


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 where something was missed."""
    parser = argparse.ArgumentParser(prog="sweep", description="Every batch through every manipulation.")
    parser.add_argument("topics", nargs="*", help="topics without the prefix; all of them by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print every row, with what was told")
    asked = parser.parse_args(arguments)
    quiet()
    begun, rows = time.monotonic(), list[Row]()
    log: LongLog | None = None
    for one in swept(asked.topics or None, processes=asked.processes):
        if isinstance(one, LongLog):
            log = one
            print(f"played: {len(log.batches)} batches", flush=True)
            continue
        rows.append(one)
        if asked.verbose or one.seen is Seen.MISSED:
            print(one, flush=True)
    assert log is not None
    numbers = counted(log, rows)
    if not asked.topics:
        write(numbers)
    print(rendered(numbers), end="")
    missed = sum(row.seen is Seen.MISSED for row in rows)
    print(f"{len(rows)} rows, {missed} missed, {time.monotonic() - begun:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
