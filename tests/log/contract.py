"""The contract of logs: tests of what every log must do, written against the Log protocol alone.

A log runs these tests by a subclass of :class:`LogContract` with two fixtures. ``connect`` is a function that
opens the same storage anew each time, as another process would; the fixture closes what it opened. ``away``
opens a log that can be taken away. ``sqlite/test_sqlite_contract.py`` shows how.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.errors import LogUnavailable, LogUnreachable, UsageError
from broker.log import (
    MAX_APPEND_BYTES,
    MAX_PARTITIONS,
    MESSAGE_OVERHEAD_BYTES,
    CopyableLog,
    Log,
    Message,
    Partition,
    StoredMessage,
    TopicShape,
    append_bytes,
    physical,
)

__all__ = ["Away", "Connect", "LogAway", "LogContract", "held", "messages", "take", "until_waiting"]

Connect = Callable[[], Awaitable[CopyableLog]]


@dataclass(frozen=True, slots=True)
class LogAway:
    """A log whose calls give up soon; its storage cannot be used while the block of ``outage`` lasts."""

    log: Log
    outage: Callable[[], AbstractAsyncContextManager[None]]


Away = Callable[[], AbstractAsyncContextManager[LogAway]]

RETURNS = Partition("returns", 0)
KEYS = Partition("keys", 0)

some_bytes = st.none() | st.binary(max_size=40)
appends = st.lists(st.lists(st.builds(Message, some_bytes, some_bytes), min_size=1, max_size=5), max_size=6)
keyed = st.builds(Message, st.sampled_from([b"", b"a", b"b"]), some_bytes)


def messages(*values: bytes) -> list[Message]:
    """Build messages with these values, and keys made of them."""
    return [Message(b"key of " + value, value) for value in values]


async def held(log: Log, partition: Partition, start: int = 0) -> list[StoredMessage]:
    """Read a partition to its end."""
    return [message async for message in log.read(partition, start)]


async def take(log: Log, partition: Partition, start: int, count: int) -> list[StoredMessage]:
    """Follow a partition until so many messages have come."""
    taken: list[StoredMessage] = []
    async with asyncio.timeout(20):
        reading = log.read(partition, start, follow=True)
        async for message in reading:
            taken.append(message)
            if len(taken) == count:
                break
    return taken


def contents(stored: Sequence[StoredMessage]) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(message.offset, message.key, message.value) for message in stored]


async def until_waiting(*tasks: asyncio.Task[object]) -> None:
    """Give tasks some turns of the event loop, so that they stand where they wait."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def until_appended(log: Log, batch: Sequence[Message]) -> None:
    """Append to a log that was away a moment ago, however many attempts that takes."""
    async with asyncio.timeout(60):
        while True:
            try:
                await log.append(RETURNS, batch)
            except LogUnreachable:
                continue
            return


class LogContract:
    """The tests of the contract, for a log that a subclass opens."""

    @pytest.fixture
    def connect(self) -> Connect:
        """Open the storage; the subclass says how."""
        raise NotImplementedError

    @pytest.fixture
    def again(self) -> Connect:
        """Open the storage as it is, also as a copy that is not finished; the subclass says how."""
        raise NotImplementedError

    @pytest.fixture
    def away(self) -> Away:
        """Open a log that can be taken away; the subclass says how."""
        raise NotImplementedError

    @pytest.fixture
    async def log(self, connect: Connect) -> CopyableLog:
        log = await connect()
        await log.ensure("returns", 3)
        return log

    # Append and read

    async def test_what_is_appended_reads_back(self, log: Log) -> None:
        """Messages come back as they were, None and empty told apart, with offsets from 0."""
        given_messages = [
            Message(b"k", b"v"),
            Message(None, b"v"),
            Message(b"k", None),
            Message(None, None),
            Message(b"", b""),
        ]
        assert await log.append(RETURNS, given_messages) == 0
        stored = await held(log, RETURNS)
        assert contents(stored) == [(i, m.key, m.value) for i, m in enumerate(given_messages)]

    async def test_any_sequence_of_appends_reads_back(self, connect: Connect) -> None:
        """Any messages, appended in any pieces, are read back whole, from the start and from the middle."""
        log = await connect()
        topics = iter(range(1_000_000))
        loop = asyncio.get_running_loop()

        async def check(batches: list[list[Message]]) -> None:
            partition = Partition(f"any-{next(topics)}", 0)
            await log.ensure(partition.topic, 1)
            expected: list[tuple[int, bytes | None, bytes | None]] = []
            for batch in batches:
                assert await log.append(partition, batch) == len(expected)
                expected += [(len(expected) + i, m.key, m.value) for i, m in enumerate(batch)]
            assert contents(await held(log, partition)) == expected
            middle = len(expected) // 2
            assert contents(await held(log, partition, middle)) == expected[middle:]
            assert await log.ends([partition]) == {partition: len(expected)}

        @given(appends)
        def any_appends(batches: list[list[Message]]) -> None:
            asyncio.run_coroutine_threadsafe(check(batches), loop).result()

        await asyncio.to_thread(any_appends)

    async def test_partitions_are_apart(self, log: Log) -> None:
        """Each partition of each topic has its own offsets and its own messages."""
        await log.ensure("justice", 1)
        assert await log.append(Partition("returns", 1), messages(b"one")) == 0
        assert await log.append(Partition("returns", 2), messages(b"two", b"three")) == 0
        assert await log.append(Partition("justice", 0), messages(b"four")) == 0
        assert [m.value for m in await held(log, Partition("returns", 2))] == [b"two", b"three"]
        assert await held(log, RETURNS) == []

    async def test_another_connection_sees_what_was_appended(self, log: Log, connect: Connect) -> None:
        """Another connection reads what the first one appended, and appends behind it."""
        await log.append(RETURNS, messages(b"one"))
        other = await connect()
        assert await other.append(RETURNS, messages(b"two")) == 1
        assert await held(log, RETURNS) == await held(other, RETURNS)

    async def test_a_closed_log_has_kept_everything(self, log: Log, connect: Connect) -> None:
        """After closing and opening again all messages are there."""
        await log.append(RETURNS, messages(b"one"))
        before = await held(log, RETURNS)
        await log.aclose()
        assert await held(await connect(), RETURNS) == before

    async def test_appends_at_once_are_not_mixed(self, log: Log, connect: Connect) -> None:
        """Batches that several connections append at the same time stay whole, and fill all offsets."""
        others = [log, await connect(), await connect()]
        sizes = [1 + i % 7 for i in range(30)]

        async def append(i: int) -> tuple[int, int]:
            batch = [Message(b"%d" % i, b"%d" % j) for j in range(sizes[i])]
            return i, await others[i % 3].append(RETURNS, batch)

        firsts = await asyncio.gather(*(append(i) for i in range(len(sizes))))
        stored = await held(log, RETURNS)
        assert [m.offset for m in stored] == list(range(sum(sizes)))
        for i, first in firsts:
            batch = stored[first : first + sizes[i]]
            assert [(m.key, m.value) for m in batch] == [(b"%d" % i, b"%d" % j) for j in range(sizes[i])]

    async def test_the_log_tells_the_time(self, log: Log) -> None:
        """``appended_at`` is the time of the append in microseconds, a whole millisecond, one for a batch."""
        before = time.time_ns() // 1_000_000 * 1000
        for i in range(20):
            await log.append(RETURNS, messages(b"%d" % i, b"again"))
        after = time.time_ns() // 1000
        times = [m.appended_at for m in await held(log, RETURNS)]
        assert all(at % 1000 == 0 for at in times)
        assert times[0::2] == times[1::2]
        slack = 5_000_000  # the clock may be another machine's
        assert before - slack <= min(times)
        assert max(times) <= after + slack

    async def test_a_long_partition_is_read_in_order(self, log: Log) -> None:
        """Of thousands of messages, with large ones among them, each comes once and in order."""
        sizes = [(i * 37) % 3_000 for i in range(2_000)] + [30_000] * 300
        for at in range(0, len(sizes), 25):
            await log.append(RETURNS, [Message(None, bytes(size)) for size in sizes[at : at + 25]])
        stored = await held(log, RETURNS, 1)
        assert [m.offset for m in stored] == list(range(1, len(sizes)))
        assert [len(m.value or b"") for m in stored] == sizes[1:]

    # Ends and starts

    async def test_ends_tells_many_partitions_at_once(self, log: Log) -> None:
        """The end of a partition is the offset behind its last message, and 0 when it is empty."""
        await log.append(RETURNS, messages(b"one", b"two"))
        asked = [Partition("returns", number) for number in (0, 1, 2)]
        assert await log.ends(asked) == dict(zip(asked, (2, 0, 0), strict=True))
        assert await log.ends([]) == {}

    async def test_reading_from_the_end_or_beyond_gives_nothing(self, log: Log) -> None:
        """Without following, a start at the end or beyond it is no error and gives nothing."""
        await log.append(RETURNS, messages(b"one"))
        assert await held(log, RETURNS, 1) == []
        assert await held(log, RETURNS, 1_000_000) == []

    @pytest.mark.parametrize("start", [-1, 2**63 - 1, 10**30])
    async def test_a_start_that_is_no_offset_is_refused(self, log: Log, start: int) -> None:
        """Reading from below 0, or from beyond what an offset can be, is a UsageError."""
        with pytest.raises(UsageError, match="offset"):
            await held(log, RETURNS, start)

    async def test_reading_stops_where_the_log_ended_when_it_began(self, log: Log) -> None:
        """A reader that does not follow ends, however fast others append behind it."""
        await log.append(RETURNS, messages(b"one", b"two"))
        seen = 0
        async with aclosing(log.read(RETURNS, 0)) as reading:  # type: ignore[type-var]
            async for _ in reading:
                seen += 1
                await log.append(RETURNS, messages(b"more"))
        assert seen == 2

    # Follow

    async def test_following_gives_what_is_there_and_what_comes(self, log: Log, connect: Connect) -> None:
        """A follower gets the stored messages first, then those that this and other connections append."""
        await log.append(RETURNS, messages(b"0"))
        other = await connect()
        following = asyncio.create_task(take(log, RETURNS, 0, 4))
        await until_waiting(following)
        await log.append(RETURNS, messages(b"1", b"2"))
        await until_waiting(following)
        await other.append(RETURNS, messages(b"3"))
        assert [m.value for m in await following] == [b"0", b"1", b"2", b"3"]

    async def test_following_from_beyond_the_end_waits_for_that_offset(self, log: Log) -> None:
        """A follower that starts beyond the end gets nothing from before its start."""
        following = asyncio.create_task(take(log, RETURNS, 2, 1))
        await until_waiting(following)
        await log.append(RETURNS, messages(b"0", b"1"))
        await until_waiting(following)
        await log.append(RETURNS, messages(b"2"))
        assert [m.value for m in await following] == [b"2"]

    async def test_followers_wait_side_by_side(self, log: Log) -> None:
        """Many followers of several partitions each get their own messages."""
        partitions = [Partition("returns", i % 3) for i in range(12)]
        following = [asyncio.create_task(take(log, partition, 0, 2)) for partition in partitions]
        await until_waiting(*following)
        for number in range(3):
            await log.append(Partition("returns", number), messages(b"%d" % number, b"%d" % number))
        taken = await asyncio.gather(*following)
        assert [{m.value for m in some} for some in taken] == [{b"%d" % p.number} for p in partitions]

    async def test_a_cancelled_follower_leaves_nothing_behind(self, log: Log) -> None:
        """After a follower is cancelled, no task is left, and the log works as before."""
        following = [asyncio.create_task(take(log, RETURNS, 0, 1)) for _ in range(3)]
        await until_waiting(*following)
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        assert all(task.cancelled() for task in following)
        await log.append(RETURNS, messages(b"one"))
        assert len(await held(log, RETURNS)) == 1
        await log.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_closing_ends_followers(self, log: Log) -> None:
        """A follower that waits when the log is closed gets a UsageError, and does not wait for ever."""
        following = asyncio.create_task(take(log, RETURNS, 0, 1))
        await until_waiting(following)
        await log.aclose()
        with pytest.raises(UsageError, match="closed"):
            await following

    # Outages

    async def test_an_outage_ends_readers_and_not_followers(self, away: Away) -> None:
        """In an outage longer than any time-out, readers to an end get an error and followers wait it out."""
        async with away() as fragile:
            log = fragile.log
            await log.ensure("returns", 1)
            await log.append(RETURNS, messages(b"0"))
            waiting = asyncio.create_task(take(log, RETURNS, 0, 2))
            await until_waiting(waiting)
            with capture_logs() as lines:
                async with fragile.outage():
                    beginning = asyncio.create_task(take(log, RETURNS, 0, 2))
                    # Each call takes a whole time-out, so that the time-outs of the followers are over too.
                    for _ in range(3):
                        with pytest.raises(LogUnreachable) as caught:
                            await held(log, RETURNS)
                        assert caught.value.hint
                    with pytest.raises(LogUnreachable):
                        await log.ends([RETURNS])
                    assert not waiting.done()
                    assert not beginning.done()
                await until_appended(log, messages(b"1"))
                for following in (waiting, beginning):
                    assert [m.value for m in await following] == [b"0", b"1"]
            said = [line["event"] for line in lines if line["event"].startswith("log is ")]
            assert said == ["log is away, waiting for it", "log is back"]

    async def test_a_follower_that_waits_for_the_log_is_cancelled_at_once(self, away: Away) -> None:
        """A follower that waits while the log is away ends when it is cancelled; the log works as before."""
        async with away() as fragile:
            log = fragile.log
            await log.ensure("returns", 1)
            async with fragile.outage():
                following = asyncio.create_task(take(log, RETURNS, 0, 1))
                for _ in range(2):
                    with pytest.raises(LogUnreachable):
                        await log.ends([RETURNS])
                following.cancel()
                await asyncio.wait([following])
                assert following.cancelled()
            await until_appended(log, messages(b"0"))
            assert len(await held(log, RETURNS)) == 1

    async def test_closing_ends_followers_that_wait_for_the_log(self, away: Away) -> None:
        """A follower that waits while the log is away gets a UsageError when the log is closed."""
        async with away() as fragile:
            log = fragile.log
            await log.ensure("returns", 1)
            async with fragile.outage():
                following = asyncio.create_task(take(log, RETURNS, 0, 1))
                for _ in range(2):
                    with pytest.raises(LogUnreachable):
                        await log.ends([RETURNS])
                await log.aclose()
                with pytest.raises(UsageError, match="closed"):
                    await following

    async def test_a_cancelled_append_is_whole_or_absent(self, log: Log) -> None:
        """Appends cancelled at any moment are in the log whole or not at all, and others go on."""
        batch = messages(*(b"%d" % i for i in range(50)))
        for turns in range(12):
            appending = asyncio.create_task(log.append(RETURNS, batch))
            for _ in range(turns):
                await asyncio.sleep(0)
            appending.cancel()
            await asyncio.wait([appending])
            end = (await log.ends([RETURNS]))[RETURNS]
            assert end % 50 == 0
        assert await log.append(RETURNS, batch) == end
        values = [m.value for m in await held(log, RETURNS)]
        assert values == [m.value for m in batch] * (end // 50 + 1)

    # Topics

    async def test_ensure_creates_grows_and_never_shrinks(self, log: Log) -> None:
        """A topic can be ensured again: it keeps its messages, grows, and never loses partitions."""
        await log.append(Partition("returns", 2), messages(b"one"))
        await log.ensure("returns", 5)
        await log.ensure("returns", 2)
        assert await log.append(Partition("returns", 4), messages(b"two")) == 0
        assert len(await held(log, Partition("returns", 2))) == 1

    async def test_a_partition_that_another_connection_added_is_there(
        self, log: Log, connect: Connect
    ) -> None:
        """A connection that knew a topic when it was smaller uses its new partitions."""
        await log.append(RETURNS, messages(b"one"))
        await (await connect()).ensure("returns", 8)
        new = Partition("returns", 7)
        assert await log.ends([new]) == {new: 0}
        assert await log.append(new, messages(b"one")) == 0

    @pytest.mark.parametrize(
        "partition", [Partition("nowhere", 0), Partition("returns", 3), Partition("returns", -1)]
    )
    async def test_what_does_not_exist_is_named(self, log: Log, partition: Partition) -> None:
        """A missing topic or partition is a LogUnavailable that names it and says what to do."""
        name = physical(log, partition.topic)
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: log.append(partition, messages(b"one")),
            lambda: held(log, partition),
            lambda: take(log, partition, 0, 1),
            lambda: log.ends([RETURNS, partition]),
        ]
        for attempt in attempts:
            with pytest.raises(LogUnavailable) as caught:
                await attempt()
            assert name in caught.value.message
            assert caught.value.hint
            if partition.topic == "returns":
                assert str(partition.number) in caught.value.message

    @pytest.mark.parametrize(
        "topic", ["", ".", "Returns", "re turns", "a/b", "x" * 101, "é", "\ud800", "a'b", "a\0"]
    )
    async def test_a_name_that_no_topic_can_have_is_refused(self, log: Log, topic: str) -> None:
        """Names that not every log could hold are a UsageError, when creating and when using."""
        with pytest.raises(UsageError, match="topic name"):
            await log.ensure(topic, 1)
        with pytest.raises(UsageError, match="topic name"):
            await log.append(Partition(topic, 0), messages(b"one"))
        with pytest.raises(UsageError, match="topic name"):
            await held(log, Partition(topic, 0))

    @pytest.mark.parametrize("partitions", [0, -1, MAX_PARTITIONS + 1])
    async def test_a_number_of_partitions_that_cannot_be_is_refused(self, log: Log, partitions: int) -> None:
        """A topic has at least one partition, and at most the maximum."""
        with pytest.raises(UsageError, match="partitions"):
            await log.ensure("returns", partitions)

    async def test_partitions_are_counted(self, log: Log) -> None:
        """A topic has the partitions that it was given, and one that does not exist has none."""
        assert await log.partitions("returns") == 3
        assert await log.partitions("nowhere") == 0
        await log.ensure("returns", 5)
        assert await log.partitions("returns") == 5

    # Copies

    async def test_what_a_copy_needs_to_know(self, log: CopyableLog) -> None:
        """All topics are listed with their shapes, and where each partition begins."""
        await log.ensure("keys", 1, compacted=True)
        assert await log.topics() == {"returns": TopicShape(3, False), "keys": TopicShape(1, True)}
        await log.append(RETURNS, messages(b"one"))
        assert await log.begins([RETURNS, KEYS]) == {RETURNS: 0, KEYS: 0}
        assert not await log.is_unfinished()
        with pytest.raises(UsageError, match="no unfinished copy"):
            await log.begin_copy({"returns": TopicShape(3, False)})

    async def test_a_copy_keeps_offsets_and_times(self, connect: Connect, again: Connect) -> None:
        """What is put keeps its time, which may fall or lie ahead, until the copy is finished."""
        log = await again()
        ahead = time.time_ns() // 1_000_000 * 1000 + 30 * 86_400_000_000
        times = [1_000, 0, 2**53 * 1000, 1_600_000_000_000_000, ahead]
        stored = [StoredMessage(i, None, b"%d" % i, at) for i, at in enumerate(times)]
        await log.begin_copy({"returns": TopicShape(1, False), "keys": TopicShape(1, True)})
        await log.put(RETURNS, stored[:3])
        assert await log.is_unfinished()
        with pytest.raises(LogUnavailable, match="not finished") as caught:
            await connect()
        assert caught.value.hint
        # Begun anew, as after a kill.
        await log.aclose()
        log = await again()
        await log.begin_copy({"returns": TopicShape(1, False), "keys": TopicShape(1, True)})
        await log.put(RETURNS, stored[3:])
        await log.put(KEYS, [StoredMessage(7, b"k", b"v", 5_000)])
        await log.finish_copy()
        assert not await log.is_unfinished()
        log = await connect()
        assert await held(log, RETURNS) == stored
        assert await held(log, KEYS) == [StoredMessage(0, b"k", b"v", 5_000)]
        before = time.time_ns() // 1000 - 5_000_000
        await log.append(RETURNS, messages(b"new"))
        assert before < (await held(log, RETURNS))[-1].appended_at < ahead - 86_400_000_000

    # Limits

    async def test_an_append_of_no_messages_is_refused(self, log: Log) -> None:
        """An append of no messages is a UsageError."""
        with pytest.raises(UsageError, match="at least one"):
            await log.append(RETURNS, [])

    @pytest.mark.parametrize("count", [1, 257, 5_000])
    async def test_the_largest_append_fits_and_one_byte_more_does_not(self, log: Log, count: int) -> None:
        """Keys, values and an overhead for each message count; a refused append stores nothing."""
        room = MAX_APPEND_BYTES - count * MESSAGE_OVERHEAD_BYTES
        batch = [Message(b"k" * 20, bytes(room - 20 * count)), *[Message(b"k" * 20, None)] * (count - 1)]
        assert append_bytes(batch) == MAX_APPEND_BYTES
        with pytest.raises(UsageError, match=f"{MAX_APPEND_BYTES + 1} bytes"):
            await log.append(RETURNS, [*batch[1:], Message(b"k" * 21, batch[0].value)])
        assert await held(log, RETURNS) == []
        assert await log.append(RETURNS, batch) == 0
        assert [(m.key, m.value) for m in await held(log, RETURNS)] == [(m.key, m.value) for m in batch]

    # Compaction

    async def test_a_compacted_topic_ends_with_the_newest_of_each_key(self, connect: Connect) -> None:
        """Folding what a compacted topic gives, key by key, gives the newest value of every key."""
        log = await connect()
        topics = iter(range(1_000_000))
        loop = asyncio.get_running_loop()

        async def check(batches: list[list[Message]]) -> None:
            partition = Partition(f"compacted-{next(topics)}", 0)
            await log.ensure(partition.topic, 1, compacted=True)
            end = 0
            expected: dict[bytes | None, tuple[int, bytes | None]] = {}
            for batch in batches:
                assert await log.append(partition, batch) == end
                expected |= {m.key: (end + i, m.value) for i, m in enumerate(batch)}
                end += len(batch)
            stored = await held(log, partition)
            assert {m.key: (m.offset, m.value) for m in stored} == expected
            assert [m.offset for m in stored] == sorted({m.offset for m in stored})
            assert await log.ends([partition]) == {partition: end}

        @given(st.lists(st.lists(keyed, min_size=1, max_size=4), max_size=5))
        def any_appends(batches: list[list[Message]]) -> None:
            asyncio.run_coroutine_threadsafe(check(batches), loop).result()

        await asyncio.to_thread(any_appends)

    async def test_a_compacted_topic_needs_keys(self, connect: Connect) -> None:
        """A message without a key cannot be appended to a compacted topic, nor can the messages beside it."""
        log = await connect()
        await log.ensure("keys", 1, compacted=True)
        with pytest.raises(UsageError, match="key"):
            await log.append(KEYS, [Message(b"k", b"v"), Message(None, b"v")])
        assert await held(log, KEYS) == []

    async def test_whether_a_topic_is_compacted_is_settled(self, log: Log) -> None:
        """Ensuring a topic that exists as the other kind is a UsageError, and changes nothing."""
        with pytest.raises(UsageError, match="compacted"):
            await log.ensure("returns", 3, compacted=True)
        await log.append(RETURNS, [Message(b"k", b"one"), Message(b"k", b"two")])
        assert len(await held(log, RETURNS)) == 2

    # Closing

    async def test_a_closed_log_says_so(self, log: Log) -> None:
        """Every call of a closed log is a UsageError, but for closing it again, which does no harm."""
        await log.aclose()
        await log.aclose()
        with pytest.raises(UsageError, match="closed"):
            await log.append(RETURNS, messages(b"one"))
        with pytest.raises(UsageError, match="closed"):
            await held(log, RETURNS)
        with pytest.raises(UsageError, match="closed"):
            await log.ends([RETURNS])
        with pytest.raises(UsageError, match="closed"):
            await log.ensure("returns", 1)

    async def test_a_log_is_closed_by_leaving_its_context(self, connect: Connect) -> None:
        """``async with`` closes the log."""
        async with await connect() as log:
            await log.ensure("returns", 1)
        with pytest.raises(UsageError, match="closed"):
            await log.append(RETURNS, messages(b"one"))

    async def test_an_abandoned_reader_does_no_harm(self, log: Log) -> None:
        """A reader that is left in the middle of a partition blocks neither appends nor closing."""
        await log.append(RETURNS, messages(*(b"%d" % i for i in range(100))))
        abandoned = log.read(RETURNS, 0)
        assert (await anext(abandoned)).offset == 0
        assert await log.append(RETURNS, messages(b"more")) == 100
        await log.aclose()
