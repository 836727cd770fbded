"""A coalition's log that adversaries write to, and everybody who must notice it.

    place = world.flip("returns", 0, 1)                 # the operator acts
    world.must_report(Kind.BODY_ALTERED, place)         # the auditor, and whoever subscribes, observe

The log is played once in a run of the tests and copied for each. ``must_report`` holds an attack to
all that it must end in: exactly the named roots, everything else caused by them, every record that the
attack did not touch still delivered by real subscribers, and nothing raised anywhere.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from broker.access.answers import Answer
from broker.audit.causes import Known
from broker.audit.replay import ReplayReport, replay
from broker.crypto.sign import SigningKey
from broker.directory import Directory, HighWater, directory_message
from broker.errors import BrokerError, KasStopped, RequestRefused
from broker.log.protocol import Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.services.kas.service import KeyAccessService
from broker.subscribe.subscriber import Delivered, Delivery, NotDelivered, Subscriber
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import Statement
from broker.wire.manifest import LogItem, Reason, RecordItem, Terms
from broker.wire.terms import Action
from broker.wire.terms import Target as Order
from support.asking import send
from support.coalition import (
    AUDITOR,
    POLICE_A,
    Coalition,
    receiving_key,
    signing_key,
)
from support.forgery import Forged, Placed, enter, publish
from support.log_file import LogFile, behind
from support.played import DELIVERED_TO, Target, manifest_ids, played
from support.world import CHANNEL, World, ground

__all__ = ["Simulator"]

T = TypeVar("T")


@dataclass
class Simulator(LogFile):
    """The played log in a folder of its own, for one attack."""

    @classmethod
    def copy(cls, folder: Path) -> Simulator:
        """A copy of the played log and of the key access service's files."""
        shutil.copytree(played().folder, folder, dirs_exist_ok=True)
        return cls(folder)

    def __getitem__(self, name: str) -> Target:
        """A batch of the played log by its name."""
        return played().batches[name]

    def run(self, act: Callable[[World], Awaitable[T]]) -> T:
        """Do something with the log opened, by whoever may write to it."""

        async def opened() -> T:
            async with World.open(self.folder) as world:
                return await act(world)

        return asyncio.run(opened())

    def write(self, act: Callable[[World], Awaitable[T]]) -> T:
        """The same for who only writes, while no key access service runs."""

        async def opened() -> T:
            async with await SqliteLog.open(self.path) as log:
                return await act(World(self.folder, log, await Coalition.on(log)))

        return asyncio.run(opened())

    def publish(self, **how: Any) -> Place:
        """Append a forged batch (see ``Forged``); the place of its manifest."""
        return self.forge(**how).place

    def forge(self, **how: Any) -> Placed:
        """The same, with the secrets that its maker knows."""
        return self.write(lambda world: publish(world, Forged(**how)))

    def enter(self, *terms: Terms, **how: Any) -> Place:
        """The key access service, turned, appends an entry of its own making to the access log."""
        return self.write(lambda world: enter(world, *terms, **how))

    def many(self, batches: int, **how: Any) -> list[Placed]:
        """So many forged batches, each in a stream of its own."""
        forged = Forged(**how)

        async def run(world: World) -> list[Placed]:
            return [await publish(world, forged) for _ in range(batches)]

        return self.write(run)

    def order(self, issuer: str, action: Action, target: bytes, index: int = 0) -> Placed:
        """Somebody's order on a record, its own or not."""

        async def run(world: World) -> Placed:
            made = world.order(action, Order(batch_id=target, index=index))
            changed = {"action": action, "targets": made.terms.targets}
            return await publish(world, Forged(issuer=issuer, count=1, bodies=[b""], terms=changed))

        return self.write(run)

    # what becomes of the coalition

    def directory(self) -> Directory:
        """The directory as it is now, for who pretends to know no more later."""

        async def run(world: World) -> Directory:
            return world.coalition.directory

        return self.write(run)

    def say(self, make: Callable[[Directory, int], Statement], *signers: str) -> None:
        """Append a right directory statement, by the authority unless somebody is named."""

        async def run(world: World) -> None:
            on_log = world.coalition
            keys = [signing_key(name) for name in signers] or list(on_log.authority_keys)
            await on_log.add_to(world.log, make(on_log.directory, on_log.now), *keys)

        self.write(run)

    def say_anyway(self, make: Callable[[Directory, int], Statement], *keys: SigningKey) -> Place:
        """Append a directory statement that must not count, signed with these keys; where it stands."""

        async def run(world: World) -> Place:
            on_log = world.coalition
            signed = on_log.sign(make(on_log.directory, on_log.now), *keys)
            message = Message(*directory_message(signed))
            return Place("directory", 0, await world.log.append(Partition("directory", 0), [message]))

        return self.write(run)

    def must_not_count(self, place: Place, why: str) -> None:
        """The directory statement at this place counts for nobody, for this reason; all goes on as before."""
        report = self.must_report(Kind.DIRECTORY_STATEMENT, place, delivers=True)
        assert why in report.violations[0].violation.detail, report.violations[0].violation.detail

    def suspend(self, agency: str) -> None:
        """The authority suspends an agency."""
        self.write(lambda world: world.suspend(agency))

    def next_epoch(self, channel: str = CHANNEL, publisher: str = POLICE_A) -> None:
        """A member publishes new keys of a channel, and the service confirms them."""
        self.write(lambda world: world.next_epoch(channel, publisher))

    # what the operator does to whole batches

    def drop_batch(self, name: str, *, close_up: bool = False) -> Place:
        """Remove a whole batch."""
        return self.drop(self[name].place, self[name].records + 1, close_up=close_up)

    def swap_batches(self, one: str, other: str) -> Place:
        """Exchange two neighbours of equal size in a partition, message by message."""
        first, second = self[one], self[other]
        assert first.records == second.records
        for i in range(first.records + 1):
            self.swap(behind(first.place, i), behind(second.place, i))
        return first.place

    def copy_to(self, name: str, topic: str, partition: int) -> Place:
        """Append a copy of a whole batch to a partition, its own or another."""
        target = self[name]
        rows = [self.row(behind(target.place, i)) for i in range(target.records + 1)]
        return self.append(topic, partition, *[(row.key, row.value) for row in rows])

    # who must notice

    def replay(self, *, high_water: HighWater | None = None, known: Sequence[Known] = ()) -> ReplayReport:
        """What the auditor's replay finds, with nothing but the file, its keys and the pinned genesis."""

        async def run() -> ReplayReport:
            async with await SqliteLog.open(self.path) as log:
                follower = await DirectoryFollower.start(log, played().genesis)
                keyring = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
                participant = Participant(log=log, follower=follower, keyring=keyring)
                return await replay(participant, high_water=high_water, known=known)

        return asyncio.run(run())

    def read_all(self) -> list[Delivery]:
        """What a subscriber of each channel is given.

        A service that stopped, since its log is no longer what it had read, is told that an operator looked.
        """

        async def run(world: World) -> list[Delivery]:
            follower = await world.follower()
            given: list[Delivery] = []
            for channel, name in DELIVERED_TO.items():
                try:
                    given += await subscribed(world, follower, name, channel)
                except KasStopped:
                    assert isinstance(world.kas, KeyAccessService)
                    assert world.kas.alarms
                    world.kas.acknowledge_alarm(world.directory.channels[channel].number)
                    given += await subscribed(world, follower, name, channel)
            return given

        return self.run(run)

    def observe(self) -> tuple[ReplayReport, list[Delivery]]:
        """What the auditor's replay finds, and what is then delivered to a subscriber of each channel."""
        return self.replay(), self.read_all()

    def read(
        self, channel: str = CHANNEL, name: str | None = None, state: Path | None = None
    ) -> list[Delivery]:
        """What a subscriber is given, from the beginning or from its state file's position on."""

        async def run(world: World) -> list[Delivery]:
            follower = await world.follower()
            return await subscribed(world, follower, name or DELIVERED_TO[channel], channel, state)

        return self.run(run)

    def ask(self, name: str, *items: RecordItem | LogItem, **options: Any) -> Answer:
        """What the key access service answers to a right request."""
        return self.run(lambda world: send(world, name, items, **options))

    # how an attack must end

    def must_report(self, kind: Kind, *places: Place, delivers: bool | None = None) -> ReplayReport:
        """Each place is a root of this kind, everything else is caused by them, and all else is delivered.

        Unless told otherwise the last holds for attacks on record topics: where the access log or the
        directory was altered, the service has reason to stop.
        """
        if delivers is None:
            delivers = all(place.topic not in ("access", "directory") for place in places)
        report = self.replay()
        self._check_roots(report, kind, places)
        if delivers:
            self._check_delivered(self.read_all())
        return report

    @staticmethod
    def _check_roots(report: ReplayReport, kind: Kind, places: Sequence[Place]) -> None:
        found = [one.violation for one in report.violations]
        roots = [(one.kind, one.place) for one in found if one.caused_by is None]
        shown = "\n".join(f"{v.place} {v.kind} x{v.count} {v.detail} <- {v.caused_by}" for v in found)
        assert roots == [(kind, place) for place in places], shown or "nothing was reported"
        assert found[0].caused_by is None, shown
        assert {one.caused_by for one in found} <= {None, *places}, shown
        assert not report.verified

    def _check_delivered(self, given: Sequence[Delivery]) -> None:
        wanted = {
            (target.batch_id, i)
            for target in played().batches.values()
            for i in range(target.records)
            if manifest_ids()[target.place] not in self.spoiled
        } & played().delivered
        delivered = [(one.batch_id, one.index) for one in given if isinstance(one, Delivered)]
        assert len(set(delivered)) == len(delivered), "a record was delivered twice"
        assert wanted <= set(delivered), wanted - set(delivered)
        assert set(delivered) <= played().delivered, set(delivered) - played().delivered

    def must_find_nothing(self) -> ReplayReport:
        """The attack is none: the replay verifies, subscribers report nothing, everything is delivered."""
        report, given = self.observe()
        assert report.verified, report.violations
        assert not [one for one in given if isinstance(one, Violation)], given
        self._check_delivered(given)
        return report

    def must_blame(self, kind: Kind, place: Place) -> None:
        """Who unlocks reports it, once; an auditor, who cannot, finds nothing; all else is delivered."""
        report, given = self.observe()
        said = [(one.kind, one.place) for one in given if isinstance(one, Violation)]
        assert said == [(kind, place)], said
        assert report.verified, report.violations
        self._check_delivered(given)

    def must_be_void(self, kind: Kind, place: Place) -> None:
        """Subscriber and auditor report the same, and of the batch nothing is delivered."""
        report, given = self.observe()
        said = [one for one in given if isinstance(one, Violation)]
        assert [(v.kind, v.place) for v in said if v.caused_by is None] == [(kind, place)], said
        assert {v.caused_by for v in said} <= {None, place}, said
        self._check_roots(report, kind, [place])
        self._check_delivered(given)

    def must_be_stale(self, place: Place, issuer: str) -> ReplayReport:
        """The batch came too late: nobody is given it or accused, and the auditor lists it."""
        report, given = self.observe()
        assert report.verified, report.violations
        assert [(batch.topic, batch.offset, batch.issuer) for _, batch in report.stale] == [
            (place.topic, place.offset, issuer)
        ]
        assert not [one for one in given if isinstance(one, Violation) or one.place == place], given
        return report

    def must_withhold(self, place: Place, reason: Reason) -> None:
        """The batch at this place is verified, and not one of its records is released: for this reason."""
        report, given = self.observe()
        withheld = [one.reason for one in given if isinstance(one, NotDelivered) and one.place == place]
        assert withheld, given
        assert set(withheld) == {reason}, withheld
        assert report.verified, report.violations
        self._check_delivered(given)

    def must_be_denied(self, answer: Answer, reason: Reason) -> None:
        """Nothing is released, each record for this reason, and an auditor finds the entry right."""
        assert {(one.reason, one.released) for one in answer.outcomes.values()} == {(reason, False)}
        assert not answer.shares
        assert self.replay().verified

    def must_be_refused(self, ask: Callable[[], object], match: str) -> None:
        """The request cannot be judged: refused with these words, and nothing is in the access log of it."""
        before = self.end("access", 0)
        with pytest.raises(RequestRefused) as refused:
            ask()
        assert match in refused.value.message, refused.value.message
        assert self.end("access", 0) == before
        assert self.replay().verified

    def must_stop(self, ask: Callable[[], object], match: str) -> None:
        """Whoever is asked stops and says so, and gives nothing."""
        with pytest.raises(BrokerError) as stopped:
            ask()
        assert match in stopped.value.message, stopped.value.message

    def must_stop_until_acknowledged(self, match: str) -> None:
        """The service releases nothing on channel 0 until an operator has looked; then all that is left."""

        async def acknowledge(world: World) -> None:
            assert isinstance(world.kas, KeyAccessService)
            assert [match in text for text in world.kas.alarms] == [True]
            world.kas.acknowledge_alarm(0)

        for _ in range(2):
            self.must_stop(self.read, match)
        self.run(acknowledge)
        self._check_delivered(self.read_all())


async def subscribed(
    world: World, follower: DirectoryFollower, name: str, channel: str, state: Path | None = None
) -> list[Delivery]:
    """What a subscriber of a channel is given, up to where the log ends now."""
    subscriber = Subscriber(
        Participant(log=world.log, follower=follower, keyring=world.keyring(name)),
        world.kas,
        ground=ground(channel),
        state_path=state,
        kas_timeout_s=0.0,
    )
    async with subscriber:
        return [item async for item in subscriber.deliveries()]
