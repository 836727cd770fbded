"""Attacks on the logs by the Kafka operator and by others who may append."""

from __future__ import annotations

import pytest

from broker.log.protocol import MAX_APPEND_BYTES
from broker.verify.violations import Kind, Place
from support.simulator import Simulator

GARBAGE = b"\x01" + bytes(4) + b"g" * 2000


def at(topic: str, partition: int, offset: int) -> Place:
    """The place of a message."""
    return Place(topic, partition, offset)


# 8: flipped, dropped, swapped, inserted, copied


def test_flip_a_body(world: Simulator) -> None:
    """8: The operator flips a bit of a body, and the body is reported as altered."""
    place = world.flip(at("returns", 0, 1))
    world.must_report(Kind.BODY_ALTERED, place)


def test_flip_a_bodys_key(world: Simulator) -> None:
    """8: The operator gives a body another index in its key, and the body is reported as misplaced."""
    place = world.flip(at("returns", 0, 2), column="key")
    world.must_report(Kind.BODY_MISPLACED, place)


def test_flip_a_bodys_batch(world: Simulator) -> None:
    """8: The operator puts another batch's name into a body's key, and the body is reported as altered."""
    place = world.flip(at("returns", 0, 2), column="key", byte=0)
    world.must_report(Kind.BODY_ALTERED, place)


@pytest.mark.parametrize("byte", [0, 1, 4, 5, 20, 21, 1000, -1])
def test_flip_a_manifest(world: Simulator, byte: int) -> None:
    """8: A manifest with a flipped bit in its kind, epoch, tag or seal no longer accounts for its batch."""
    place = world.flip(world["family 1"].place, byte=byte)
    kind = Kind.EPOCH_UNKNOWN if byte in (1, 4) else Kind.UNACCOUNTED
    world.must_report(kind, place)


def test_flip_a_manifests_key(world: Simulator) -> None:
    """8: The operator renames a manifest, whose tag does not fit the new name."""
    place = world.flip(world["single 1"].place, column="key")
    world.must_report(Kind.UNACCOUNTED, place)


@pytest.mark.parametrize("topic", ["returns", "access", "directory"])
def test_a_message_in_a_partition_of_no_channel(world: Simulator, topic: str) -> None:
    """33: Somebody adds a partition to a topic and puts messages there, where no channel is."""
    world.sql("UPDATE topic SET partitions = 9 WHERE name = ?", f"ftf.{topic}")
    assert world.replay().verified
    place = world.append(topic, 7, (b"\x00", b"\x00"), (None, None))
    report = world.must_report(Kind.UNACCOUNTED, place)
    assert report.violations[0].violation.count == 2


def test_drop_a_body(world: Simulator) -> None:
    """8: The operator drops a body, and the hole in the offsets is reported."""
    place = world.drop(at("returns", 0, 8))
    world.must_report(Kind.OFFSET_MISSING, place)


def test_drop_a_body_closing_up(world: Simulator) -> None:
    """8: The operator drops a body and closes up the offsets, so that another body stands in its place."""
    place = world.drop(at("returns", 0, 8), close_up=True)
    world.must_report(Kind.BODY_MISPLACED, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_drop_the_last_body_closing_up(world: Simulator) -> None:
    """8: The operator drops a batch's last body, so that a manifest stands in its place."""
    place = world.drop(at("returns", 0, 9), close_up=True)
    world.must_report(Kind.BODY_MISSING, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_drop_a_manifest(world: Simulator) -> None:
    """8: The operator drops a manifest, and no manifest accounts for its bodies."""
    place = world.drop(world["family 1"].place, close_up=True)
    world.must_report(Kind.UNACCOUNTED, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_drop_a_batch_of_the_middle(world: Simulator) -> None:
    """8: The operator drops a whole batch, and the next batch of its stream shows the gap."""
    world.drop_batch("family 1", close_up=True)
    world.must_report(Kind.STREAM_GAP, at("returns", 0, 8), delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_drop_a_batch_leaving_a_hole(world: Simulator) -> None:
    """8: The operator drops a whole batch, and the hole in the offsets is reported."""
    place = world.drop_batch("family 1")
    world.must_report(Kind.OFFSET_MISSING, place)


def test_drop_a_whole_stream(world: Simulator) -> None:
    """8: The operator drops a stream's only batch, which the service's COLLECTION entry still lists."""
    place = world.drop_batch("releasable", close_up=True)
    world.must_report(Kind.COLLECTION_WRONG, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_drop_everything_of_a_topic(world: Simulator) -> None:
    """8: The operator empties a topic in which a signed position stands."""
    place = world.cut_tail(at("justice", 0, 0))
    world.must_report(Kind.LOG_FORKED, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_cut_below_a_recorded_position(world: Simulator) -> None:
    """8: A log cut below a position of an access entry is reported at the place where it now ends."""
    place = world.cut_tail(world["order"].place)
    world.must_report(Kind.LOG_FORKED, place, delivers=False)
    world.must_stop(world.read, "are gone or differ")


def test_cut_within_a_batch(world: Simulator) -> None:
    """8: The operator cuts off the log's last body, and the unfinished batch is reported."""
    place = world.cut_tail(at("returns", 0, 25))
    world.must_report(Kind.BATCH_UNFINISHED, place, delivers=False)
    world.must_stop_until_acknowledged("are gone or differ")


def test_swap_two_bodies(world: Simulator) -> None:
    """8: The operator exchanges two bodies of a batch."""
    place = world.swap(at("returns", 0, 1), at("returns", 0, 2))
    world.must_report(Kind.BODY_MISPLACED, place)


def test_swap_bodies_of_two_batches(world: Simulator) -> None:
    """8: The operator exchanges bodies of two batches, and the first place is the root of both faults."""
    place = world.swap(at("returns", 0, 2), at("returns", 0, 8))
    world.must_report(Kind.UNACCOUNTED, place)


def test_swap_two_batches_of_one_issuer(world: Simulator) -> None:
    """8: The operator exchanges two batches of one stream, and the gap is reported at the first."""
    place = world.swap_batches("family 0", "family 1")
    world.must_report(Kind.STREAM_GAP, place)


def test_swap_two_issuers_batches(world: Simulator) -> None:
    """8: The operator exchanges batches of two issuers, and their COLLECTION entry shows it."""
    place = world.swap_batches("h1", "releasable")
    world.must_report(Kind.COLLECTION_WRONG, place)


def test_insert_garbage(world: Simulator) -> None:
    """3: Garbage between two batches is reported once, and is the cause of what it moved."""
    place = world.insert(world["family 1"].place, b"k" * 16, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


def test_insert_into_a_batch(world: Simulator) -> None:
    """8: Garbage inside a batch makes that batch void and leaves all other batches valid."""
    place = world.insert(at("returns", 0, 7), b"k" * 16, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


def test_replay_a_streams_first_statement(world: Simulator) -> None:
    """8: A copy of a stream's first batch is reported, and its records are not delivered again."""
    place = world.copy_to("family 0", "returns", 0)
    world.must_be_void(Kind.MANIFEST_COPIED, place)


def test_replay_a_streams_newest_statement(world: Simulator) -> None:
    """8: A copy of a stream's newest batch is the same statement again and changes nothing."""
    world.copy_to("last", "returns", 0)
    world.must_find_nothing()


def test_copy_a_manifest_alone(world: Simulator) -> None:
    """8: The operator appends a copy of a stream's newest manifest without its bodies."""
    row = world.row(world["h1"].place)
    place = world.append("returns", 0, (row.key, row.value))
    world.must_report(Kind.MANIFEST_COPIED, place)


def test_copy_a_body_alone(world: Simulator) -> None:
    """8: The operator appends a copy of a body, and no manifest accounts for it."""
    row = world.row(at("returns", 0, 1))
    place = world.append("returns", 0, (row.key, row.value))
    world.must_be_void(Kind.UNACCOUNTED, place)


# 15, 17: moved


@pytest.mark.parametrize(
    ("topic", "partition"), [("returns", 1), ("relocation", 0), ("rehabilitation", 2), ("justice", 0)]
)
def test_move_a_batch(world: Simulator, topic: str, partition: int) -> None:
    """17: A batch that is copied to another partition or topic is void, because its tag binds its place."""
    place = world.copy_to("family 0", topic, partition)
    world.must_be_void(Kind.UNACCOUNTED, place)


def test_move_a_batch_to_the_access_log(world: Simulator) -> None:
    """17: A batch of records that is copied to the access log is unaccounted for there."""
    place = world.copy_to("family 0", "access", 0)
    world.must_report(Kind.UNACCOUNTED, place)


def test_move_an_access_entry_to_another_channel(world: Simulator) -> None:
    """17: An entry that is copied to another channel's access log is unaccounted for there."""
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
    """25, 26: A transaction marker, a null, and a short or huge message each give one violation."""
    place = world.append("returns", 0, message)
    kind = Kind.EPOCH_UNKNOWN if message[1] and message[1][1:5] == b"\xff" * 4 else Kind.UNACCOUNTED
    world.must_be_void(kind, place)


def test_a_value_that_is_text(world: Simulator) -> None:
    """25: The operator stores text instead of bytes in the SQLite file, and the body is reported."""
    place = world.overwrite(at("returns", 0, 1), "text instead of bytes")
    world.must_report(Kind.BODY_ALTERED, place)


@pytest.mark.parametrize("partition", [0, 1])
def test_flood_of_garbage(world: Simulator, partition: int) -> None:
    """3: A stranger's flood of garbage that looks like manifests gives one counted violation."""
    place = world.append("returns", partition, *[(b"%016d" % i, GARBAGE) for i in range(300)])
    report = world.must_report(Kind.UNACCOUNTED, place)
    assert [found.violation.count for found in report.violations] == [300]


def test_flood_between_good_records(world: Simulator) -> None:
    """3: A flood between two batches is reported once, and the records that follow are delivered."""
    place = world["single 1"].place
    for i in range(20):
        world.insert(place, b"%016d" % i, GARBAGE)
    world.must_report(Kind.UNACCOUNTED, place)


# the access log


def test_flip_an_access_entry(world: Simulator) -> None:
    """7: The operator flips a bit of an access entry's manifest."""
    place = world.flip(at("access", 0, 4))
    world.must_report(Kind.UNACCOUNTED, place)


def test_drop_an_access_entry(world: Simulator) -> None:
    """7: The operator drops an access entry, and the service's stream shows the gap."""
    place = world.drop(at("access", 0, 4), 2, close_up=True)
    world.must_report(Kind.STREAM_GAP, place)


def test_cut_the_access_log_and_go_on(world: Simulator) -> None:
    """7: The service releases nothing while the access log is shorter than its journal."""
    world.cut_tail(at("access", 0, 8))
    world.must_stop(world.read, "the access log was cut")


def test_restore_a_backup_of_the_access_log(world: Simulator) -> None:
    """7: The service also stops when junk fills the place of the entries that were cut."""
    world.cut_tail(at("access", 0, 8))
    world.append("access", 0, *[(b"k" * 16, GARBAGE)] * 6)
    world.must_stop(world.read, "the access log was cut")


def test_late_entries_after_a_cut(world: Simulator) -> None:
    """7: The service puts back the entries that were cut, and the replay names only LATE entries."""
    world.cut_tail(at("access", 0, 12))
    world.must_stop(world.read, "the access log was cut")
    report = world.replay()
    assert not report.verified
    assert report.by_kind.keys() == {Kind.LATE_ENTRY}
    assert world.read_all()


def test_drop_a_collection(world: Simulator) -> None:
    """7: The operator drops the service's first entry, and its stream no longer starts at the beginning."""
    place = world.drop(at("access", 0, 0), 2, close_up=True)
    world.must_report(Kind.STREAM_GAP, place)


def test_append_to_the_access_log_with_the_keys_of_an_auditor(world: Simulator) -> None:
    """7: Garbage that looks like an access entry is unaccounted for."""
    place = world.append("access", 0, (b"k" * 16, GARBAGE))
    world.must_report(Kind.UNACCOUNTED, place)


# 15: another coalition


def test_a_batch_of_an_exercise(world: Simulator) -> None:
    """15: A batch of an exercise with the same halves and place does not open: its genesis differs."""
    place = world.publish(genesis=b"E" * 32)
    world.must_be_void(Kind.UNACCOUNTED, place)


def test_restore_a_backup(world: Simulator) -> None:
    """4: The operator restores a partition from a backup, and the access entries show what is missing."""
    place = world.cut_tail(world["single 2"].place)
    world.must_report(Kind.LOG_FORKED, place, delivers=False)
    world.must_stop(world.read, "are gone or differ")
