"""A reader of a partition delivers batches in order, skips epochs without a key, and resumes anywhere."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from random import Random

import pytest

from broker.directory import complaint, drafts
from broker.errors import UsageError
from broker.log.protocol import StoredMessage
from broker.verify import pending
from broker.verify.partition import Event, Stale, VerifiedBatch
from broker.verify.violations import Kind, Violation
from support.coalition import AUDITOR, BORDER, JUSTICE, POLICE_A, Coalition, signing_key
from support.partition_log import PartitionLog, batches, feed, reader, record_terms, scan, violations


def _renumbered(messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    return [message._replace(offset=i) for i, message in enumerate(messages)]


def _written() -> PartitionLog:
    written = PartitionLog(Coalition.create())
    for issuer, count in [
        (POLICE_A, 3),
        (BORDER, 1),
        (POLICE_A, 1),
        (BORDER, 2),
        (JUSTICE, 1),
        (POLICE_A, 2),
    ]:
        written.publish(issuer, count)
    return written


def _facts(found: Sequence[object]) -> list[tuple[str, int]]:
    """Batches by id and offset, violations by every offset that they name."""
    facts: list[tuple[str, int]] = []
    for event in found:
        if isinstance(event, VerifiedBatch):
            facts.append((event.batch_id.hex(), event.offset))
        elif isinstance(event, Violation):
            facts += [("violation", event.place.offset + i) for i in range(event.count)]
    return sorted(set(facts))


def _resumed(written: PartitionLog, messages: Sequence[StoredMessage], at: int) -> list[object]:
    """What two readers find, the second going on from the state of the first after ``at`` messages."""
    first = reader(written.coalition)
    found: list[object] = [event for message in messages[:at] for event in feed(first, message)]
    state = first.snapshot()
    found += first.flush()
    second = reader(written.coalition, state=state)
    found += scan(written.coalition, [m for m in messages if m.offset >= state.next_offset], second)
    return found


def test_resuming_at_any_message_delivers_the_same() -> None:
    """A reader that starts again from its state finds the same as a reader that never stopped."""
    written = _written()
    whole = scan(written.coalition, written.messages)
    for at in range(len(written.messages) + 1):
        assert _resumed(written, written.messages, at) == whole


@pytest.mark.parametrize("seed", range(12))
def test_resuming_in_a_manipulated_partition_delivers_the_same(seed: int) -> None:
    """Whatever was done to the log, the batches and the messages named by violations are the same."""
    random = Random(seed)
    written = _written()
    messages = list(written.messages)
    for _ in range(random.randrange(1, 4)):
        i, j = random.randrange(len(messages)), random.randrange(len(messages))
        match random.randrange(4):
            case 0:
                messages[i] = messages[i]._replace(value=b"\x02altered")
            case 1:
                messages[i], messages[j] = messages[j], messages[i]
            case 2:
                messages.insert(i, messages[j])
            case _:
                del messages[i]
    messages = _renumbered(messages)
    whole = scan(written.coalition, messages)
    for at in range(len(messages) + 1):
        found = _resumed(written, messages, at)
        assert [b for b in found if isinstance(b, VerifiedBatch)] == batches(whole), at
        missed = set(_facts(whole)) - set(_facts(found))
        assert not missed, (at, missed)


def test_without_the_epoch_s_key_manifests_and_bodies_are_opaque() -> None:
    """A reader without an epoch's key counts and skips its messages, and can resume among them."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    written.publish(POLICE_A, 2)
    coalition.add_auditor("auditor-two", ["repatriation"])
    coalition.new_epoch("repatriation", POLICE_A)
    written.publish(POLICE_A, 1, stream="new")
    subject = reader(coalition, name="auditor-two")
    found = scan(coalition, written.messages, subject)
    assert [batch.offset for batch in batches(found)] == [3]
    assert violations(found) == []
    assert subject.opaque == 3
    for at in range(4):
        first = reader(coalition, name="auditor-two")
        for message in written.messages[:at]:
            feed(first, message)
        state = first.snapshot()
        second = reader(coalition, name="auditor-two", state=state)
        assert scan(coalition, written.messages[state.next_offset :], second) == found


def test_a_body_that_does_not_continue_an_opaque_manifest_is_not_opaque() -> None:
    """Only bodies right behind the manifest and with its id are skipped with it."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    written.publish(POLICE_A, 2)
    coalition.add_auditor("auditor-two", ["repatriation"])
    coalition.new_epoch("repatriation", POLICE_A)
    written.publish(POLICE_A, 1, stream="new")
    messages = _renumbered([*written.messages, written.messages[1]])
    found = scan(coalition, messages, reader(coalition, name="auditor-two"))
    assert [(v.kind, v.place.offset) for v in violations(found)] == [(Kind.UNACCOUNTED, 5)]


def test_a_batch_is_whole_only_with_its_last_body() -> None:
    """An unfinished batch is waited for; where the log ends for good, it is a violation at the end."""
    written = _written()
    subject = reader(written.coalition)
    for message in written.messages[:3]:
        assert feed(subject, message) == []
    assert subject.flush() == []
    assert subject.settled_offset == 0
    (found,) = subject.flush(at_end=True)
    assert isinstance(found, Violation)
    assert (found.kind, found.place.offset) == (Kind.BATCH_UNFINISHED, 3)


def test_terms_that_the_channel_does_not_allow_are_not_delivered() -> None:
    """A retention beyond the ceiling voids the batch at its manifest, and the stream goes on."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    day = coalition.day
    written.publish(POLICE_A, 1, terms=[record_terms(day, erase_by=day + 9999)])
    written.publish(POLICE_A, 1)
    found = scan(coalition, written.messages)
    assert [(v.kind, v.place.offset) for v in violations(found)] == [(Kind.TERMS_INVALID, 0)]
    assert [batch.offset for batch in batches(found)] == [2]


def test_a_batch_that_came_too_late_is_stale() -> None:
    """What was right in its view and is no more at the mark is not delivered, and accuses nobody."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    before = coalition.directory
    coalition.suspend(BORDER)
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 1, directory_size=before.size, directory_root=before.root)
    found = scan(coalition, written.messages)
    assert [event.offset for event in found if not isinstance(event, Violation)] == [0, 2]
    assert violations(found) == []
    (stale,) = [event for event in found if isinstance(event, Stale)]
    assert stale.lapse.since == coalition.directory.size
    assert stale.lapse.fault == (Kind.NOT_ENTITLED, "'XAA:border' is suspended")


def test_a_stale_batch_moves_its_stream() -> None:
    """The next batch of its stream follows it, and is no gap."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    before = coalition.directory
    coalition.suspend(BORDER)
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 1, directory_size=before.size, directory_root=before.root)
    coalition.reinstate(BORDER)
    written.publish(BORDER, 1)
    found = scan(coalition, written.messages)
    assert violations(found) == []
    assert [batch.offset for batch in batches(found)] == [0, 4]


def test_a_stale_batch_that_lost_a_body_is_void() -> None:
    """What is done to its bytes is a manipulation, as of any other batch."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    before = coalition.directory
    coalition.suspend(BORDER)
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 2, directory_size=before.size, directory_root=before.root)
    found = scan(coalition, [*written.messages[:3], *_renumbered(written.messages)[4:]])
    assert [violation.kind for violation in violations(found)][:2] == [Kind.OFFSET_MISSING, Kind.BATCH_VOID]
    assert not [event for event in found if isinstance(event, Stale)]


def test_a_revoked_key_is_never_late() -> None:
    """What a key signed that is revoked at the mark is not entitled, whatever view it names."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    before = coalition.directory
    revoked = drafts.revoke_key(
        before, party=BORDER, key_id=signing_key(BORDER).key_id, since=before.size, issued_at=coalition.now
    )
    coalition.add(revoked, signing_key(BORDER))
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 1, directory_size=before.size, directory_root=before.root)
    found = scan(coalition, written.messages)
    assert [v.kind for v in violations(found)] == [Kind.NOT_ENTITLED, Kind.UNACCOUNTED]


def test_an_epoch_superseded_twice_is_void() -> None:
    """The mark moves on with valid statements; an epoch older than the one before the newest is void."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    for _ in range(2):
        coalition.wait(hours=2)
        coalition.new_epoch("repatriation", POLICE_A)
    written.publish(POLICE_A, 1)
    header = written.header(BORDER, epoch=0)
    written.append(written.build(header, [b"late"]))
    found = violations(scan(coalition, written.messages))
    assert [(v.kind, v.place.offset) for v in found] == [(Kind.EPOCH_SUPERSEDED, 2), (Kind.UNACCOUNTED, 3)]


def test_another_view_of_the_directory_voids_and_raises_nothing() -> None:
    """A head that is not ours, or a size beyond the directory's end, is a violation like any other."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    written.publish(POLICE_A, 1, directory_root=bytes(32))
    written.publish(BORDER, 1, directory_size=10_000)
    found = violations(scan(coalition, written.messages))
    assert [v.kind for v in found if v.caused_by is None] == [Kind.VIEW_UNKNOWN] * 2


def test_bodies_are_kept_only_where_asked_for() -> None:
    """A reader that keeps no bodies delivers the same batches without them."""
    written = _written()
    kept = batches(scan(written.coalition, written.messages))
    assert [len(batch.bodies) for batch in kept] == [3, 1, 1, 2, 1, 2]
    slim = reader(written.coalition, keep_bodies=False)
    assert all(batch.bodies == () for batch in batches(scan(written.coalition, written.messages, slim)))


def test_a_flood_of_garbage_is_one_violation_in_bounded_memory() -> None:
    """However much an outsider appends, it costs one counted violation and no memory."""
    written = _written()
    subject = reader(written.coalition)

    def flood(count: int, start: int) -> None:
        for i in range(start, start + count):
            key = i.to_bytes(16, "big")
            feed(subject, StoredMessage(i, key, b"\x01\0\0\0\0" + key * 100, 0))

    flood(2_000, 0)
    tracemalloc.start()
    flood(5_000, 2_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (found,) = subject.flush(at_end=True)
    assert isinstance(found, Violation)
    assert (found.kind, found.place.offset, found.count) == (Kind.UNACCOUNTED, 0, 7_000)
    assert grown < 100_000


@pytest.mark.parametrize("seed", range(20))
def test_bodies_fed_at_once_are_bodies_fed_one_by_one(seed: int) -> None:
    """Both ways of feeding find the same events, in whole batches and in manipulated ones."""
    random = Random(seed)
    written = _written()
    messages = list(written.messages)
    if seed:
        i, j = random.randrange(len(messages)), random.randrange(len(messages))
        messages[i], messages[j] = messages[j], messages[i]
        if seed % 3 == 0:
            messages[i] = messages[i]._replace(value=None)
        if seed % 4 == 0:
            del messages[j]
    if seed % 5:
        messages = _renumbered(messages)
    else:
        messages.sort(key=lambda message: message.offset)
    subject = reader(written.coalition)
    found: list[Event] = []
    run: list[StoredMessage] = []
    for message in messages:
        run.append(message)
        if len(run) >= (subject.awaited or 1):
            events = subject.feed_bodies(run)
            found += [e for m in run for e in feed(subject, m)] if events is None else list(events)
            run = []
    found += scan(written.coalition, run, subject)
    assert found == scan(written.coalition, messages)


@pytest.mark.parametrize("seed", range(30))
def test_any_bytes_are_events_and_never_an_error(seed: int) -> None:
    """Nothing that a log may hold makes a reader raise."""
    random = Random(seed)
    written = _written()
    messages = []
    for i, message in enumerate(written.messages):
        key, value = message.key, message.value
        if random.random() < 0.4:
            value = random.choice([None, b"", random.randbytes(40), (value or b"")[: random.randrange(2000)]])
        if random.random() < 0.2:
            key = random.choice([None, b"", random.randbytes(16), random.randbytes(20)])
        messages.append(StoredMessage(i, key, value, message.appended_at))
    subject = reader(written.coalition, name=AUDITOR)
    scan(written.coalition, messages, subject)
    assert subject.next_offset == len(messages)


def test_a_batch_that_cannot_be_built_is_refused_before_it_is_written() -> None:
    """The product's own builder makes the batches of these tests and refuses one of 257 records."""
    written = _written()
    with pytest.raises(UsageError):
        written.build(written.header(POLICE_A), [b"x"] * 257)


def test_what_is_not_yet_reported_is_read_again() -> None:
    """A reader that stops within a run of garbage and starts again reports the whole run."""
    written = _written()
    garbage = [StoredMessage(0, b"garbage", b"%d" % i, 0) for i in range(5)]
    messages = _renumbered([*written.messages[:4], *garbage, *written.messages[4:]])
    whole = scan(written.coalition, messages)
    for at in range(len(messages) + 1):
        first = reader(written.coalition)
        found = [event for message in messages[:at] for event in feed(first, message)]
        state = first.snapshot()
        found += scan(
            written.coalition, messages[state.next_offset :], reader(written.coalition, state=state)
        )
        assert found == whole, at


def test_a_batch_larger_than_the_limit_is_void() -> None:
    """A batch with more bytes than one append can have is void, even when all its bodies are there."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    body = bytes(32_000)
    of_two = sum(len(value) for _, value in written.build(written.header(POLICE_A), [body] * 2).messages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "MAX_BATCH_BYTES", of_two)
        larger = written.append(written.build(written.header(POLICE_A), [body] * 4))
        written.heads[POLICE_A, larger.manifest.header.stream] = (0, larger.batch_id)
        written.append(written.build(written.header(POLICE_A), [body] * 2))
        found = scan(coalition, written.messages)
        assert [(v.kind, v.place.offset) for v in violations(found)] == [
            (Kind.BATCH_VOID, 0),
            (Kind.UNACCOUNTED, 3),
        ]
        assert violations(found)[1].caused_by == violations(found)[0].place
        assert "more than" in violations(found)[0].detail
        assert [batch.offset for batch in batches(found)] == [5]
        subject = reader(coalition)
        feed(subject, written.messages[0])
        assert subject.feed_bodies(written.messages[1:5]) is None
        assert scan(coalition, written.messages[1:], subject) == found


def test_a_copy_of_what_was_never_right_stays_void() -> None:
    """A batch that its own view does not entitle is void for good, also once its issuer is entitled."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    coalition.suspend(BORDER)
    early = written.publish(BORDER, 1)
    written.append(early)
    coalition.reinstate(BORDER)
    written.publish(POLICE_A, 1)
    written.append(early)
    messages = written.messages
    whole = scan(coalition, messages)
    assert [batch.offset for batch in batches(whole)] == [4]
    for at in range(len(messages) + 1):
        found = [event for event in _resumed(written, messages, at) if isinstance(event, VerifiedBatch)]
        assert found == batches(whole), at


def test_a_complaint_voids_nothing_published_before_it() -> None:
    """A batch in whose view there is no complaint counts, also behind others that have seen the complaint."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    coalition.wait(hours=2)
    coalition.new_epoch("repatriation", POLICE_A)
    unaware = written.header(BORDER)
    complained = complaint(
        coalition.directory, "repatriation", 1, JUSTICE, detail="junk", issued_at=coalition.now
    )
    coalition.add(complained, coalition.signing[JUSTICE])
    written.publish(POLICE_A, 1)
    assert written.built[-1].manifest.header.epoch == 0, "honest publishers go back"
    aware = written.header(JUSTICE, epoch=1)
    coalition.new_epoch("repatriation", BORDER)
    written.publish(POLICE_A, 1, stream="of epoch 2")
    written.append(written.build(unaware, [b"on its way"]))
    written.append(written.build(aware, [b"it knew"]))
    found = scan(coalition, written.messages)
    assert [batch.offset for batch in batches(found)] == [0, 2, 4]
    assert [(v.kind, v.place.offset) for v in violations(found)] == [
        (Kind.NOT_ENTITLED, 6),
        (Kind.UNACCOUNTED, 7),
    ]
    assert "was given up after a complaint" in violations(found)[0].detail


def test_a_complaint_of_the_only_epoch_voids_nothing() -> None:
    """Where a channel has no other epoch publishing goes on, and counts also when the next one is there."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    complained = complaint(
        coalition.directory, "repatriation", 0, JUSTICE, detail="junk", issued_at=coalition.now
    )
    coalition.add(complained, coalition.signing[JUSTICE])
    written.publish(POLICE_A, 1)
    aware = written.header(BORDER)
    coalition.new_epoch("repatriation", BORDER)
    written.publish(POLICE_A, 1, stream="of epoch 1")
    written.append(written.build(aware, [b"on its way"]))
    found = scan(coalition, written.messages)
    assert (violations(found), [batch.offset for batch in batches(found)]) == ([], [0, 2, 4])


def test_an_epoch_complained_of_is_not_the_one_before() -> None:
    """Batches on their way when a void epoch was replaced still count: nobody could have used that one."""
    coalition = Coalition.create()
    written = PartitionLog(coalition)
    header = written.header(BORDER)
    coalition.wait(hours=2)
    coalition.new_epoch("repatriation", POLICE_A)
    complained = complaint(
        coalition.directory, "repatriation", 1, JUSTICE, detail="junk", issued_at=coalition.now
    )
    coalition.add(complained, coalition.signing[JUSTICE])
    coalition.new_epoch("repatriation", BORDER)
    written.publish(POLICE_A, 1)
    written.append(written.build(header, [b"on its way"]))
    found = scan(coalition, written.messages)
    assert (violations(found), [batch.offset for batch in batches(found)]) == ([], [0, 2])
