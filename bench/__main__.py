"""The command: which benchmarks to run, how often, and where the numbers go."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from bench.codec import measure_codec
from bench.crypto import measure_crypto
from bench.growth import measure_growth
from bench.kafka import measure_kafka_publish, measure_kafka_read, measure_kafka_replay
from bench.kafka_broker import missing, running
from bench.kafka_growth import measure_kafka_channels, measure_kafka_growth
from bench.kafka_latency import measure_kafka_latency
from bench.machine import describe, load
from bench.publish import measure_publish
from bench.quiet import quiet
from bench.read import measure_read
from bench.replay import measure_replay
from bench.report import Report
from bench.start import measure_start

__all__ = ["main"]

_NAMES = ("crypto", "publish", "read", "replay", "codec", "start", "growth", "kafka")
_QUICK = (10_000, 100_000)
_FULL = (10_000, 100_000, 1_000_000)
_CHANNELS_QUICK = (1, 100, 1000)
_CHANNELS_FULL = (1, 100, 3000)


async def _run(
    folder: Path,
    *,
    names: Sequence[str],
    sizes: Sequence[int],
    counts: Sequence[int],
    channels: Sequence[int],
    repeat: int,
    scale: float,
) -> Report:
    report = Report(machine=describe(), load=[load()])
    for name in names:
        click.echo(f"measuring {name} …", err=True)
        begin, place = time.monotonic(), folder / name
        match name:
            case "crypto":
                report.comparisons += await measure_crypto(place, sizes=sizes, repeat=repeat)
            case "publish":
                report.comparisons += await measure_publish(place, sizes=sizes, repeat=repeat)
            case "read":
                report.comparisons += await measure_read(place, sizes=sizes, repeat=repeat)
            case "replay":
                report.comparisons += await measure_replay(place, sizes=sizes, repeat=repeat, scale=scale)
            case "codec":
                report.codecs += await measure_codec(repeat=repeat)
            case "start":
                report.comparisons += await measure_start(place, repeat=repeat, scale=scale)
            case "growth":
                report.growth += await measure_growth(
                    place, counts=counts, size=max(sizes), repeat=min(repeat, 3)
                )
            case "kafka":
                await _run_kafka(
                    report, place, sizes=sizes, counts=counts, channels=channels, repeat=repeat, scale=scale
                )
        click.echo(f"measured {name} in {time.monotonic() - begin:.0f} s", err=True)
    report.load.append(load())
    return report


async def _run_kafka(
    report: Report,
    place: Path,
    *,
    sizes: Sequence[int],
    counts: Sequence[int],
    channels: Sequence[int],
    repeat: int,
    scale: float,
) -> None:
    is_quick = max(counts) < max(_FULL)
    async with running(place) as broker:
        report.machine = {**report.machine, "Kafka": broker.what}
        for measure in (measure_kafka_publish, measure_kafka_read, measure_kafka_replay):
            with _announced(measure.__name__):
                report.comparisons += await measure(place, broker, sizes=sizes, repeat=repeat, scale=scale)
        with _announced("latency"):
            report.latencies += await measure_kafka_latency(
                place,
                broker,
                seconds=scale * (6 if is_quick else 20),
                saturating=max(2, round(scale * (10_000 if is_quick else 40_000))),
            )
        with _announced("growth"):
            report.kafka_growth += await measure_kafka_growth(
                place, broker, counts=counts, repeat=min(repeat, 3)
            )
        with _announced("channels"):
            report.kafka_growth += await measure_kafka_channels(place, broker, counts=channels)


@contextmanager
def _announced(what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    click.echo(f"  {what.removeprefix('measure_kafka_')}: {time.monotonic() - begin:.0f} s", err=True)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(_NAMES))
@click.option("--quick", is_flag=True, help="Growth at 10,000 and 100,000 records, and 1,000 channels, only.")
@click.option(
    "--records",
    "counts",
    multiple=True,
    type=click.IntRange(min=1),
    help="Growth at so many records; may be repeated.  [default: 10000, 100000, 1000000]",
)
@click.option(
    "--channels",
    multiple=True,
    type=click.IntRange(1, 3000),
    help="Kafka with so many channels; may be repeated.  [default: 1, 100, 3000]",
)
@click.option(
    "--batch",
    "sizes",
    multiple=True,
    type=click.IntRange(1, 256),
    help="Batches of so many records; may be repeated.  [default: 256, 16, 1]",
)
@click.option("--repeat", default=9, show_default=True, type=click.IntRange(min=1), help="Runs of each job.")
@click.option(
    "--scale",
    default=1.0,
    show_default=True,
    help="Times as many records to be replayed, and in all of Kafka's rows, beside growth.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the raw numbers here, too.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, exists=True),
    help="Where the logs are built and removed.",
)
def main(
    names: tuple[str, ...],
    quick: bool,
    counts: tuple[int, ...],
    channels: tuple[int, ...],
    sizes: tuple[int, ...],
    repeat: int,
    scale: float,
    json_path: Path | None,
    folder: Path | None,
) -> None:
    """Measure on this machine what the broker costs, and print the table.

    Without NAMEs everything is measured:

    \b
      crypto   lock, sign and seal a batch, against a signature and a seal for each record
      publish  end to end on the embedded log, against appending plain Avro
      read     end to end on the embedded log, against reading plain Avro
      replay   verify everything, against one Ed25519 verification for each record
      codec    our codec against fastavro, for each record type
      start    the directory of a command, from a snapshot, against reading it from its beginning
      growth   time and peak memory of a replay at 10^4, 10^5 and 10^6 records
      kafka    publish, read, replay, latency and growth on a real broker, against aiokafka alone

    What counts are the ratios: work and baseline take turns in one run on one machine. The table shows
    microseconds for one record, the least of the runs. Clock "cpu" counts what the process computed,
    "wall" also what it waited for: run it on an idle machine. Growth at 10^6 takes some minutes and
    1.5 GB below the directory for temporary files; see docs/performance.md. Kafka is the one at FTF_KAFKA
    (host:port), else a broker on this machine's JVM that is started and removed; without any its rows
    are left out.

    \b
    Examples:
      python -m bench --quick
      python -m bench replay --batch 256 --repeat 20
      python -m bench kafka --quick
      make bench ARGS="--json numbers.json"
    """
    quiet()
    chosen = names or _NAMES
    if "kafka" in chosen and (obstacle := missing()) is not None:
        click.echo(f"no Kafka: {obstacle}; or set FTF_KAFKA=host:port", err=True)
        if names:
            sys.exit(3)
        chosen = tuple(name for name in chosen if name != "kafka")
    with tempfile.TemporaryDirectory(prefix="ftf-bench-", dir=folder) as place:
        report = asyncio.run(
            _run(
                Path(place),
                names=chosen,
                sizes=sizes or (256, 16, 1),
                counts=counts or (_QUICK if quick else _FULL),
                channels=channels or (_CHANNELS_QUICK if quick else _CHANNELS_FULL),
                repeat=repeat,
                scale=scale,
            )
        )
    click.echo(report.to_text())
    if json_path is not None:
        json_path.write_text(json.dumps(report.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
