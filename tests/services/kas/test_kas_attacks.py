"""Attacks of the log's operator, of members and of former members on the key access service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from broker.access.answers import Answer, Outcome, RecordRef, share_of
from broker.crypto.lock import body_key, unlock
from broker.crypto.seal import member_share_info, open_sealed
from broker.directory import drafts
from broker.errors import KasStopped, KasUnavailable, NotEntitled, OpenError
from broker.log.protocol import Message, Partition, StoredMessage
from broker.services.kas.custody import open_held
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Kind
from broker.wire.batch import Secrets
from broker.wire.manifest import (
    AccessTerms,
    CollectionStatus,
    CollectionTerms,
    ErasureTerms,
    LateTerms,
    PositionTerms,
    Reason,
    Terms,
    Verdict,
)
from broker.wire.terms import Action, Target
from support.asking import ask, deliver, prepare
from support.coalition import BORDER, CARE, JUSTICE, KAS, POLICE_A, POLICE_B, REHAB
from support.fault_log import Fault, FaultLog
from support.forgery import opened_by_kas
from support.looking import access_positions, access_terms, access_violations, cut, held_value, put_back
from support.placing import Placed, place, place_order
from support.world import World

RELEASED = Outcome(Verdict.ALLOWED, None, True)
ACCESS = Partition("access", 0)
DIRECTORY = Partition("directory", 0)
KEYS = Partition("keys", 0)


def only(answer: Answer) -> Outcome:
    """Return the outcome that all records of an answer have."""
    (outcome,) = set(answer.outcomes.values())
    return outcome


async def write_entry(kas: KeyAccessService, world: World, terms: Terms) -> None:
    """Have the service write an entry of its own."""
    channel = kas.channel_service(world.directory.channels["repatriation"])
    async with channel.turn:
        await channel.apply()
        written = await channel.write(world.directory, [(terms, None)], now=world.clock())
        await channel.read_own(written)


def erasure(*targets: Target) -> ErasureTerms:
    """Make an entry that says that these records were shredded."""
    return ErasureTerms(targets=targets, order=None)


# 1, 2: another's names


async def test_copied_manifest_id_opens_nothing_of_the_victims(tmp_path: Path) -> None:
    """Attack 1: a batch with the victim's manifest_id gets shares of its own, and none of the victim's."""
    async with World.still(tmp_path) as world, world.service() as kas:
        victim = await place(world, POLICE_A)
        draw = Secrets(
            manifest_id=victim.draw.manifest_id, member_share=bytes(32), release_secret=b"\x01" * 32
        )
        copied = await place(world, POLICE_B, draw=draw)
        share = share_of(await ask(world, kas, POLICE_B, [copied.item(0)]), 0, 0)
        assert share == copied.share(world.coalition.genesis, 0)
        assert share != victim.share(world.coalition.genesis, 0)
        logged = [entry for entry in await access_terms(world) if isinstance(entry, AccessTerms)]
        assert len(logged) == 1  # and the log names the batch that was asked for


async def test_copied_release_seal_is_refused(tmp_path: Path) -> None:
    """Attack 1: a release seal that is copied from the victim does not open for the copier's batch."""
    async with World.still(tmp_path) as world, world.service() as kas:
        victim = await place(world, POLICE_A)
        draw = Secrets(
            manifest_id=victim.draw.manifest_id,
            member_share=victim.draw.member_share,
            release_secret=bytes(32),
        )
        seal = victim.batch.manifest.release_seal
        copied = await place(world, POLICE_B, draw=draw, release_seal=seal)
        answer = await ask(world, kas, POLICE_B, [copied.item(0)])
        assert only(answer) == Outcome(Verdict.DENIED, Reason.NOT_COLLECTED, False)
        (listed,) = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
        statuses = {batch.batch_id: batch.status for batch in listed.batches}
        assert statuses[victim.batch_id] is CollectionStatus.COLLECTED
        assert statuses[copied.batch_id] is CollectionStatus.REFUSED


async def test_erasing_a_namesake_leaves_the_victim(tmp_path: Path) -> None:
    """Attack 2: orders of another agency leave the victim's record alone, even under its manifest_id."""
    async with World.still(tmp_path) as world, world.service() as kas:
        victim = await place(world, POLICE_A)
        namesake = await place(
            world,
            POLICE_B,
            draw=Secrets(
                manifest_id=victim.draw.manifest_id, member_share=bytes(32), release_secret=bytes(32)
            ),
        )
        await place_order(world, Action.ERASE, namesake.target(0), issuer=POLICE_B)
        await place_order(world, Action.ERASE, victim.target(0), issuer=POLICE_B)
        await place_order(world, Action.WITHDRAW, victim.target(0), issuer=JUSTICE, topic="justice")
        erased = Outcome(Verdict.DENIED, Reason.ERASED, False)
        for batch, outcome in ((victim, RELEASED), (namesake, erased)):
            answer = await ask(world, kas, CARE, [batch.item(0)])
            assert answer.outcomes == {RecordRef(0, 0): outcome}


# 4: an old value of ftf.keys


async def test_old_value_put_back_is_not_used(tmp_path: Path) -> None:
    """Attack 4: an old value that is put back does not give an erased share, and is replaced."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A, 3)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0, 1, 2)])
            old = await held_value(world, batch.batch_id)
            await write_entry(kas, world, erasure(batch.target(1)))
            await world.log.append(KEYS, [Message(batch.batch_id, old)])
        async with world.service() as kas:
            answer = await ask(world, kas, POLICE_B, [batch.item(0, 1, 2)])
            assert answer.outcomes == {
                RecordRef(0, 0): RELEASED,
                RecordRef(0, 1): Outcome(Verdict.DENIED, Reason.ERASED, False),
                RecordRef(0, 2): RELEASED,
            }
            assert share_of(answer, 0, 2) == batch.share(world.coalition.genesis, 2)
        held = open_held(world.keystore(), batch.batch_id, await held_value(world, batch.batch_id))
        assert held.release_secret is None
        assert [kept.index for kept in held.shares] == [0, 2]
        store = world.keystore()
        store.destroy_storage_key(world.day)  # a day later the old value is noise
        with pytest.raises(OpenError, match="storage key"):
            open_held(store, batch.batch_id, old)


async def test_values_of_ftf_keys_exchanged_release_nothing(tmp_path: Path) -> None:
    """Attack 4: a foreign, junk or missing value of ftf.keys withholds the record, and stops nothing else."""
    async with World.still(tmp_path) as world:
        first = await place(world, POLICE_A)
        second = await place(world, POLICE_A)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [first.item(0), second.item(0)])
        good = await held_value(world, first.batch_id)
        withheld = Outcome(Verdict.ALLOWED, Reason.NOT_HELD, False)
        for value in (await held_value(world, second.batch_id), b"junk", bytes(200), None):
            await world.log.append(KEYS, [Message(first.batch_id, value)])
            async with world.service() as kas:
                answer = await ask(world, kas, POLICE_B, [first.item(0), second.item(0)])
                assert list(answer.outcomes.values()) == [withheld, RELEASED]
        await world.log.append(KEYS, [Message(first.batch_id, good)])
        async with world.service() as kas:
            assert only(await ask(world, kas, POLICE_B, [first.item(0)])) == RELEASED


# 5: old state


async def test_a_directory_below_the_mark_is_refused(tmp_path: Path) -> None:
    """Attack 5: a service does not start on less of the directory than it saw before."""
    async with World.still(tmp_path) as world:
        async with world.service():
            pass
        log = FaultLog(world.log)
        log.hidden[DIRECTORY] = world.directory.size - 1
        with pytest.raises(NotEntitled, match="seen before"):
            async with world.service(log=log):
                pass


@pytest.mark.parametrize("topic", ["directory", "returns", "access"])
async def test_ends_that_went_back_stop_the_channel(tmp_path: Path, topic: str) -> None:
    """Attack 5: ends below messages that were read stop releasing until an operator acknowledges."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            log.old_ends[Partition(topic, 0)] = 1
            with pytest.raises(KasUnavailable, match=f"{topic}/0 ends at 1"):
                await ask(world, kas, POLICE_B, [batch.item(0)])
            log.old_ends.clear()
            with pytest.raises(KasStopped, match="releasing is stopped"):
                await ask(world, kas, POLICE_B, [batch.item(0)])
            assert [text[:22] for text in kas.alarms] == ["channel 'repatriation'"]
            kas.acknowledge_alarm(0)
            assert not kas.alarms
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED


@pytest.mark.parametrize("topic", ["directory", "justice"])
async def test_messages_that_are_held_back_release_nothing(tmp_path: Path, topic: str) -> None:
    """Attack 5: when the log gives fewer messages than its ends announce, nothing is decided."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            prepared = prepare(world, CARE, [batch.item(0)])
            partition = Partition(topic, 0)
            log.hidden[partition] = (await world.log.ends([partition]))[partition]
            await place_order(world, Action.ERASE, batch.target(0), topic="justice")
            await world.say(
                drafts.suspend_agency(world.directory, agency=POLICE_B, reason="x", issued_at=world.now)
            )
            log.old_ends[partition] = log.hidden[partition] + 1
            with pytest.raises(KasUnavailable, match="withholds"):
                await deliver(world, kas, prepared)


# 7: the tail of the access log


def lost(terms: Sequence[Terms]) -> list[tuple[bytes, bytes]]:
    """Return the messages that LATE entries put back."""
    late = [entry for entry in terms if isinstance(entry, LateTerms)]
    return [(message.key, message.value) for entry in late for message in entry.messages]


@pytest.mark.parametrize("topic", ["directory", "returns", "access"])
async def test_ends_that_went_back_once_are_looked_at_again(tmp_path: Path, topic: str) -> None:
    """An old end that a broker answers once, after it stood still, raises no alarm and is not used."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])

            async def answer_old_ends() -> None:
                log.after_ends = answer_real_ends

            async def answer_real_ends() -> None:
                log.old_ends.clear()

            log.old_ends[Partition(topic, 0)] = 1
            log.after_ends = answer_old_ends
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
            assert not log.old_ends
            assert not kas.alarms


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("offset", [2, 0])
async def test_a_cut_tail_stops_the_service(
    tmp_path: Path, offset: int, replaced: bool, restarted: bool
) -> None:
    """Attack 7: a cut access log raises an alarm and stops releasing, and lost entries are put back."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            gone = cut(world, "access", 0, offset)
            assert gone
            if replaced:
                await world.log.append(ACCESS, [Message(b"x", b"y")] * len(gone))
            if not restarted:
                await stopped(world, kas, batch)
        async with world.service() as kas:
            if not restarted:
                assert kas.alarms == ("channel 'repatriation': the access log was cut",)
            await stopped(world, kas, batch)
            after = await access_terms(world)
            assert lost(after) == gone
            assert {type(one) for one in after} <= {CollectionTerms, LateTerms, PositionTerms}
            kas.acknowledge_alarm(0)
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
        async with world.service() as kas:
            assert not kas.alarms
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED
            assert lost(await access_terms(world)) == gone  # put back once
            listings = [entry for entry in await access_terms(world) if isinstance(entry, CollectionTerms)]
            assert len(listings) == (0 if offset == 0 else 1)  # the one that was put back counts
        # What the service wrote at its end, behind what it did not know to be cut, is a gap in its stream.
        violations = [one for one in await access_violations(world) if one.kind is not Kind.STREAM_GAP]
        assert len(violations) == (1 if replaced else 0)


async def stopped(world: World, kas: KeyAccessService, batch: Placed) -> None:
    """Check that nothing is released, at the first request and at the second."""
    for _ in range(2):
        with pytest.raises(KasUnavailable, match="the access log was cut"):
            await ask(world, kas, POLICE_B, [batch.item(0)])
    assert kas.alarms == ("channel 'repatriation': the access log was cut",)


async def test_an_entry_gone_from_the_middle_is_found_at_the_start(tmp_path: Path) -> None:
    """Attack 7: a start compares the whole journal, and so finds an entry missing in the middle."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        async with world.service() as kas:
            for _ in range(2):
                await ask(world, kas, POLICE_B, [batch.item(0)])
            tail = cut(world, "access", 0, 4)
            gone = cut(world, "access", 0, 2)
            put_back(world, "access", 0, 4, tail)
        async with world.service() as kas:
            await stopped(world, kas, batch)
            assert lost(await access_terms(world)) == gone


async def test_other_channels_go_on_while_one_is_stopped(tmp_path: Path) -> None:
    """An alarm stops the channel whose log was cut, and no other."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A)
        other = await place(world, POLICE_A, channel=1)
        await ask(world, kas, POLICE_B, [batch.item(0)])
        cut(world, "access", 0, 0)
        await stopped(world, kas, batch)
        assert only(await ask(world, kas, POLICE_B, [other.item(0)], channel="xaa-xbb")) == RELEASED


async def test_a_replica_reads_anew_after_an_alarm(tmp_path: Path) -> None:
    """A replica reads the channel anew after an alarm that another process raised and acknowledged."""
    async with World.still(tmp_path) as world, world.service() as first, world.service() as second:
        batch = await place(world, POLICE_A)
        await ask(world, first, POLICE_B, [batch.item(0)])
        await ask(world, second, POLICE_B, [batch.item(0)])
        cut(world, "access", 0, 0)
        await stopped(world, first, batch)
        first.acknowledge_alarm(0)
        assert only(await ask(world, second, POLICE_B, [batch.item(0)])) == RELEASED
        assert only(await ask(world, first, POLICE_B, [batch.item(0)])) == RELEASED
        assert await access_violations(world) == []


# 20: releasable_to


async def test_an_excluded_member_gets_neither_share(tmp_path: Path) -> None:
    """Attack 20: an agency that releasable_to leaves out is denied, and opens no member share either."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, releasable_to=(JUSTICE,))
        answer = await ask(world, kas, POLICE_B, [batch.item(0)])
        assert only(answer) == Outcome(Verdict.DENIED, Reason.NOT_RELEASABLE, False)
        for name in (JUSTICE, POLICE_A):
            assert only(await ask(world, kas, name, [batch.item(0)])) == RELEASED
        manifest = batch.batch.manifest
        info = member_share_info(batch.context(world.coalition.genesis))
        assert len(manifest.member_seals) == 2
        for sealed in manifest.member_seals:
            for key in world.coalition.keys_of(POLICE_B).values():
                with pytest.raises(OpenError):
                    open_sealed(key, sealed.sealed, info)
        # What the content seed gives is another share.
        content = world.coalition.epoch_keys("repatriation", 0, POLICE_B)["content"].keys
        derived = content.member_share(batch.context(world.coalition.genesis))
        assert derived != batch.draw.member_share


async def test_shares_unlock_with_the_member_share_only(tmp_path: Path) -> None:
    """A body opens with both shares, the service's and the members', and not with one of them."""
    async with World.still(tmp_path) as world, world.service() as kas:
        batch = await place(world, POLICE_A, 2)
        share = share_of(await ask(world, kas, POLICE_B, [batch.item(1)]), 0, 1)
        context = batch.context(world.coalition.genesis)
        key = body_key(context, batch.draw.member_share, 1, share)
        commitment = opened_by_kas(world, batch.batch).entries.commitment(1)
        assert unlock(key, 1, batch.batch.messages[2][1], commitment) == b"1"
        with pytest.raises(OpenError):
            unlock(body_key(context, bytes(32), 1, share), 1, batch.batch.messages[2][1], commitment)


# 23b: paused between entry and answer


async def test_paused_while_the_record_is_erased(tmp_path: Path) -> None:
    """Attack 23b: a decision older than ten seconds is made again at fresh ends."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A, 2)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0, 1)])

            async def pause() -> None:
                await place_order(world, Action.ERASE, batch.target(1), topic="justice")
                world.advance(11)

            log.after_append["access"] = pause
            answer = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
            assert answer.outcomes == {
                RecordRef(0, 0): RELEASED,
                RecordRef(0, 1): Outcome(Verdict.ALLOWED, Reason.ERASED, False),
            }
            assert list(answer.shares) == [RecordRef(0, 0)]


class _SlowKeys(FaultLog):
    """A log on which ``meanwhile`` happens while ftf.keys are read."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def read(
        self, partition: Partition, start: int, *, follow: bool = False
    ) -> AsyncIterator[StoredMessage]:
        async for message in super().read(partition, start, follow=follow):
            yield message
        if partition.topic == "keys" and self.meanwhile is not None:
            hook = self.meanwhile
            self.meanwhile = None
            await hook()


async def test_erased_while_the_shares_are_gathered(tmp_path: Path) -> None:
    """Attack 23b: a decision is less than ten seconds old when the shares have been gathered."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A, 2)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
        log = _SlowKeys(world.log)
        async with world.service(log=log) as kas:  # knows nothing of ftf.keys yet

            async def pause() -> None:
                await place_order(world, Action.ERASE, batch.target(1), topic="justice")
                world.advance(11)

            log.meanwhile = pause
            answer = await ask(world, kas, POLICE_B, [batch.item(0, 1)])
            assert answer.outcomes == {
                RecordRef(0, 0): RELEASED,
                RecordRef(0, 1): Outcome(Verdict.ALLOWED, Reason.ERASED, False),
            }
            assert list(answer.shares) == [RecordRef(0, 0)]


async def test_suspended_while_the_shares_are_gathered(tmp_path: Path) -> None:
    """A suspension that another channel's task read meanwhile counts before the answer is sealed."""
    async with World.still(tmp_path) as world:
        batch = await place(world, POLICE_A)
        other = await place(world, POLICE_A, channel=1)
        async with world.service() as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
        log = _SlowKeys(world.log)
        async with world.service(log=log) as kas:

            async def suspend() -> None:
                statement = drafts.suspend_agency(
                    world.directory, agency=POLICE_B, reason="x", issued_at=world.now
                )
                await world.say(statement)
                await ask(world, kas, POLICE_A, [other.item(0)], channel="xaa-xbb")

            log.meanwhile = suspend
            answer = await ask(world, kas, POLICE_B, [batch.item(0)])
            assert only(answer) == Outcome(Verdict.ALLOWED, Reason.SUSPENDED, False)
            assert not answer.shares


async def test_an_entry_overtaken_by_a_newer_epoch_is_no_alarm(tmp_path: Path) -> None:
    """Two new epochs between decision and entry make the entry stale, and raise no alarm."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service() as replica, world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])

            async def overtake() -> None:
                for agency in (REHAB, BORDER):
                    await world.suspend(agency)
                    await world.next_epoch("repatriation", POLICE_B)
                await ask(world, replica, POLICE_B, [batch.item(0)])

            log.before_append["access"] = overtake
            with pytest.raises(KasUnavailable, match="moved on"):
                await ask(world, kas, POLICE_B, [batch.item(0)])
            assert kas.alarms == ()
            assert only(await ask(world, kas, POLICE_B, [batch.item(0)])) == RELEASED


async def test_a_stopped_channel_costs_nothing(tmp_path: Path) -> None:
    """A request to a stopped channel reads nothing: lost entries are put back once for each alarm."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            cut(world, "access", 0, 0)
            await stopped(world, kas, batch)
            log.reads = [Fault.REFUSED] * 9
            await stopped(world, kas, batch)
            assert len(log.reads) == 9


async def test_shredded_between_decision_and_entry(tmp_path: Path) -> None:
    """An erasure that a replica logged before our entry withholds the record, however fresh our view."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service() as other, world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])

            async def shred() -> None:
                await write_entry(other, world, erasure(batch.target(0)))

            log.before_append["access"] = shred
            answer = await ask(world, kas, POLICE_B, [batch.item(0)])
            assert only(answer) == Outcome(Verdict.ALLOWED, Reason.ERASED, False)
            assert not answer.shares
        assert await access_violations(world) == []


async def test_old_ends_stand_in_the_entry(tmp_path: Path) -> None:
    """Attack 23b: the entry records the old ends that the log answered, so that a replay can convict."""
    async with World.still(tmp_path) as world:
        log = FaultLog(world.log)
        batch = await place(world, POLICE_A)
        async with world.service(log=log) as kas:
            await ask(world, kas, POLICE_B, [batch.item(0)])
            log.old_ends[Partition("justice", 0)] = 0
            await place_order(world, Action.ERASE, batch.target(0), topic="justice")
            await ask(world, kas, POLICE_B, [batch.item(0)])
            last = (await access_positions(world))[-1]
            assert {head.topic: head.size for head in last.topics}["justice"] == 0


async def test_every_service_name_is_the_directorys(tmp_path: Path) -> None:
    """A service under another name than the directory's does not start."""
    async with World.still(tmp_path) as world:
        with pytest.raises(KasUnavailable, match="is not the key access service"):
            async with world.service(as_name=POLICE_A):
                pass
        assert world.directory.kas_name == KAS
