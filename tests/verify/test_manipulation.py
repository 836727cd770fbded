"""One manipulation of a partition is one root violation, at the message that was manipulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import pytest

from broker.log.protocol import StoredMessage
from broker.verify.violations import Violation
from support.coalition import AUDITOR, BORDER, JUSTICE, POLICE_A, Coalition
from support.partition_log import PartitionLog, batches, reader, scan, violations

Messages = list[StoredMessage]


@cache
def _written() -> PartitionLog:
    """Batches of several sizes in interleaved streams of three agencies, some streams of one agency."""
    written = PartitionLog(Coalition.create())
    plan = [(POLICE_A, 3, ""), (POLICE_A, 1, ""), (BORDER, 2, ""), (POLICE_A, 2, ""), (BORDER, 1, "")]
    plan += [(JUSTICE, 1, ""), (POLICE_A, 2, "2"), (BORDER, 3, ""), (JUSTICE, 1, ""), (POLICE_A, 1, "2")]
    plan += [(POLICE_A, 1, ""), (BORDER, 1, ""), (JUSTICE, 2, ""), (POLICE_A, 3, "2")]
    for issuer, count, stream in plan:
        written.publish(issuer, count, stream=stream)
    return written


def _clean() -> Messages:
    return list(_written().messages)


def _renumbered(messages: Sequence[StoredMessage]) -> Messages:
    return [message._replace(offset=i) for i, message in enumerate(messages)]


def _is_manifest(message: StoredMessage) -> bool:
    return message.key is not None and len(message.key) == 16


def _one_record_batch(offset: int) -> int | None:
    """Where the batch of one record begins whose manifest or body stands here."""
    written = _written()
    for start, batch in zip(written.offsets, written.built, strict=True):
        if batch.manifest.count == 1 and start <= offset <= start + 1:
            return start
    return None


def _starts_a_batch(place: int, offset: int) -> bool:
    """Whether a manifest (place 0) or a first body (place 1) stands here."""
    return offset - place in _written().offsets


def _flipped(data: bytes | None, at: int) -> bytes:
    changed = bytearray(data or b"")
    changed[at] ^= 1
    return bytes(changed)


def _found(messages: Sequence[StoredMessage]) -> list[Violation]:
    written = _written()
    return violations(scan(written.coalition, messages, reader(written.coalition, name=AUDITOR)))


def _check_one_root(messages: Sequence[StoredMessage], allowed: set[int], what: str) -> None:
    found = _found(messages)
    assert found, f"{what}: nothing found"
    shown = "\n".join(f"{v.place} {v.kind} x{v.count} {v.detail} <- {v.caused_by}" for v in found)
    assert found[0].place.offset in allowed, f"{what}: expected {sorted(allowed)}\n{shown}"
    assert found[0].caused_by is None, f"{what}\n{shown}"
    assert all(v.caused_by == found[0].place for v in found[1:]), f"{what}\n{shown}"


def test_a_clean_partition_has_no_violation() -> None:
    """Every published batch is delivered, in order, and nothing is reported."""
    written = _written()
    events = scan(written.coalition, written.messages)
    assert violations(events) == []
    assert [batch.batch_id for batch in batches(events)] == [batch.batch_id for batch in written.built]
    assert [batch.offset for batch in batches(events)] == written.offsets


@pytest.mark.parametrize("at", [0, 1, 4, 5, 20, 21, 30, 1200, -1], ids=lambda at: f"byte {at}")
def test_a_flipped_byte_of_any_value_is_found_there(at: int) -> None:
    """The altered message is the root, whether kind, epoch, tag, encapsulation or ciphertext was altered."""
    for i, message in enumerate(_clean()):
        if message.value is None or at >= len(message.value):
            continue
        messages = _clean()
        messages[i] = message._replace(value=_flipped(message.value, at))
        _check_one_root(messages, {i}, f"byte {at} of the value at {i}")


@pytest.mark.parametrize("at", [0, 7, 15, 16, -1], ids=lambda at: f"byte {at}")
def test_a_flipped_byte_of_any_key_is_found_there(at: int) -> None:
    """A message with an altered key is the root, whichever byte of the key was altered."""
    for i, message in enumerate(_clean()):
        if at >= len(message.key or b""):
            continue
        messages = _clean()
        messages[i] = message._replace(key=_flipped(message.key, at))
        _check_one_root(messages, {i}, f"byte {at} of the key at {i}")


@pytest.mark.parametrize("key", [None, b"", b"k" * 16, b"k" * 20, b"k" * 300])
@pytest.mark.parametrize("value", [None, b"", b"\x01", b"\x02" + b"v" * 540, b"\x01" + b"v" * 3000])
def test_garbage_inserted_anywhere_is_found_there(key: bytes | None, value: bytes | None) -> None:
    """Nulls, empty messages and garbage that begins like a manifest or a body make one root there."""
    for i in range(len(_clean()) + 1):
        messages = _clean()
        messages.insert(i, StoredMessage(i, key, value, _written().coalition.now))
        _check_one_root(_renumbered(messages), {i}, f"garbage inserted at {i}")


def test_a_message_lost_leaves_a_hole_that_is_found() -> None:
    """A dropped message is found at its offset; only a cut of the tail needs checkpoints to be found."""
    for i in range(len(_clean()) - 1):
        messages = _clean()
        del messages[i]
        _check_one_root(messages, {i}, f"dropped {i}")


def test_a_message_dropped_with_the_offsets_closed_up_is_found() -> None:
    """The root is where the message stood, whichever message moved up."""
    for i in range(len(_clean())):
        messages = _clean()
        del messages[i]
        _check_one_root(_renumbered(messages), {i}, f"dropped {i}, closed up")


def _pairs() -> Iterator[tuple[int, int]]:
    count = len(_clean())
    yield from ((i, j) for i in range(count) for j in range(i + 1, count))


@pytest.mark.parametrize("rows", [True, False], ids=["with their times", "keys and values only"])
def test_any_two_messages_swapped_are_found(rows: bool) -> None:
    """Two swapped messages make one root at one of them, whether they are bodies or manifests."""
    clean, ambiguous = _clean(), 0
    for i, j in _pairs():
        messages = list(clean)
        messages[i] = clean[j]._replace(offset=i)
        messages[j] = clean[i]._replace(offset=j)
        allowed = {i, j}
        if not rows:
            messages[i] = messages[i]._replace(appended_at=clean[i].appended_at)
            messages[j] = messages[j]._replace(appended_at=clean[j].appended_at)
            if (of := _one_record_batch(i)) is not None and _starts_a_batch(i - of, j):
                # M a … N b … → N a … or M b …: the same log comes of swapping manifests or first bodies
                allowed |= {of, of + 1}
                ambiguous += 1
        _check_one_root(messages, allowed, f"swapped {i} and {j}")
    assert ambiguous < 100


def test_a_copy_of_any_message_inserted_anywhere_is_found() -> None:
    """A copied manifest or body is a root where it stands, in a batch, before it or behind it."""
    clean = _clean()
    for source in range(len(clean)):
        for i in range(len(clean) + 1):
            messages = list(clean)
            messages.insert(i, clean[source])
            allowed = {i, i + 1} if source in (i, i - 1) else {i}  # the same bytes twice, side by side
            _check_one_root(_renumbered(messages), allowed, f"copy of {source} at {i}")


def test_a_batch_cut_from_the_middle_with_the_offsets_closed_up_shows_in_its_stream() -> None:
    """The next statement of the stream misses it; a stream's last batch waits for the collections."""
    written = _written()
    ends = [*written.offsets[1:], len(written.messages)]
    for n, (start, end) in enumerate(zip(written.offsets, ends, strict=True)):
        stream = written.built[n].manifest.header.stream
        behind = [k for k in range(n + 1, len(ends)) if written.built[k].manifest.header.stream == stream]
        messages = _clean()
        del messages[start:end]
        if behind:
            place = written.offsets[behind[0]] - (end - start)
            _check_one_root(_renumbered(messages), {place}, f"batch {n} cut")
        else:
            assert _found(_renumbered(messages)) == []


def test_two_whole_batches_of_one_stream_exchanged_are_found() -> None:
    """The order of batches within a stream is signed, so exchanging two of them is found at one of them."""
    written = _written()
    ends = [*written.offsets[1:], len(written.messages)]
    for n in range(len(ends)):
        for k in range(n + 1, len(ends)):
            if written.built[n].manifest.header.stream != written.built[k].manifest.header.stream:
                continue
            clean = _clean()
            first, second = slice(written.offsets[n], ends[n]), slice(written.offsets[k], ends[k])
            between = clean[ends[n] : written.offsets[k]]
            messages = [
                *clean[: first.start], *clean[second], *between, *clean[first], *clean[second.stop :]
            ]  # fmt: skip
            allowed = {first.start, first.start + len(clean[second]) + len(between)}
            _check_one_root(_renumbered(messages), allowed, f"batches {n} and {k}")


def test_the_newest_batch_appended_again_counts_once_and_an_older_one_is_a_copy() -> None:
    """A repeated append is no violation; an older batch is one, and its bodies follow from it."""
    written = _written()
    end = len(written.messages)
    again = [*_clean(), *_clean()[written.offsets[-1] :]]
    assert _found(_renumbered(again)) == []
    older = [*_clean(), *_clean()[: written.offsets[1]]]
    _check_one_root(_renumbered(older), {end}, "first batch appended again")


def test_messages_moved_to_another_partition_or_topic_count_for_nothing_there() -> None:
    """Messages of another channel or topic are not accounted for, be it a whole batch or one message."""
    written = _written()
    coalition = written.coalition
    for topic, partition in (("returns", 1), ("relocation", 0)):
        own = PartitionLog(coalition, topic, partition)
        own.publish(POLICE_A, 2)
        own.publish(POLICE_A, 1)
        for moved in (written.messages[:4], written.messages[1:2]):
            messages = [*own.messages[:3], *moved, *own.messages[3:]]
            found = violations(
                scan(coalition, _renumbered(messages), reader(coalition, topic, partition, name=AUDITOR))
            )
            assert [(v.place.offset, v.count, v.caused_by) for v in found] == [(3, len(moved), None)]
