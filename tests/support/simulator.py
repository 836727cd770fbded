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
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from broker.access.answers import Answer
from broker.audit.causes import Known
from broker.audit.replay import ReplayReport, replay
from broker.crypto.sign import SigningKey
from broker.directory import Directory, HighWater, History, directory_message
from broker.errors import BrokerError, KasUnavailable, RequestRefused
from broker.log.protocol import Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.publish.publisher import Published
from broker.services.kas.service import KeyAccessService
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivered, Delivery, NotDelivered, Subscriber
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import Statement
from broker.wire.manifest import LogItem, Operation, Reason, RecordItem, Terms
from broker.wire.terms import Action, HandlingCode, Purpose
from broker.wire.terms import Target as Order
from support.asking import send
from support.coalition import (
    AUDITOR,
    BORDER,
    CARE,
    JUSTICE,
    POLICE_A,
    POLICE_B,
    REHAB,
    Coalition,
    receiving_key,
    signing_key,
)
from support.exchange import CHANNEL, PAIR, World, details, ground, stored
from support.forgery import Forged, Placed, enter, publish

__all__ = ["DELIVERED_TO", "Row", "Simulator", "Target", "played"]

T = TypeVar("T")
DELIVERED_TO = {CHANNEL: POLICE_B, PAIR: POLICE_A, "xbb-xdd": REHAB}
"""Who subscribes to each channel in the simulator."""
_WHERE = "WHERE topic = ? AND partition = ? AND offset "


class Target(NamedTuple):
    """A batch of the played log: its manifest's place, its name, and how many records it has."""

    place: Place
    batch_id: bytes
    records: int

    def item(self, *indexes: int) -> RecordItem:
        """These records of it, as a request names them."""
        return RecordItem(
            topic=self.place.topic, offset=self.place.offset, batch_id=self.batch_id, indexes=bytes(indexes)
        )


class Row(NamedTuple):
    """A message as the table holds it; ``topic`` without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: int

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Played:
    """The folder of the played log, what everybody is delivered from it, and its batches by name."""

    folder: Path
    delivered: frozenset[tuple[bytes, int]]
    batches: dict[str, Target]
    genesis: bytes
    high_water: HighWater


@cache
def played() -> Played:
    """The log as it was played; nothing in it is wrong."""
    return asyncio.run(_play(Path(tempfile.mkdtemp(prefix="ftf-attacks-"))))


async def _play(folder: Path) -> Played:
    batches: dict[str, Target] = {}

    def take(name: str, published: Sequence[Published]) -> None:
        first = published[0]
        place = Place(first.topic, first.partition, first.offset)
        batches[name] = Target(place, first.batch_id, len(published))

    async with World.open(folder) as world:
        kas = world.kas
        assert isinstance(kas, KeyAccessService)
        async with world.publisher(POLICE_A) as police, world.publisher(BORDER, max_records=1) as border:
            for turn in range(3):
                tickets = [await police.publish(CHANNEL, world.record(10 * turn + i)) for i in range(3)]
                await police.flush()
                take(f"family {turn}", [await one for one in tickets])
                single = await border.publish(CHANNEL, world.record(100 + turn))
                await border.flush()
                take(f"single {turn}", [await single])
            codes = {"handling.codes": [HandlingCode.H1]}
            h1 = await police.publish(CHANNEL, world.record(50, changes=codes))
            await police.flush()
            take("h1", [await h1])
        releasable = world.record(60, changes={"handling.releasable_to": [JUSTICE, POLICE_B]})
        take("releasable", await world.publish_records([releasable], CARE))
        take("justice", await world.publish_records([world.record(61, "JusticeMeasure")], JUSTICE))
        take("pair", await world.publish(2, first=70, name=POLICE_B, channel=PAIR))
        welfare = [world.record(80 + i, "RehabilitationEvent") for i in range(2)]
        take("welfare", await world.publish_records(welfare, REHAB, "xbb-xdd"))
        await kas.collect()
        withdrawn = batches["family 0"]
        order = world.order(Action.WITHDRAW, Order(batch_id=withdrawn.batch_id, index=2))
        take("order", await world.publish_records([order]))
        for channel, name in DELIVERED_TO.items():
            await world.read(name, channel)
        mandate = Ground(
            channel=CHANNEL,
            purpose=Purpose.PREVENTION,
            operation=Operation.DISCLOSURE,
            details=details,
            mandate_ref="XBB-2024-17",
        )
        await world.read(POLICE_B, ground=mandate)
        await world.read(CARE, ground=ground(CHANNEL, Purpose.PROSECUTION))  # H1 denies some
        take("last", await world.publish(1, first=90, name=BORDER))
        await kas.collect()
        everything: set[tuple[bytes, int]] = set()
        for channel, name in DELIVERED_TO.items():
            items = await world.read(name, channel)
            assert not [one for one in items if isinstance(one, Violation)], items
            everything |= {(one.batch_id, one.index) for one in items if isinstance(one, Delivered)}
        follower = await world.follower()
    return Played(folder, frozenset(everything), batches, world.coalition.genesis, follower.high_water)


class _NoService:
    """Stands where no key access service runs."""

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Nobody answers."""
        raise KasUnavailable("no key access service runs")

    async def collections(self, query: bytes) -> bytes:
        """Nobody answers."""
        raise KasUnavailable("no key access service runs")


@dataclass
class Simulator:
    """The played log in a folder of its own, for one attack."""

    folder: Path
    spoiled: set[bytes] = field(default_factory=set)
    """The manifest ids of batches that the attack touched: their records may be gone."""

    @classmethod
    def copy(cls, folder: Path) -> Simulator:
        """A copy of the played log and of the key access service's files."""
        shutil.copytree(played().folder, folder, dirs_exist_ok=True)
        return cls(folder)

    def __getitem__(self, name: str) -> Target:
        """A batch of the played log by its name."""
        return played().batches[name]

    @property
    def path(self) -> Path:
        """The log's file."""
        return self.folder / "log.db"

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
                messages = await stored(log, Partition("directory", 0))
                history = History.replay(messages)
                coalition = replace(
                    Coalition.live(), messages=messages, history=history, now=messages[-1].appended_at
                )
                return await act(World(self.path, log, coalition, _NoService()))

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

    # what the operator does to the table

    def rows(self, topic: str | None = None, partition: int | None = None) -> list[Row]:
        """The messages of a topic, or of all but the service's own."""
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute(
                "SELECT topic, partition, offset, key, value, appended_at FROM message"
                " WHERE topic != 'ftf.keys' ORDER BY topic, partition, offset"
            ).fetchall()
        rows = [Row(row[0].removeprefix("ftf."), *row[1:]) for row in found]
        return [
            row
            for row in rows
            if (topic is None or row.topic == topic) and (partition is None or row.partition == partition)
        ]

    def row(self, place: Place) -> Row:
        """The message at a place."""
        return next(row for row in self.rows(place.topic, place.partition) if row.offset == place.offset)

    def end(self, topic: str, partition: int) -> Place:
        """The place behind the last message."""
        rows = self.rows(topic, partition)
        return Place(topic, partition, rows[-1].offset + 1 if rows else 0)

    def sql(self, statement: str, *values: object) -> None:
        """Alter the file behind the log's back."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(statement, values)

    def _spoil(self, *rows: Row) -> None:
        self.spoiled |= {row.key[:16] for row in rows if row.key is not None and row.topic != "access"}

    def _set(self, place: Place, column: str, new: object) -> Place:
        self._spoil(self.row(place))
        self.sql(
            f"UPDATE message SET {column} = ? {_WHERE} = ?",
            new, f"ftf.{place.topic}", place.partition, place.offset,
        )  # fmt: skip
        return place

    def flip(self, place: Place, *, column: str = "value", byte: int = -1) -> Place:
        """Flip a bit of one byte, the last of the value unless told otherwise."""
        data = bytearray(getattr(self.row(place), column))
        data[byte] ^= 1
        return self._set(place, column, bytes(data))

    def overwrite(self, place: Place, value: object, *, column: str = "value") -> Place:
        """Put another value into a message."""
        return self._set(place, column, value)

    def _shift(self, place: Place, by: int) -> None:
        where = (f"ftf.{place.topic}", place.partition)
        self.sql(f"UPDATE message SET offset = -1 - offset {_WHERE} >= ?", *where, place.offset)
        self.sql(f"UPDATE message SET offset = -1 - offset + ? {_WHERE} < 0", by, *where)

    def drop(self, place: Place, count: int = 1, *, close_up: bool = False) -> Place:
        """Remove messages, with the offsets behind them closed up or not."""
        for row in self.rows(place.topic, place.partition):
            if place.offset <= row.offset < place.offset + count:
                self._spoil(row)
        where, last = (f"ftf.{place.topic}", place.partition), place.offset + count - 1
        self.sql(f"DELETE FROM message {_WHERE} BETWEEN ? AND ?", *where, place.offset, last)
        if close_up:
            self._shift(Place(place.topic, place.partition, place.offset + count), -count)
        return place

    def drop_batch(self, name: str, *, close_up: bool = False) -> Place:
        """Remove a whole batch."""
        return self.drop(self[name].place, self[name].records + 1, close_up=close_up)

    def cut_tail(self, place: Place) -> Place:
        """Remove everything from here on."""
        return self.drop(place, 1_000_000)

    def swap(self, one: Place, other: Place) -> Place:
        """Exchange two messages of a partition; the first of the two places."""
        self._spoil(self.row(one), self.row(other))
        where = (f"ftf.{one.topic}", one.partition)
        for new, old in ((-1, one.offset), (one.offset, other.offset), (other.offset, -1)):
            self.sql(f"UPDATE message SET offset = ? {_WHERE} = ?", new, *where, old)
        return min(one, other)

    def swap_batches(self, one: str, other: str) -> Place:
        """Exchange two neighbours of equal size in a partition, message by message."""
        first, second = self[one], self[other]
        assert first.records == second.records
        for i in range(first.records + 1):
            self.swap(_behind(first.place, i), _behind(second.place, i))
        return first.place

    def insert(self, place: Place, key: object, value: object) -> Place:
        """Put a message where another stands, and move all behind it."""
        if place.offset:
            self._spoil_across(place)
        at = self.row(place).appended_at
        self._shift(place, 1)
        values = (f"ftf.{place.topic}", place.partition, place.offset, key, value, at)
        self.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", *values)
        return place

    def _spoil_across(self, place: Place) -> None:
        """A batch that is broken apart between two messages is void."""
        around = [r for r in self.rows(place.topic, place.partition) if 0 <= place.offset - r.offset <= 1]
        keys = {row.key[:16] for row in around if row.key is not None}
        if len(around) == 2 and len(keys) == 1:
            self._spoil(*around)

    def append(self, topic: str, partition: int, *messages: tuple[object, object]) -> Place:
        """Append raw messages, whatever they are."""
        first = self.end(topic, partition)
        at = max((row.appended_at for row in self.rows(topic, partition)), default=1)
        rows = [
            (f"ftf.{topic}", partition, first.offset + i, key, value, at)
            for i, (key, value) in enumerate(messages)
        ]
        with closing(sqlite3.connect(self.path)) as db, db:
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        return first

    def copy_to(self, name: str, topic: str, partition: int) -> Place:
        """Append a copy of a whole batch to a partition, its own or another."""
        target = self[name]
        rows = [self.row(_behind(target.place, i)) for i in range(target.records + 1)]
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
        """What a subscriber of each channel is given."""

        async def run(world: World) -> list[Delivery]:
            follower = await world.follower()
            given: list[Delivery] = []
            for channel, name in DELIVERED_TO.items():
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
            if _manifest_ids()[target.place] not in self.spoiled
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


@cache
def _manifest_ids() -> dict[Place, bytes]:
    with closing(sqlite3.connect(played().folder / "log.db")) as db:
        found = db.execute("SELECT topic, partition, offset, key FROM message").fetchall()
    return {Place(row[0].removeprefix("ftf."), row[1], row[2]): row[3][:16] for row in found if row[3]}


def _behind(place: Place, count: int) -> Place:
    return place._replace(offset=place.offset + count)
