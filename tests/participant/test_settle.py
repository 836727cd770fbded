"""Appends whose outcome is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.errors import LogUnavailable, OutcomeUnknown, UsageError
from broker.log import Message, Partition, StoredMessage
from broker.participant.settle import append_settled, backoff_s, match_messages
from support.fault_log import Fault, FaultLog
from support.looking import stored
from support.world import World

RETURNS = Partition("returns", 0)
values = st.lists(st.sampled_from([b"a", b"b"]), max_size=12)
BATCH = [Message(b"key", b"manifest"), Message(b"key 0", b"body"), Message(b"key 1", b"body")]


@given(values, st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=4), st.integers(0, 5))
def test_messages_are_found_where_they_stand_whole(held: list[bytes], wanted: list[bytes], gap: int) -> None:
    """The first run of equal messages is found, and never across a gap in the offsets."""
    offsets = [i if i < gap else i + 1 for i in range(len(held))]
    log = [StoredMessage(o, b"k", v, 0) for o, v in zip(offsets, held, strict=True)]
    expected = None
    for i in range(len(held) - len(wanted) + 1):
        here = offsets[i : i + len(wanted)]
        if held[i : i + len(wanted)] == wanted and here == list(range(here[0], here[0] + len(wanted))):
            expected = here[0]
            break
    assert match_messages(log, [Message(b"k", v) for v in wanted]) == expected


def test_a_message_with_another_key_is_another_message() -> None:
    """Whole messages are compared, key and value."""
    log = [StoredMessage(0, b"other", b"v", 0), StoredMessage(1, None, b"v", 0)]
    assert match_messages(log, [Message(b"k", b"v")]) is None
    assert match_messages(log, [Message(None, b"v")]) == 1


TABLE = [
    pytest.param([*faults], id=" then ".join(fault.name.lower() for fault in faults))
    for faults in product((Fault.KEPT, Fault.LOST, Fault.REFUSED), repeat=2)
]


@pytest.mark.parametrize("faults", [[Fault.NONE], *[[fault] for fault in list(Fault)[1:]], *TABLE])
async def test_an_append_is_in_the_log_exactly_once(world: World, faults: list[Fault]) -> None:
    """After any faults, with messages kept or lost, they stand in the log once, at the offset returned."""
    await world.log.append(RETURNS, [Message(b"k", b"before")])
    log = FaultLog(world.log, appends=list(faults))
    assert await append_settled(log, RETURNS, BATCH) == 1
    assert [m.value for m in await stored(world.log, RETURNS)] == [b"before", b"manifest", b"body", b"body"]
    assert len({messages for _, messages in log.appended}) == 1, "each time the same bytes"


async def test_others_append_meanwhile(world: World) -> None:
    """The search begins where the log ended before the append, so messages of others do not hide ours."""

    class Busy(FaultLog):
        async def append(self, partition: Partition, messages: Sequence[Message]) -> int:
            await self.inner.append(partition, [Message(b"key", b"manifest"), Message(b"x", b"of others")])
            return await super().append(partition, messages)

    log = Busy(world.log, appends=[Fault.KEPT])
    assert await append_settled(log, RETURNS, BATCH) == 2


async def test_nothing_is_appended_before_the_tail_was_read(world: World) -> None:
    """While the outcome is unknown and the log cannot be read, no second append is tried."""
    log = FaultLog(world.log, appends=[Fault.KEPT], reads=[Fault.REFUSED, Fault.REFUSED])
    assert await append_settled(log, RETURNS, BATCH) == 0
    assert len(log.appended) == 1


@pytest.mark.parametrize(
    ("appends", "reads", "error"),
    [
        ([Fault.REFUSED] * 9, [], LogUnavailable),
        ([Fault.LOST] * 9, [], OutcomeUnknown),
        ([Fault.KEPT], [Fault.REFUSED] * 9, OutcomeUnknown),
        ([Fault.LOST, Fault.REFUSED, Fault.REFUSED], [], LogUnavailable),
    ],
)
async def test_retries_end(
    world: World, appends: list[Fault], reads: list[Fault], error: type[Exception]
) -> None:
    """After the last attempt the error says whether the messages may be in the log; each had a log line."""
    log = FaultLog(world.log, appends=appends, reads=reads)
    with capture_logs() as lines, pytest.raises(error):
        await append_settled(log, RETURNS, BATCH, attempts=3)
    assert [line["event"] for line in lines] == ["append retried", "append retried", "append failed"]


async def test_what_the_log_never_takes_is_not_retried(world: World) -> None:
    """An append with an error of the caller fails at once."""
    log = FaultLog(world.log)
    with pytest.raises(UsageError, match="bytes"):
        await append_settled(log, RETURNS, [Message(b"k", bytes(1_000_001))])
    assert len(log.appended) == 1


@given(st.integers(1, 10**30))
def test_a_pause_is_finite_after_any_number_of_attempts(attempt: int) -> None:
    """However long an outage lasts, the next pause is at most five seconds, and no error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.participant.settle._FIRST_PAUSE_S", 0.05)
        longest = min(0.05 * 2 ** (attempt - 1), 5.0) if attempt < 10 else 5.0
        assert longest / 2 <= backoff_s(attempt) <= longest
