"""States of records: the fold that the service and the replay share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from broker.access.policy import RecordState
from broker.access.record_states import ChannelRecords
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import Collected, CollectionStatus, ErasureTerms, RecordItem
from broker.wire.terms import Action, Target
from support.coalition import JUSTICE, POLICE_A, POLICE_B, Coalition
from support.partition_log import PartitionLog, batches, reader, scan
from support.placing import record_terms

COLLECTED = CollectionStatus.COLLECTED
REFUSED = CollectionStatus.REFUSED
UNKNOWN = CollectionStatus.UNKNOWN


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
        records.list(listed)
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


def test_the_later_of_restrict_and_rectify_holds() -> None:
    """RECTIFY lifts an earlier RESTRICT, and a later RESTRICT restricts again, across topics."""
    channel = Channel()
    (record,) = channel.publish()
    for action, topic, expected in (
        (Action.RECTIFY, "justice", False),
        (Action.RESTRICT, "emergence", True),
        (Action.RECTIFY, "justice", False),
        (Action.RESTRICT, "returns", True),
    ):
        channel.order(action, record, topic=topic)
        assert channel.state(record).restricted is expected


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
