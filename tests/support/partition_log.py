"""One partition written by several streams of several agencies, as messages and as what each stands for.

written = PartitionLog(coalition, "returns", 0)
written.publish(POLICE_A, 3)                  # a batch of three records, in POLICE_A's own stream
events = scan(coalition, written.messages)    # what a reader with the auditor's keys makes of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from broker.avro.schema import default_store
from broker.directory import EpochKey, History, Use
from broker.log.protocol import StoredMessage
from broker.verify.partition import DirectoryBehind, Event, PartitionReader, ReaderState, VerifiedBatch
from broker.verify.violations import Violation
from broker.wire.batch import Batch, Intake, Item, Secrets, build_batch
from broker.wire.manifest import Header, Terms
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp
from support.coalition import AUDITOR, POLICE_A, Coalition, signing_key

__all__ = ["PartitionLog", "batches", "reader", "record_terms", "scan", "violations"]

_TOPICS = {
    "ReturnEvent": "returns",
    "RelocationEvent": "relocation",
    "RehabilitationEvent": "rehabilitation",
    "EmergenceReport": "emergence",
    "JusticeMeasure": "justice",
}
TYPE_OF = {topic: name for name, topic in _TOPICS.items()}


def record_terms(
    day: int, *, action: Action = Action.NEW, targets: Sequence[Target] = (), **changes: object
) -> RecordTerms:
    """Terms that the coalition's channels allow, dated from this day."""
    terms = RecordTerms(
        action=action,
        targets=tuple(targets),
        handling=Handling(codes=(HandlingCode.H2,), tlp=Tlp.AMBER, releasable_to=()),
        purpose=Purpose.INVESTIGATION,
        review_by=day + 100,
        erase_by=day + 1000,
    )
    return replace(terms, **changes)  # type: ignore[arg-type]


@dataclass
class PartitionLog:
    """A partition of a record topic as it grows; ``heads`` are those of each (issuer, stream)."""

    coalition: Coalition
    topic: str = "returns"
    partition: int = 0
    messages: list[StoredMessage] = field(default_factory=list)
    built: list[Batch] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    heads: dict[tuple[str, bytes], tuple[int, bytes]] = field(default_factory=dict)

    def header(self, issuer: str, *, stream: str = "", epoch: int | None = None) -> Header:
        """The next header of a stream of this issuer."""
        directory = self.coalition.directory
        channel = directory.channel_at(self.partition)
        name = sha256(f"{issuer} {stream}".encode()).digest()[:16]
        sequence, previous = self.heads.get((issuer, name), (-1, bytes(32)))
        return Header(
            topic=self.topic,
            partition=self.partition,
            epoch=channel.newest_confirmed if epoch is None and channel is not None else epoch or 0,
            issuer=issuer,
            issued_at=self.coalition.now,
            directory_size=directory.size,
            directory_root=directory.root,
            stream=name,
            sequence=sequence + 1,
            previous=previous,
        )

    def build(self, header: Header, bodies: Sequence[bytes], terms: Sequence[Terms] = ()) -> Batch:
        """A batch of these bodies under this header, signed by the key of the issuer's name."""
        directory = self.coalition.directory
        channel = directory.channel_at(self.partition)
        if channel is None:
            raise ValueError("no such channel")
        metadata, content = self.coalition.member_keys(channel.name, header.epoch)
        intake = directory.intake_key(self.coalition.day)
        if intake is None:
            raise ValueError("no intake key for today")
        default = record_terms(self.coalition.day)
        record_type = TYPE_OF[self.topic]
        items = [
            Item(record_id=sha256(body).digest()[:16], terms=terms[i] if terms else default, body=body)
            for i, body in enumerate(bodies)
        ]
        return build_batch(
            genesis=self.coalition.genesis,
            header=header,
            record_type=record_type,
            schema=default_store().current(record_type).id,
            items=items,
            key=signing_key(header.issuer),
            metadata=metadata,
            content=content,
            named=(),
            intake=Intake(key_id=intake.key_id, public=intake.public),
            draw=Secrets.draw(content, items),
        )

    def publish(
        self,
        issuer: str = POLICE_A,
        count: int = 1,
        *,
        stream: str = "",
        terms: Sequence[Terms] = (),
        **changes: object,
    ) -> Batch:
        """Append a batch of so many records to the issuer's stream."""
        self.coalition.advance(seconds=1)
        header = replace(self.header(issuer, stream=stream), **changes)  # type: ignore[arg-type]
        bodies = [b"%d record %d of %s" % (len(self.messages), i, issuer.encode()) for i in range(count)]
        batch = self.build(header, bodies, terms)
        self.heads[issuer, header.stream] = (header.sequence, batch.batch_id)
        return self.append(batch)

    def append(self, batch: Batch) -> Batch:
        """Append a batch as it is."""
        first = len(self.messages)
        for i, (key, value) in enumerate(batch.messages):
            self.messages.append(StoredMessage(first + i, key, value, self.coalition.now))
        self.built.append(batch)
        self.offsets.append(first)
        return batch


def reader(
    coalition: Coalition,
    topic: str = "returns",
    partition: int = 0,
    *,
    name: str = AUDITOR,
    state: ReaderState | None = None,
    history: History | None = None,
    keep_bodies: bool = True,
) -> PartitionReader:
    """A reader of a partition with the keys of this party."""
    known = history or coalition.history
    held: dict[int, EpochKey | None] = {}
    use: Use = "access" if topic == "access" else "metadata"

    def keys(epoch: int) -> EpochKey | None:
        channel = known.latest.channel_at(partition)
        if epoch not in held and channel is not None:
            held[epoch] = coalition.epoch_keys(channel.name, epoch, name).get(use)
        return held.get(epoch)

    return PartitionReader(
        topic=topic, partition=partition, history=known, keys=keys, state=state, keep_bodies=keep_bodies
    )


def feed(one: PartitionReader, message: StoredMessage) -> list[Event]:
    """Feed a message to a reader whose directory is read to its end."""
    try:
        return list(one.feed(message))
    except DirectoryBehind:
        return list(one.feed(message, directory_read=True))


def scan(
    coalition: Coalition, messages: Sequence[StoredMessage], one: PartitionReader | None = None
) -> list[Event]:
    """Everything that a reader makes of these messages, to the end."""
    one = one or reader(coalition)
    events = [event for message in messages for event in feed(one, message)]
    return [*events, *one.flush(at_end=True)]


def violations(events: Sequence[Event]) -> list[Violation]:
    """The violations among events."""
    return [event for event in events if isinstance(event, Violation)]


def batches(events: Sequence[Event]) -> list[VerifiedBatch]:
    """The batches among events."""
    return [event for event in events if isinstance(event, VerifiedBatch)]
