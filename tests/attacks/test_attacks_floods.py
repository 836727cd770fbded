"""Floods of the directory, and a directory that is replaced under whoever follows it."""

from __future__ import annotations

import tracemalloc
from contextlib import aclosing

import pytest

from broker.crypto import sign
from broker.directory import case
from broker.errors import KasUnavailable, LogForked
from broker.log.protocol import Message
from broker.participant.follower import DIRECTORY, DirectoryFollower
from broker.publish import admission
from broker.services.kas.service import KeyAccessService
from broker.verify.violations import Kind, Place
from support.coalition import POLICE_A
from support.simulator import Simulator
from support.world import CHANNEL, World

FLOOD = [(b"", b"x")] * 3000


def test_a_flood_of_the_directory_is_counted(world: Simulator) -> None:
    """d1: One-byte messages in the directory: all are reported, 1,000 are listed, and everybody goes on."""
    before = world.replay().violation_count
    world.append("directory", 0, *FLOOD)
    report = world.replay()
    assert report.by_kind == {Kind.DIRECTORY_STATEMENT: len(FLOOD)}
    assert report.violation_count == before + len(FLOOD)
    assert len(report.violations) == 1000
    world._check_delivered(world.read_all())


def test_a_flood_of_the_directory_costs_no_memory(world: Simulator) -> None:
    """d1: Behind the first 1,000 messages of garbage a follower grows no more."""
    world.append("directory", 0, *FLOOD)

    async def grown(w: World) -> int:
        follower = await w.follower()
        views = len(follower.history.changes)
        for _ in range(2):
            await w.log.append(DIRECTORY, [Message(b"", b"x")] * 9000)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await follower.refresh()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert follower.unlisted == len(FLOOD) - 1000 + 18_000
        assert len(follower.history.changes) == views
        return after - before

    assert world.write(grown) < 400_000


def test_garbage_costs_no_signature_check(world: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """d1: No key is touched for bytes that are no statement, and a copy of a statement costs no check."""
    statements = [(row.key, row.value) for row in world.rows("directory", 0)]
    checks = 0
    true = sign.verify

    def counting(*how: object) -> None:
        nonlocal checks
        checks += 1
        true(*how)  # type: ignore[arg-type]

    monkeypatch.setattr(case, "verify", counting)

    async def start(w: World) -> None:
        await w.follower()

    world.write(start)
    expected = checks
    world.append("directory", 0, *FLOOD, *statements * 3)
    checks = 0
    world.write(start)
    assert 0 < checks == expected


# a directory that is replaced under its followers


def replace_end(world: Simulator, value: bytes) -> Place:
    """The operator puts another message in the place of the directory's last one."""
    end = world.end("directory", 0)
    return world.overwrite(Place("directory", 0, end.offset - 1), value)


def test_the_directory_is_replaced_under_the_service(world: Simulator) -> None:
    """5: The service ends by name, and answers nobody, also where every statement is still there."""
    world.append("directory", 0, (b"", b"old"))

    async def act(w: World) -> None:
        async with w.service() as service:
            assert isinstance(service, KeyAccessService)
            await service.collect()
            replace_end(world, b"new")
            with pytest.raises(LogForked, match="another message"):
                await service.run()
            with pytest.raises(KasUnavailable):
                await service.collections(b"")

    world.write(act)


def test_the_directory_is_replaced_under_a_publisher(
    world: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5: A publisher sends nothing into a log whose directory is another than the one that it read."""
    monkeypatch.setattr(admission, "REFRESH_S", 0.0)
    world.append("directory", 0, (b"", b"old"))

    async def act(w: World) -> None:
        async with w.publisher(POLICE_A) as publisher:
            await publisher.publish(CHANNEL, w.record())
            await publisher.flush()
            replace_end(world, b"new")
            ticket = await publisher.publish(CHANNEL, w.record(1))
            with pytest.raises(LogForked, match="another message"):
                await publisher.flush()
            with pytest.raises(LogForked, match="another message"):
                await ticket

    before = world.end("returns", 0).offset
    world.run(act)
    assert world.end("returns", 0).offset == before + 2


def test_the_directory_is_replaced_under_a_subscriber(world: Simulator) -> None:
    """5: A subscriber that follows ends by name as soon as it has to read the directory on."""
    world.append("directory", 0, (b"", b"old"))

    async def act(w: World) -> None:
        subscriber = await w.subscriber()
        async with subscriber, aclosing(subscriber.deliveries(follow=True)) as items:
            await anext(items)
            replace_end(world, b"new")
            # A message that needs more of the directory than was read.
            world.append("returns", 0, (bytes(16), b"\x01\x00\x00\xff\xff" + bytes(2000)))
            with pytest.raises(LogForked, match="another message"):
                async for _ in items:
                    pass

    world.run(act)


def test_the_directory_is_cut_under_a_follower(world: Simulator) -> None:
    """5: A log that ends below what was read is named at once, and nothing that was known is lost."""

    async def act(w: World) -> None:
        follower: DirectoryFollower = await w.follower()
        size = follower.history.size
        world.cut_tail(Place("directory", 0, size - 3))
        with pytest.raises(LogForked, match=f"ends below message {size - 1}"):
            await follower.refresh()
        assert follower.history.size == size

    world.write(act)
