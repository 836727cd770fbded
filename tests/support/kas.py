"""A coalition on a real log in a folder, with a key access service in the same process.

    async with World.open(tmp_path) as world, world.kas() as kas:
        batch = await world.publish(POLICE_A, 3)
        answer = await world.read(kas, POLICE_B, [batch.item(0, 1, 2)])

The clock is the world's: it stands still, a little ahead of the log's, until ``advance``.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from broker.access.answers import Answer, open_answer
from broker.access.client import KeyAccess
from broker.access.requests import PreparedRequest, make_request, new_details
from broker.avro.schema import default_store
from broker.clock import day_of
from broker.crypto.lock import context_of, release_share
from broker.crypto.seal import receiving_key_id, release_info, seal, statement_info
from broker.directory import Directory, History, confirm_channel_keys, make_channel_keys
from broker.log.protocol import Log, Message, Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.manifest_terms import seal_recipients
from broker.verify.violations import Violation
from broker.wire.access import AccessDetails
from broker.wire.batch import Batch, Intake, Item, Secrets, build_batch
from broker.wire.encoding import Statement, encode, sign_content
from broker.wire.envelope import EpochAccess, OpenedManifest, manifest_tag, open_manifest, parse_envelope
from broker.wire.manifest import Header, LogItem, ManifestPlaintext, Operation, RecordItem, Terms
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp
from support.coalition import KAS, POLICE_A, Coalition, receiving_key, signing_key

__all__ = ["PASSPHRASE", "Placed", "World", "record_terms"]

PASSPHRASE = b"a throwaway passphrase"
CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A batch that was published, and where it stands."""

    topic: str
    partition: int
    offset: int
    batch: Batch
    draw: Secrets

    @property
    def batch_id(self) -> bytes:
        """Its name."""
        return self.batch.batch_id

    def context(self, genesis: bytes) -> bytes:
        """What binds its shares to it."""
        header = self.batch.manifest.header
        place = (header.topic, header.partition, header.epoch, header.issuer, self.draw.manifest_id)
        return context_of(genesis, *place)

    def share(self, genesis: bytes, index: int) -> bytes:
        """The release share that its issuer signed for."""
        return release_share(self.context(genesis), self.draw.release_secret, index)

    def item(self, *indexes: int) -> RecordItem:
        """These records of it, as a request names them."""
        return RecordItem(
            topic=self.topic, offset=self.offset, batch_id=self.batch_id, indexes=bytes(indexes)
        )

    def target(self, index: int) -> Target:
        """One record of it, as an order names it."""
        return Target(batch_id=self.batch_id, index=index)


def record_terms(
    day: int,
    *,
    action: Action = Action.NEW,
    targets: Sequence[Target] = (),
    codes: Sequence[HandlingCode] = (),
    releasable_to: Sequence[str] = (),
    purpose: Purpose = Purpose.INVESTIGATION,
    erase_in_days: int = 1000,
) -> RecordTerms:
    """Terms that the coalition's channels allow, dated from this day."""
    return RecordTerms(
        action=action,
        targets=tuple(targets),
        handling=Handling(codes=tuple(codes), tlp=Tlp.AMBER, releasable_to=tuple(releasable_to)),
        purpose=purpose,
        review_by=day + min(100, erase_in_days),
        erase_by=day + erase_in_days,
    )


@dataclass
class World:
    """A log with a coalition on it; ``folder`` holds the log and the service's files."""

    folder: Path
    log: Log
    coalition: Coalition
    now: int
    streams: dict[tuple[str, str, int, int], tuple[bytes, int, bytes]] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[World]:
        """A fresh log with the live coalition's directory and all topics."""
        async with await SqliteLog.open(folder / "log.db") as log:
            for topic in (*default_store().topics, ACCESS_TOPIC):
                await log.ensure(topic, CHANNELS)
            await log.ensure("keys", 1, compacted=True)
            coalition = await Coalition.live().write_to(log)
            yield cls(folder, log, coalition, time.time_ns() // 1000)

    def clock(self) -> int:
        """The time, which moves a microsecond each time it is asked for, and by ``advance``."""
        self.now += 1
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1_000_000)

    @property
    def directory(self) -> Directory:
        """The directory now."""
        return self.coalition.directory

    @property
    def day(self) -> int:
        """Today, counted from 1970-01-01."""
        return day_of(self.now)

    async def say(self, statement: Statement, *keys_of: str) -> None:
        """Append a directory statement, signed by these parties; by the authority where none is named."""
        keys = [signing_key(name) for name in keys_of] or list(self.coalition.authority_keys)
        await self.coalition.add_to(self.log, statement, *keys)

    def keyring(self, name: str) -> Keyring:
        """The keys of a participant."""
        return Keyring.of(name, signing_key(name), [receiving_key(name)])

    # the service

    def store(self, name: str = "kas", *, with_intake: bool = True) -> KeyStore:
        """The service's key store, with the coalition's intake keys in it."""
        store = KeyStore(self.folder / name, self.coalition.genesis, self.coalition.keys_of(KAS), PASSPHRASE)
        for day, key in self.coalition.intake.items() if with_intake else ():
            store.add_intake_key(day, key)
        return store

    @asynccontextmanager
    async def kas(
        self,
        *,
        log: Log | None = None,
        name: str = "kas",
        journal: str = "journal.db",
        without_intake: bool = False,
        as_name: str = KAS,
        poll_s: float = 1.0,
    ) -> AsyncIterator[KeyAccessService]:
        """A key access service on this log; others of the same name share its key store and journal."""
        keystore = self.store("empty", with_intake=False) if without_intake else self.store(name)
        with Journal(self.folder / journal) as open_journal:
            participant = await self.participant(as_name, log=log)
            async with KeyAccessService(participant, keystore, open_journal, poll_s=poll_s) as service:
                yield service

    async def participant(self, name: str, *, log: Log | None = None) -> Participant:
        """A participant with a follower of its own."""
        follower = await DirectoryFollower.start(log or self.log, self.coalition.genesis)
        return Participant(
            log=log or self.log, follower=follower, keyring=self.keyring(name), clock=self.clock
        )

    def idle_kas(self) -> KeyAccessService:
        """A key access service that was not started."""
        follower = DirectoryFollower(self.log, History(self.coalition.genesis), [])
        participant = Participant(log=self.log, follower=follower, keyring=self.keyring(KAS))
        return KeyAccessService(participant, self.store(), Journal(self.folder / "journal.db"))

    async def next_epoch(self, channel: str, publisher: str) -> None:
        """A member publishes the channel's next keys, and the service confirms them."""
        published = make_channel_keys(self.directory, channel, publisher, self.clock())
        await self.say(published, publisher)
        await self.say(confirm_channel_keys(self.directory, channel, KAS, self.clock()), KAS)

    # publishing

    async def publish(
        self,
        issuer: str = POLICE_A,
        count: int = 1,
        *,
        channel: int = 0,
        topic: str = "returns",
        terms: Sequence[Terms] = (),
        releasable_to: Sequence[str] = (),
        draw: Secrets | None = None,
        sealed_secret: bytes | None = None,
        release_seal: bytes | None = None,
        intake_day: int | None = None,
        as_directory: Directory | None = None,
        new_stream: bool = False,
    ) -> Placed:
        """Publish a batch of so many records in the issuer's stream of this partition.

        ``as_directory`` is the view that its header claims instead of ours, ``sealed_secret`` what is
        sealed to the service instead of the secret that locks, ``release_seal`` a seal as it stands.
        """
        directory = self.directory
        found = directory.channels[directory.numbers[channel]]
        epoch = found.epochs[found.newest_confirmed]
        place = (issuer, topic, channel, epoch.number)
        fresh = (secrets.token_bytes(16), 0, bytes(32))
        stream, sequence, previous = fresh if new_stream else self.streams.get(place, fresh)
        view = as_directory or directory
        header = Header(
            topic=topic,
            partition=channel,
            epoch=epoch.number,
            issuer=issuer,
            issued_at=self.clock(),
            directory_size=view.size,
            directory_head=view.head,
            stream=stream,
            sequence=sequence,
            previous=previous,
        )
        draw = draw or Secrets.draw()
        default = record_terms(self.day, releasable_to=releasable_to)
        sealed_to = [(receiving_key_id(epoch.content_key), epoch.content_key)]
        if releasable_to:
            names = seal_recipients(issuer, tuple(releasable_to))
            sealed_to = [directory.receiving_key(name) for name in names]
        batch = self._build(
            header,
            [
                Item(record_id=secrets.token_bytes(16), terms=terms[i] if terms else default, body=b"%d" % i)
                for i in range(count)
            ],
            draw,
            sealed_to,
            self.day if intake_day is None else intake_day,
        )
        if sealed_secret is not None or release_seal is not None:
            batch = self._reseal(batch, sealed_secret or b"", release_seal, intake_day)
        self.streams[place] = (header.stream, header.sequence + 1, batch.batch_id)
        offset = await self.append(topic, channel, batch)
        return Placed(topic=topic, partition=channel, offset=offset, batch=batch, draw=draw)

    def _build(
        self,
        header: Header,
        items: Sequence[Item],
        draw: Secrets,
        members: Sequence[tuple[bytes, bytes]],
        intake_day: int,
    ) -> Batch:
        directory = self.directory
        channel = directory.channels[directory.numbers[header.partition]]
        epoch = self.coalition.epoch_keys(channel.name, header.epoch, KAS)["metadata"]
        key = directory.intake_key(intake_day)
        if key is None:
            raise ValueError("no intake key for this day")
        record_type = next(
            name
            for name in default_store().record_types
            if default_store().current(name).topic == header.topic
        )
        return build_batch(
            genesis=self.coalition.genesis,
            header=header,
            record_type=record_type,
            schema=default_store().current(record_type).id,
            items=items,
            key=signing_key(header.issuer),
            epoch=EpochAccess(public=epoch.key.public, admit=epoch.admit),
            members=members,
            intake=Intake(key_id=key.key_id, public=key.public),
            draw=draw,
        )

    def _reseal(
        self, batch: Batch, secret: bytes, release_seal: bytes | None, intake_day: int | None
    ) -> Batch:
        """The same batch with something else sealed to the service, signed again by its issuer."""
        header = batch.manifest.header
        name = self.directory.numbers[header.partition]
        epoch = self.coalition.epoch_keys(name, header.epoch, KAS)["metadata"]
        intake = self.directory.intake_key(self.day if intake_day is None else intake_day)
        assert intake is not None
        genesis, opened = self.coalition.genesis, self._opened(batch)
        place = (header.topic, header.partition, header.epoch)
        context = context_of(genesis, *place, header.issuer, batch.manifest.manifest_id)
        info = release_info(context, intake.key_id)
        sealed_secret = release_seal or seal(intake.public, secret, info)
        manifest = replace(batch.manifest, release_seal=sealed_secret)
        signed = sign_content(signing_key(header.issuer), "manifest", genesis, encode(manifest))
        plain = encode(ManifestPlaintext(signed=signed, entries=opened.entries))
        padded = len(plain).to_bytes(4, "big") + plain
        padded += bytes(-len(padded) % 256)
        sealed = seal(epoch.key.public, padded, statement_info(genesis, *place))
        tag = manifest_tag(epoch.admit, *place, manifest.manifest_id, sealed)
        value = b"\x01" + header.epoch.to_bytes(4, "big") + tag + sealed
        messages = ((manifest.manifest_id, value), *batch.messages[1:])
        return Batch(batch_id=sha256(signed.content).digest(), manifest=manifest, messages=messages)

    def _opened(self, batch: Batch) -> OpenedManifest:
        header, envelope = batch.manifest.header, parse_envelope(*batch.messages[0])
        assert envelope is not None
        name = self.directory.numbers[header.partition]
        return open_manifest(
            envelope,
            genesis=self.coalition.genesis,
            topic=header.topic,
            partition=header.partition,
            key=self.coalition.epoch_keys(name, header.epoch, KAS)["metadata"].key,
        )

    async def append(self, topic: str, partition: int, batch: Batch) -> int:
        """Append a batch as it is."""
        messages = [Message(key, value) for key, value in batch.messages]
        return await self.log.append(Partition(topic, partition), messages)

    async def order(
        self, action: Action, *targets: Target, issuer: str = POLICE_A, topic: str = "returns"
    ) -> Placed:
        """Publish a record that acts on others."""
        return await self.publish(issuer, topic=topic, terms=[self.order_terms(action, *targets)])

    def order_terms(self, action: Action, *targets: Target) -> RecordTerms:
        """The terms of a record that acts on others."""
        return record_terms(self.day, action=action, targets=targets)

    # reading

    def prepare(
        self,
        name: str,
        items: Sequence[RecordItem | LogItem],
        *,
        channel: str = "repatriation",
        purpose: Purpose = Purpose.INVESTIGATION,
        operation: Operation = Operation.CONSULTATION,
        mandate_ref: str | None = None,
        details: AccessDetails | None = None,
        now: int | None = None,
    ) -> PreparedRequest:
        """A request that this participant signs."""
        return make_request(
            self.keyring(name),
            self.directory,
            channel=channel,
            operation=operation,
            items=items,
            purpose=purpose,
            mandate_ref=mandate_ref,
            details=details or self.details(),
            now=self.clock() if now is None else now,
        )

    def details(self) -> AccessDetails:
        """Details of a consultation."""
        return new_details(
            person="officer-17", role="investigator", legal_basis="LED art. 8", justification="case 1"
        )

    async def send(self, kas: KeyAccess, prepared: PreparedRequest) -> Answer:
        """Send a request and open its answer with the requester's keys."""
        sealed = await kas.access(prepared.request_bytes, prepared.details_bytes)
        keys = self.coalition.keys_of(prepared.request.issuer).values()
        return open_answer(prepared, sealed, keys, self.directory)

    async def read(
        self, kas: KeyAccess, name: str, items: Sequence[RecordItem | LogItem], **options: object
    ) -> Answer:
        """Ask for these items; ``options`` as of ``prepare``."""
        return await self.send(kas, self.prepare(name, items, **options))  # type: ignore[arg-type]

    # what an operator of the log may do

    def cut(self, topic: str, partition: int, offset: int) -> list[tuple[bytes, bytes]]:
        """Delete the tail of a partition from this offset on; what was there."""
        with sqlite3.connect(self.folder / "log.db") as db:
            place = (f"ftf.{topic}", partition, offset)
            where = "FROM message WHERE topic = ? AND partition = ? AND offset >= ?"
            rows = db.execute(f"SELECT key, value {where} ORDER BY offset", place).fetchall()
            db.execute(f"DELETE {where}", place)
        db.close()
        return rows

    def put_back(
        self, topic: str, partition: int, offset: int, messages: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Write messages at an offset, around the log."""
        rows = [(f"ftf.{topic}", partition, offset + i, *m, self.now) for i, m in enumerate(messages)]
        with sqlite3.connect(self.folder / "log.db") as db:
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.close()

    async def held(self, batch: Placed) -> bytes:
        """The newest value of ftf.keys for a batch."""
        values = [m.value async for m in self.log.read(Partition("keys", 0), 0) if m.key == batch.batch_id]
        assert values[-1] is not None
        return values[-1]

    async def commitment(self, batch: Placed, index: int) -> bytes:
        """What the issuer committed to for a record."""
        return self._opened(batch.batch).entries.commitment(index)

    # looking at the access log

    async def entries(self, channel: int = 0) -> list[OpenedManifest]:
        """The manifests of the channel's access log, in order, opened with the service's keys."""
        name = self.directory.numbers[channel]
        found = []
        async for message in self.log.read(Partition(ACCESS_TOPIC, channel), 0):
            envelope = parse_envelope(message.key, message.value)
            if envelope is not None:
                key = self.coalition.epoch_keys(name, envelope.epoch, KAS)["access"]
                found.append(
                    open_manifest(
                        envelope,
                        genesis=self.coalition.genesis,
                        topic=ACCESS_TOPIC,
                        partition=channel,
                        key=key.key,
                    )
                )
        return found

    async def violations(self, channel: int = 0) -> list[Violation]:
        """What a reader with the service's keys finds wrong in the channel's access log."""
        participant = await self.participant(KAS)
        found = self.directory.channels[self.directory.numbers[channel]]
        reader = participant.reader(found, ACCESS_TOPIC)
        end = await participant.end_of(Partition(ACCESS_TOPIC, channel))
        events = [event async for event in participant.read(reader, end=end)]
        return [one for one in (*events, *reader.flush(at_end=True)) if isinstance(one, Violation)]

    async def terms(self, channel: int = 0) -> list[Terms]:
        """What the entries of the channel's access log say, in order."""
        return [terms for one in await self.entries(channel) for terms in one.entries.terms]
