"""The Kafka operator, and whoever may append, against the logs: each attack names what must be reported."""

from __future__ import annotations

import pytest

from broker.log.protocol import MAX_APPEND_BYTES
from broker.verify.violations import Kind, Place
from support.simulator import Simulator

GARBAGE = b"\x01" + bytes(4) + b"g" * 2000


def at(topic: str, partition: int, offset: int) -> Place:
    """A place."""
    return Place(topic, partition, offset)


# 8: flipped, dropped, swapped, inserted, copied


def test_flip_a_body(world: Simulator) -> None:
    """8: O flips a bit of a body: altered there, the batch void."""
    place = world.flip(at("returns", 0, 1))
    world.must_report(Kind.BODY_ALTERED, place)


def test_flip_a_bodys_key(world: Simulator) -> None:
    """8: O renames a body to another index: misplaced there."""
    place = world.flip(at("returns", 0, 2), column="key")
    world.must_report(Kind.BODY_MISPLACED, place)


def test_flip_a_bodys_batch(world: Simulator) -> None:
    """8: O renames a body to another batch: it stands under another key."""
    place = world.flip(at("returns", 0, 2), column="key", byte=0)
    world.must_report(Kind.BODY_ALTERED, place)


@pytest.mark.parametrize("byte", [0, 1, 4, 5, 20, 21, 1000, -1])
def test_flip_a_manifest(world: Simulator, byte: int) -> None:
    """8: O flips a bit of a manifest, in its kind, epoch, tag or seal: it accounts for nothing any more."""
    place = world.flip(world["family 1"].place, byte=byte)
    kind = Kind.EPOCH_UNKNOWN if byte in (1, 4) else Kind.UNACCOUNTED
    world.must_report(kind, place)


def test_flip_a_manifests_key(world: Simulator) -> None:
    """8: O renames a manifest: its tag is not for that name."""
    place = world.flip(world["single 1"].place, column="key")
    world.must_report(Kind.UNACCOUNTED, place)


def test_drop_a_body(world: Simulator) -> None:
    """8: O drops a body and leaves a hole."""
    place = world.drop(at("returns", 0, 8))
    world.must_report(Kind.OFFSET_MISSING, place)


def test_drop_a_body_closing_up(world: Simulator) -> None:
    """8: O drops a body and closes the offsets up: another stands where it belongs."""
    place = world.drop(at("returns", 0, 8), close_up=True)
    world.must_report(Kind.BODY_MISPLACED, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_drop_the_last_body_closing_up(world: Simulator) -> None:
    """8: O drops a batch's last body: a manifest stands where it belongs."""
    place = world.drop(at("returns", 0, 9), close_up=True)
    world.must_report(Kind.BODY_MISSING, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_drop_a_manifest(world: Simulator) -> None:
    """8: O drops a manifest: its bodies are accounted for by nothing."""
    place = world.drop(world["family 1"].place, close_up=True)
    world.must_report(Kind.UNACCOUNTED, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_drop_a_batch_of_the_middle(world: Simulator) -> None:
    """8: O drops a whole batch and closes up: the stream lacks a statement, at the next of its stream."""
    world.drop_batch("family 1", close_up=True)
    world.must_report(Kind.STREAM_GAP, at("returns", 0, 8), delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_drop_a_batch_leaving_a_hole(world: Simulator) -> None:
    """8: O drops a whole batch and leaves the hole."""
    place = world.drop_batch("family 1")
    world.must_report(Kind.OFFSET_MISSING, place)


def test_drop_a_whole_stream(world: Simulator) -> None:
    """8: O drops the only batch of a stream and closes up: no stream shows it, its collection does."""
    place = world.drop_batch("releasable", close_up=True)
    world.must_report(Kind.COLLECTION_WRONG, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_drop_everything_of_a_topic(world: Simulator) -> None:
    """8: O empties a topic: what an access entry saw of it is not there."""
    place = world.cut_tail(at("justice", 0, 0))
    world.must_report(Kind.ACCESS_POSITIONS, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_cut_below_a_recorded_position(world: Simulator) -> None:
    """8: O cuts the log below a position that an access entry recorded: the root is where it ends now."""
    place = world.cut_tail(world["order"].place)
    world.must_report(Kind.ACCESS_POSITIONS, place, delivers=False)
    world.must_stop(world.read, "was cut")


def test_cut_within_a_batch(world: Simulator) -> None:
    """8: O cuts the log's last body off: the log ends within a batch."""
    place = world.cut_tail(at("returns", 0, 25))
    world.must_report(Kind.BATCH_UNFINISHED, place, delivers=False)
    world.must_stop_until_acknowledged("was cut")


def test_swap_two_bodies(world: Simulator) -> None:
    """8: O exchanges two bodies of a batch."""
    place = world.swap(at("returns", 0, 1), at("returns", 0, 2))
    world.must_report(Kind.BODY_MISPLACED, place)


def test_swap_bodies_of_two_batches(world: Simulator) -> None:
    """8: O exchanges bodies of two batches: the first place is the root of both."""
    place = world.swap(at("returns", 0, 2), at("returns", 0, 8))
    world.must_report(Kind.UNACCOUNTED, place)


def test_swap_two_batches_of_one_issuer(world: Simulator) -> None:
    """8: O exchanges two whole batches of one stream: a gap, then what was lost comes late."""
    place = world.swap_batches("family 0", "family 1")
    world.must_report(Kind.STREAM_GAP, place)


def test_swap_two_issuers_batches(world: Simulator) -> None:
    """8: O exchanges whole batches of two issuers, which no stream shows: their collections do."""
    place = world.swap_batches("h1", "releasable")
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_insert_garbage(world: Simulator) -> None:
    """3: O inserts garbage between two batches: counted there, and what it moved follows from it."""
    place = world.insert(world["family 1"].place, b"k" * 16, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


def test_insert_into_a_batch(world: Simulator) -> None:
    """8: O inserts garbage between a manifest and its bodies: the batch is void, the rest stands."""
    place = world.insert(at("returns", 0, 7), b"k" * 16, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


def test_replay_a_streams_first_statement(world: Simulator) -> None:
    """8: O appends a copy of a stream's first batch: a copy there, its bodies accounted for by nothing."""
    place = world.copy_to("family 0", "returns", 0)
    world.must_be_void(Kind.MANIFEST_COPIED, place)


def test_replay_a_streams_newest_statement(world: Simulator) -> None:
    """8: O appends a copy of a stream's newest batch: the same statement once more, which counts once."""
    world.copy_to("last", "returns", 0)
    world.must_find_nothing()


def test_copy_a_manifest_alone(world: Simulator) -> None:
    """8: O appends a copy of a stream's newest manifest, without its bodies."""
    row = world.row(world["h1"].place)
    place = world.append("returns", 0, (row.key, row.value))
    world.must_report(Kind.MANIFEST_COPIED, place)


def test_copy_a_body_alone(world: Simulator) -> None:
    """8: O appends a copy of a body."""
    row = world.row(at("returns", 0, 1))
    place = world.append("returns", 0, (row.key, row.value))
    world.must_be_void(Kind.UNACCOUNTED, place)


# 15, 17: moved


@pytest.mark.parametrize(
    ("topic", "partition"), [("returns", 1), ("relocation", 0), ("rehabilitation", 2), ("justice", 0)]
)
def test_move_a_batch(world: Simulator, topic: str, partition: int) -> None:
    """17: O copies a batch to another partition or topic: header and tag are for another place."""
    place = world.copy_to("family 0", topic, partition)
    world.must_be_void(Kind.UNACCOUNTED, place)


def test_move_a_batch_to_the_access_log(world: Simulator) -> None:
    """17: O copies a batch of records to the access log: unaccounted there."""
    place = world.copy_to("family 0", "access", 0)
    world.must_report(Kind.UNACCOUNTED, place)


def test_move_an_access_entry_to_another_channel(world: Simulator) -> None:
    """17: O copies an access entry to another channel's access log."""
    rows = world.rows("access", 0)[:2]
    place = world.append("access", 1, *[(row.key, row.value) for row in rows])
    world.must_report(Kind.UNACCOUNTED, place)


# 25: what no producer of ours writes


@pytest.mark.parametrize(
    "message",
    [
        (None, None),
        (b"", b""),
        (None, b"\x01"),
        (b"k" * 16, None),
        (b"k" * 20, b"\x02"),
        (b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x00"),
        (b"\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00\x00"),
        (b"k" * 16, b"\x01"),
        (b"k" * 16, b"\x01" + bytes(4)),
        (b"k" * 16, b"\x01\xff\xff\xff\xff" + bytes(2000)),
        (b"k" * 100_000, b"\x01" + bytes(2000)),
        (b"k" * 16, b"\x01" + bytes(MAX_APPEND_BYTES - 1000)),
    ],
    ids=[
        "null null", "empty", "null key", "null value", "a stray body", "abort marker", "commit marker",
        "one byte", "no tag", "the last epoch there can be", "a long key", "as large as can be",
    ],
)  # fmt: skip
def test_raw_messages(world: Simulator, message: tuple[bytes | None, bytes | None]) -> None:
    """25, 26: O appends transaction markers, nulls, short and huge messages: one violation."""
    place = world.append("returns", 0, message)
    kind = Kind.EPOCH_UNKNOWN if message[1] and message[1][1:5] == b"\xff" * 4 else Kind.UNACCOUNTED
    world.must_be_void(kind, place)


def test_a_value_that_is_text(world: Simulator) -> None:
    """25: O turns a value of the table into text: an SQLite file can hold what no log gives."""
    place = world.overwrite(at("returns", 0, 1), "text instead of bytes")
    world.must_report(Kind.BODY_ALTERED, place)


@pytest.mark.parametrize("partition", [0, 1])
def test_flood_of_garbage(world: Simulator, partition: int) -> None:
    """3: N floods a partition with garbage that begins like manifests: one counted violation."""
    place = world.append("returns", partition, *[(b"%016d" % i, GARBAGE) for i in range(300)])
    report = world.must_report(Kind.UNACCOUNTED, place)
    assert [one.violation.count for one in report.violations] == [300]


def test_flood_between_good_records(world: Simulator) -> None:
    """3: N floods between two batches: what stands behind is read, and only moved."""
    place = world["single 1"].place
    for i in range(20):
        world.insert(place, b"%016d" % i, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


# the access log


def test_flip_an_access_entry(world: Simulator) -> None:
    """7: O flips a bit of an access entry's manifest."""
    place = world.flip(at("access", 0, 4))
    world.must_report(Kind.UNACCOUNTED, place)


def test_drop_an_access_entry(world: Simulator) -> None:
    """7: O drops an access entry of the middle and closes up: the service's stream lacks it."""
    place = world.drop(at("access", 0, 4), 2, close_up=True)
    world.must_report(Kind.STREAM_GAP, place)


def test_cut_the_access_log_and_go_on(world: Simulator) -> None:
    """7: O cuts the access log's tail: the service's journal differs, and it releases nothing."""
    world.cut_tail(at("access", 0, 8))
    world.must_stop(world.read, "the access log was cut")


def test_restore_a_backup_of_the_access_log(world: Simulator) -> None:
    """7: O restores an older access log and appends junk in its place: the service stops all the same."""
    world.cut_tail(at("access", 0, 8))
    world.append("access", 0, *[(b"k" * 16, GARBAGE)] * 6)
    world.must_stop(world.read, "the access log was cut")


def test_late_entries_after_a_cut(world: Simulator) -> None:
    """7: after a cut the service puts back what was lost: replay names the LATE entries and nothing else."""
    place = world.cut_tail(at("access", 0, 12))
    world.must_stop(world.read, "the access log was cut")
    world.must_report(Kind.LATE_ENTRY, place)


def test_drop_a_collection(world: Simulator) -> None:
    """7: O drops the service's first entry, a COLLECTION: its stream begins without it."""
    place = world.drop(at("access", 0, 0), 2, close_up=True)
    world.must_report(Kind.STREAM_GAP, place)


def test_append_to_the_access_log_with_the_keys_of_an_auditor(world: Simulator) -> None:
    """7: whoever lacks the access key writes what begins like an entry: unaccounted."""
    place = world.append("access", 0, (b"k" * 16, GARBAGE))
    world.must_report(Kind.UNACCOUNTED, place)


# 15: another coalition


def test_a_batch_of_an_exercise(world: Simulator) -> None:
    """15: a batch of an exercise with the same keys, topic and channel: sealed for another genesis."""
    place = world.publish(genesis=b"E" * 32)
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


def test_restore_a_backup(world: Simulator) -> None:
    """4: O restores a back-up of a whole partition from before the last batches."""
    place = world.cut_tail(world["single 2"].place)
    world.must_report(Kind.ACCESS_POSITIONS, place, delivers=False)
    world.must_stop(world.read, "was cut")
