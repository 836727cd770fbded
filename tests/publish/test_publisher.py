"""Publishing: batches, tickets, streams, and what is refused before anything is built."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.clock import DAY_US
from broker.errors import KasUnavailable, LogUnavailable, OutcomeUnknown, RecordInvalid, UsageError
from broker.log import Log, Message, Partition
from broker.publish.tickets import Published
from broker.subscribe.subscriber import NotDelivered
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import Collected, CollectionStatus
from broker.wire.terms import Action, HandlingCode, Purpose, Target
from support.coalition import BORDER, CARE, JUSTICE, POLICE_A, POLICE_B
from support.deliveries import delivered_refs
from support.fault_log import Fault, FaultLog
from support.looking import manifests, stored
from support.world import CHANNEL, PAIR, World

RETURNS = Partition("returns", 0)


def streams(found: Sequence[VerifiedBatch]) -> list[tuple[bytes, int]]:
    """Return the stream and the sequence of each batch."""
    return [(batch.header.stream, batch.header.sequence) for batch in found]


# Batches


async def test_records_travel_together_until_the_batch_is_full(world: World) -> None:
    """A batch closes with its 256th record; each ticket names batch and place, and readers find it there."""
    published = await world.publish(300)
    assert [record.index for record in published] == [*range(256), *range(44)]
    assert {record.offset for record in published} == {0, 257}
    found = await manifests(world, "returns")
    assert [(b.offset, b.batch_id, b.opened.manifest.count) for b in found] == [
        (0, published[0].batch_id, 256),
        (257, published[-1].batch_id, 44),
    ]
    ids = b"".join(batch.opened.entries.record_ids for batch in found)
    assert ids == b"".join(record.record_id for record in published)


async def test_a_batch_closes_before_it_is_too_large(world: World) -> None:
    """Large bodies make batches of fewer records, each within the size that the log takes."""
    published = await world.publish(20, max_bytes=15_000)
    assert {record.index for record in published} == set(range(max(record.index for record in published) + 1))
    assert len({record.batch_id for record in published}) > 1
    assert delivered_refs(await world.read()) == list(range(20))


async def test_a_batch_closes_after_lingering(world: World) -> None:
    """A single record is sent soon, without a flush."""
    async with world.publisher(linger_s=0.01) as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        assert not ticket.is_settled()
        assert (await ticket).offset == 0
        assert ticket.is_settled()


async def test_leaving_the_block_flushes(world: World) -> None:
    """Every record that was handed over is published when the publisher closes."""
    async with world.publisher() as publisher:
        tickets = [await publisher.publish(CHANNEL, world.record(i)) for i in range(3)]
    assert [(await ticket).index for ticket in tickets] == [0, 1, 2]
    with pytest.raises(UsageError, match="closed"):
        await publisher.publish(CHANNEL, world.record())


async def test_an_error_in_the_block_flushes_too(world: World) -> None:
    """A program that fails at its tenth record has published the nine before it."""
    tickets = []

    async def work() -> None:
        async with world.publisher() as publisher:
            tickets.append(await publisher.publish(CHANNEL, world.record()))
            raise ValueError("the tenth")

    with pytest.raises(ValueError, match="the tenth"):
        await work()
    assert (await tickets[0]).offset == 0


class _Broken(FaultLog):
    """A log whose appends raise an unforeseen error a moment after they began."""

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        await asyncio.sleep(0)
        raise ArithmeticError("a bug")


async def test_what_breaks_in_the_background_comes_out_as_itself(world: World) -> None:
    """A single error is raised as it is; the batch being appended is in doubt, the others were not sent."""
    tickets = []

    async def work() -> None:
        async with world.publisher(log=_Broken(world.log), max_records=1) as publisher:
            tickets.append(await publisher.publish(CHANNEL, world.record(0)))
            tickets.append(await publisher.publish(CHANNEL, world.record(1)))
            await publisher.flush()

    with pytest.raises(ArithmeticError, match="a bug"):
        await work()
    with pytest.raises(OutcomeUnknown):
        await tickets[0]
    with pytest.raises(UsageError, match="not published"):
        await tickets[1]


async def test_each_lane_has_its_own_batch(world: World) -> None:
    """Record type, channel and releasable_to decide which records share a batch."""
    release = {"handling.releasable_to": [JUSTICE]}
    async with world.publisher() as publisher:
        tickets = [
            await publisher.publish(CHANNEL, world.record(0)),
            await publisher.publish(CHANNEL, world.record(1, changes=release)),
            await publisher.publish(CHANNEL, world.record(2, "JusticeMeasure")),
            await publisher.publish(PAIR, world.record(3)),
            await publisher.publish(CHANNEL, world.record(4)),
        ]
        await publisher.flush()
        found = [await ticket for ticket in tickets]
    assert found[0].batch_id == found[4].batch_id
    assert len({record.batch_id for record in found}) == 4
    assert [(record.topic, record.partition) for record in found[:4]] == [
        ("returns", 0),
        ("returns", 0),
        ("justice", 0),
        ("returns", 1),
    ]


async def test_records_for_named_authorities_are_sealed_to_them_alone(world: World) -> None:
    """The member share of a record with releasable_to opens for the named agencies and the issuer alone."""
    await world.publish_records([world.record(7, changes={"handling.releasable_to": [JUSTICE]})])
    for name in (JUSTICE, POLICE_A):
        assert delivered_refs(await world.read(name)) == [7]
    (refused,) = await world.read(POLICE_B)
    assert isinstance(refused, NotDelivered)
    assert refused.reason == "NOT_RELEASABLE"


# Back-pressure


async def test_publish_waits_while_too_much_is_under_way(world: World) -> None:
    """With room for two records, the third is taken only when the first two are settled."""
    async with world.publisher(max_in_flight_records=2) as publisher:
        tickets = [await publisher.publish(CHANNEL, world.record(i)) for i in range(2)]
        third = asyncio.ensure_future(publisher.publish(CHANNEL, world.record(2)))
        await asyncio.sleep(0)
        assert not third.done()
        ticket = await third
        assert all(ticket.is_settled() for ticket in tickets), "nobody waits for another's lingering"
        await publisher.flush()
        assert (await ticket).offset == 3


async def test_many_callers_wait_for_room(world: World) -> None:
    """Every caller that waits gets its turn, and a caller that gives up takes no room."""
    async with world.publisher(max_in_flight_records=3, linger_s=0.001) as publisher:
        calls = [asyncio.ensure_future(publisher.publish(CHANNEL, world.record(i))) for i in range(30)]
        await asyncio.sleep(0)
        calls[20].cancel()
        await asyncio.wait(calls)
        tickets = [call.result() for call in calls if not call.cancelled()]
        await publisher.flush()
        assert len({(record.batch_id, record.index) for record in [await ticket for ticket in tickets]}) == 29


# Tickets


async def test_a_waiter_that_is_cancelled_disturbs_nobody(world: World) -> None:
    """A caller that stops waiting for a ticket stops neither the record nor the other callers."""
    async with world.publisher() as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        first, second = (asyncio.ensure_future(_redeemed(ticket)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await publisher.flush()
        assert (await second).offset == 0
        assert first.cancelled()


async def _redeemed(ticket: Any) -> Any:
    return await ticket


async def test_a_failure_that_nobody_saw_is_raised_by_flush(world: World) -> None:
    """A failure is never silent: its ticket raises it, or else flush or close does."""
    log = FaultLog(world.log, appends=[Fault.REFUSED] * 6)
    async with world.publisher(log=log) as publisher:
        await publisher.publish(CHANNEL, world.record())
        with pytest.raises(LogUnavailable):
            await publisher.flush()
        await publisher.flush()
    log.appends = [Fault.REFUSED] * 6
    with pytest.raises(LogUnavailable):
        async with world.publisher(log=log) as publisher:
            await publisher.publish(CHANNEL, world.record())
    log.appends = [Fault.REFUSED] * 6
    async with world.publisher(log=log, linger_s=0.0) as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        with pytest.raises(LogUnavailable):
            await ticket


async def test_cancelled_it_sends_nothing_more(world: World) -> None:
    """Cancellation ends a publisher at once: nothing more is sent, and the tickets say so."""
    tickets, is_handed_over = [], asyncio.Event()

    async def work() -> None:
        async with world.publisher() as publisher:
            tickets.append(await publisher.publish(CHANNEL, world.record()))
            is_handed_over.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await is_handed_over.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(UsageError, match="not published"):
        await tickets[0]
    assert await stored(world.log, RETURNS) == []


class Slow(FaultLog):
    """A log whose appends wait until they are let through."""

    def __init__(self, inner: Log) -> None:
        super().__init__(inner)
        self.is_appending, self.may_append = asyncio.Event(), asyncio.Event()

    async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
        self.is_appending.set()
        await self.may_append.wait()
        return await super().append(partition, messages)


async def test_cancelled_while_appending_the_outcome_is_unknown(world: World) -> None:
    """The tickets of a batch being appended say OutcomeUnknown; callers waiting for room get an error."""
    log, tickets, calls = Slow(world.log), [], []

    async def work() -> None:
        async with world.publisher(log=log, max_records=1, max_in_flight_records=2) as publisher:
            for i in range(2):
                tickets.append(await publisher.publish(CHANNEL, world.record(i)))
            calls.append(asyncio.ensure_future(publisher.publish(CHANNEL, world.record(2))))
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await log.is_appending.wait()
    for _ in range(20):
        await asyncio.sleep(0)  # until the third waits for room
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OutcomeUnknown):
        await tickets[0]
    with pytest.raises(UsageError, match="not published"):
        await tickets[1]
    with pytest.raises(UsageError, match="not published"):
        await calls[0]


async def test_one_batch_of_a_stream_is_unsettled(world: World) -> None:
    """A partition's next batch is built only when the batch before is settled; other partitions go on."""
    log = Slow(world.log)
    async with world.publisher(log=log, max_records=1) as publisher:
        tickets = [await publisher.publish(CHANNEL, world.record(i)) for i in range(3)]
        other = await publisher.publish(PAIR, world.record(9))
        await log.is_appending.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(ticket.is_settled() for ticket in tickets)
        log.may_append.set()
        await publisher.flush()
        assert (await other).offset == 0
    assert [sequence for _, sequence in streams(await manifests(world, "returns"))] == [0, 1, 2]
    assert [len(messages) for _, messages in log.appended] == [2, 2, 2, 2]


async def test_closed_while_a_caller_waits(world: World) -> None:
    """A caller waiting for room when the publisher closes gets an error; records taken are published."""
    calls = []
    async with world.publisher(max_in_flight_records=1) as publisher:
        ticket = await publisher.publish(CHANNEL, world.record(0))
        calls.append(asyncio.ensure_future(publisher.publish(CHANNEL, world.record(1))))
        await asyncio.sleep(0)
    assert (await ticket).offset == 0
    with pytest.raises(UsageError, match="closed"):
        await calls[0]
    assert len(await manifests(world, "returns")) == 1


# Streams


async def test_batches_of_a_process_are_one_stream_to_a_partition(world: World) -> None:
    """The sequence rises by one, previous names the batch before, and each partition has its own stream."""
    async with world.publisher(max_records=1) as publisher:
        for i in range(3):
            await publisher.publish(CHANNEL, world.record(i))
            await publisher.publish(PAIR, world.record(i))
        await publisher.flush()
    found = await manifests(world, "returns")
    assert [sequence for _, sequence in streams(found)] == [0, 1, 2]
    assert [batch.header.previous for batch in found] == [bytes(32), *(b.batch_id for b in found[:2])]
    other = await manifests(world, "returns", PAIR)
    assert {stream for stream, _ in streams(found)}.isdisjoint(stream for stream, _ in streams(other))


@pytest.mark.parametrize("fault", [Fault.KEPT, Fault.LOST, Fault.REFUSED])
async def test_a_retry_goes_on_with_the_stream(world: World, fault: Fault) -> None:
    """An append whose acknowledgement was lost is settled: each record stands once, in an unbroken stream."""
    log = FaultLog(world.log, appends=[fault, Fault.NONE, fault, fault])
    with capture_logs():
        published = await world.publish(6, log=log, max_records=2)
    assert len({record.batch_id for record in published}) == 3
    found = await manifests(world, "returns")
    assert [sequence for _, sequence in streams(found)] == [0, 1, 2]
    assert delivered_refs(await world.read()) == list(range(6))


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.REFUSED])
async def test_after_a_failure_for_good_a_new_stream_begins(world: World, fault: Fault) -> None:
    """The stream of an append that failed for good is abandoned, so that no gap and no fork can follow."""
    log = FaultLog(world.log)
    async with world.publisher(log=log, max_records=1) as publisher:
        await publisher.publish(CHANNEL, world.record(0))
        await publisher.flush()
        log.appends = [fault] * 6
        failed = await publisher.publish(CHANNEL, world.record(1))
        with capture_logs(), pytest.raises((OutcomeUnknown, LogUnavailable)):
            await failed
        await publisher.publish(CHANNEL, world.record(2))
        await publisher.flush()
    found = await manifests(world, "returns")
    assert [sequence for _, sequence in streams(found)] == [0, 0]
    assert found[0].header.stream != found[1].header.stream
    assert delivered_refs(await world.read()) == [0, 2]


async def test_an_hour_of_idleness_ends_a_stream(world: World) -> None:
    """A publisher that was silent for an hour starts a new stream."""
    now = [world.coalition.now]
    async with world.publisher(max_records=1, clock=lambda: now[0]) as publisher:
        for minutes in (0, 59, 59, 61):
            now[0] += minutes * 60_000_000
            await publisher.publish(CHANNEL, world.record(1))
            await publisher.flush()
    assert [sequence for _, sequence in streams(await manifests(world, "returns"))] == [0, 1, 2, 0]


async def test_an_epoch_begins_new_streams(world: World) -> None:
    """When the channel has got new keys, the next batch is sealed to them, in a new stream."""
    async with world.publisher(max_records=1) as publisher:
        await publisher.publish(CHANNEL, world.record(0))
        await publisher.flush()
        await world.suspend(CARE)
        await world.next_epoch(CHANNEL, BORDER)
        publisher._admission._refreshed_at = float("-inf")  # a second has passed
        await publisher.publish(CHANNEL, world.record(1))
        await publisher.flush()
    found = await manifests(world, "returns")
    assert [(b.header.epoch, b.header.sequence) for b in found] == [(0, 0), (1, 0)]
    assert delivered_refs(await world.read()) == [0, 1]


async def test_the_header_says_how_much_of_the_directory_was_applied(world: World) -> None:
    """A batch carries the view of its issuer's directory."""
    await world.publish(1)
    (batch,) = await manifests(world, "returns")
    follower = await world.follower()
    latest = follower.history.latest
    assert (batch.header.directory_size, batch.header.directory_root) == (latest.size, latest.root)


# What is refused before anything is built


REFUSED: list[Any] = [
    pytest.param("nowhere", {}, "no channel 'nowhere'", id="no such channel"),
    pytest.param("xbb-xdd", {}, "'XAA:police' is no member", id="not a member"),
    pytest.param(CHANNEL, {"review_by": 1}, "not in order", id="review before today"),
    pytest.param(CHANNEL, {"erase_by": 99_999}, "erase_by is", id="ceiling"),
    pytest.param(CHANNEL, {"purpose": Purpose.LAWFULNESS}, "purpose", id="purpose"),
    pytest.param(CHANNEL, {"action": Action.ERASE}, "targets", id="order without targets"),
    pytest.param(CHANNEL, {"targets": (Target(batch_id=bytes(32), index=0),)}, "targets", id="targets"),
    pytest.param(CHANNEL, {"releasable_to": ("XZZ:nobody",)}, "XZZ:nobody", id="stranger"),
    pytest.param(CHANNEL, {"codes": (HandlingCode.H2, HandlingCode.H0)}, "sorted", id="codes not sorted"),
]


@pytest.mark.parametrize(("channel", "change", "message"), REFUSED)
async def test_what_may_not_be_published_is_the_callers_error(
    world: World, channel: str, change: dict[str, Any], message: str
) -> None:
    """A record that the channel does not allow is refused at once, with the reason, and nothing is built."""
    record = world.record()
    handling = {key: change.pop(key) for key in ("releasable_to", "codes") if key in (change := dict(change))}
    terms = replace(record.terms, handling=replace(record.terms.handling, **handling), **change)
    async with world.publisher() as publisher:
        with pytest.raises(UsageError, match=message):
            await publisher.publish(channel, replace(record, terms=terms))
    assert await stored(world.log, RETURNS) == []


async def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    """A body above 32 KiB is refused, and the records before and after it are published."""
    record = world.record(1)
    large = {**record.body, "subject": {**record.body["subject"], "ref": "x" * 40_000}}
    async with world.publisher() as publisher:
        await publisher.publish(CHANNEL, world.record(0))
        with pytest.raises(RecordInvalid, match="too large"):
            await publisher.publish(CHANNEL, replace(record, body=large))
        await publisher.publish(CHANNEL, world.record(2))
    assert delivered_refs(await world.read()) == [0, 2]


async def test_a_suspended_agency_cannot_publish(world: World) -> None:
    """A suspended agency cannot publish, and the hint says whom to ask."""
    async with world.publisher(max_records=1) as publisher:
        await publisher.publish(CHANNEL, world.record(0))
        await publisher.flush()
        await world.suspend(POLICE_A)
        publisher._admission._refreshed_at = float("-inf")
        ticket = await publisher.publish(CHANNEL, world.record(1))
        with pytest.raises(UsageError, match="suspended"):
            await ticket
        with pytest.raises(UsageError, match="suspended") as caught:
            await publisher.publish(CHANNEL, world.record(2))
        assert "authority" in (caught.value.hint or "")
    assert len(await manifests(world, "returns")) == 1


async def test_a_channel_that_does_not_allow_the_type(world: World) -> None:
    """The error names what the channel allows."""
    await world.open_channel("narrow", 3, [POLICE_A, POLICE_B], record_types=["ReturnEvent"])
    async with world.publisher() as publisher:
        with pytest.raises(UsageError, match="does not allow 'JusticeMeasure'") as caught:
            await publisher.publish("narrow", world.record(0, "JusticeMeasure"))
        assert caught.value.hint == "it allows: ReturnEvent"


async def test_without_confirmed_keys_nothing_is_published(world: World) -> None:
    """A channel whose keys the key access service has not confirmed is an error that names the channel."""
    await world.open_channel("fresh", 3, [POLICE_A, POLICE_B], epoch=False)
    async with world.publisher() as publisher:
        with pytest.raises(UsageError, match="no confirmed keys"):
            await publisher.publish("fresh", world.record())


async def test_the_intake_key_is_of_today_or_the_nearest_day_behind(world: World) -> None:
    """Without a key of today the next day's is used; with no key left, the error names the service."""
    day = world.coalition.day
    for ahead, used in ((0, day), (-3, day)):
        clock = (day + ahead) * DAY_US
        async with world.publisher(clock=lambda clock=clock: clock) as publisher:
            ticket = await publisher.publish(CHANNEL, world.record())
            await publisher.flush()
            published = await ticket
        (batch,) = [b for b in await manifests(world, "returns") if b.batch_id == published.batch_id]
        key = world.coalition.directory.intake_keys[batch.opened.manifest.intake_key_id]
        assert key.day == used
    async with world.publisher(clock=lambda: (day + 30) * DAY_US) as publisher:
        with pytest.raises(KasUnavailable, match="no intake key"):
            await publisher.publish(CHANNEL, world.record())


# What became of it


class _Silent:
    """A key access service that is down, and from the third question on does not answer at all."""

    asked = 0

    async def access(self, request: bytes, details: bytes) -> bytes:
        raise KasUnavailable("down, as planned")

    async def collections(self, query: bytes) -> bytes:
        self.asked += 1
        if self.asked > 2:
            await asyncio.Event().wait()
        raise KasUnavailable("down, as planned")


async def test_the_key_access_service_says_what_became_of_batches(world: World) -> None:
    """Each batch is reported once, as COLLECTED after it was taken over."""
    async with world.publisher(max_records=2) as publisher:
        tickets = [await publisher.publish(CHANNEL, world.record(i)) for i in range(4)]
        await publisher.flush()
        published = [await ticket for ticket in tickets]
        found = await publisher.collected(published, world.kas)
    assert [answer.batch_id for answer in found] == [published[0].batch_id, published[2].batch_id]
    assert {answer.status for answer in found} == {CollectionStatus.COLLECTED}


async def test_without_an_answer_the_publisher_warns(world: World) -> None:
    """While the key access service is down every batch is UNKNOWN: that is a warning, not an error."""
    async with world.publisher() as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        await publisher.flush()
        with capture_logs() as lines:
            (found,) = await publisher.collected([await ticket], _Silent(), timeout_s=0.05)
    assert found.status is CollectionStatus.UNKNOWN
    assert lines[-1]["event"] == "batches not yet taken over"


# Stale batches


def _stale(record: Published) -> Collected:
    return Collected(
        topic=record.topic,
        offset=record.offset,
        batch_id=record.batch_id,
        count=1,
        status=CollectionStatus.STALE,
        detail="came too late",
    )


def _planned(log: FaultLog, interruption: str) -> float:
    """Plan what interrupts the next append; return the seconds after which its caller gives up."""

    async def hang() -> None:
        await asyncio.Event().wait()

    async def say_nothing() -> None:
        log.reads = [Fault.REFUSED] * 20
        raise OutcomeUnknown("not acknowledged, as planned")

    hook = hang if interruption.startswith("cancelled") else say_nothing
    hooks = log.before_append if interruption.endswith("before it") else log.after_append
    hooks["returns"] = hook
    return 0.3 if hook is hang else 30


@pytest.mark.parametrize(
    "interruption",
    ["cancelled before it", "cancelled behind it", "unknown before it", "unknown behind it"],
)
async def test_one_batch_ever_replaces_a_stale_one(world: World, interruption: str) -> None:
    """Whenever the wait for it ends, by a time-out or with OutcomeUnknown, it is not built a second time."""
    log = FaultLog(world.log)
    async with world.publisher(log=log) as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        await publisher.flush()
        first = await ticket
        kept = publisher._kept
        with pytest.raises((TimeoutError, OutcomeUnknown)):
            async with asyncio.timeout(_planned(log, interruption)):
                await kept.publish_anew(_stale(first))
        log.reads = []
        assert (await ticket).batch_id == first.batch_id
        sent = await kept.publish_anew(_stale(first))
        assert sent is not None
        again = await kept.publish_anew(_stale(first))
        assert again == sent
        second = await ticket
    found = await manifests(world, "returns")
    assert [batch.batch_id for batch in found] == [first.batch_id, second.batch_id]
    assert found[1].opened.manifest.instead_of == first.batch_id
    assert (second.batch_id, second.offset) == (sent.batch_id, sent.offset)


async def test_a_batch_that_is_dropped_while_it_is_published_anew(world: World) -> None:
    """Younger batches may take its room meanwhile: it is published once, and its ticket names it."""
    log = FaultLog(world.log)
    async with world.publisher(log=log) as publisher:
        ticket = await publisher.publish(CHANNEL, world.record())
        await publisher.flush()
        first = await ticket
        kept = publisher._kept

        async def drop() -> None:
            kept._drop(first.batch_id)

        log.after_append["returns"] = drop
        sent = await kept.publish_anew(_stale(first))
        assert sent is not None
        assert (await ticket).batch_id == sent.batch_id
    assert len(await manifests(world, "returns")) == 2
