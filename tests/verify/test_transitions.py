"""The transition table of a reader: it is complete, consistent, and what the reader really does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest

from broker.log.protocol import StoredMessage
from broker.verify import partition, pending
from broker.verify.partition import DirectoryBehind, Event, PartitionReader
from broker.verify.pending import Copy, Doubt, Silent, Whole
from broker.verify.transitions import (
    LEADS_TO,
    TABLE,
    Action,
    Arrival,
    Between,
    Skipped,
    State,
    StateName,
    arrival_of,
    name_of,
)
from broker.verify.verdict import Verdict
from broker.wire.batch import Batch
from support.coalition import BORDER, JUSTICE, POLICE_A, Coalition
from support.partition_log import PartitionLog, feed, reader, record_terms, violations

STATES: tuple[StateName, ...] = (Between, Skipped, Whole, Silent, Copy, Doubt)
PENDING: tuple[StateName, ...] = (Whole, Silent, Copy)
OF_A_BATCH = {Arrival.BODY, Arrival.OVERSIZED, Arrival.WRONG_BODY, Arrival.FOREIGN_BODY}
ROWS = [(state, arrival) for state in STATES for arrival in TABLE[state]]


def _row_id(value: object) -> str:
    return value.name if isinstance(value, Arrival) else getattr(value, "__name__", str(value))


# The state in which each row ends, and the kinds of the violations that it reports, in order. A hole is
# in front of a stranger here, and a doubt is settled by the flush that shows what was reported.
EXPECTED: dict[StateName, dict[Arrival, tuple[StateName, str]]] = {
    Between: {
        Arrival.STRANGER: (Between, "unaccounted"),
        Arrival.REPEAT: (Copy, ""),
        Arrival.MANIFEST: (Whole, ""),
        Arrival.OPAQUE: (Skipped, ""),
        Arrival.HOLE: (Between, "offset-missing unaccounted"),
        Arrival.PAUSE: (Between, ""),
        Arrival.END: (Between, ""),
    },
    Skipped: {
        Arrival.BODY: (Skipped, ""),
        Arrival.STRANGER: (Between, "unaccounted"),
        Arrival.REPEAT: (Copy, ""),
        Arrival.MANIFEST: (Whole, ""),
        Arrival.OPAQUE: (Skipped, ""),
        Arrival.HOLE: (Between, "offset-missing unaccounted"),
        Arrival.PAUSE: (Skipped, ""),
        Arrival.END: (Skipped, ""),
    },
    Whole: {
        Arrival.BODY: (Whole, ""),
        Arrival.OVERSIZED: (Between, "batch-void"),
        Arrival.WRONG_BODY: (Between, "body-altered batch-void"),
        Arrival.FOREIGN_BODY: (Doubt, "batch-void unaccounted"),
        Arrival.STRANGER: (Between, "unaccounted batch-void"),
        Arrival.REPEAT: (Between, "manifest-copied batch-void"),
        Arrival.MANIFEST: (Whole, "body-missing batch-void"),
        Arrival.OPAQUE: (Skipped, "body-missing batch-void"),
        Arrival.HOLE: (Between, "offset-missing batch-void unaccounted"),
        Arrival.PAUSE: (Whole, ""),
        Arrival.END: (Between, "batch-unfinished"),
    },
    Silent: {
        Arrival.BODY: (Silent, ""),
        Arrival.OVERSIZED: (Between, ""),
        Arrival.WRONG_BODY: (Between, "unaccounted"),
        Arrival.FOREIGN_BODY: (Between, "unaccounted"),
        Arrival.STRANGER: (Between, "unaccounted"),
        Arrival.REPEAT: (Copy, ""),
        Arrival.MANIFEST: (Whole, ""),
        Arrival.OPAQUE: (Skipped, ""),
        Arrival.HOLE: (Between, "offset-missing unaccounted"),
        Arrival.PAUSE: (Silent, ""),
        Arrival.END: (Silent, ""),
    },
    Copy: {
        Arrival.BODY: (Copy, ""),
        Arrival.OVERSIZED: (Between, "manifest-copied"),
        Arrival.WRONG_BODY: (Between, "manifest-copied unaccounted"),
        Arrival.FOREIGN_BODY: (Between, "manifest-copied unaccounted"),
        Arrival.STRANGER: (Between, "manifest-copied unaccounted"),
        Arrival.REPEAT: (Copy, "manifest-copied"),
        Arrival.MANIFEST: (Whole, "manifest-copied"),
        Arrival.OPAQUE: (Skipped, "manifest-copied"),
        Arrival.HOLE: (Between, "offset-missing manifest-copied unaccounted"),
        Arrival.PAUSE: (Copy, ""),
        Arrival.END: (Between, "manifest-copied"),
    },
    Doubt: {
        Arrival.STRANGER: (Between, "batch-void unaccounted unaccounted"),
        Arrival.REPEAT: (Copy, "batch-void unaccounted"),
        Arrival.MANIFEST: (Whole, "batch-void unaccounted"),
        Arrival.OPAQUE: (Skipped, "batch-void unaccounted"),
        Arrival.HOLE: (Between, "batch-void unaccounted offset-missing unaccounted"),
        Arrival.PAUSE: (Between, "batch-void unaccounted"),
        Arrival.END: (Between, "batch-void unaccounted"),
    },
}


@dataclass
class _Batches:
    """Batches of one channel, to be fed in any order; the reader lacks the key of epoch 0."""

    coalition: Coalition
    opaque: Batch
    delivered: Batch
    awaited: Batch
    refused: Batch
    other: Batch
    ahead: Batch


@cache
def _batches() -> _Batches:
    coalition = Coalition.create()
    coalition.add_auditor("auditor-two", ["repatriation"])
    coalition.new_epoch("repatriation", POLICE_A)
    log = PartitionLog(coalition)
    day = coalition.day
    opaque = log.publish(POLICE_A, 2, epoch=0)
    return _Batches(
        coalition=coalition,
        opaque=opaque,
        delivered=log.publish(JUSTICE, 1, stream="delivered"),
        awaited=log.publish(POLICE_A, 3, stream="awaited"),
        refused=log.publish(
            POLICE_A, 3, stream="refused", terms=[record_terms(day, erase_by=day + 9999)] * 3
        ),
        other=log.publish(BORDER, 2, stream="other"),
        ahead=log.publish(BORDER, 1, stream="ahead", directory_size=10_000),
    )


@dataclass
class _Play:
    """A reader that is brought into a state, and what it named the messages on the way."""

    subject: PartitionReader = field(default_factory=lambda: reader(_batches().coalition, name="auditor-two"))
    named: list[tuple[StateName, Arrival]] = field(default_factory=list)

    def arrival_of(self, state: State, message: StoredMessage, verdict: Verdict) -> Arrival:
        arrival = arrival_of(state, message, verdict)
        self.named.append((name_of(state), arrival))
        return arrival

    def message(self, batch: Batch, i: int, *, skip: int = 0) -> StoredMessage:
        """Message ``i`` of a batch at the reader's next offset."""
        key, value = batch.messages[i]
        return StoredMessage(self.subject.next_offset + skip, key, value, _batches().coalition.now)

    def feed(self, batch: Batch, *indices: int) -> None:
        for i in indices:
            feed(self.subject, self.message(batch, i))


def _play(state: StateName, monkeypatch: pytest.MonkeyPatch, *, is_small: bool = False) -> _Play:
    """Bring a reader into a state; ``is_small`` leaves its batch no room for bodies."""
    batches = _batches()
    play = _Play()
    monkeypatch.setattr(partition, "arrival_of", play.arrival_of)
    play.feed(batches.delivered, 0, 1)
    batch = {Skipped: batches.opaque, Silent: batches.refused}.get(state, batches.awaited)
    if state is Copy:
        play.feed(batch, 0, 1, 2, 3)
    if is_small:
        monkeypatch.setattr(pending, "MAX_BATCH_BYTES", len(batch.messages[0][1]))
    if state is not Between:
        play.feed(batch, 0)
    if state is Doubt:
        play.feed(batches.other, 1)
    assert name_of(play.subject.state) is state
    return play


def _arrive(play: _Play, state: StateName, arrival: Arrival) -> Sequence[Event]:
    """Feed or flush the reader so that this arrives; returns its events."""
    batches = _batches()
    batch = {Skipped: batches.opaque, Silent: batches.refused}.get(state, batches.awaited)
    match arrival:
        case Arrival.BODY | Arrival.OVERSIZED:
            message = play.message(batch, 1)
        case Arrival.WRONG_BODY:
            message = play.message(batch, 1)._replace(value=b"\x02altered")
        case Arrival.FOREIGN_BODY:
            message = play.message(batches.other, 1)
        case Arrival.STRANGER:
            message = play.message(batch, 1)._replace(key=b"garbage", value=b"garbage")
        case Arrival.REPEAT:
            message = play.message(batches.delivered, 0)
        case Arrival.MANIFEST:
            message = play.message(batches.other, 0)
        case Arrival.OPAQUE:
            message = play.message(batches.opaque, 0)
        case Arrival.HOLE:
            message = play.message(batch, 1, skip=2)._replace(key=b"garbage", value=b"garbage")
        case Arrival.PAUSE:
            return play.subject.flush()
        case Arrival.END:
            return play.subject.flush(at_end=True)
    return feed(play.subject, message)


def test_every_state_has_a_row_for_every_arrival_that_it_can_meet() -> None:
    """A right or wrong body arrives only where a body is awaited; all else may arrive in every state."""
    assert set(TABLE) == set(STATES)
    for state in STATES:
        expected = set(Arrival)
        if state not in PENDING:
            expected -= OF_A_BATCH
        if state is Skipped:
            expected.add(Arrival.BODY)
        assert set(TABLE[state]) == expected, state


def test_every_action_is_used_and_says_where_it_leads() -> None:
    """Each action stands in the table, and for each it is written down which states it leads to."""
    assert {action for row in TABLE.values() for actions in row.values() for action in actions} == set(Action)
    assert set(LEADS_TO) == set(Action)
    assert all(LEADS_TO.values())


@pytest.mark.parametrize(
    ("state", "arrival"), [row for row in ROWS if len(TABLE[row[0]][row[1]]) > 1], ids=_row_id
)
def test_a_message_that_outlives_its_batch_is_taken_as_if_it_stood_alone(
    state: StateName, arrival: Arrival
) -> None:
    """The actions behind the end of a batch are those of the same message between batches."""
    first, *rest = TABLE[state][arrival]
    assert LEADS_TO[first] == {Between}
    alone = Arrival.STRANGER if arrival in OF_A_BATCH else arrival
    assert tuple(rest) == TABLE[Between][alone]


@pytest.mark.parametrize(("state", "arrival"), ROWS, ids=_row_id)
def test_the_reader_does_what_the_row_says(
    state: StateName, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each row the reader names the message so, reports what is expected, and ends in that state."""
    play = _play(state, monkeypatch, is_small=arrival is Arrival.OVERSIZED)
    play.named.clear()
    events = [*_arrive(play, state, arrival)]
    after = name_of(play.subject.state)
    events += play.subject.flush()
    kinds = " ".join(violation.kind for violation in violations(events))
    if arrival in (Arrival.PAUSE, Arrival.END) or (arrival is Arrival.BODY and state in PENDING):
        assert play.named == []
    elif arrival is Arrival.HOLE:
        assert [name for _, name in play.named] == [Arrival.STRANGER]
    else:
        assert play.named == [(state, arrival)]
    actions = TABLE[state][arrival]
    assert after in (LEADS_TO[actions[-1]] if actions else {state})
    assert (after, kinds) == EXPECTED[state][arrival]


@pytest.mark.parametrize("state", PENDING, ids=_row_id)
def test_the_last_body_leads_out_of_every_batch(state: StateName, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for bodies fed one by one or all at once, and only state Whole delivers the batch."""
    batches = _batches()
    batch = batches.refused if state is Silent else batches.awaited
    play = _play(state, monkeypatch)
    bodies = [play.message(batch, i, skip=i - 1) for i in (1, 2, 3)]
    one_by_one = [event for message in bodies for event in feed(play.subject, message)]
    assert name_of(play.subject.state) is Between
    assert len(one_by_one) == (state is Whole)
    play = _play(state, monkeypatch)
    assert play.subject.feed_bodies(bodies) == tuple(one_by_one)
    assert name_of(play.subject.state) is Between


@pytest.mark.parametrize("state", STATES, ids=_row_id)
def test_a_reader_that_asks_for_the_directory_has_changed_nothing(
    state: StateName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DirectoryBehind leaves state, snapshot and position as they were, in every state."""
    play = _play(state, monkeypatch)
    subject = play.subject
    before = (subject.state, subject.snapshot(), subject.next_offset)
    with pytest.raises(DirectoryBehind):
        subject.feed(play.message(_batches().ahead, 0, skip=1))
    assert (subject.state, subject.snapshot(), subject.next_offset) == before


@pytest.mark.parametrize("state", STATES, ids=_row_id)
def test_a_reader_resumes_from_every_state(state: StateName, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored state is the one before the manifest whose bodies the reader waits for."""
    play = _play(Between, monkeypatch)
    before = play.subject.snapshot()
    play = _play(state, monkeypatch)
    stored = play.subject.snapshot()
    if state is Copy:  # its batch was whole once before
        assert (stored.next_offset, len(stored.heads)) == (before.next_offset + 4, 2)
    else:
        assert stored == before
    resumed = reader(_batches().coalition, name="auditor-two", state=stored)
    assert resumed.snapshot() == stored
