"""Subscribing: what is delivered, in which order, and what is stored."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.access.answers import open_receipt
from broker.access.client import KeyAccess
from broker.access.requests import new_details
from broker.avro.schema import SchemaStore, default_store
from broker.clock import system_clock
from broker.crypto.seal import open_sealed_answer, seal_answer
from broker.errors import KasStopped, KasUnavailable, LogUnavailable, NotEntitled, RequestRefused, UsageError
from broker.log import Partition, StoredMessage
from broker.records.record import to_json
from broker.subscribe.receipts import read_receipts
from broker.subscribe.state import StateFile
from broker.subscribe.subscriber import Delivered, Ground, NotDelivered, Violation
from broker.verify.violations import Kind
from broker.wire.access import AccessAnswer, AccessRequest
from broker.wire.encoding import decode, encode
from broker.wire.manifest import AccessTerms, Operation, RecordItem, Signed
from broker.wire.terms import Action, Purpose, Target
from support.coalition import BORDER, CARE, JUSTICE, POLICE_A, POLICE_B, REHAB, receiving_key
from support.deliveries import delivered_refs, numbered, only
from support.fault_log import Fault, FaultLog
from support.looking import access_terms
from support.world import CHANNEL, PAIR, World, ground

# What is delivered


async def test_every_record_arrives_as_it_was_published(world: World) -> None:
    """Records of every type arrive with the body, terms, issuer and place that were published."""
    records = [world.record(i, record_type) for i, record_type in enumerate(default_store().record_types)]
    published = {record.record_id: record for record in await world.publish_records(records)}
    found = await world.read(BORDER)
    assert len(found) == 5
    for item in found:
        assert isinstance(item, Delivered)
        sent = published[item.record_id]
        assert (item.batch_id, item.index, item.place.offset) == (sent.batch_id, sent.index, sent.offset)
        assert (item.place.topic, item.place.partition, item.issuer) == (sent.topic, 0, POLICE_A)
    by_id = {record.record_id: record for record in records}
    assert all(to_json(i.record) == to_json(by_id[i.record_id]) for i in only(found, Delivered))


async def test_each_topic_is_in_order(world: World) -> None:
    """Records of a topic come in the order of the log, topic by topic."""
    for i in range(6):
        kind = "ReturnEvent" if i % 2 else "JusticeMeasure"
        await world.publish_records([world.record(i, kind)])
    assert delivered_refs(await world.read()) == [0, 2, 4, 1, 3, 5]


async def test_only_wanted_types_are_asked_for(world: World) -> None:
    """Records of other types are not delivered, and no reading of them is logged."""
    await world.publish_records([world.record(0), world.record(1, "JusticeMeasure")])
    assert delivered_refs(await world.read(record_types=["JusticeMeasure"])) == [1]
    with pytest.raises(UsageError, match="no record type 'Nothing'"):
        await world.read(record_types=["Nothing"])


async def test_one_request_covers_many_batches(world: World) -> None:
    """Up to sixteen batches of the channel are asked for at once, whatever their topics."""
    for number in range(3):
        await world.publish_records(
            [world.record(number), world.record(number, "JusticeMeasure")], max_records=1
        )
    kas = Counting(world.kas)
    assert len(await world.read(kas=kas)) == 6
    assert kas.requests == 1
    await world.publish(34, max_records=1)
    kas.requests = 0
    assert len(await world.read(kas=kas)) == 40
    assert kas.requests == 3


async def test_each_issuer_is_asked_for_by_a_request_of_its_own(world: World) -> None:
    """Batches of three issuers in a window are asked for issuer by issuer, and come in the log's order."""
    issuers = (POLICE_A, BORDER, POLICE_A, JUSTICE, BORDER, POLICE_A)
    for number, issuer in enumerate(issuers):
        await world.publish(1, first=number, name=issuer)
    kas = Counting(world.kas)
    found = only(await world.read(kas=kas), Delivered)
    assert [(numbered(item), item.issuer) for item in found] == list(enumerate(issuers))
    assert kas.requests == 3


async def test_an_order_is_delivered_without_a_body(world: World) -> None:
    """A WITHDRAW names its targets and has no body."""
    (sent,) = await world.publish(1)
    order = world.order(Action.WITHDRAW, Target(batch_id=sent.batch_id, index=0))
    await world.publish_records([order])
    found = [item for item in await world.read(BORDER) if isinstance(item, Delivered)]
    assert found[-1].record.body == {}
    assert found[-1].record.terms.targets == (Target(batch_id=sent.batch_id, index=0),)


async def test_a_denied_record_is_named_with_its_reason(world: World) -> None:
    """A record that was not shared for the reader's purpose is named as not delivered, with the reason."""
    await world.publish_records([world.record(0, changes={"purpose": "CHILD_PROTECTION"}), world.record(1)])
    first, second = await world.read(CARE)
    assert isinstance(first, NotDelivered)
    assert (first.reason, first.index, first.issuer) == ("PURPOSE_RECORD", 0, POLICE_A)
    assert numbered(second) == 1


async def test_a_stranger_is_told_that_it_is_no_member(world: World) -> None:
    """An agency that is not a member of the channel gets an error, not silence."""
    with pytest.raises(UsageError, match="no member of channel 'xaa-xbb'"):
        await world.read(REHAB, PAIR)
    with pytest.raises(UsageError, match="no channel 'nowhere'"):
        await world.read(REHAB, "nowhere")


async def test_a_reader_that_is_too_old_says_so(world: World, tmp_path: Path) -> None:
    """Records of an unknown schema are named and not asked for; the others are delivered."""
    source = default_store().current("ReturnEvent").path.parent
    folder = tmp_path / "records"
    (folder / "types").mkdir(parents=True)
    for path in [*source.glob("*.avsc"), *source.glob("types/*.avsc")]:
        text = path.read_text()
        if path.name == "return_event.avsc":
            text = json.dumps(json.loads(text) | {"doc": "the next version"})
        (folder / path.relative_to(source)).write_text(text)
    newer = SchemaStore.load(folder)
    await world.publish_records([world.record(0), world.record(1, "JusticeMeasure")], store=newer)
    kas = Counting(world.kas)
    justice, returned = await world.read(kas=kas)
    assert numbered(justice) == 1
    assert isinstance(returned, NotDelivered)
    assert returned.reason == "READER_TOO_OLD"
    assert kas.requests == 1


async def test_a_system_reads_under_its_mandate(world: World) -> None:
    """A DISCLOSURE needs a mandate that covers its purpose; else each record is denied for it."""
    await world.publish(1)

    def standing(purpose: Purpose) -> Ground:
        return Ground(
            channel=CHANNEL,
            purpose=purpose,
            operation=Operation.DISCLOSURE,
            mandate_ref="XBB-2024-17",
            details=lambda: new_details(role="case system", legal_basis="treaty", justification="standing"),
        )

    assert delivered_refs(await world.read(POLICE_B, ground=standing(Purpose.INVESTIGATION))) == [0]
    (refused,) = await world.read(POLICE_B, ground=standing(Purpose.PROSECUTION))
    assert isinstance(refused, NotDelivered)
    assert refused.reason == "MANDATE"


async def test_every_delivery_stands_in_the_access_log(world: World) -> None:
    """Each record that was delivered, and no other, is named by an entry that was there before."""
    await world.publish(5, max_records=2)
    found = only(await world.read(), Delivered)
    entries = [terms for terms in await access_terms(world) if isinstance(terms, AccessTerms)]
    (request,) = [decode(AccessRequest, terms.request.content) for terms in entries]
    asked = {
        (item.batch_id, i) for item in request.items if isinstance(item, RecordItem) for i in item.indexes
    }
    assert asked == {(record.batch_id, record.index) for record in found}


# Following


async def test_following_waits_for_what_comes(world: World) -> None:
    """A subscriber that follows gets what is published while it waits, from any topic."""
    await world.publish(1)
    async with (
        asyncio.timeout(20),
        await world.subscriber() as subscriber,
        aclosing(subscriber.deliveries(follow=True)) as items,
    ):
        assert numbered(await anext(items)) == 0
        for number, kind in enumerate(("JusticeMeasure", "ReturnEvent", "RelocationEvent"), 1):
            waiting = asyncio.ensure_future(anext(items))
            await world.publish_records([world.record(number, kind)])
            assert numbered(await waiting) == number


async def test_following_meets_new_keys(world: World) -> None:
    """When the channel gets new keys the subscriber reads the directory on and continues."""
    await world.publish(1)
    async with (
        asyncio.timeout(20),
        await world.subscriber() as subscriber,
        aclosing(subscriber.deliveries(follow=True)) as items,
    ):
        assert numbered(await anext(items)) == 0
        await world.suspend(CARE)
        await world.next_epoch(CHANNEL, BORDER)
        await world.publish(1, first=1)
        assert numbered(await anext(items)) == 1


async def test_following_outlasts_an_outage_of_the_log(tmp_path: Path) -> None:
    """A subscriber that follows waits while the log is away: at the start, for the ends and the directory."""
    async with World.open(tmp_path, wrap=FaultLog) as world:
        log = world.log
        assert isinstance(log, FaultLog)
        await world.publish(1)

        async def go_away() -> None:
            log.away = 40

        with capture_logs() as lines:
            async with (
                asyncio.timeout(60),
                await world.subscriber() as subscriber,
                aclosing(subscriber.deliveries(follow=True)) as items,
            ):
                log.away = 40
                assert numbered(await anext(items)) == 0
                await world.suspend(CARE)
                await world.next_epoch(CHANNEL, BORDER)
                await world.publish(1, first=1)
                log.away, log.after_ends = 40, go_away
                assert numbered(await anext(items)) == 1
                assert log.away == 0
        said = [line["event"] for line in lines if line["event"].startswith("log is")]
        assert said == ["log is away, waiting for it", "log is back"] * 2


async def test_reading_to_an_end_is_told_of_an_outage(tmp_path: Path) -> None:
    """Without ``follow`` the first call that gives up raises its error, and nothing is tried again."""
    async with World.open(tmp_path, wrap=FaultLog) as world:
        assert isinstance(world.log, FaultLog)
        await world.publish(1)
        async with await world.subscriber() as subscriber:
            world.log.away = 40
            with pytest.raises(LogUnavailable, match="away"):
                await anext(subscriber.deliveries())
            assert world.log.away == 39


async def test_leaving_without_closing_leaves_nothing_running(world: World) -> None:
    """A consumer that leaves its loop early does not make the subscriber hang."""
    await world.publish(3)
    async with asyncio.timeout(20), await world.subscriber() as subscriber:
        async for item in subscriber.deliveries(follow=True):
            assert numbered(item) == 0
            break
        with pytest.raises(UsageError, match="being read already"):
            await anext(subscriber.deliveries())


# Position


class _Broken(FaultLog):
    """A log whose reading of records raises an unforeseen error."""

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        if partition.topic in default_store().topics:
            raise ArithmeticError("a bug")
        async for message in super().read(partition, start, follow=follow):
            yield message


async def test_what_breaks_while_reading_ahead_comes_out_as_itself(world: World) -> None:
    """A single error is raised as it is, not in a group."""
    await world.publish(1)
    with pytest.raises(ArithmeticError, match="a bug"):
        async with await world.subscriber(log=_Broken(world.log)) as subscriber:
            await anext(subscriber.deliveries())


async def test_it_goes_on_where_it_stopped(world: World, tmp_path: Path) -> None:
    """Records that are done are not delivered again; new ones are."""
    state = tmp_path / "state.json"
    await world.publish(3)
    assert delivered_refs(await world.read(state_path=state)) == [0, 1, 2]
    assert await world.read(state_path=state) == []
    await world.publish(2, first=3)
    assert delivered_refs(await world.read(state_path=state)) == [3, 4]


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 6, 7])
async def test_it_goes_on_from_any_record(world: World, tmp_path: Path, stop: int) -> None:
    """A subscriber that stopped after any record goes on with the next, and delivers it once."""
    await world.publish(7, max_records=3)
    state = tmp_path / "state.json"
    taken: list[int] = []
    async with (
        await world.subscriber(state_path=state) as subscriber,
        aclosing(subscriber.deliveries()) as items,
    ):
        while len(taken) < stop:
            taken.append(numbered(await anext(items)))
        await subscriber.commit()
    taken += delivered_refs(await world.read(state_path=state))
    assert taken == list(range(7))


async def test_the_item_in_hand_is_not_done(world: World, tmp_path: Path) -> None:
    """A consumer that fails over a record gets that record again."""
    await world.publish(3)
    state = tmp_path / "state.json"
    async with (
        await world.subscriber(state_path=state) as subscriber,
        aclosing(subscriber.deliveries()) as items,
    ):
        assert numbered(await anext(items)) == 0
        assert numbered(await anext(items)) == 1
    assert delivered_refs(await world.read(state_path=state)) == [1, 2]


async def test_without_autocommit_only_commits_count(world: World, tmp_path: Path) -> None:
    """Our position and the sink's are stored together, and by commit alone."""
    await world.publish(4)
    state = tmp_path / "state.json"
    async with await world.subscriber(state_path=state, autocommit=False) as subscriber:
        assert subscriber.sink is None
        async with aclosing(subscriber.deliveries()) as items:
            for number in range(3):
                assert numbered(await anext(items)) == number
                if number == 1:
                    await subscriber.commit(sink={"bytes": 20})
    async with await world.subscriber(state_path=state, autocommit=False) as subscriber:
        assert subscriber.sink == {"bytes": 20}
        assert [numbered(item) async for item in subscriber.deliveries()] == [2, 3]
    with pytest.raises(UsageError, match="belongs to a sink"):
        await world.read(state_path=state)


async def test_a_sink_needs_its_own_commits(world: World) -> None:
    """With autocommit a sink's position is refused, since ours could be stored without it."""
    async with await world.subscriber() as subscriber:
        with pytest.raises(UsageError, match="sink") as caught:
            await subscriber.commit(sink=1)
    assert "autocommit=False" in (caught.value.hint or "")


async def test_a_directory_that_was_rolled_back_is_refused(world: World, tmp_path: Path) -> None:
    """A log that shows less of the directory than was seen before is not read."""
    await world.publish(1)
    state = tmp_path / "state.json"
    await world.read(state_path=state)
    follower = await world.follower()
    with StateFile.open(state, genesis=world.coalition.genesis, channel=CHANNEL) as file:
        mark = file.state.high_water
        assert mark is not None
        assert mark.size == follower.history.size
        file.save(replace(file.state, high_water=replace(mark, size=mark.size + 1)))
    with pytest.raises(NotEntitled, match="were seen before"):
        await world.read(state_path=state)


# Receipts


async def test_receipts_are_kept_and_shares_are_not(world: World, tmp_path: Path) -> None:
    """Each receipt is in the file beside the state, verifies, and names its request; no share is on disk."""
    await world.publish(3)
    state, kas = tmp_path / "state.json", Recording(world.kas)
    (first, *_) = await world.read(state_path=state, kas=kas)
    path = tmp_path / "state.json.receipts"
    assert path.stat().st_mode & 0o777 == 0o600
    ((request, receipt),) = list(read_receipts(path))
    directory = (await world.follower()).history.latest
    assert open_receipt(receipt, directory).request_digest == sha256(request.content).digest()
    assert isinstance(first, Delivered)
    assert first.receipt == sha256(receipt.content).digest()
    answer = kas.answer(POLICE_B)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("state"))
    for share in answer.shares:
        for i in range(0, len(share.release_shares), 32):
            release_share = share.release_shares[i : i + 32]
            assert release_share not in kept
            assert release_share.hex().encode() not in kept


async def test_a_receipt_that_cannot_be_kept_delivers_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nothing is handed over without its receipt; after there is room, every record is."""
    await world.publish(3)
    path, full = tmp_path / "state.json", os.open("/dev/full", os.O_RDWR)
    receipts = path.with_name("state.json.receipts")
    with monkeypatch.context() as patch:
        really = os.open

        def on_a_full_disk(name: Any, *rest: Any, **options: Any) -> int:
            return os.dup(full) if name == receipts else really(name, *rest, **options)

        patch.setattr(os, "open", on_a_full_disk)
        with pytest.raises(UsageError, match="No space left"):
            await world.read(state_path=path)
    os.close(full)
    assert delivered_refs(await world.read(state_path=path)) == [0, 1, 2]
    assert len(list(read_receipts(receipts))) == 1


async def test_receipts_survive_a_line_cut_short(world: World, tmp_path: Path) -> None:
    """After a crash in the middle of a line the next receipt stands on a line of its own."""
    await world.publish(1)
    state, path = tmp_path / "state.json", tmp_path / "state.json.receipts"
    await world.read(state_path=state)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    await world.publish(1, first=1)
    await world.read(state_path=state)
    assert len(list(read_receipts(path))) == 2


# The key access service


class Counting:
    """A key access service that passes requests on and counts them."""

    def __init__(self, inner: KeyAccess) -> None:
        self.inner = inner
        self.requests = 0

    async def access(self, request: bytes, details: bytes) -> bytes:
        self.requests += 1
        return await self.inner.access(request, details)

    async def collections(self, query: bytes) -> bytes:
        return await self.inner.collections(query)


class Down(Counting):
    """A key access service that is down for a number of requests."""

    def __init__(self, inner: KeyAccess, times: int) -> None:
        super().__init__(inner)
        self.times = times

    async def access(self, request: bytes, details: bytes) -> bytes:
        if self.requests < self.times:
            self.requests += 1
            raise KasUnavailable("down, as planned")
        return await super().access(request, details)


class Recording(Counting):
    """A key access service that keeps the last request and answer."""

    request = sealed = b""

    async def access(self, request: bytes, details: bytes) -> bytes:
        self.request = request
        self.sealed = await super().access(request, details)
        return self.sealed

    def answer(self, name: str) -> AccessAnswer:
        digest = sha256(decode(Signed, self.request).content).digest()
        return decode(AccessAnswer, open_sealed_answer(receiving_key(name), self.sealed, digest))


class Lying(Recording):
    """A key access service that changes each answer before it is sealed again."""

    def __init__(self, inner: KeyAccess, change: Callable[[AccessAnswer], AccessAnswer]) -> None:
        super().__init__(inner)
        self.change = change

    async def access(self, request: bytes, details: bytes) -> bytes:
        await super().access(request, details)
        digest = sha256(decode(Signed, request).content).digest()
        changed = encode(self.change(self.answer(POLICE_B)))
        return seal_answer(receiving_key(POLICE_B).public, changed, digest)


async def test_a_short_outage_is_waited_out(world: World) -> None:
    """A key access service that is down is asked again, each time with a log line."""
    await world.publish(2)
    with capture_logs() as lines:
        assert delivered_refs(await world.read(kas=Down(world.kas, 3))) == [0, 1]
    retries = [line["attempt"] for line in lines if line["event"] == "key access retried"]
    assert retries == [1, 2, 3]


async def test_a_long_outage_is_an_error_and_the_position_stays(world: World, tmp_path: Path) -> None:
    """After the timeout the caller gets an error; later, every record is delivered."""
    await world.publish(2)
    state = tmp_path / "state.json"
    async with await world.subscriber(
        state_path=state, kas=Down(world.kas, 1), kas_timeout_s=-1.0
    ) as subscriber:
        with pytest.raises(KasUnavailable):
            await anext(subscriber.deliveries())
        assert [numbered(item) async for item in subscriber.deliveries()] == [0, 1]


async def test_following_outlasts_an_outage_of_the_service(world: World) -> None:
    """With ``follow`` asking goes on after the timeout; the first retries are logged, later ones rarely."""
    await world.publish(2)
    with capture_logs() as lines:
        async with (
            asyncio.timeout(60),
            await world.subscriber(kas=Down(world.kas, 100), kas_timeout_s=-1.0) as subscriber,
            aclosing(subscriber.deliveries(follow=True)) as items,
        ):
            assert [numbered(await anext(items)) for _ in range(2)] == [0, 1]
    retries = [line["attempt"] for line in lines if line["event"] == "key access retried"]
    assert retries == [*range(1, 17), 32, 64]


class Stopped(Counting):
    """A key access service that has stopped releasing."""

    async def access(self, request: bytes, details: bytes) -> bytes:
        raise KasStopped("releasing is stopped")


async def test_a_service_that_was_stopped_ends_who_follows(world: World) -> None:
    """An error that only the service's operator can mend is raised at once."""
    await world.publish(1)
    async with await world.subscriber(kas=Stopped(world.kas)) as subscriber:
        with pytest.raises(KasStopped):
            await anext(subscriber.deliveries(follow=True))


async def test_a_request_that_grew_old_with_the_service_is_made_anew(world: World) -> None:
    """A request that grew too old while the service waited for the log is made anew by a follower."""
    await world.publish(1)
    lag_us = 6 * 60 * 1_000_000

    class Slow(Counting):
        async def access(self, request: bytes, details: bytes) -> bytes:
            nonlocal lag_us
            lag_us = 0
            return await super().access(request, details)

    slow = Slow(world.kas)
    async with (
        await world.subscriber(kas=slow, clock=lambda: system_clock() - lag_us) as subscriber,
        aclosing(subscriber.deliveries(follow=True)) as items,
    ):
        assert numbered(await anext(items)) == 0
    assert slow.requests == 2
    lag_us = 6 * 60 * 1_000_000
    async with await world.subscriber(kas=slow, clock=lambda: system_clock() - lag_us) as subscriber:
        with pytest.raises(RequestRefused, match="time differs"):
            await anext(subscriber.deliveries())


def _other_share(answer: AccessAnswer) -> AccessAnswer:
    shares = bytearray(answer.shares[0].release_shares)
    shares[40] ^= 1
    return replace(answer, shares=(replace(answer.shares[0], release_shares=bytes(shares)),))


async def test_a_wrong_share_is_the_services_fault(world: World) -> None:
    """A wrong share is blamed on the service, at the body's offset; the other records are delivered."""
    await world.publish(3)
    found = await world.read(kas=Lying(world.kas, _other_share))
    assert delivered_refs(found) == [0, 2]
    (violation,) = only(found, Violation)
    assert (violation.kind, violation.place.offset) == (Kind.RELEASE_SHARE, 2)
    assert "'kas'" in violation.detail


WRONG: list[Any] = [
    pytest.param(lambda a: replace(a, shares=()), id="shares missing"),
    pytest.param(
        lambda a: replace(
            a, receipt=replace(a.receipt, signatures=(replace(a.receipt.signatures[0], signature=bytes(64)),))
        ),
        id="not signed",
    ),
    pytest.param(lambda a: replace(a, receipt=replace(a.receipt, kind="manifest")), id="kind"),
]


@pytest.mark.parametrize("change", WRONG)
async def test_a_wrong_receipt_delivers_nothing(
    world: World, tmp_path: Path, change: Callable[[AccessAnswer], AccessAnswer]
) -> None:
    """A wrong receipt is a violation; nothing is delivered, and the position stays."""
    await world.publish(2)
    state = tmp_path / "state.json"
    async with await world.subscriber(state_path=state, kas=Lying(world.kas, change)) as subscriber:
        items = subscriber.deliveries()
        violation = await anext(items)
        assert isinstance(violation, Violation)
        assert violation.kind is Kind.RECEIPT_INVALID
        with pytest.raises(KasUnavailable, match="answered wrongly"):
            await anext(items)
    assert (tmp_path / "state.json.receipts").read_bytes() == b""
    assert delivered_refs(await world.read(state_path=state)) == [0, 1]


async def test_a_log_that_cannot_be_read_is_the_callers_to_know(world: World) -> None:
    """LogUnavailable is raised to the consumer, which may go on later; nothing is lost."""
    await world.publish(2)
    log = FaultLog(world.log)
    async with await world.subscriber(log=log) as subscriber:
        log.reads = [Fault.REFUSED]
        with pytest.raises(LogUnavailable):
            async for _ in subscriber.deliveries():
                pass
        log.reads = []
        assert [numbered(item) async for item in subscriber.deliveries()] == [0, 1]


async def test_the_purpose_goes_with_the_request(world: World) -> None:
    """The service decides by what the ground says."""
    await world.publish(1)
    (refused,) = await world.read(ground=ground(purpose=Purpose.CHILD_PROTECTION))
    assert isinstance(refused, NotDelivered)
    assert refused.reason == "PURPOSE_RECORD"
    assert delivered_refs(await world.read(JUSTICE)) == [0]
