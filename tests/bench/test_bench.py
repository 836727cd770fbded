"""The benchmark works: a tiny run of everything gives numbers. No time is asserted, that is for its table."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)


@cache
def _measured(folder: Path) -> tuple[str, dict[str, Any]]:
    numbers = folder / "numbers.json"
    options = ["--repeat", "1", "--scale", "0.01", "--batch", "4", "--records", "8", "--records", "12"]
    done = _run(
        "crypto", "publish", "read", "replay", "codec", "start", "growth", *options, "--json", str(numbers)
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(numbers.read_text())
    return done.stdout, found


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a tiny run of every benchmark without Kafka prints and writes."""
    return _measured(tmp_path_factory.mktemp("bench"))


def test_every_benchmark_gives_numbers(measured: tuple[str, dict[str, Any]]) -> None:
    """Each comparison has a ratio from our runs and the baseline's, by both clocks."""
    _, numbers = measured
    works = {one["work"].split()[0].rstrip(",") for one in numbers["comparisons"]}
    assert works == {"publish", "the", "read", "replay", "encode", "decode", "start"}
    for one in numbers["comparisons"]:
        for side in ("ours", "baseline"):
            assert len(one[side]["cpu"]) == len(one[side]["wall"]) == 1, one["work"]
            assert all(run > 0 for run in one[side]["wall"]), one["work"]
        assert one["ratio"] > 0, one["work"]


def test_growth_is_measured_at_each_number_of_records(measured: tuple[str, dict[str, Any]]) -> None:
    """Growth has time and peak memory for each number of records that was asked for."""
    _, numbers = measured
    assert [one["records"] for one in numbers["growth"]] == [8, 12]
    assert all(one["peak_rss_bytes"] > 10_000_000 and one["cpu"][0] > 0 for one in numbers["growth"])


def test_the_table_names_the_machine_and_every_comparison(measured: tuple[str, dict[str, Any]]) -> None:
    """The printed tables have a line for each number, under a description of the machine."""
    printed, numbers = measured
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(lines) == len(numbers["comparisons"]) + len(numbers["growth"]) + 3
    assert all(f"- {name}: {value}" in printed for name, value in numbers["machine"].items())


def test_help_teaches_the_command() -> None:
    """--help names every benchmark and says how to repeat a run."""
    shown = _run("--help")
    assert shown.returncode == 0
    assert all(
        name in shown.stdout for name in ("crypto", "publish", "read", "replay", "codec", "growth", "kafka")
    )
    assert "python -m bench --quick" in shown.stdout


def test_an_unknown_benchmark_is_refused() -> None:
    """A name that is no benchmark is wrong usage, and the names there are are listed."""
    refused = _run("nonsense")
    assert refused.returncode == 2
    assert "'growth'" in refused.stderr
