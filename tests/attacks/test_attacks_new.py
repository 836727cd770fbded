"""Attacks that were not found on paper: floods, texts, numbers at their ends, stale positions."""

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
    """M names an issuer of 300,000 characters that clear a screen: shown cut, and harmless."""
    world.publish(count=1, **how)
    found = [one.violation for one in world.replay().violations]
    found += [one for one in world.read() if isinstance(one, Violation)]
    assert len(found) == 4
    assert all(len(one.detail) <= MAX_DETAIL and one.detail.isprintable() for one in found)


def test_a_thousand_violations_and_more(world: Simulator) -> None:
    """O writes 3,000 messages that are each a violation of its own: 1,000 are listed, all are counted."""
    epoch = b"\x01\0\0\0\x09" + bytes(1500)
    garbage = [(b"x", b"%d" % i) if i % 2 else (b"%016d" % i, epoch) for i in range(3000)]
    world.append("returns", 0, *garbage)
    report = world.replay()
    assert len(report.violations) <= 1000
    assert sum(report.by_kind.values()) == report.violation_count
    assert [one for one in world.read() if isinstance(one, Delivered)]


# floods: work that grows faster than what was written


def test_garbage_for_an_epoch_to_come(world: Simulator) -> None:
    """3: N floods with an epoch that is not there, so that each message asks for the directory: no faster."""
    world.append("returns", 0, *[(b"%016d" % i, b"\x01\0\0\0\x09" + bytes(1500)) for i in range(2000)])
    report = world.replay()
    assert [(one.violation.kind, one.violation.count) for one in report.violations] == [
        (Kind.EPOCH_UNKNOWN, 2000)
    ]
    assert [one for one in world.read() if isinstance(one, Delivered)]


def test_orders_without_end_on_one_record(world: Simulator) -> None:
    """24: T orders the same of one record in every record of a batch: it is one order, and it is read."""
    target = Target(batch_id=world["single 0"].batch_id, index=0)

    async def flood(w: Any) -> None:
        terms = {"action": Action.RECTIFY, "targets": (target,)}
        for _ in range(8):
            await publish(w, Forged(issuer=BORDER, count=256, terms=terms, bodies=[b""] * 256))

    world.run(flood)
    answer = world.ask(POLICE_B, world["single 0"].item(0))
    assert [one.released for one in answer.outcomes.values()] == [True]
    assert world.replay().verified


def test_gaps_without_end(world: Simulator) -> None:
    """9: M leaves gap after gap in its stream: each is reported, each statement delivered, memory is flat."""

    async def gaps(w: Any) -> None:
        stream = {"stream": b"g" * 16}
        for i in range(40):
            header = stream | {"sequence": 3 * i + 3, "previous": b"p" * 32}
            await publish(w, Forged(count=1, header=header))

    world.run(gaps)
    report = world.replay()
    assert dict(report.by_kind) == {Kind.STREAM_GAP: 40}
    assert len([one for one in world.read() if isinstance(one, Delivered)]) == 16 + 40


# positions


def test_a_log_cut_below_a_subscribers_position(world: Simulator, tmp_path: Path) -> None:
    """4: O cuts a log below what a subscriber has read of it: it says so, before anything else."""
    state = tmp_path / "state.json"
    world.read(state=state)
    place = world.cut_tail(world["order"].place)
    first = world.read(state=state)[0]
    assert isinstance(first, Violation)
    assert (first.kind, first.place, first.count) == (Kind.OFFSET_MISSING, place, 4)


def test_a_batch_replayed_to_a_subscriber_that_restarts(world: Simulator, tmp_path: Path) -> None:
    """8: O appends an old batch while a subscriber is stopped: it knows the stream's head, and reports it."""
    state = tmp_path / "state.json"
    world.read(state=state)
    place = world.copy_to("family 0", "returns", 0)
    again = world.read(state=state)
    assert next((one.kind, one.place) for one in again if isinstance(one, Violation)) == (
        Kind.STREAM_REPLAYED,
        place,
    )
    assert not [one for one in again if isinstance(one, Delivered)]


def test_a_closed_stream_replayed_to_a_subscriber_that_restarts(world: Simulator, tmp_path: Path) -> None:
    """9: the same with a stream that had to close: that it closed is remembered over a restart."""
    state = tmp_path / "state.json"
    first = world.forge(issuer=CARE, count=1)
    world.many(66, issuer=CARE, count=1)
    world.read(state=state)
    rows = [world.row(first.place._replace(offset=first.place.offset + i)) for i in range(2)]
    place = world.append("returns", 0, *[(row.key, row.value) for row in rows])
    again = world.read(state=state)
    assert next((one.kind, one.place) for one in again if isinstance(one, Violation)) == (
        Kind.STREAM_CLOSED,
        place,
    )


def test_an_offset_at_the_end_of_the_numbers(world: Simulator) -> None:
    """O writes a message at the largest offset that there can be: a gap, and no more."""
    values = ("ftf.returns", 0, HUGE - 1, b"k", b"v", 1)
    world.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
    report = world.replay()
    assert report.violations[0].violation.kind is Kind.OFFSET_MISSING
    assert report.violations[0].violation.place == Place("returns", 0, 26)


@pytest.mark.parametrize("offset", [-1, -HUGE])
def test_a_negative_offset(world: Simulator, offset: int) -> None:
    """O writes a message before the first: no reader ever sees it, and nothing else changes."""
    values = ("ftf.returns", 0, offset, b"k", b"v", 1)
    world.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
    world.must_find_nothing()


# evidence


def test_entries_of_the_log_that_were_altered(world: Simulator) -> None:
    """K, O alter any field of an entry that is given as evidence: whoever opens it says so, in one way."""
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
    assert name in {one.name for one in fields(entry)}
    if name == "index":
        return replace(entry, index=random.choice([-1, 1, 7, 256, 2**31 - 1]))
    if name == "path":
        return replace(entry, path=(*value, bytes(random.choice([0, 31, 32]))))
    cut = random.choice([b"", value[:-1], value + b"\0"])
    flipped = bytearray(value)
    flipped[random.randrange(len(flipped))] ^= 1
    return replace(entry, **{name: random.choice([cut, bytes(flipped)])})
