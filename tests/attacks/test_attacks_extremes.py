"""Attacks by size and by extremes: floods, hostile texts, the largest numbers, and stale positions."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.access.log_evidence import open_log_entry
from broker.errors import PeerError
from broker.subscribe.subscriber import Delivered, Violation
from broker.verify.violations import MAX_DETAIL, Kind, Place
from broker.wire.access import LogEntry
from broker.wire.manifest import LogItem
from broker.wire.terms import Action, Purpose, Target
from support.coalition import AUDITOR, BORDER, CARE, POLICE_B, signing_key
from support.forgery import Forged, publish
from support.simulator import Simulator

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n"
HUGE = 2**63 - 1


# texts that an adversary writes


@pytest.mark.parametrize(
    "how",
    [
        {"issuer": ESCAPES + "x" * 300_000, "key": signing_key(CARE)},
        {"header": {"directory_size": 999, "issuer": ESCAPES + "y" * 300_000}},
        {"named_type": ESCAPES + "t" * 200_000},
    ],
    ids=["issuer", "issuer of another view", "record type"],
)
def test_text_for_the_auditors_terminal(world: Simulator, how: dict[str, Any]) -> None:
    """A violation shows a hostile text cut short and without control characters."""
    world.publish(count=1, **how)
    found = [entry.violation for entry in world.replay().violations]
    found += [item for item in world.read() if isinstance(item, Violation)]
    assert found
    assert all(len(violation.detail) <= MAX_DETAIL and violation.detail.isprintable() for violation in found)


def test_a_thousand_violations_and_more(world: Simulator) -> None:
    """A report lists at most 1,000 violations and counts all of them."""
    epoch = b"\x01\0\0\0\x09" + bytes(1500)
    garbage = [(b"x", b"%d" % i) if i % 2 else (b"%016d" % i, epoch) for i in range(3000)]
    world.append("returns", 0, *garbage)
    report = world.replay()
    assert len(report.violations) <= 1000
    assert sum(report.by_kind.values()) == report.violation_count
    assert [item for item in world.read() if isinstance(item, Delivered)]


# floods: work that grows faster than what was written


def test_garbage_for_an_epoch_to_come(world: Simulator) -> None:
    """3: A flood under an epoch that does not exist gives one counted violation."""
    world.append("returns", 0, *[(b"%016d" % i, b"\x01\0\0\0\x09" + bytes(1500)) for i in range(2000)])
    report = world.replay()
    assert [(found.violation.kind, found.violation.count) for found in report.violations] == [
        (Kind.EPOCH_UNKNOWN, 2000)
    ]
    assert [item for item in world.read() if isinstance(item, Delivered)]


def test_orders_without_end_on_one_record(world: Simulator) -> None:
    """24: The same order on one record, given 2,048 times, leaves the record readable."""
    target = Target(batch_id=world["single 0"].batch_id, index=0)

    async def flood(w: Any) -> None:
        terms = {"action": Action.RECTIFY, "targets": (target,)}
        for _ in range(8):
            await publish(w, Forged(issuer=BORDER, count=256, terms=terms, bodies=[b""] * 256))

    world.run(flood)
    answer = world.ask(POLICE_B, world["single 0"].item(0))
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    assert world.replay().verified


def test_orders_on_records_that_do_not_exist(world: Simulator) -> None:
    """24: Thousands of orders on records that do not exist leave every record readable, and the log right."""
    random = Random(24)

    async def flood(w: Any) -> None:
        for _ in range(20):
            targets = tuple(Target(batch_id=random.randbytes(32), index=0) for _ in range(256))
            terms = {"action": Action.ERASE, "targets": targets}
            await publish(w, Forged(issuer=BORDER, count=1, terms=terms, bodies=[b""]))

    world.run(flood)
    answer = world.ask(POLICE_B, world["single 0"].item(0))
    assert [outcome.released for outcome in answer.outcomes.values()] == [True]
    assert world.replay().verified


def test_gaps_without_end(world: Simulator) -> None:
    """9: Each of 40 gaps in a stream is reported, and each batch is delivered."""

    async def gaps(w: Any) -> None:
        stream = {"stream": b"g" * 16}
        for i in range(40):
            header = stream | {"sequence": 3 * i + 3, "previous": b"p" * 32}
            await publish(w, Forged(count=1, header=header))

    world.run(gaps)
    report = world.replay()
    assert dict(report.by_kind) == {Kind.STREAM_GAP: 40}
    assert len([item for item in world.read() if isinstance(item, Delivered)]) == 16 + 40


# positions


def test_a_log_cut_below_a_subscribers_position(world: Simulator, tmp_path: Path) -> None:
    """4: A subscriber first reports that the log was cut below its position."""
    state = tmp_path / "state.json"
    world.read(state=state)
    place = world.cut_tail(world["order"].place)
    first = world.read(state=state)[0]
    assert isinstance(first, Violation)
    assert (first.kind, first.place, first.count) == (Kind.LOG_FORKED, place, 4)


def test_a_batch_replayed_to_a_subscriber_that_restarts(world: Simulator, tmp_path: Path) -> None:
    """8: A restarted subscriber reports a replayed batch and does not deliver it."""
    state = tmp_path / "state.json"
    world.read(state=state)
    place = world.copy_to("family 0", "returns", 0)
    again = world.read(state=state)
    assert next((item.kind, item.place) for item in again if isinstance(item, Violation)) == (
        Kind.STREAM_REPLAYED,
        place,
    )
    assert not [item for item in again if isinstance(item, Delivered)]


def test_a_closed_stream_replayed_to_a_subscriber_that_restarts(world: Simulator, tmp_path: Path) -> None:
    """9: A subscriber remembers over a restart that a stream closed."""
    state = tmp_path / "state.json"
    first = world.forge(issuer=CARE, count=1)
    world.many(66, issuer=CARE, count=1)
    world.read(state=state)
    rows = [world.row(first.place._replace(offset=first.place.offset + i)) for i in range(2)]
    place = world.append("returns", 0, *[(row.key, row.value) for row in rows])
    again = world.read(state=state)
    assert next((item.kind, item.place) for item in again if isinstance(item, Violation)) == (
        Kind.STREAM_CLOSED,
        place,
    )


def test_an_offset_at_the_end_of_the_numbers(world: Simulator) -> None:
    """A message at the largest possible offset is reported as a gap in the offsets."""
    values = ("ftf.returns", 0, HUGE - 1, b"k", b"v", 1)
    world.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
    report = world.replay()
    assert report.violations[0].violation.kind is Kind.OFFSET_MISSING
    assert report.violations[0].violation.place == Place("returns", 0, 26)


@pytest.mark.parametrize("offset", [-1, -HUGE])
def test_a_negative_offset(world: Simulator, offset: int) -> None:
    """A message at a negative offset is read by nobody and changes nothing."""
    values = ("ftf.returns", 0, offset, b"k", b"v", 1)
    world.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
    world.must_find_nothing()


# evidence


def test_entries_of_the_log_that_were_altered(world: Simulator) -> None:
    """Opening an access entry as evidence raises PeerError when any of its fields was altered."""
    answer = world.ask(AUDITOR, LogItem(start=0, end=14), purpose=Purpose.LAWFULNESS)
    follower = world.run(lambda w: w.follower())
    random = Random(2396)
    assert len(answer.entries) >= 7
    for entry in answer.entries:
        open_log_entry(entry, follower.history, 0)
        for name in ("entry", "body", "index", "path", "body_key"):
            for _ in range(8):
                altered = _altered(entry, name, random)
                with pytest.raises(PeerError):
                    open_log_entry(altered, follower.history, 0)
        content = bytearray(entry.manifest.content)
        content[random.randrange(len(content))] ^= 1
        signed = replace(entry.manifest, content=bytes(content))
        with pytest.raises(PeerError):
            open_log_entry(replace(entry, manifest=signed), follower.history, 0)


def _altered(entry: LogEntry, name: str, random: Random) -> LogEntry:
    value: Any = getattr(entry, name)
    assert name in {field.name for field in fields(entry)}
    if name == "index":
        return replace(entry, index=random.choice([-1, 1, 7, 256, 2**31 - 1]))
    if name == "path":
        return replace(entry, path=(*value, bytes(random.choice([0, 31, 32]))))
    cut = random.choice([b"", value[:-1], value + b"\0"])
    flipped = bytearray(value)
    flipped[random.randrange(len(flipped))] ^= 1
    return replace(entry, **{name: random.choice([cut, bytes(flipped)])})
