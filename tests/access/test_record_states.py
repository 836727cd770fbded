"""States of records: the fold that the service and the replay share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.policy import RecordState
from broker.access.record_states import ChannelRecords, IndexedBatch
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import Collected, CollectionStatus, ErasureTerms, RecordItem
from broker.wire.terms import Action, Target
from support.coalition import DAY_US, JUSTICE, POLICE_A, POLICE_B, Coalition
from support.partition_log import PartitionLog, batches, reader, scan
from support.placing import record_terms

COLLECTED = CollectionStatus.COLLECTED
REFUSED = CollectionStatus.REFUSED
UNKNOWN = CollectionStatus.UNKNOWN
DAY = Coalition.create().day


class Channel:
    """The partitions of a channel, which grow, and their fold in any order of topics."""

    def __init__(self) -> None:
        self.coalition = Coalition.create()
        self.logs = {
            topic: PartitionLog(self.coalition, topic) for topic in ("emergence", "justice", "returns")
        }

    def publish(self, issuer: str = POLICE_A, count: int = 1, topic: str = "returns") -> list[Target]:
        """Publish a batch, and return the names of its records."""
        batch = self.logs[topic].publish(issuer, count)
        return [Target(batch_id=batch.batch_id, index=i) for i in range(count)]

    def order(
        self,
        action: Action,
        *targets: Target,
        issuer: str = POLICE_A,
        topic: str = "returns",
        erase_in_days: int = 1000,
    ) -> Target:
        """Publish a record that acts on others, and return its name."""
        day = self.coalition.day
        terms = record_terms(day, action=action, targets=targets, erase_in_days=erase_in_days)
        batch = self.logs[topic].publish(issuer, terms=[terms])
        return Target(batch_id=batch.batch_id, index=0)

    def verified(self) -> dict[str, list[VerifiedBatch]]:
        """Return the verified batches of each topic."""
        return {
            topic: list(batches(scan(self.coalition, log.messages, reader(self.coalition, topic))))
            for topic, log in self.logs.items()
        }

    def fold(self, order: Sequence[str], listed: Sequence[Collected] = ()) -> ChannelRecords:
        """Fold all topics, one after the other, in this order."""
        records = ChannelRecords()
        found = self.verified()
        records.list(listed, self.coalition.now)
        for topic in order:
            for batch in found[topic]:
                records.add(batch)
        return records

    def state(self, target: Target, listed: Sequence[Collected] = ()) -> RecordState:
        """Return the state of a record, which must be the same for every order of topics."""
        states = set()
        for order in itertools.permutations(self.logs):
            records = self.fold(order, listed)
            batch = records.batch(target.batch_id)
            assert batch is not None
            states.add(records.state(batch, target.index))
        (state,) = states
        return state


def listing(target: Target, status: CollectionStatus) -> Collected:
    """Make what a COLLECTION entry says of a record's batch."""
    return Collected(topic="returns", offset=0, batch_id=target.batch_id, count=1, status=status, detail="")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action.WITHDRAW, RecordState(status=UNKNOWN, withdrawn=True)),
        (Action.ERASE, RecordState(status=UNKNOWN, erased=True)),
        (Action.RESTRICT, RecordState(status=UNKNOWN, restricted=True)),
        (Action.RECTIFY, RecordState(status=UNKNOWN, erase_by=Coalition.create().day + 1000)),
    ],
)
def test_orders_reach_their_targets_in_any_topic(action: Action, expected: RecordState) -> None:
    """An order of the originator changes the records that it names, and no others."""
    channel = Channel()
    first, second = channel.publish(count=2)
    channel.order(action, second, topic="emergence")
    assert channel.state(second) == expected
    assert channel.state(first) == RecordState(status=UNKNOWN)


def test_only_the_originator_orders() -> None:
    """Attack 2: an order of another agency has no effect on a record, whatever it names."""
    channel = Channel()
    (record,) = channel.publish()
    channel.order(Action.ERASE, record, issuer=POLICE_B)
    channel.order(Action.WITHDRAW, record, issuer=JUSTICE, topic="justice")
    assert channel.state(record) == RecordState(status=UNKNOWN)


def test_a_restriction_ends_only_when_it_is_withdrawn_by_name() -> None:
    """No RECTIFY lifts a RESTRICT, before or after it; only a WITHDRAW of each RESTRICT does."""
    channel = Channel()
    (record,) = channel.publish()
    channel.order(Action.RECTIFY, record, topic="justice")
    restrictions = [channel.order(Action.RESTRICT, record, topic=topic) for topic in ("emergence", "returns")]
    channel.order(Action.RECTIFY, record, topic="returns")
    channel.order(Action.WITHDRAW, restrictions[0], issuer=POLICE_B)
    assert channel.state(record).restricted
    channel.order(Action.WITHDRAW, restrictions[0], topic="justice")
    assert channel.state(record).restricted
    channel.order(Action.WITHDRAW, restrictions[1], topic="emergence")
    assert not channel.state(record).restricted


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_orders_commute(data: st.DataObject) -> None:
    """Batches, listings and shreddings give the same states in whatever order they are applied."""
    steps = _steps(data)
    expected = _states(steps)
    assert _states(data.draw(st.permutations(steps))) == expected


def _name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _steps(data: st.DataObject) -> list[Callable[[ChannelRecords], object]]:
    """Draw up to eight batches of two records, of which some order on others, each listed at most once."""
    steps: list[Callable[[ChannelRecords], object]] = []
    count = data.draw(st.integers(1, 8))
    for number in range(count):
        target = Target(batch_id=_name(data.draw(st.integers(0, count))), index=data.draw(st.integers(0, 1)))
        action = data.draw(st.sampled_from(list(Action)))
        terms = record_terms(
            DAY,
            action=action,
            targets=() if action is Action.NEW else (target,),
            erase_in_days=data.draw(st.integers(1, 3)),
        )
        batch = IndexedBatch(
            batch_id=_name(number),
            topic=data.draw(st.sampled_from(["returns", "justice"])),
            partition=0,
            offset=3 * number,
            epoch=0,
            issuer=data.draw(st.sampled_from([POLICE_A, POLICE_B])),
            record_type="ReturnEvent",
            manifest_id=bytes(16),
            count=2,
            judged_at=0,
            terms=(terms,),
            term_of=b"\0\0",
        )
        steps.append(partial(ChannelRecords.put, batch=batch))
        status = data.draw(st.sampled_from([None, COLLECTED, REFUSED]))
        if status is not None:
            listed = listing(Target(batch_id=_name(number), index=0), status)
            steps.append(partial(ChannelRecords.list, batches=[listed], issued_at=DAY * DAY_US))
        if data.draw(st.booleans()):
            steps.append(partial(ChannelRecords.shred, terms=ErasureTerms(targets=(target,), order=None)))
    return steps


def _states(steps: Sequence[Callable[[ChannelRecords], object]]) -> dict[tuple[bytes, int], RecordState]:
    records = ChannelRecords()
    for step in steps:
        step(records)
    found = (records.batch(_name(number)) for number in range(8))
    return {(batch.batch_id, i): records.state(batch, i) for batch in found if batch for i in range(2)}


def test_the_earliest_erase_by_of_the_originators_rectifications_holds() -> None:
    """The earliest erase_by counts, of orders that are the originator's and neither withdrawn nor refused."""
    channel = Channel()
    (record,) = channel.publish()
    day = channel.coalition.day
    channel.order(Action.RECTIFY, record, issuer=POLICE_B, erase_in_days=1)
    assert channel.state(record).erase_by is None
    channel.order(Action.RECTIFY, record, topic="justice", erase_in_days=366)
    channel.order(Action.RESTRICT, record, erase_in_days=5)
    assert channel.state(record).erase_by == day + 366
    short = channel.order(Action.RECTIFY, record, topic="emergence", erase_in_days=20)
    channel.order(Action.RECTIFY, record, erase_in_days=900)
    assert channel.state(record).erase_by == day + 20
    assert channel.state(record, [listing(short, REFUSED)]).erase_by == day + 366
    channel.order(Action.WITHDRAW, short)
    assert channel.state(record).erase_by == day + 366


def test_what_others_order_costs_a_records_originator_nothing() -> None:
    """The decision looks only at the originator's orders, however many orders others put on a record."""
    channel = Channel()
    (record,) = channel.publish()
    for _ in range(40):
        channel.order(Action.WITHDRAW, record, issuer=POLICE_B)
    records = channel.fold(["returns"])
    batch = records.batch(record.batch_id)
    assert batch is not None
    untouched = ChannelRecords()
    untouched.add(channel.verified()["returns"][0])
    assert records.state(batch, 0) is untouched.state(batch, 0)


def test_an_order_that_was_withdrawn_counts_no_more() -> None:
    """The issuer of an order can withdraw it, and nobody else can."""
    channel = Channel()
    (record,) = channel.publish()
    order = channel.order(Action.ERASE, record, topic="justice")
    channel.order(Action.WITHDRAW, order, issuer=POLICE_B)
    assert channel.state(record).erased
    channel.order(Action.WITHDRAW, order, topic="emergence")
    assert not channel.state(record).erased


def test_orders_of_refused_batches_do_not_count() -> None:
    """An order counts as soon as it was read, unless its batch is listed as REFUSED."""
    channel = Channel()
    (record,) = channel.publish()
    order = channel.order(Action.ERASE, record)
    assert channel.state(record).erased
    assert channel.state(record, [listing(order, COLLECTED)]).erased
    assert not channel.state(record, [listing(order, REFUSED)]).erased


def test_the_first_listing_gives_the_day() -> None:
    """The retention ceiling counts from the first entry that lists the batch, whatever a later one says."""
    channel = Channel()
    (record,) = channel.publish()
    records = channel.fold(["returns"])
    for day in (7, 3, 9):
        records.list([listing(record, COLLECTED)], day * DAY_US + 1)
    batch = records.batch(record.batch_id)
    assert batch is not None
    assert records.state(batch, 0) == RecordState(status=COLLECTED, listed_day=7)


def test_the_first_listing_holds() -> None:
    """The first entry that lists a batch decides its status; UNKNOWN is no listing."""
    channel = Channel()
    (record,) = channel.publish()
    said = [listing(record, UNKNOWN), listing(record, REFUSED), listing(record, COLLECTED)]
    assert channel.state(record, said).status is REFUSED


def test_a_batch_counts_at_its_first_offset() -> None:
    """A copy of a batch changes nothing, and an item that names the copy finds no batch."""
    channel = Channel()
    (record,) = channel.publish()
    (batch,) = channel.verified()["returns"]
    records = ChannelRecords()
    assert records.add(batch) is not None
    assert records.add(batch) is None
    item = RecordItem(topic="returns", offset=0, batch_id=record.batch_id, indexes=b"\0")
    assert records.find(item) is not None
    copy = RecordItem(topic="returns", offset=2, batch_id=record.batch_id, indexes=b"\0")
    assert records.find(copy) is None


def test_what_was_shredded_stays_erased() -> None:
    """A record that an erasure entry names stays erased."""
    channel = Channel()
    first, second = channel.publish(count=2)
    records = channel.fold(["returns"])
    records.shred(ErasureTerms(targets=(second,), order=None))
    batch = records.batch(first.batch_id)
    assert batch is not None
    assert [records.state(batch, i).erased for i in range(2)] == [False, True]
    assert records.shredded(first.batch_id) == 0b10
