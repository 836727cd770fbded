"""The service while it follows live, answers many requests at once, and is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.access.record_states import IndexedBatch
from broker.directory import drafts
from broker.errors import KasUnavailable
from broker.log import outage
from broker.log.protocol import Message, Partition
from broker.wire.manifest import AccessTerms, CollectionTerms, Reason, Verdict
from support.asking import ask, deliver, prepare
from support.coalition import CARE, JUSTICE, POLICE_A, POLICE_B, REHAB
from support.fault_log import FaultLog
from support.looking import access_batches, access_terms, access_violations
from support.placing import place
from support.world import World


async def listed(world: World, channel: int = 0) -> int:
    """Return how many batches the access log of a channel lists."""
    return sum(
        len(entry.batches)
        for entry in await access_terms(world, channel)
        if isinstance(entry, CollectionTerms)
    )


async def test_run_takes_over_what_arrives_until_cancelled(tmp_path: Path) -> None:
    """Batches of every channel are listed without any request, and cancelling ends it at once."""
    async with World.still(tmp_path) as world, world.service(poll_s=0) as kas:
        following = asyncio.create_task(kas.run(), name="follow")
        for channel, issuer in ((0, POLICE_A), (1, POLICE_B), (2, JUSTICE)):
            await place(world, issuer, channel=channel)
        async with asyncio.timeout(30):
            for channel in range(3):  # a manifest and a body
                entry = world.log.read(Partition("access", channel), 1, follow=True)
                assert (await anext(entry)).offset == 1
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        for channel in range(3):
            assert await listed(world, channel) == 1
            assert await access_violations(world, channel) == []


async def test_run_outlasts_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log is away the service waits, with one log line, and then takes over what arrived."""
    monkeypatch.setattr(outage, "_FIRST_PAUSE_S", 0.0)
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        async with world.service(log=log, poll_s=0) as kas:
            await place(world, POLICE_A)
            log.away = 1_000
            with capture_logs() as lines:
                following = asyncio.create_task(kas.run(), name="follow")
                async with asyncio.timeout(60):
                    entry = world.log.read(Partition("access", 0), 0, follow=True)
                    assert (await anext(entry)).offset == 0
                following.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await following
            assert log.away == 0
            events = [line["event"] for line in lines]
            assert events.count("log is away, waiting for it") == 1
            assert "following failed" not in events
        assert await listed(world) == 1


async def test_many_ask_at_once(tmp_path: Path) -> None:
    """Each of many requests at once gets an entry of its own, while the service also follows."""
    async with World.still(tmp_path) as world, world.service(poll_s=0) as kas:
        first = await place(world, POLICE_A, 4)
        second = await place(world, POLICE_A, channel=1)
        following = asyncio.create_task(kas.run(), name="follow")
        asked = [ask(world, kas, name, [first.item(i)]) for name in (POLICE_B, CARE, REHAB) for i in range(4)]
        asked += [ask(world, kas, POLICE_B, [second.item(0)], channel="xaa-xbb") for _ in range(4)]
        answers = await asyncio.gather(*asked)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert all(outcome.released for answer in answers for outcome in answer.outcomes.values())
        assert (
            len({(answer.entry.partition, answer.entry.offset) for answer in answers if answer.entry}) == 16
        )
        accesses = [
            entry for c in (0, 1) for entry in await access_terms(world, c) if isinstance(entry, AccessTerms)
        ]
        assert len(accesses) == 16
        assert await access_violations(world, 0) == await access_violations(world, 1) == []


async def test_a_directory_that_grows_meanwhile_is_no_alarm(tmp_path: Path) -> None:
    """A directory that another task reads on, after our ends were taken, does not look like a cut."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        first = await place(world, POLICE_A)
        second = await place(world, POLICE_A, channel=1)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [first.item(0)])

            async def grow() -> None:
                await world.say(
                    drafts.suspend_agency(world.directory, agency=REHAB, reason="x", issued_at=world.now)
                )
                await ask(world, kas, POLICE_B, [second.item(0)], channel="xaa-xbb")

            log.after_ends = grow
            answer = await ask(world, kas, POLICE_B, [first.item(0)])
            assert [outcome.verdict for outcome in answer.outcomes.values()] == [Verdict.ALLOWED]
            assert not kas.alarms


@pytest.mark.parametrize("topic", ["keys", "access"])
async def test_cancelled_while_appending(tmp_path: Path, topic: str) -> None:
    """A cancelled request leaves the service usable, and no sequence number used twice."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        async with world.service(log=log) as kas:
            for before in (True, False):
                batch = await place(world, POLICE_A)
                await ask(world, kas, POLICE_B, [batch.item(0)])
                batch = await place(world, POLICE_A)
                reached = asyncio.Event()

                async def wait(reached: asyncio.Event = reached) -> None:
                    reached.set()
                    await asyncio.Event().wait()

                (log.before_append if before else log.after_append)[topic] = wait
                task = asyncio.create_task(ask(world, kas, POLICE_B, [batch.item(0)]))
                async with asyncio.timeout(10):
                    await asyncio.wait(
                        [task, asyncio.create_task(reached.wait())], return_when=asyncio.FIRST_COMPLETED
                    )
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            answer = await ask(world, kas, POLICE_B, [batch.item(0)])
            assert all(outcome.released for outcome in answer.outcomes.values())
        assert await access_violations(world) == []


async def test_a_new_epoch_is_followed(tmp_path: Path) -> None:
    """Entries go on under the next epoch in a stream of their own; who was not granted it is denied."""
    async with World.still(tmp_path) as world, world.service() as kas:
        first = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [first.item(0)])
        await world.say(drafts.suspend_agency(world.directory, agency=REHAB, reason="x", issued_at=world.now))
        await world.next_epoch("repatriation", POLICE_A)
        await world.say(drafts.reinstate_agency(world.directory, agency=REHAB, issued_at=world.now))
        second = await place(world, POLICE_A)
        answer = await ask(world, kas, POLICE_B, [first.item(0), second.item(0)])
        assert all(outcome.released for outcome in answer.outcomes.values())
        headers = [entry.header for entry in await access_batches(world)]
        assert [(header.epoch, header.sequence) for header in headers] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        answer = await ask(world, kas, REHAB, [first.item(0), second.item(0)])
        reasons = [outcome.reason for outcome in answer.outcomes.values()]
        assert reasons == [None, Reason.EPOCH_NOT_GRANTED]
        assert await access_violations(world) == []


async def test_an_idle_stream_is_left(tmp_path: Path) -> None:
    """After an hour without an entry the next one begins a new stream."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        world.advance(3601)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        assert [entry.header.sequence for entry in await access_batches(world)] == [0, 1, 0]


async def test_garbage_in_the_logs_stops_nothing(tmp_path: Path) -> None:
    """Junk in record topics, in the access log and in ftf.keys is passed over."""
    async with World.still(tmp_path) as world, world.service() as kas:
        for topic in ("returns", "access", "keys", "directory"):
            partition = Partition(topic, 0)
            junk = [Message(bytes(16), b"\x01" + bytes(3000)), Message(b"x", None), Message(b"", b"\x02")]
            await world.log.append(partition, junk[:1] if topic == "directory" else junk)
        batch = await place(world, POLICE_A)
        answer = await deliver(world, kas, prepare(world, POLICE_B, [batch.item(0)]))
        assert all(outcome.released for outcome in answer.outcomes.values())


async def test_a_service_that_is_not_running_answers_nothing(tmp_path: Path) -> None:
    """Before it is entered it is unavailable."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        with pytest.raises(KasUnavailable, match="is not running"):
            await ask(world, world.idle_service(), POLICE_B, [batch.item(0)])


def test_what_is_kept_of_a_batch_is_small() -> None:
    """The index keeps no digests, checks or seals: memory is for batches, not for records."""
    kept = set(IndexedBatch.__dataclass_fields__)
    assert kept.isdisjoint({"digests", "commitments", "release_checks", "release_seal", "bodies"})
