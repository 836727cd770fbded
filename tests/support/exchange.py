"""A coalition on an embedded log, with publishers, subscribers and records for whoever takes part.

async with World.open(tmp_path) as world:
    async with world.publisher(POLICE_A) as publisher:
        await publisher.publish(CHANNEL, world.record(0))
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from broker.access.client import KeyAccess
from broker.access.requests import new_details
from broker.avro.schema import default_store
from broker.directory import History, confirm_channel_keys, drafts, make_channel_keys
from broker.log import Log, Partition, SqliteLog, StoredMessage, open_log
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.publish.publisher import Published, Publisher
from broker.records.record import Record, from_json
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivered, Delivery, Subscriber
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.access import AccessDetails
from broker.wire.manifest import Operation, Terms
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
from support.record_data import valid

__all__ = [
    "CHANNEL",
    "PAIR",
    "World",
    "access_terms",
    "delivered_refs",
    "details",
    "found",
    "ground",
    "manifests",
    "numbered",
    "only",
    "ref_of",
    "stored",
]

CHANNEL = "repatriation"
"""Channel 0: everybody, everything."""
PAIR = "xaa-xbb"
"""Channel 1: the two police forces."""

_DAY_ZERO = date(1970, 1, 1)
_written: dict[int, Path] = {}


def details() -> AccessDetails:
    """Details of an access that break no rule."""
    return new_details(
        person="officer-17",
        role="analyst",
        legal_basis="Exercise treaty, article 7",
        justification="Follow-up of a return",
    )


def ground(channel: str = CHANNEL, purpose: Purpose = Purpose.PUBLIC_SECURITY) -> Ground:
    """The ground of a consultation."""
    return Ground(channel=channel, purpose=purpose, operation=Operation.CONSULTATION, details=details)


def ref_of(number: int) -> str:
    """The reference of the person in record ``number``."""
    return f"6f9619ff-8b86-4011-b42d-{number:012x}"


async def stored(log: Log, partition: Partition, start: int = 0) -> list[StoredMessage]:
    """A partition's messages."""
    return [message async for message in log.read(partition, start)]


def numbered(item: Delivery) -> int:
    """The number of a delivered record, as ``ref_of`` gave it; fails for what was not delivered."""
    assert isinstance(item, Delivered), item
    return int(str(item.record.body["subject"]["ref"]).rpartition("-")[2], 16)


def delivered_refs(items: Sequence[Delivery]) -> list[int]:
    """The numbers of the records that were delivered, in order."""
    return [numbered(item) for item in items if isinstance(item, Delivered)]


@dataclass
class World:
    """The coalition as it is on the log; ``path`` is the file of an embedded one."""

    path: Path
    log: Log
    coalition: Coalition
    kas: KeyAccess

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, url: str | None = None, wrap: Callable[[Log], Log] = lambda log: log
    ) -> AsyncIterator[World]:
        """The log in this folder, or at ``url``, with a key access service in this process.

        A new log in the folder holds the live coalition's directory and empty partitions; one at a URL
        was made so by ``found``. Everybody in this process uses what ``wrap`` makes of the log.
        """
        path = folder / "log.db"
        if url is None and not path.exists():
            day = Coalition.live().day
            if day not in _written:
                _written[day] = await _write()
            shutil.copy(_written[day], path)
        async with open_log(url or f"sqlite:{quote(str(path))}") as opened:
            log = wrap(opened)
            coalition = await _on(log)
            keys = KeyStore(folder / "kas", coalition.genesis, coalition.keys_of(KAS), b"throwaway")
            for number, key in coalition.intake.items():
                keys.add_intake_key(number, key)
            keyring = Keyring.of(KAS, signing_key(KAS), [receiving_key(KAS)])
            with Journal(folder / "journal.db") as journal:
                follower = await DirectoryFollower.start(log, coalition.genesis)
                service = Participant(log=log, follower=follower, keyring=keyring)
                async with KeyAccessService(service, keys, journal) as kas:
                    yield cls(path, log, coalition, kas)

    async def follower(self) -> DirectoryFollower:
        """A follower of its own, at the directory's end."""
        return await DirectoryFollower.start(self.log, self.coalition.genesis)

    async def participant(self, name: str, *, log: Log | None = None, **parts: Any) -> Participant:
        """A participant with a follower of its own; ``parts`` are a store or a clock of its own."""
        return Participant(
            log=log or self.log, follower=await self.follower(), keyring=self.keyring(name), **parts
        )

    def keyring(self, name: str) -> Keyring:
        """The keys of a participant."""
        return Keyring.of(name, signing_key(name), [receiving_key(name)])

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

    async def publish(
        self, count: int = 1, *, first: int = 0, name: str = POLICE_A, channel: str = CHANNEL, **options: Any
    ) -> list[Published]:
        """Publish records ``first`` … in batches as they fill, and wait for all."""
        async with self.publisher(name, **options) as publisher:
            tickets = [await publisher.publish(channel, self.record(first + i)) for i in range(count)]
            await publisher.flush()
            return [await ticket for ticket in tickets]

    async def read(self, name: str = POLICE_B, channel: str = CHANNEL, **options: Any) -> list[Delivery]:
        """Everything from the beginning, or from the state file's position, to the present end."""
        async with await self.subscriber(name, channel, **options) as subscriber:
            return [item async for item in subscriber.deliveries()]

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
        obj = valid(record_type, dates | dict(changes or {}))
        return from_json(None, obj, store=default_store(), today=today)

    async def publish_records(
        self, records: Sequence[Record], name: str = POLICE_A, channel: str = CHANNEL, **options: Any
    ) -> list[Published]:
        """Publish these records and wait for all."""
        async with self.publisher(name, **options) as publisher:
            tickets = [await publisher.publish(channel, record) for record in records]
            await publisher.flush()
            return [await ticket for ticket in tickets]

    async def next_epoch(self, channel: str, publisher: str) -> None:
        """A member publishes the channel's next keys, and the key access service confirms them."""
        on_log = self.coalition
        published = make_channel_keys(on_log.directory, channel, publisher, on_log.now)
        await on_log.add_to(self.log, published, signing_key(publisher))
        confirmed = confirm_channel_keys(on_log.directory, channel, KAS, on_log.now)
        await on_log.add_to(self.log, confirmed, signing_key(KAS))

    async def suspend(self, agency: str) -> None:
        """The authority suspends an agency."""
        on_log = self.coalition
        statement = drafts.suspend_agency(
            on_log.directory, agency=agency, reason="exercise", issued_at=on_log.now
        )
        await on_log.add_to(self.log, statement, *on_log.authority_keys)

    async def open_channel(
        self,
        name: str,
        number: int,
        members: Sequence[str],
        *,
        record_types: Sequence[str] = RECORD_TYPES,
        epoch: bool = True,
    ) -> None:
        """Open another channel, with its first epoch unless told otherwise."""
        on_log = self.coalition
        statement = drafts.open_channel(
            on_log.directory,
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
            issued_at=on_log.now,
        )
        await on_log.add_to(self.log, statement, *on_log.authority_keys)
        if epoch:
            await self.next_epoch(name, members[0])

    def order(self, action: Action, *targets: Target) -> Record:
        """An order of the originator on records of its own."""
        made = self.record()
        return replace(made, terms=replace(made.terms, action=action, targets=targets), body={})


def _parts(options: dict[str, Any]) -> dict[str, Any]:
    """Take from the options what belongs to the participant."""
    return {name: options.pop(name) for name in ("store", "clock") if name in options}


async def _write() -> Path:
    path = Path(tempfile.mkdtemp(prefix="ftf-world-")) / "log.db"
    async with await SqliteLog.open(path) as log:
        await found(log)
    return path


async def found(log: Log, *, partitions: int = 4) -> Coalition:
    """Make the topics and the live coalition's directory on a new log."""
    for topic in (*default_store().topics, "access"):
        await log.ensure(topic, partitions)
    await log.ensure("keys", 1, compacted=True)
    return await Coalition.live().write_to(log)


async def _on(log: Log) -> Coalition:
    """The live coalition as it is on this log."""
    messages = await stored(log, Partition("directory", 0))
    coalition = Coalition.live()
    return replace(
        coalition, messages=messages, history=History.replay(messages), now=messages[-1].appended_at
    )


async def manifests(world: World, topic: str, channel: str = CHANNEL) -> list[VerifiedBatch]:
    """The batches of a partition as a member reads them; fails where a reader reports anything."""
    participant = await world.participant(POLICE_B)
    found = participant.directory.channels[channel]
    reader = participant.reader(found, topic)
    end = await participant.end_of(Partition(topic, found.number))
    events = [event async for event in participant.read(reader, end=end)]
    events += reader.flush(at_end=True)
    assert not [event for event in events if isinstance(event, Violation)]
    return [event for event in events if isinstance(event, VerifiedBatch)]


async def access_terms(world: World, channel: str = CHANNEL) -> list[Terms]:
    """What the entries of the channel's access log say, in order."""
    participant = await world.participant(KAS)
    found = participant.directory.channels[channel]
    reader = participant.reader(found, "access")
    end = await participant.end_of(Partition("access", found.number))
    events = [event async for event in participant.read(reader, end=end)]
    assert all(isinstance(event, VerifiedBatch) for event in events)
    batches = [event for event in events if isinstance(event, VerifiedBatch)]
    return [terms for one in batches for terms in one.opened.entries.terms]


def only(items: Sequence[Delivery], kind: type[Any] = Violation) -> list[Any]:
    """The items of this class."""
    return [item for item in items if isinstance(item, kind)]
