"""The numbers of a run as a table in Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.growth import Growth
from bench.kafka_growth import KafkaGrowth
from bench.kafka_latency import Latency
from bench.timing import Comparison

__all__ = ["Report"]

_MIB = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run has measured so far."""

    machine: Mapping[str, str]
    load: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    codecs: list[Comparison] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    kafka_growth: list[KafkaGrowth] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything, raw: microseconds for a record by run and clock."""
        return {
            "machine": dict(self.machine),
            "load": list(self.load),
            "comparisons": [_as_json(one) for one in (*self.comparisons, *self.codecs)],
            "growth": [asdict(one) for one in self.growth],
            "kafka_growth": [asdict(one) for one in self.kafka_growth],
            "latencies": [asdict(one) for one in self.latencies],
        }

    def to_text(self) -> str:
        """Tables in Markdown."""
        parts = [
            "\n".join(f"- {name}: {value}" for name, value in self.machine.items()),
            f"- load averages before and after: {'; '.join(self.load)}" if self.load else "",
        ]
        parts = ["\n".join(part for part in parts if part)]
        if self.comparisons:
            parts.append(_table(_HEADS, [_line(one) for one in self.comparisons]))
        if self.codecs:
            parts.append(_table(_HEADS, [_line(one) for one in self.codecs]))
        if self.growth:
            parts.append(_table(_GROWTH_HEADS, _growth_lines(self.growth)))
        if self.latencies:
            parts.append(_table(_LATENCY_HEADS, [_latency_line(one) for one in self.latencies]))
        for what in dict.fromkeys(one.what for one in self.kafka_growth):
            some = [one for one in self.kafka_growth if one.what == what]
            parts.append(_table((f"Kafka, cost of a record by {what}", *_COST_HEADS), _cost_lines(some)))
        return "\n\n".join(parts)


_HEADS = (
    "work",
    "against",
    "batch",
    "clock",
    "ours, us",
    "baseline, us",
    "ratio",
    "of medians",
    "by cpu",
    "reach, then",
    "",
)
_LATENCY_HEADS = ("published to delivered", "records", "a second", "p50, ms", "p99, ms", "most, ms")
_COST_HEADS = ("cpu, us", "against the least", "wall, us")
_GROWTH_HEADS = ("replay of records", "us a record", "against the least", "peak memory, MiB", "log, MiB")


def _as_json(one: Comparison) -> dict[str, Any]:
    return asdict(one) | {"ratio": one.ratio, "median_ratio": one.median_ratio, "cpu_ratio": one.cpu_ratio}


def _line(one: Comparison) -> tuple[str, ...]:
    return (
        one.work,
        one.against,
        "" if one.batch is None else str(one.batch),
        one.clock,
        f"{one.ours.least(one.clock):.2f}",
        f"{one.baseline.least(one.clock):.2f}",
        f"{one.ratio:.2f}",
        f"{one.median_ratio:.2f}",
        "" if one.cpu_ratio is None else f"{one.cpu_ratio:.2f}",
        ", ".join(f"{goal:g}" for goal in dict.fromkeys((one.reach, one.then)) if goal is not None),
        _verdict(one),
    )


def _verdict(one: Comparison) -> str:
    if one.then is not None and one.ratio >= one.then:
        return "reached"
    if one.reach is None:
        return "" if one.then is None else "not yet"
    return "reached, then not yet" if one.ratio >= one.reach else "missed"


def _growth_lines(growth: Sequence[Growth]) -> list[tuple[str, ...]]:
    least = min(one.least for one in growth)
    return [
        (
            f"{one.records:,}",
            f"{one.least:.2f}",
            f"{one.least / least:.2f}",
            f"{one.peak_rss_bytes / _MIB:.1f}",
            f"{one.log_bytes / _MIB:.0f}",
        )
        for one in growth
    ]


def _latency_line(one: Latency) -> tuple[str, ...]:
    return (
        one.work,
        f"{one.records:,}",
        f"{one.per_second:,.0f}",
        *(f"{ms:.1f}" for ms in (one.p50_ms, one.p99_ms, one.most_ms)),
    )


def _cost_lines(costs: Sequence[KafkaGrowth]) -> list[tuple[str, ...]]:
    least = {one.work: min(other.cpu_us for other in costs if other.work == one.work) for one in costs}
    return [
        (
            f"{one.work}, {one.count:,}",
            f"{one.cpu_us:.1f}",
            f"{one.cpu_us / least[one.work]:.2f}",
            f"{one.wall_us:.1f}",
        )
        for one in sorted(costs, key=lambda one: (one.work, one.count))
    ]


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(heads), *(list(line) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    shown = ["| " + " | ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)) + " |" for row in rows]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(shown)
