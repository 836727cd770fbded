"""The world of the tests: a coalition on a log in a folder, and whoever takes part in it.

    async with World.open(tmp_path) as world:                     # the key access service runs
        await world.publish(3)
        items = await world.read(POLICE_B)

    async with World.still(tmp_path) as world, world.service() as kas:   # its clock stands still
        batch = await place(world, POLICE_A, 3)
        answer = await ask(world, kas, POLICE_B, [batch.item(0, 1, 2)])

The first is for publishers and subscribers as they are; the second for a service that is observed step by
step. ``placing`` and ``forgery`` put batches there by hand, ``asking`` sends requests, ``looking`` looks at
the log, and ``simulator`` attacks it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from broker.access.client import KeyAccess
from broker.avro.schema import default_store
from broker.clock import Clock, day_of, system_clock
from broker.directory import Directory, History, confirm_channel_keys, drafts, make_channel_keys
from broker.errors import KasUnavailable
from broker.log import Log, SqliteLog, open_log
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.publish.publisher import Published, Publisher
from broker.records.record import Record, from_json
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivery, Subscriber
from broker.wire.encoding import Statement
from broker.wire.manifest import Operation
from broker.wire.terms import Action, Purpose, Target
from support.coalition import (
    AUDITOR,
    KAS,
    POLICE_A,
    POLICE_B,
    PURPOSES,
    RECORD_TYPES,
    Coalition,
    receiving_key,
    signing_key,
)
from support.deliveries import ref_of
from support.record_data import valid
from support.words import details

__all__ = ["CHANNEL", "PAIR", "PASSPHRASE", "NoService", "StillClock", "World", "found", "ground"]

CHANNEL = "repatriation"
"""Channel 0: every agency is a member, and every record type and purpose is allowed."""
PAIR = "xaa-xbb"
"""Channel 1: the two police forces."""
PASSPHRASE = b"a throwaway passphrase"

_PARTITIONS = 4
_DAY_ZERO = date(1970, 1, 1)
_written: dict[int, Path] = {}
"""For each day a log that holds nothing but the live coalition's directory, to be copied."""


class StillClock:
    """A clock that stands still: each look at it takes a microsecond, and ``advance`` lets time pass."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def advance(self, seconds: float) -> None:
        """Let this many seconds pass."""
        self.now += round(seconds * 1_000_000)


class NoService:
    """Stands where no key access service runs: every question ends in KasUnavailable."""

    async def access(self, request: bytes, details: bytes) -> bytes:
        """Raise KasUnavailable."""
        raise KasUnavailable("no key access service runs")

    async def collections(self, query: bytes) -> bytes:
        """Raise KasUnavailable."""
        raise KasUnavailable("no key access service runs")


def ground(channel: str = CHANNEL, purpose: Purpose = Purpose.PUBLIC_SECURITY) -> Ground:
    """The ground of a consultation."""
    return Ground(channel=channel, purpose=purpose, operation=Operation.CONSULTATION, details=details)


@dataclass
class World:
    """A coalition as it is on a log; ``folder`` holds an embedded log and the service's files."""

    folder: Path
    log: Log
    coalition: Coalition
    kas: KeyAccess = field(default_factory=NoService)
    clock: Clock = system_clock
    streams: dict[tuple[str, str, int, int], dict[str, Any]] = field(default_factory=dict)
    """For (issuer, topic, partition, epoch) the fields of the next header in its stream (``placing``)."""

    # opening

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, url: str | None = None, wrap: Callable[[Log], Log] = lambda log: log
    ) -> AsyncIterator[World]:
        """The log in this folder, or at ``url``, with a key access service in this process.

        A new log in the folder holds the live coalition's directory and empty partitions; one at a URL
        was made so by ``found``. Everybody in this process uses what ``wrap`` makes of the log.
        """
        async with cls._opened(folder, url, wrap, system_clock) as world, world.service() as kas:
            world.kas = kas
            yield world

    @classmethod
    @asynccontextmanager
    async def still(cls, folder: Path) -> AsyncIterator[World]:
        """A new log whose clock stands still, a little ahead of the log's; no service runs by itself."""
        async with cls._opened(folder, None, lambda log: log, StillClock(system_clock())) as world:
            yield world

    @classmethod
    @asynccontextmanager
    async def _opened(
        cls, folder: Path, url: str | None, wrap: Callable[[Log], Log], clock: Clock
    ) -> AsyncIterator[World]:
        path = folder / "log.db"
        if url is None and not path.exists():
            day = Coalition.live().day
            if day not in _written:
                _written[day] = await _write()
            shutil.copy(_written[day], path)
        async with open_log(url or f"sqlite:{quote(str(path))}") as opened:
            log = wrap(opened)
            yield cls(folder, log, await Coalition.on(log), clock=clock)

    # what there is

    @property
    def path(self) -> Path:
        """The file of an embedded log."""
        return self.folder / "log.db"

    @property
    def directory(self) -> Directory:
        """The directory as it is now."""
        return self.coalition.directory

    @property
    def now(self) -> int:
        """The time, in microseconds; looking at it lets no time pass."""
        return self.clock.now if isinstance(self.clock, StillClock) else self.clock()

    @property
    def day(self) -> int:
        """Today, counted from 1970-01-01."""
        return day_of(self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass in a still world."""
        assert isinstance(self.clock, StillClock)
        self.clock.advance(seconds)

    # who takes part

    def keyring(self, name: str) -> Keyring:
        """The keys of a participant."""
        return Keyring.of(name, signing_key(name), [receiving_key(name)])

    async def follower(self) -> DirectoryFollower:
        """A follower of its own, at the directory's end."""
        return await DirectoryFollower.start(self.log, self.coalition.genesis)

    async def participant(self, name: str, *, log: Log | None = None, **parts: Any) -> Participant:
        """A participant with a follower of its own; ``parts`` are a store or a clock of its own."""
        used = log or self.log
        follower = await DirectoryFollower.start(used, self.coalition.genesis)
        return Participant(
            log=used, follower=follower, keyring=self.keyring(name), **{"clock": self.clock, **parts}
        )

    @asynccontextmanager
    async def publisher(
        self, name: str = POLICE_A, *, log: Log | None = None, **options: Any
    ) -> AsyncIterator[Publisher]:
        """A publisher that lingers until it is flushed, unless told otherwise."""
        participant = await self.participant(name, log=log, **_parts(options))
        async with Publisher(participant, **{"linger_s": 3600.0, **options}) as publisher:
            yield publisher

    async def subscriber(self, name: str = POLICE_B, channel: str = CHANNEL, **options: Any) -> Subscriber:
        """A subscriber, to be entered."""
        participant = await self.participant(name, log=options.pop("log", None), **_parts(options))
        kas = options.pop("kas", self.kas)
        return Subscriber(participant, kas, **{"ground": ground(channel), **options})

    # the key access service

    def keystore(self, name: str = "kas", *, with_intake: bool = True) -> KeyStore:
        """The service's key store, with the coalition's intake keys in it."""
        store = KeyStore(self.folder / name, self.coalition.genesis, self.coalition.keys_of(KAS), PASSPHRASE)
        for day, key in self.coalition.intake.items() if with_intake else ():
            if not store.is_intake_destroyed(day):
                store.add_intake_key(day, key)
        return store

    @asynccontextmanager
    async def service(
        self,
        *,
        log: Log | None = None,
        name: str = "kas",
        journal: str = "journal.db",
        without_intake: bool = False,
        as_name: str = KAS,
        poll_s: float = 1.0,
    ) -> AsyncIterator[KeyAccessService]:
        """A running key access service; others of the same name share its key store and journal."""
        keystore = self.keystore("empty", with_intake=False) if without_intake else self.keystore(name)
        with Journal(self.folder / journal) as open_journal:
            participant = await self.participant(as_name, log=log)
            async with KeyAccessService(participant, keystore, open_journal, poll_s=poll_s) as service:
                yield service

    def idle_service(self) -> KeyAccessService:
        """A key access service that was not started."""
        follower = DirectoryFollower(self.log, History(self.coalition.genesis), [])
        participant = Participant(log=self.log, follower=follower, keyring=self.keyring(KAS))
        return KeyAccessService(participant, self.keystore(), Journal(self.folder / "journal.db"))

    # records

    def record(
        self, number: int = 0, record_type: str = "ReturnEvent", changes: Mapping[str, object] | None = None
    ) -> Record:
        """A right record whose subject is ``number``, retained for some months from today."""
        today = _DAY_ZERO + timedelta(days=self.coalition.day)
        dates: dict[str, object] = {
            "review_by": str(today + timedelta(days=100)),
            "erase_by": str(today + timedelta(days=500)),
            "body.subject.ref": ref_of(number),
        }
        fields = valid(record_type, dates | dict(changes or {}))
        return from_json(None, fields, store=default_store(), today=today)

    def order(self, action: Action, *targets: Target) -> Record:
        """An order of the originator on records of its own."""
        made = self.record()
        return replace(made, terms=replace(made.terms, action=action, targets=targets), body={})

    async def publish(
        self, count: int = 1, *, first: int = 0, name: str = POLICE_A, channel: str = CHANNEL, **options: Any
    ) -> list[Published]:
        """Publish records ``first`` … in batches as they fill, and wait for all."""
        records = [self.record(first + i) for i in range(count)]
        return await self.publish_records(records, name, channel, **options)

    async def publish_records(
        self, records: Sequence[Record], name: str = POLICE_A, channel: str = CHANNEL, **options: Any
    ) -> list[Published]:
        """Publish these records and wait for all."""
        async with self.publisher(name, **options) as publisher:
            tickets = [await publisher.publish(channel, record) for record in records]
            await publisher.flush()
            return [await ticket for ticket in tickets]

    async def read(self, name: str = POLICE_B, channel: str = CHANNEL, **options: Any) -> list[Delivery]:
        """Everything from the beginning, or from the state file's position, to the present end."""
        async with await self.subscriber(name, channel, **options) as subscriber:
            return [item async for item in subscriber.deliveries()]

    # statements of the directory

    async def say(self, statement: Statement, *names: str) -> None:
        """Append a right directory statement, signed by these parties, or else by the authority."""
        keys = [signing_key(name) for name in names] or list(self.coalition.authority_keys)
        await self.coalition.add_to(self.log, statement, *keys)

    async def next_epoch(self, channel: str, publisher: str) -> None:
        """A member publishes the channel's next keys, and the key access service confirms them."""
        await self.say(make_channel_keys(self.directory, channel, publisher, self.coalition.now), publisher)
        await self.say(confirm_channel_keys(self.directory, channel, KAS, self.coalition.now), KAS)

    async def suspend(self, agency: str) -> None:
        """The authority suspends an agency."""
        await self.say(
            drafts.suspend_agency(
                self.directory, agency=agency, reason="exercise", issued_at=self.coalition.now
            )
        )

    async def open_channel(
        self,
        name: str,
        number: int,
        members: Sequence[str],
        *,
        record_types: Sequence[str] = RECORD_TYPES,
        epoch: bool = True,
    ) -> None:
        """The authority opens another channel, with its first epoch unless told otherwise."""
        statement = drafts.open_channel(
            self.directory,
            channel=name,
            number=number,
            members=members,
            auditors=[AUDITOR],
            record_types=record_types,
            purposes=PURPOSES,
            legal_basis="Exercise treaty, article 7",
            ceiling_days=3650,
            kind=None,
            mandates=(),
            issued_at=self.coalition.now,
        )
        await self.say(statement)
        if epoch:
            await self.next_epoch(name, members[0])


def _parts(options: dict[str, Any]) -> dict[str, Any]:
    """Take from the options what belongs to the participant."""
    return {name: options.pop(name) for name in ("store", "clock") if name in options}


async def _write() -> Path:
    path = Path(tempfile.mkdtemp(prefix="ftf-world-")) / "log.db"
    async with await SqliteLog.open(path) as log:
        await found(log)
    return path


async def found(log: Log, *, partitions: int = _PARTITIONS) -> Coalition:
    """Make the topics and the live coalition's directory on a new log."""
    for topic in (*default_store().topics, "access"):
        await log.ensure(topic, partitions)
    await log.ensure("keys", 1, compacted=True)
    return await Coalition.live().write_to(log)
