"""The judge only reads while it judges, and its state can be stored, resumed and undone."""

from __future__ import annotations

from functools import cache

import pytest

from broker.directory import EpochKey
from broker.verify.events import ReaderState
from broker.verify.judge import Judge
from broker.verify.verdict import Accepted, DirectoryBehind, Rejected, Repeat
from broker.verify.violations import Kind
from support.coalition import AUDITOR, BORDER, POLICE_A, Coalition
from support.partition_log import PartitionLog


@cache
def _written() -> PartitionLog:
    written = PartitionLog(Coalition.create())
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 1)
    written.coalition.suspend(BORDER)
    written.publish(POLICE_A, 1)
    written.publish(BORDER, 1)
    written.publish(POLICE_A, 1, directory_size=10_000)
    return written


def _judge() -> Judge:
    coalition = _written().coalition

    def keys(epoch: int) -> EpochKey | None:
        return coalition.epoch_keys("repatriation", epoch, AUDITOR).get("metadata")

    return Judge(topic="returns", partition=0, history=coalition.history, keys=keys, directory_fault=None)


def _accepted(judge: Judge, number: int) -> Accepted:
    """Return the verdict on the manifest of the batch with this number, which is accepted."""
    written = _written()
    verdict = judge.judge(written.messages[written.offsets[number]], True)
    assert isinstance(verdict, Accepted)
    return verdict


def test_judging_changes_nothing() -> None:
    """Asked twice about any message, the judge answers the same, and its state stays the same."""
    judge = _judge()
    judge.accept(_accepted(judge, 0))
    before = judge.snapshot(2)
    for message in _written().messages:
        assert judge.judge(message, True) == judge.judge(message, True)
    assert judge.snapshot(2) == before


def test_accepting_can_be_undone_in_the_stored_state() -> None:
    """With ``undo`` the snapshot is the one from before the manifest was accepted."""
    judge = _judge()
    for number in (0, 1, 2):
        before = judge.snapshot(7)
        undo = judge.accept(_accepted(judge, number))
        assert judge.snapshot(7) != before
        undone = judge.snapshot(7, undo)
        assert (undone.mark, set(undone.heads), undone.closed) == (
            before.mark, set(before.heads), before.closed,
        )  # fmt: skip


def test_a_resumed_judge_goes_on_where_the_state_was_stored() -> None:
    """Mark, heads and closed streams come back, and the next manifest gets the same verdict."""
    judge = _judge()
    for number in (0, 1):
        judge.accept(_accepted(judge, number))
    stored = judge.snapshot(4)
    resumed = _judge()
    resumed.resume(stored)
    assert resumed.snapshot(4) == stored
    assert resumed.mark == judge.mark > 0
    assert _accepted(resumed, 2) == _accepted(judge, 2)


def test_closed_streams_are_resumed() -> None:
    """A stream that closed stays closed for a reader that starts again."""
    key = (POLICE_A, 0, b"s" * 16)
    state = ReaderState(next_offset=0, mark=0, closed=(key,))
    judge = _judge()
    judge.resume(state)
    assert judge.snapshot(0) == state


def test_the_newest_manifest_is_a_repeat_and_an_older_one_is_a_copy() -> None:
    """Only the newest manifest of a stream may come once more, as a repeated append leaves it."""
    judge = _judge()
    judge.accept(_accepted(judge, 0))
    newest = _written().messages[0]
    assert isinstance(judge.judge(newest, True), Repeat)
    judge.accept(_accepted(judge, 2))
    verdict = judge.judge(newest, True)
    assert isinstance(verdict, Rejected)
    assert verdict.kind is Kind.MANIFEST_COPIED


def test_a_rejected_manifest_is_rejected_as_a_copy_the_next_time() -> None:
    """What was not entitled in its own view is void for good, whatever the mark is later."""
    judge = _judge()
    judge.accept(_accepted(judge, 2))
    suspended = _written().messages[_written().offsets[3]]
    verdict = judge.judge(suspended, True)
    assert isinstance(verdict, Rejected)
    assert verdict.kind is Kind.NOT_ENTITLED
    judge.remember_rejected(verdict)
    judge.resume(ReaderState(next_offset=0, mark=judge.mark + 1))
    copied = judge.judge(suspended, True)
    assert isinstance(copied, Rejected)
    assert copied.kind is Kind.MANIFEST_COPIED


def test_an_unknown_key_is_judged_anew_at_another_mark() -> None:
    """A key that nobody lists may be listed by then, and a reader without memory must find the same."""
    written = _written()
    judge = _judge()
    stranger = PartitionLog(written.coalition)
    stranger.publish("XZZ:nobody", 1)
    verdict = judge.judge(stranger.messages[0], True)
    assert isinstance(verdict, Rejected)
    assert verdict.kind is Kind.UNACCOUNTED
    judge.remember_rejected(verdict)
    copied = judge.judge(stranger.messages[0], True)
    assert isinstance(copied, Rejected)
    assert copied.kind is Kind.MANIFEST_COPIED
    judge.resume(ReaderState(next_offset=0, mark=judge.mark + 1))
    anew = judge.judge(stranger.messages[0], True)
    assert isinstance(anew, Rejected)
    assert anew.kind is Kind.UNACCOUNTED


def test_a_view_beyond_what_was_read_asks_for_the_directory() -> None:
    """DirectoryBehind until the directory is read to its end, then a violation."""
    judge = _judge()
    ahead = _written().messages[_written().offsets[4]]
    with pytest.raises(DirectoryBehind):
        judge.judge(ahead, False)
    verdict = judge.judge(ahead, True)
    assert isinstance(verdict, Rejected)
    assert verdict.kind is Kind.VIEW_UNKNOWN
